//! What the history writes at 2,000 runs a second, and what that costs the exporter.

use std::{fs, time::Duration};

use tokio::time::sleep;

use crate::{
    Result,
    exporter::{Exporter, Page, Place},
    store::{File, Server},
    support::process::Cpu,
    targets::Targets,
};

const TARGETS: usize = 400;
const QUERIES: usize = 5;
/// Each result is written once in it.
const MEASURED: Duration = Duration::from_mins(1);

/// What an item's row may cost a flush, in bytes of names and values.
const MAX_ROW: f64 = 64.0;

pub async fn bench() -> Result<bool> {
    let targets = Targets::start(TARGETS, QUERIES).await?;
    let runs = targets.items() as f64;
    println!("what is written at {runs} runs a second, {MEASURED:?} each:");
    let mut good = true;
    let base = measure(&targets, "", async || Ok(0)).await?;
    println!("  without: {:.0} ms of CPU a second", base.cpu);
    let file = File::new()?;
    let sqlite = measure(&targets, &file.config(), async || Ok(0)).await?;
    good &= told("SQLite", &sqlite, &base, runs);
    println!("    to the file: {:.2} MB a second", sqlite.file / 1e6);
    let server = Server::start("mysql").await?;
    let written = async || {
        Ok(server.status("Innodb_data_written").await? + server.status("Innodb_os_log_written").await?)
    };
    let mysql = measure(&targets, &server.config(), written).await?;
    good &= told("MySQL", &mysql, &base, runs);
    println!("    by InnoDB, log included: {:.2} MB a second", mysql.server / 1e6);
    Ok(good)
}

fn told(name: &str, seen: &Seen, base: &Seen, runs: f64) -> bool {
    println!(
        "  {name}: {:.0} rows and {:.0} results a second, {:.3} MB of names and values; {:.0} ms of CPU a second, {:.0} more",
        seen.items,
        seen.results,
        seen.bytes / 1e6,
        seen.cpu,
        seen.cpu - base.cpu
    );
    // A row for each run at most, however often the flush comes, and a result of each item once a minute.
    seen.items <= runs * 1.1
        && seen.results <= runs / 60.0 * 1.1
        && seen.bytes <= (seen.items + seen.results * 8.0) * MAX_ROW
}

/// Of each second.
struct Seen {
    items: f64,
    results: f64,
    bytes: f64,
    /// What the process wrote to files.
    file: f64,
    /// What the server wrote.
    server: f64,
    /// In milliseconds.
    cpu: f64,
}

async fn measure(targets: &Targets, history: &str, server: impl AsyncFn() -> Result<u64>) -> Result<Seen> {
    let place = Place::new(&targets.config(history))?;
    let exporter = place.start().await?;
    let warm = |page: &Page| page.sum("query_exporter_runs_total") >= 5.0 * targets.items() as f64;
    exporter.wait("the items run", Duration::from_secs(60), warm).await?;
    let (before, wrote, cpu, by_server) =
        (exporter.page().await?, written(&exporter)?, Cpu::of(exporter.pid())?, server().await?);
    sleep(MEASURED).await;
    let now = exporter.page().await?;
    let a_second = |amount: f64| amount / MEASURED.as_secs_f64();
    let more = |family: &str| a_second(now.sum(family) - before.sum(family));
    Ok(Seen {
        items: more("query_exporter_history_items_written_total"),
        results: more("query_exporter_history_results_written_total"),
        bytes: more("query_exporter_history_bytes_written_total"),
        file: a_second((written(&exporter)? - wrote) as f64),
        server: a_second((server().await? - by_server) as f64),
        cpu: a_second(Cpu::of(exporter.pid())?.since(cpu).total().as_secs_f64() * 1_000.0),
    })
}

/// What the process has sent to storage so far, in bytes.
fn written(exporter: &Exporter) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{}/io", exporter.pid()))?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).ok_or("no write_bytes")?;
    Ok(line.parse()?)
}
