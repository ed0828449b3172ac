//! A store that is locked, full, slow, gone or damaged: nothing waits, it is counted, and it catches up.

use std::{fs, io::ErrorKind, process::Command, time::Duration};

use fleet_history::{Limits, Reason, Settings, State, Store};

use crate::{
    place::{Place, Running, at, failures, is_owner, items, on_server, settings},
    support::{not_tested, servers::own_mariadb},
};

const NAMES: [&str; 3] = ["a@t", "b@t", "c@t"];

/// Runs of all items, later than those before.
fn run_all(running: &Running, time: u64) {
    for name in NAMES {
        running.ran_with(name, at(time), name.as_bytes());
    }
}

async fn has_all(place: &mut Place, time: u64) {
    let seconds = place.seconds();
    let rows = format!("SELECT COUNT(*) FROM history WHERE {seconds} = {time}");
    place.shows(&rows, &[&["3"]]).await;
}

fn three() -> fleet_history::Items {
    items(&NAMES.map(|name| (name, 10)))
}

#[tokio::test]
async fn a_locked_file_is_counted_and_catches_up() {
    let mut place = Place::sqlite().await;
    let (running, _) = Running::loaded(place.settings(), three()).await;
    run_all(&running, 1_700_000_000);
    has_all(&mut place, 1_700_000_000).await;
    place.run("BEGIN EXCLUSIVE").await;
    run_all(&running, 1_700_000_010);
    let stats = running.tells("it is locked", |stats| failures(stats, Reason::Locked) > 0).await;
    assert_eq!(stats.pending_items, 3);
    run_all(&running, 1_700_000_020);
    place.run("COMMIT").await;
    has_all(&mut place, 1_700_000_020).await;
    running.tells("it goes on", |stats| is_owner(stats) && stats.pending_items == 0).await;
}

#[tokio::test]
async fn a_locked_table_is_counted_and_catches_up() {
    let mut place = Place::server(crate::support::servers::mariadb()).await;
    let quick = Limits { statement_timeout: Duration::from_millis(300), ..place.settings().limits };
    let (running, _) = Running::loaded(Settings { limits: quick, ..place.settings() }, three()).await;
    run_all(&running, 1_700_000_000);
    has_all(&mut place, 1_700_000_000).await;
    place.run("LOCK TABLES history WRITE").await;
    run_all(&running, 1_700_000_020);
    let stats = running.tells("it takes too long", |stats| failures(stats, Reason::Timeout) > 0).await;
    assert_eq!(stats.pending_items, 3);
    place.run("UNLOCK TABLES").await;
    has_all(&mut place, 1_700_000_020).await;
    running.tells("it goes on", |stats| is_owner(stats) && stats.pending_items == 0).await;
}

#[tokio::test]
async fn a_server_that_is_gone_and_comes_back_catches_up() {
    let server = own_mariadb();
    let port = server.port;
    server.admin().await.run("create database kept").await;
    let running = Running::start(settings(on_server(port, "kept", "root")), three());
    running.tells("it is used", is_owner).await;
    server.kill().await;
    run_all(&running, 1_700_000_000);
    let stats = running.tells("it is gone", |stats| failures(stats, Reason::Connection) > 0).await;
    assert_eq!(stats.pending_items, 3);
    // Another server at that address knows nothing: not even the schema.
    let server = crate::support::servers::mariadb_on(port);
    running.tells("the schema is not there", |stats| failures(stats, Reason::Layout) > 0).await;
    let mut admin = server.admin().await;
    admin.run("create database kept").await;
    running.tells("all is written", |stats| is_owner(stats) && stats.pending_items == 0).await;
    assert_eq!(admin.rows("select count(*) from kept.history").await, [[Some("3".to_owned())]]);
}

/// A file system of a megabyte, for as long as it lives.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            Ok(output) => {
                not_tested(&format!("no small file system: {}", String::from_utf8_lossy(&output.stderr)));
                None
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                not_tested("no small file system: there is no `mount`");
                None
            }
            Err(error) => panic!("mount: {error}"),
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: the file may be open for a moment yet.
        Command::new("umount").arg("--lazy").arg(self.0.path()).status().unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_is_counted_and_catches_up() {
    let Some(small) = Small::mount() else { return };
    let mut place = Place::file(small.0.path().join("history.db")).await;
    let (running, _) = Running::loaded(place.settings(), three()).await;
    run_all(&running, 1_700_000_000);
    has_all(&mut place, 1_700_000_000).await;
    let ballast = small.0.path().join("ballast");
    let full = fs::write(&ballast, vec![0; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    let mut time = 1_700_000_010;
    // The log of SQLite has room for a few pages more.
    let stats = crate::support::wait::wait_for("the disk is full", crate::place::SOON, async || {
        time += 1;
        run_all(&running, time);
        let stats = running.history.stats();
        let is_full = failures(&stats, Reason::Full) > 0;
        crate::support::wait::seen_if(is_full, stats)
    })
    .await;
    assert!(matches!(stats.state, State::Failing { .. }), "{stats:?}");
    fs::remove_file(&ballast).unwrap();
    run_all(&running, time + 1);
    has_all(&mut place, time + 1).await;
    place.shows("PRAGMA integrity_check", &[&["ok"]]).await;
    running.tells("it goes on", |stats| is_owner(stats) && stats.pending_items == 0).await;
}

#[tokio::test]
async fn a_file_of_something_else_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let text = "this is somebody's diary, and no database at all\n".repeat(100);
    fs::write(&path, &text).unwrap();
    let mut running = Running::start(settings(Store::Sqlite(path.clone())), three());
    assert_eq!(running.loading.wait(crate::place::SOON).await, None);
    run_all(&running, 1_700_000_000);
    let stats = running.tells("it is no database", |stats| failures(stats, Reason::Corrupt) > 1).await;
    assert_eq!(stats.pending_items, 3);
    assert!(!running.history.close(Duration::from_secs(5)).await);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_folder_that_is_not_there_yet_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later/history.db");
    let mut running = Running::start(settings(Store::Sqlite(path.clone())), three());
    assert_eq!(running.loading.wait(crate::place::SOON).await, None);
    run_all(&running, 1_700_000_000);
    let stats = running.history.stats();
    let named = matches!(&stats.state, State::Failing { reason: Reason::Connection, message } if message.contains("history.db"));
    assert!(named, "{stats:?}");
    fs::create_dir(path.parent().unwrap()).unwrap();
    running.tells("all is written", |stats| stats.pending_items == 0).await;
    running.close().await;
}
