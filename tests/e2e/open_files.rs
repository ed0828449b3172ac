//! T40, the limit of open files: a fleet that cannot fit is refused, and one that runs into it all the same does not spin.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::support::{
    exporter::{self, Exporter, SOON, folder_with},
    process,
    wait::wait_for,
};

/// A fleet that nobody answers for.
fn config(targets: usize) -> String {
    format!(
        "[groups.g]\nuser = \"nobody\"\n[groups.g.targets]\n\"t{{1..{targets}}}\" = \"127.0.0.1:{{1..{targets}}}\"\n\
         [queries.q]\nsql = \"select 1 as n\"\ninterval = \"10s\"\ntimeout = \"1s\"\n\
         [queries.q.metrics.n]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n"
    )
}

#[test]
fn t40_a_fleet_that_needs_more_files_than_there_may_be_is_refused_with_a_reason() {
    for (targets, limit, needs) in [(1, 64, 355), (300, 1000, 1252)] {
        let (_folder, path) = folder_with(&config(targets));
        let mut exporter = exporter::command();
        exporter.arg("--config").arg(&path).args(["--bind", "127.0.0.1:0"]);
        let mut limited = process::command("bash");
        limited
            .args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "bash"])
            .arg(exporter.get_program())
            .args(exporter.get_args());
        let output = limited.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let reason = format!("the fleet needs {needs} open files and the limit is {limit}");
        assert!(said.contains(&reason), "{said}");
    }
}

#[tokio::test]
async fn t40_without_a_file_to_spare_it_tries_ten_times_a_second_and_goes_on_when_there_is_one() {
    const PAUSE: Duration = Duration::from_millis(100);
    let exporter = Exporter::start_with(&config(1), |command, _| {
        command.args(["--log-level", "debug"]);
    })
    .await;
    let open = exporter.page().await.value("process_open_fds", &[]).unwrap();
    // The hard limit is the one that the test was started with.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let set = |current| prlimit(Some(exporter.pid()), Resource::Nofile, Rlimit { current, maximum }).unwrap();
    set(Some(0));

    // The kernel takes the connection; the exporter cannot.
    let began = Instant::now();
    let mut waiting = TcpStream::connect(&exporter.address).await.unwrap();
    let tries = wait_for("it has tried again ten times", SOON, async || {
        let tries = exporter.log().with("still cannot accept connections").len();
        if tries >= 10 { Ok(tries) } else { Err(exporter.log().text()) }
    })
    .await;
    let shortest = PAUSE * u32::try_from(tries).unwrap();
    assert!(began.elapsed() >= shortest, "{tries} tries after {:?}: it spins", began.elapsed());
    assert_eq!(
        exporter.log().with("ERROR cannot accept connections").len(),
        1,
        "said once, not with each try"
    );

    set(maximum);
    waiting.write_all(b"GET /-/healthy HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("healthy\n"), "{answer}");
    assert!(open > 5.0, "the page says how many there were: {open}");
    exporter.stop(&[]).await;
}
