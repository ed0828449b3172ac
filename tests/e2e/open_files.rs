//! The limit of open files: a fleet that cannot fit is refused, and one that runs into it all the same does not spin.

use std::{fs, time::Duration};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
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
fn a_fleet_that_needs_more_than_there_may_be_is_refused_with_a_reason() {
    let (_folder, path) = folder_with(&config(300));
    let mut exporter = exporter::command();
    exporter.arg("--config").arg(&path).args(["--bind", "127.0.0.1:0"]);
    let mut limited = process::command("bash");
    limited
        .args(["-c", "ulimit -n 1000; exec \"$@\"", "bash"])
        .arg(exporter.get_program())
        .args(exporter.get_args());
    let output = limited.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the fleet needs 1252 open files and the limit is 1000"), "{said}");
}

#[tokio::test]
async fn without_a_file_to_spare_it_waits_and_goes_on_when_there_is_one() {
    let exporter = Exporter::start(&config(1)).await;
    let open = exporter.page().await.value("process_open_fds", &[]).unwrap();
    let pid = exporter.pid();
    // The hard limit is the one that the test was started with.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let set = |current| prlimit(Some(pid), Resource::Nofile, Rlimit { current, maximum }).unwrap();
    set(Some(0));

    // The kernel takes the connection; the exporter cannot.
    let mut waiting = TcpStream::connect(&exporter.address).await.unwrap();
    wait_for("it says that it cannot accept", SOON, async || {
        let said = exporter.log().with("cannot accept connections");
        if said.len() == 1 { Ok(()) } else { Err(exporter.log().text()) }
    })
    .await;
    let before = cpu_ticks(pid);
    sleep(Duration::from_secs(2)).await;
    let ticks = cpu_ticks(pid) - before;
    assert!(ticks < 50, "{ticks} hundredths of a second of CPU in two seconds: it spins");
    assert_eq!(exporter.log().with("cannot accept connections").len(), 1, "said once, not with each try");

    set(maximum);
    waiting.write_all(b"GET /-/healthy HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("healthy\n"), "{answer}");
    assert!(open > 5.0, "the page says how many there were: {open}");
    exporter.stop(&[]).await;
}

/// CPU time of a process, in hundredths of a second.
fn cpu_ticks(pid: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    // Behind the name, which may hold anything: state is the first, utime the 12th, stime the 13th.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
