//! The `fleet-query-exporter` binary: the command line, the logs, the exit code. No logic of its own.

mod announce;
mod app;
mod cli;
mod client;
mod config;
mod effective;
mod health;
mod history;
mod job;
mod logging;
mod memory;
mod metrics;
mod news;
mod open_files;
mod plan;
mod query;
mod reload;
mod reload_command;
mod signals;
mod status;
mod suspension;
mod trust;
#[cfg(test)]
mod virtual_fleet;
mod web;

use std::{fmt::Display, fs, io, path::Path, process::ExitCode};

use clap::Parser as _;
use tokio::runtime::{Builder, Runtime};

use cli::{Cli, Command, ConfigCommand, QueryArgs, ReloadArgs};
use client::Base;
use config::{Loaded, WebFile};
use trust::Identity;

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
        Some(Command::Reload(args)) => reload(&cli, args),
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
    let start = app::Start { path: &cli.config, given: cli.given(), logging: &logging, most_connects };
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

fn reload(cli: &Cli, args: &ReloadArgs) -> Result<(), u8> {
    let against =
        args.against.as_deref().map(Base::of_url).transpose().map_err(|error| fail(WRONG, error))?;
    // What another exporter is to read is its own affair: it checks that itself.
    let loaded = if args.dry_run || against.is_none() { Some(load(cli)?) } else { None };
    let listen = || cli.bind.clone().or_else(|| Some(loaded.as_ref()?.config.listen.clone()));
    let is_own = against.is_none();
    let exporter = against.unwrap_or_else(|| Base::of_listener(&listen().unwrap_or_default()));
    let own_web = loaded.as_ref().filter(|_| is_own).map(|loaded| &loaded.config.web);
    let exporter = let_in(exporter, args, own_web).map_err(|error| fail(WRONG, error))?;
    let runtime = runtime(OTHER_BLOCKING_THREADS)?;
    let asked = runtime.block_on(async {
        match &loaded {
            Some(loaded) if args.dry_run => {
                let lines = reload_command::dry_run(&exporter, &loaded.config).await?;
                Ok(lines.join("\n"))
            }
            _ => reload_command::reload(&exporter).await,
        }
    });
    runtime.shutdown_background();
    let text = asked.map_err(|error: String| fail(FAILED, error.trim_end()))?;
    say(&mut io::stdout(), text.trim_end());
    Ok(())
}

/// What it takes to be let in by the exporter that is asked. The one that has this configuration has the certificate of
/// its web file.
fn let_in(mut exporter: Base, args: &ReloadArgs, own_web: Option<&WebFile>) -> Result<Base, String> {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let own = own_web.and_then(|web| web.settings.tls.as_ref());
    let identity = match (&args.cert, &args.key) {
        (Some(certificate), Some(key)) => {
            let unfit = |error| format!("cannot show {}: {error}", certificate.display());
            Some(Identity::of(read(certificate)?.as_bytes(), &read(key)?.into()).map_err(unfit)?)
        }
        _ => None,
    };
    let client = |pem: &[u8]| trust::client(pem, identity.as_ref());
    let trusted = match (&args.ca, own) {
        (Some(ca), _) if exporter.is_https || own.is_some() => {
            let unfit = |error| format!("cannot use {}: {error}", ca.display());
            Some(client(read(ca)?.as_bytes()).map_err(unfit)?)
        }
        (Some(_), _) => return Err("--ca is for an exporter at https://…".to_owned()),
        (None, Some(tls)) => Some(client(tls.certificate())?),
        (None, None) if exporter.is_https => {
            return Err("say whom to trust: --ca FILE, with the authority of its certificate or the certificate itself".to_owned());
        }
        (None, None) if identity.is_some() => return Err("--cert is for an exporter at https://…".to_owned()),
        (None, None) => None,
    };
    if let Some(tls) = trusted {
        exporter = exporter.over_tls(tls);
    }
    Ok(match &args.login {
        None => exporter,
        Some(path) => exporter.with_login(read(path)?.trim_end_matches(['\n', '\r']).to_owned().into()),
    })
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
    config::load(&cli.config, Some(cli.given())).map_err(|report| {
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
