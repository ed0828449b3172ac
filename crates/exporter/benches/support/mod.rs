//! What the benches share that watch the built exporter from outside: its process, its page, simulated fleets, arithmetic.

#![allow(dead_code, reason = "each bench uses its part")]

pub mod arrivals;
pub mod exporter;
pub mod process;
pub mod scene;
pub mod simulated;

use std::{env, process::ExitCode};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs a bench with what its command line says, which is not the case where `cargo test` looks whether it builds; or
/// becomes the child that it was started as. `bench` returns whether all bars hold.
pub fn main(name: &str, bench: impl FnOnce(&[&str]) -> Result<bool>) -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["guarded", program, ref arguments @ ..] => Err(process::become_guarded(program, arguments)),
        ref other if other.contains(&"--bench") => {
            process::raise_open_files();
            bench(&words(other))
        }
        _ => {
            println!("run by `make`, or `cargo bench --bench {name}`; docs/performance.md");
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{name} bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn words<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().copied().filter(|argument| !argument.starts_with('-')).collect()
}

/// Prints a figure beside its bar. Returns whether it holds.
pub fn bar(what: &str, value: f64, most: f64) -> bool {
    verdict(&format!("{what}: {value:.2}, at most {most:.2}"), value <= most)
}

/// The same for what must not be less.
pub fn floor(what: &str, value: f64, least: f64) -> bool {
    verdict(&format!("{what}: {value:.4}, at least {least}"), value >= least)
}

fn verdict(line: &str, passed: bool) -> bool {
    println!("  {line}: {}", if passed { "passed" } else { "MISSED" });
    passed
}

/// The version of a package that this build has locked.
pub fn locked(package: &str) -> &'static str {
    let name = format!("name = \"{package}\"\n");
    let behind = include_str!("../../../../Cargo.lock").split_once(&name).map_or("", |(_, behind)| behind);
    behind.split('"').nth(1).unwrap_or("?")
}

/// Bytes in MiB.
pub fn mib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
