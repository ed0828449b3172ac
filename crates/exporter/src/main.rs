//! The `fleet-query-exporter` binary: the command line, the logs, the exit code. No logic of its own.

mod app;
mod cli;
mod config;
mod health;
mod job;
mod logging;
mod metrics;
mod news;
mod plan;
mod query;
mod reload;
mod status;
mod suspension;
#[cfg(test)]
mod virtual_fleet;

use std::{fmt::Display, io, process::ExitCode};

use clap::Parser as _;
use tokio::runtime::{Builder, Runtime};

use cli::{Cli, Command, ConfigCommand, QueryArgs};
use config::Loaded;

/// A failure while running.
const FAILED: u8 = 1;
/// Wrong configuration or usage.
const WRONG: u8 = 2;

/// Threads for work that blocks, beside those that resolve names: building pages, reading secrets and certificates.
const OTHER_BLOCKING_THREADS: usize = 64;

/// How far a reload may raise `max_connects`: the number of threads is fixed at the start, though a thread is made only
/// when there is work for it.
const ROOM_FOR_CONNECTS: usize = 1024;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Command::Health) => health(&cli),
        Some(Command::Schema) => {
            say(&mut io::stdout(), format!("{:#}", config::schema()));
            Ok(())
        }
        Some(Command::Config(ConfigCommand::Show { target, query })) => {
            show(&cli, target.as_deref(), query.as_deref())
        }
        Some(Command::Query(args)) => query(&cli, args),
        None if cli.check => check(&cli),
        None => run(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => ExitCode::from(code),
    }
}

fn run(cli: &Cli) -> Result<(), u8> {
    let Loaded { config, warnings } = load(cli)?;
    let logging = logging::init(cli.log_level, cli.log_format);
    let problems = warnings.and(config::missing_secrets(&config));
    let most_connects = config.max_connects.max(ROOM_FOR_CONNECTS);
    let runtime = runtime(most_connects + OTHER_BLOCKING_THREADS)?;
    let start = app::Start { path: &cli.config, bind: cli.bind.as_deref(), logging: &logging, most_connects };
    let ran = runtime.block_on(app::run(start, config, problems));
    // A thread that resolves a name or reads a file cannot be cancelled, and dropping the runtime would wait for it.
    runtime.shutdown_background();
    ran.map_err(|error| fail(FAILED, error))
}

fn check(cli: &Cli) -> Result<(), u8> {
    let Loaded { config, warnings } = load(cli)?;
    let missing = config::missing_secrets(&config);
    let wrong = !missing.is_empty();
    let report = warnings.and(missing);
    if !report.is_empty() {
        say(&mut io::stderr(), &report);
    }
    // A secret that is missing here may be there where the exporter runs: the file itself is right.
    say(&mut io::stdout(), format!("{}: {}", cli.config.display(), config.summary()));
    if wrong { Err(WRONG) } else { Ok(()) }
}

fn show(cli: &Cli, target: Option<&str>, query: Option<&str>) -> Result<(), u8> {
    let Loaded { config, warnings: _ } = load(cli)?;
    let page = config.show(target, query).map_err(|unknown| fail(WRONG, unknown))?;
    say(&mut io::stdout(), page.trim_end());
    Ok(())
}

fn query(cli: &Cli, args: &QueryArgs) -> Result<(), u8> {
    let Loaded { config, warnings: _ } = load(cli)?;
    let attempt = query::Attempt::new(&config, args).map_err(|wrong| fail(WRONG, wrong))?;
    let runtime = runtime(config.max_connects + OTHER_BLOCKING_THREADS)?;
    let tried = runtime.block_on(attempt.run(&config));
    runtime.shutdown_background();
    match tried {
        Ok(true) => Ok(()),
        Ok(false) => Err(FAILED),
        Err(error) => Err(fail(FAILED, error)),
    }
}

fn health(cli: &Cli) -> Result<(), u8> {
    let listen = match &cli.bind {
        Some(bind) => bind.clone(),
        None => load(cli)?.config.listen,
    };
    let runtime = runtime(OTHER_BLOCKING_THREADS)?;
    let asked = runtime.block_on(health::ask(&listen));
    runtime.shutdown_background();
    asked.map_err(|error| fail(FAILED, error))
}

fn load(cli: &Cli) -> Result<Loaded, u8> {
    config::load(&cli.config, cli.bind.as_deref()).map_err(|report| {
        say(&mut io::stderr(), report);
        WRONG
    })
}

/// A name server that does not answer holds a thread for each connect under way; pages and secrets have theirs.
fn runtime(blocking_threads: usize) -> Result<Runtime, u8> {
    let runtime = Builder::new_multi_thread().enable_all().max_blocking_threads(blocking_threads).build();
    runtime.map_err(|error| fail(FAILED, format!("cannot start: {error}")))
}

fn fail(code: u8, error: impl Display) -> u8 {
    say(&mut io::stderr(), format!("fleet-query-exporter: {error}"));
    code
}

/// Writes a line. Nobody reads a closed pipe, and there is nobody else to tell.
fn say(to: &mut impl io::Write, line: impl Display) {
    let _ = writeln!(to, "{line}");
}
