//! What the history bears and costs, with the built program and simulated targets: kills, faults of its store beside a
//! run without one, and what it writes. `make bench-history`; docs/performance.md has the figures.

#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]
#![allow(clippy::unwrap_used, reason = "a panic ends the bench, and says where")]
#![allow(clippy::cast_possible_truncation, reason = "times of milliseconds below the cycle")]
#![allow(
    clippy::disallowed_methods,
    reason = "no lane, no paused clock and no other task here: real time, blocking waits, and a client of its own"
)]

mod exporter;
mod faults;
mod kills;
#[path = "../../../../tests/e2e/support/slow.rs"]
mod slow;
mod store;
#[path = "../support/mod.rs"]
mod support;
mod targets;
mod volume;

use std::{env, process::ExitCode};

use support::{Result, process};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["guarded", program, ref arguments @ ..] => Err(process::become_guarded(program, arguments)),
        ref other if other.contains(&"--bench") => bench(other),
        _ => {
            println!(
                "run by `make bench-history`, or `cargo bench --bench history -- [kills | kills-sqlite | kills-mysql] [faults] [volume]`"
            );
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("history bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the parts that are named, or all. False: a bound does not hold.
fn bench(arguments: &[&str]) -> Result<bool> {
    let named: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| named.is_empty() || named.contains(&&part);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let mut good = true;
        if wanted("kills") || wanted("kills-sqlite") {
            good &= kills::on_sqlite().await?;
        }
        if wanted("kills") || wanted("kills-mysql") {
            good &= kills::on_mysql().await?;
        }
        if wanted("faults") {
            good &= faults::bench().await?;
        }
        if wanted("volume") {
            good &= volume::bench().await?;
        }
        Ok(good)
    })
}
