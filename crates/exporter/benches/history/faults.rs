//! A history that is stopped, full, locked or slow: how late runs wake beside an exporter without one, what its counters
//! say, and how long it takes to catch up.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    Result,
    exporter::{Exporter, Page, Place},
    slow::Slow,
    store::{File, Server},
    support::process::scratch,
    targets::Targets,
};

const TARGETS: usize = 100;
const QUERIES: usize = 5;
const MEASURED: Duration = Duration::from_secs(12);

/// How much later runs may wake than without a history.
const MAX_RATIO: f64 = 1.5;

/// What was seen while a fault lasted.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Mean, in milliseconds.
    lateness: f64,
    runs: f64,
    missed: f64,
    pending: f64,
    failures: f64,
}

pub async fn bench() -> Result<bool> {
    let targets = Targets::start(TARGETS, QUERIES).await?;
    println!(
        "how late {} runs a second wake (mean), with a history and without; {MEASURED:?} each:",
        targets.items()
    );
    let first = without(&targets).await?;
    let mut rows = Vec::new();
    rows.push(("SQLite, well", well(&targets).await?));
    rows.push(("SQLite, locked", locked(&targets).await?));
    match full(&targets).await? {
        Some(row) => rows.push(("SQLite, full", row)),
        None => println!("  NOT MEASURED: a full disk, since no small file system can be mounted here"),
    }
    let server = Server::start("mysql").await?;
    rows.push(("MySQL, stopped", stopped(&targets, &server).await?));
    rows.push(("MySQL, 5 s a statement", slow(&targets, &server).await?));
    let last = without(&targets).await?;
    let base = f64::midpoint(first.lateness, last.lateness);
    println!(
        "  without: {:.3} and {:.3} ms, {} ticks missed",
        first.lateness,
        last.lateness,
        first.missed + last.missed
    );
    let mut good = true;
    for (name, (seen, caught_up)) in rows {
        let ratio = seen.lateness / base;
        let caught_up =
            caught_up.map_or_else(String::new, |after| format!(", caught up {after:.1?} after its end"));
        println!(
            "  {name}: {:.3} ms, {ratio:.2} of that; {} runs, {} ticks missed; {} items pending, {} failures{caught_up}",
            seen.lateness, seen.runs, seen.missed, seen.pending, seen.failures
        );
        good &= ratio <= MAX_RATIO && seen.missed < 1.0;
    }
    Ok(good)
}

type Row = (Seen, Option<Duration>);

async fn without(targets: &Targets) -> Result<Seen> {
    let place = Place::new(&targets.config(""))?;
    let exporter = ready(&place, targets).await?;
    measure(&exporter).await
}

async fn well(targets: &Targets) -> Result<Row> {
    let file = File::new()?;
    let place = Place::new(&targets.config(&file.config()))?;
    let exporter = ready(&place, targets).await?;
    Ok((measure(&exporter).await?, None))
}

async fn locked(targets: &Targets) -> Result<Row> {
    let file = File::new()?;
    let place = Place::new(&targets.config(&file.config()))?;
    let exporter = ready(&place, targets).await?;
    let mut other = file.open().await?;
    sqlx::query("begin exclusive").execute(&mut other).await?;
    let seen = measure(&exporter).await?;
    sqlx::query("commit").execute(&mut other).await?;
    Ok((seen, Some(caught_up(&exporter).await?)))
}

/// None: no small file system can be had.
async fn full(targets: &Targets) -> Result<Option<Row>> {
    let Some(small) = Small::mount()? else { return Ok(None) };
    let file = File::at(small.0.path().join("history.db"));
    let place = Place::new(&targets.config(&file.config()))?;
    let exporter = ready(&place, targets).await?;
    let ballast = small.0.path().join("ballast");
    // As much as fits, and an error.
    let _ = fs::write(&ballast, vec![0; 8 << 20]);
    let seen = measure(&exporter).await?;
    fs::remove_file(&ballast)?;
    let after = caught_up(&exporter).await?;
    drop(exporter);
    Ok(Some((seen, Some(after))))
}

async fn stopped(targets: &Targets, server: &Server) -> Result<Row> {
    let place = Place::new(&targets.config(&server.config()))?;
    let exporter = ready(&place, targets).await?;
    server.signal(Signal::STOP)?;
    let seen = measure(&exporter).await;
    server.signal(Signal::CONT)?;
    Ok((seen?, Some(caught_up(&exporter).await?)))
}

async fn slow(targets: &Targets, server: &Server) -> Result<Row> {
    let slow = Slow::before(server.address()).await;
    // A table of its own: the last exporter's lock is on the other.
    let config = Server::config_at(&slow.address) + "table = \"history_slow\"\n";
    let place = Place::new(&targets.config(&config))?;
    let exporter = ready(&place, targets).await?;
    // To prepare a statement and to execute it are two packets.
    slow.hold_back(Duration::from_millis(2500));
    let seen = measure(&exporter).await?;
    slow.hold_back(Duration::ZERO);
    Ok((seen, Some(caught_up(&exporter).await?)))
}

/// Starts it, and waits until each item has run twice on average and the first results are behind it.
async fn ready(place: &Place, targets: &Targets) -> Result<Exporter> {
    let exporter = place.start().await?;
    let runs = |page: &Page| page.sum("query_exporter_runs_total") >= 4.0 * targets.items() as f64;
    exporter.wait("the items run", Duration::from_secs(60), runs).await?;
    Ok(exporter)
}

async fn measure(exporter: &Exporter) -> Result<Seen> {
    const LATENESS: &str = "query_exporter_schedule_lateness_seconds";
    let before = exporter.page().await?;
    sleep(MEASURED).await;
    let now = exporter.page().await?;
    let more = |family: &str| now.sum(family) - before.sum(family);
    Ok(Seen {
        lateness: more(&format!("{LATENESS}_sum")) / more(&format!("{LATENESS}_count")) * 1_000.0,
        runs: more("query_exporter_runs_total"),
        missed: more("query_exporter_ticks_missed_total"),
        pending: now.sum("query_exporter_history_pending_items"),
        failures: more("query_exporter_history_failures_total"),
    })
}

/// How long it takes until nothing waits for longer than three flush intervals.
async fn caught_up(exporter: &Exporter) -> Result<Duration> {
    let begun = Instant::now();
    let is_well = |page: &Page| {
        page.sum("query_exporter_history_owner") > 0.0
            && page.sum("query_exporter_history_oldest_pending_seconds") < 3.0
    };
    exporter.wait("the history catches up", Duration::from_secs(60), is_well).await?;
    Ok(begun.elapsed())
}

/// A file system of four megabytes.
struct Small(TempDir);

impl Small {
    fn mount() -> Result<Option<Self>> {
        let folder = scratch()?;
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder.path()).output();
        Ok(mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder)))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}
