//! What a scrape costs beside nginx with the same bytes in a file and beside a bare `writev`, while results are being
//! published: the real binary on a simulated fleet. `make bench-page`; docs/performance.md says how to read it.
//!
//! The sides take turns, each with one client that reads and throws away; what is compared are medians of the rounds.

#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]
#![allow(
    clippy::disallowed_methods,
    reason = "no lane, no paused clock and no other task here: real time and blocking waits"
)]

mod client;
mod fleet;
mod floors;
mod herd;
mod memory;
mod publish;
mod publishing;
mod rounds;
mod scrapes;
#[path = "../support/mod.rs"]
mod support;

use std::{
    env,
    process::ExitCode,
    time::{Duration, Instant},
};

use fleet::{Fleet, Servers};
use support::{Result, exporter::Exporter, process};

/// 100,000 series, of which 500 results of 20 series each are published a second.
const USUAL: Fleet = Fleet { targets: 500, queries: 10, rows: 20, interval: Duration::from_secs(10) };
/// Ten times the series, as many results.
const LARGE: Fleet = Fleet { rows: 200, ..USUAL };
/// As many series as usual, four times the results.
const BUSY: Fleet = Fleet { interval: Duration::from_millis(2500), ..USUAL };
/// What any process of ours takes.
const SMALLEST: Fleet = Fleet { targets: 1, queries: 1, rows: 1, interval: Duration::from_secs(10) };

/// How long items may fail at the start, on a machine that is busy.
const FILLED: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // What this program runs as beside itself.
        ["servers", rows] => fleet::main(rows).map(|()| true),
        ["writev", file] => floors::writev(file).map(|()| true),
        ["publisher"] => publish::main().map(|()| true),
        ["guarded", program, ref arguments @ ..] => Err(process::become_guarded(program, arguments)),
        ref other if other.contains(&"--bench") => bench(&parts(other)),
        _ => {
            println!(
                "run by `make bench-page`, or `cargo bench --bench page -- PART...`: {}",
                PARTS.join(" ")
            );
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("page bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Parts that are run where none is asked for, and the one that takes ten minutes.
const PARTS: [&str; 7] = ["plain", "gzip", "publishing", "full-rate", "million", "herd", "memory"];
const LONG: &str = "memory";

fn parts<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().copied().filter(|argument| !argument.starts_with('-')).collect()
}

/// Runs the parts asked for. Returns whether all bars hold.
fn bench(parts: &[&str]) -> Result<bool> {
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(part)) {
        return Err(format!("no part {unknown}; there are {}", PARTS.join(" ")).into());
    }
    let wanted = |part| if parts.is_empty() { part != LONG } else { parts.contains(&part) };
    println!(
        "fleet-query-exporter {}; {} CPUs",
        env!("CARGO_PKG_VERSION"),
        std::thread::available_parallelism()?
    );
    let mut passed = true;
    if wanted("plain") {
        passed &= scrapes::plain(&USUAL, scrapes::USUAL_BARS)?;
    }
    if wanted("gzip") {
        passed &= scrapes::gzip(&USUAL)?;
    }
    if wanted("publishing") {
        passed &= publishing::beside_scrapes(&BUSY)?;
    }
    if wanted("full-rate") {
        passed &= publishing::full_rate()?;
    }
    if wanted("million") {
        passed &= scrapes::plain(&LARGE, scrapes::LARGE_BARS)?;
    }
    if wanted("herd") {
        passed &= herd::herd(&USUAL)?;
    }
    if wanted(LONG) {
        passed &= memory::memory(&LARGE)?;
    }
    Ok(passed)
}

/// The exporter on this fleet, each item with a result.
fn ready(fleet: &Fleet, servers: &Servers) -> Result<Exporter> {
    let exporter = Exporter::start(&fleet.config(servers.port), "warn")?;
    exporter.wait_until_ready()?;
    let until = Instant::now() + FILLED;
    loop {
        let series = exporter.own()?.sum("query_exporter_snapshot_series", "");
        let expected = fleet.series() as f64;
        if (series - expected).abs() < 0.5 {
            return Ok(exporter);
        }
        if Instant::now() > until {
            return Err(format!("{series} series instead of {expected}").into());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn bar(what: &str, value: f64, most: f64) -> bool {
    let passed = value <= most;
    println!("  {what}: {value:.2}, at most {most}: {}", if passed { "passed" } else { "MISSED" });
    passed
}
