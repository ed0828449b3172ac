//! T61, T62 and T64: the process ends, by request or by force, or nobody takes what it logs.

use std::{
    fs::File,
    io,
    process::{Command, Stdio},
};

use fleetsim::{Answer, Event, Fleet, Script, StatementEnd};
use rustix::process::Signal;
use tokio::{join, time::Instant};

use crate::support::{
    account::Account,
    bystander::Bystander,
    exporter::{Exporter, SOON},
    http, note, on_both_servers,
    page::Page,
    process,
    servers::Server,
    wait::{seen_if, wait_for},
};

on_both_servers!(
    t62_a_query_that_a_killed_exporter_left_ends_at_the_servers_limit,
    t62_a_session_that_a_vanished_exporter_left_is_reaped,
);

/// A query with a gauge of its own name from the column `n`.
fn query(name: &str, sql: &str, every: &str) -> String {
    format!(
        "[queries.{name}]\ngroups = [\"g\"]\nsql = \"{sql}\"\ninterval = \"{every}\"\ntimeout = \"{every}\"\n\
         [queries.{name}.metrics.{name}]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n"
    )
}

/// A family of the process itself, without labels.
fn own(page: &Page, family: &str) -> u64 {
    page.count(&format!("query_exporter_{family}"), &[])
}

#[tokio::test]
async fn t61_a_sigterm_with_500_queries_at_work_is_obeyed_in_time_and_the_page_served_until_then() {
    const SERVERS: usize = 250;
    let fleet = Fleet::start(SERVERS, |_| Script::default().on("from asked", Answer::hang())).await.unwrap();
    let targets: Vec<_> =
        fleet.sims().iter().enumerate().map(|(n, sim)| format!("t{n} = \"{}\"", sim.address())).collect();
    // Six queries want the two lanes of each target, so that none is idle for long.
    let queries: String = (0..6).map(|n| query(&format!("q{n}"), "select n from asked", "5s")).collect();
    let config = format!("[groups.g]\nuser = \"monitor\"\ntargets = {{ {} }}\n{queries}", targets.join(", "));
    let exporter = Exporter::start(&config).await;
    exporter.wait_until("500 are at work", SOON * 2, |page| own(page, "runs_in_flight") == 500).await;

    let (address, asked) = (exporter.address.clone(), Instant::now());
    let scraped = async {
        let (mut pages, mut stopped) = (0, None);
        loop {
            match http::get(&address, "/metrics").await {
                Ok(answer) => {
                    assert_eq!(answer.status, 200);
                    pages += 1;
                    if own(&Page::parse(answer.body), "runs_in_flight") == 0 {
                        stopped.get_or_insert_with(Instant::now);
                    }
                }
                Err(error) => return (pages, stopped, error.kind()),
            }
        }
    };
    let (took, (pages, stopped, end)) = join!(exporter.stop(&[]), scraped);
    assert!(matches!(end, io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset), "{end:?}");
    let stopped = stopped.expect("a page from after the runs' end and before the exporter's");

    let mut killed = 0;
    for sim in fleet.sims() {
        wait_for("the server has no session of ours", SOON, async || {
            let counts = sim.counts();
            seen_if(counts.threads == 0 && counts.most_threads <= 3, counts)
        })
        .await;
        let records = sim.records();
        let is_query = |event: &Event| matches!(event, Event::Statement(sql) if sql.contains("from asked"));
        let late = records.iter().find(|record| record.at > stopped && is_query(&record.event));
        assert!(late.is_none(), "a query began after the scheduler's end: {late:?}");
        let is_kill = |event: &Event| *event == Event::StatementEnded(StatementEnd::Killed);
        killed += records.iter().filter(|record| record.at > asked && is_kill(&record.event)).count();
    }
    assert!(killed > 0, "none was killed");
    note!("left {took:?} after SIGTERM, {pages} pages meanwhile, {killed} of 500 queries ended by KILL");
}

/// How long the server lets a query of these tests.
const LIMIT: &str = "3s";

async fn t62_a_query_that_a_killed_exporter_left_ends_at_the_servers_limit(server: &Server) {
    let account = Account::new(server, "killed").await;
    let mut admin = server.admin().await;
    let rows: Vec<_> = (1..=2000).map(|n| format!("({n})")).collect();
    let schema = &account.schema;
    admin
        .run(&format!("create table {schema}.t (n int); insert into {schema}.t values {}", rows.join(", ")))
        .await;
    // Computes for hours.
    let long = "select sum(a.n * b.n * c.n * d.n) as n from t a, t b, t c, t d where a.n + b.n <> c.n + d.n";
    let exporter = Exporter::start(&(account.group("g", &["db"]) + &query("long", long, LIMIT))).await;

    account.busy_with(&mut admin, "sum(a.n", SOON).await;
    exporter.kill().await;
    wait_for("the server has ended the query", SOON, async || {
        let sessions = account.sessions(&mut admin).await;
        seen_if(sessions.is_empty(), sessions)
    })
    .await;
}

/// The server hears nothing of a host that is gone: no end of the connection, as here, where the process stands still.
async fn t62_a_session_that_a_vanished_exporter_left_is_reaped(server: &Server) {
    let account = Account::new(server, "vanished").await;
    let mut admin = server.admin().await;
    let asks = query("wait_timeout", "select @@session.wait_timeout as n", "1s");
    let shorter = "session = { extra = [\"set session wait_timeout = 2\"] }\n";
    let config = account.group("g", &["as_is"])
        + &account.group("h", &["shorter"])
        + shorter
        + &asks.replace("[\"g\"]", "[\"g\", \"h\"]");
    let exporter = Exporter::start(&config).await;
    exporter.wait_for_runs("as_is", 1, SOON).await;
    let page = exporter.wait_for_runs("shorter", 1, SOON).await;
    let limit = |target| page.value("query_exporter_wait_timeout", &[("target", target)]);
    assert_eq!((limit("as_is"), limit("shorter")), (Some(360.0), Some(2.0)));

    exporter.signal(Signal::STOP);
    // That of the other target waits for its six minutes.
    wait_for("the server has ended one of the two sessions", SOON, async || {
        let sessions = account.sessions(&mut admin).await;
        seen_if(sessions.len() == 1, sessions)
    })
    .await;
    exporter.kill().await;
    account.assert_no_session_left(&mut admin).await;
}

/// Starts it with this standard output and error, and a bystander to say whether anything of that is felt.
async fn unread(output: impl FnOnce(&mut Command)) -> (Exporter, Bystander) {
    let bystander = Bystander::start().await;
    (Exporter::start_unread(&format!("{RELOAD}{}", bystander.config()), output).await, bystander)
}

const RELOAD: &str = "[server]\nreload = true\n";

#[tokio::test]
async fn t64_what_a_full_disk_or_a_closed_pipe_does_not_take_is_counted_and_nothing_else_happens() {
    let full = || Stdio::from(File::create("/dev/full").unwrap());
    let closed = || Stdio::from(io::pipe().unwrap().1);
    for (what, stdout, stderr) in [("a full disk", full(), full()), ("a closed pipe", closed(), closed())] {
        let (exporter, bystander) = unread(|command| {
            command.stdout(stdout).stderr(stderr);
        })
        .await;
        exporter.wait_until(what, SOON, |page| own(page, "log_suppressed_total") > 0).await;
        bystander.assert_untroubled(&exporter).await;
        exporter.stop(&[]).await;
    }
}

#[tokio::test]
async fn t64_output_that_is_closed_from_the_start_changes_nothing() {
    let (exporter, bystander) = unread(|command| {
        let mut closing = process::command("bash");
        closing
            .args(["-c", "exec \"$@\" >&- 2>&-", "bash"])
            .arg(command.get_program())
            .args(command.get_args());
        *command = closing;
    })
    .await;
    bystander.assert_untroubled(&exporter).await;
    assert_eq!(exporter.reload().await.status, 200, "its files are what they seem to be");
    exporter.stop(&[]).await;
}

#[tokio::test]
async fn t64_a_pipe_that_nobody_reads_stops_neither_reloads_nor_runs_nor_the_end() {
    let (reader, writer) = io::pipe().unwrap();
    let stdout = writer.try_clone().unwrap();
    let (exporter, bystander) = unread(|command| {
        command.stdout(stdout).stderr(writer);
    })
    .await;
    // Each wrong file is twenty lines and more: beyond the pipe 10,000 wait, and then they are dropped.
    let mistakes: Vec<_> = (0..30).map(|n| format!("nobody_knows_this_key_{n} = {n}\n")).collect();
    let mistakes = mistakes.concat();
    exporter.write_config(&(RELOAD.to_owned() + &mistakes + &bystander.config()));
    let mut reloads = 0;
    while own(&exporter.page().await, "log_suppressed_total") == 0 {
        assert!(reloads < 2000, "{reloads} reloads and no line dropped");
        for _ in 0..50 {
            assert_eq!(exporter.reload().await.status, 500);
        }
        reloads += 50;
    }
    bystander.assert_untroubled(&exporter).await;
    exporter.stop(&[]).await;
    drop(reader);
}
