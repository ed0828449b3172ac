//! How long it takes to load and check a large fleet: 1,000 targets and 50 queries, right and with errors in it.
//! Prints the CPU time of each, and fails above one second.

#[allow(dead_code, unused_imports, reason = "the whole module is here for its loader alone")]
#[path = "../src/config/mod.rs"]
mod config;

use std::{fmt::Write as _, path::Path, process::ExitCode};

const LIMIT_MS: i64 = 1000;

fn main() -> ExitCode {
    let good = fleet();
    // A mistake in each target and each query, and 50,000 items whose timeout is above their interval.
    let bad = good
        .replace(", labels = {", ", lables = {")
        .replace("timeout = \"2s\"", "timeout = \"70s\"\nnamspace = \"x\"");
    let mut slow = false;
    for (what, text, expected) in [("right", good, 0), ("with errors", bad, 1000 + 50)] {
        let begun = cpu_ms();
        let (said, n) = match config::parse(Path::new("fleet.toml"), &text, None) {
            Ok(loaded) => (loaded.config.summary(), 0),
            Err(report) => {
                // What a person gets to see is part of the work.
                let shown = report.to_string();
                (shown.lines().last().unwrap_or_default().to_owned(), report.iter().count())
            }
        };
        let ms = cpu_ms() - begun;
        let is_right = if expected == 0 { n == 0 } else { n >= expected };
        slow |= ms > LIMIT_MS || !is_right;
        report(&format!("{what}: {} bytes in {ms} ms of CPU ({said})", text.len()));
    }
    if slow { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Each target on a line of its own, with labels and every tenth with an override.
fn fleet() -> String {
    let mut text = "[defaults]\ninterval = \"30s\"\n".to_owned();
    for group in 0..10 {
        let _ =
            write!(text, "[groups.g{group}]\nuser = \"exporter\"\npassword_file = \"secrets/{{target}}\"\n");
        let _ = write!(text, "labels = {{ env = \"prod\" }}\n[groups.g{group}.targets]\n");
        for n in 0..100 {
            let queries = if n % 10 == 0 { ", queries = { q7 = { interval = \"60s\" } }" } else { "" };
            let _ = writeln!(
                text,
                "db-{group}-{n} = {{ address = \"10.{group}.0.{n}:3306\", labels = {{ shard = \"{n}\" }}{queries} }}"
            );
        }
    }
    for n in 0..50 {
        let _ = write!(
            text,
            "[queries.q{n}]\nsql = '''\nselect table_schema as db, count(*) as tables, sum(data_length) as bytes\n\
             from information_schema.tables where table_schema not in ('mysql', 'sys') group by 1\n'''\n\
             timeout = \"2s\"\nwhere = {{ env = \"prod\" }}\n\
             [queries.q{n}.metrics.tables_{n}]\ntype = \"gauge\"\nhelp = \"tables of a schema\"\n\
             labels = [\"db\"]\nvalue = \"tables\"\n\
             [queries.q{n}.metrics.bytes_{n}]\ntype = \"gauge\"\nhelp = \"bytes of a schema\"\n\
             labels = [\"db\"]\nvalue = \"bytes\"\n"
        );
    }
    text
}

fn cpu_ms() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn report(line: &str) {
    println!("{line}");
}
