//! What the exporter costs: CPU per run beside a bare loop of the same client, flatness as the server sees it,
//! resident memory of a fleet, and what a scrape takes. `make bench`; docs/performance.md says how to read it.
//!
//! CPU time of whole processes, never wall time: a busy machine makes a round slower, not dearer. The two sides take
//! turns, and what is compared are medians.

#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]
#![allow(
    clippy::disallowed_methods,
    reason = "no lane, no paused clock and no other task here: real time, blocking waits, and the client as bare as can be"
)]

mod bare;
mod fleet;
mod proxy;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::{
    env,
    process::ExitCode,
    time::{Duration, Instant},
};

use fleet::Fleet;
use server::Server;
use support::{
    Result, bar,
    exporter::{Exporter, Page},
    locked, mib,
    process::{self, Cpu},
};

/// 1,000 runs a second over 200 connections.
const BUSY: Fleet = Fleet { targets: 200, queries: 5, interval: Duration::from_secs(1), max_connections: 2 };
/// 300 targets x 10 items x 20 rows, with the connections that a configuration gets by default.
const LARGE: Fleet =
    Fleet { targets: 300, queries: 10, interval: Duration::from_secs(10), max_connections: 3 };
/// What any process of ours takes.
const SMALLEST: Fleet =
    Fleet { targets: 1, queries: 1, interval: Duration::from_secs(1), max_connections: 2 };

const ROUNDS: usize = 3;
/// The first runs of both sides connect.
const WARM_UP: Duration = Duration::from_secs(6);
const MEASURED: Duration = Duration::from_secs(20);
/// How long memory may settle once each item has run.
const SETTLED: Duration = Duration::from_secs(30);
const SCRAPES: u32 = 50;

const MAX_RATIO: f64 = 1.5;
const MAX_FLATNESS: f64 = 2.0;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    // What this program runs as beside itself.
    if let ["bare", port] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return match bare::main(port, &BUSY) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bare loop: {error}");
                ExitCode::FAILURE
            }
        };
    }
    support::main("fleet", bench)
}

/// Runs the parts asked for, by default all. Returns whether all bars hold.
fn bench(parts: &[&str]) -> Result<bool> {
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    let server = Server::start()?;
    println!(
        "fleet-query-exporter {}, sqlx {}, tokio {}, MariaDB {}; {} CPUs; worker threads: {}",
        env!("CARGO_PKG_VERSION"),
        locked("sqlx"),
        locked("tokio"),
        server.version,
        std::thread::available_parallelism()?,
        env::var("TOKIO_WORKER_THREADS").unwrap_or_else(|_| "one for each CPU".to_owned()),
    );
    let mut passed = true;
    if wanted("cpu") {
        passed &= cpu(&server)?;
    }
    if wanted("flatness") {
        passed &= flatness(&server)?;
    }
    if wanted("memory") {
        memory(&server)?;
    }
    Ok(passed)
}

fn cpu(server: &Server) -> Result<bool> {
    println!("\nCPU per run: {} in all, {MEASURED:?} a round", BUSY.describe());
    let (mut exporters, mut bares) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let exporter = exporter_round(server)?;
        let bare = bare_round(server)?;
        println!("  round {round}: exporter {exporter}; bare loop {bare}");
        exporters.push(exporter.us_per_run());
        bares.push(bare.us_per_run());
    }
    let (exporter, bare) = (median(exporters), median(bares));
    println!("  medians: exporter {exporter:.1} us, bare loop {bare:.1} us");
    Ok(bar("exporter / bare loop", exporter / bare, MAX_RATIO))
}

/// What one side did in one round.
struct Round {
    cpu: Cpu,
    switches: u64,
    runs: u64,
    elapsed: Duration,
}

impl Round {
    fn us_per_run(&self) -> f64 {
        self.cpu.total().as_secs_f64() * 1e6 / self.runs as f64
    }
}

impl std::fmt::Display for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let runs = self.runs as f64;
        write!(
            f,
            "{:.1} us ({:.1} user, {:.1} system; {:.2} switches) at {:.0} runs/s",
            self.us_per_run(),
            self.cpu.user.as_secs_f64() * 1e6 / runs,
            self.cpu.system.as_secs_f64() * 1e6 / runs,
            self.switches as f64 / runs,
            runs / self.elapsed.as_secs_f64()
        )
    }
}

fn exporter_round(server: &Server) -> Result<Round> {
    let exporter = Exporter::start(&BUSY.config(server.port), "warn")?;
    std::thread::sleep(WARM_UP);
    let count = || -> Result<u64> {
        let page = exporter.page()?;
        let failed = page.sum("query_exporter_runs_total", r#"outcome="failure""#);
        if failed > 0.0 {
            return Err(format!("{failed} runs failed").into());
        }
        Ok(whole(page.sum("query_exporter_runs_total", r#"outcome="success""#)))
    };
    measure(exporter.pid(), count)
}

fn bare_round(server: &Server) -> Result<Round> {
    let mut bare = bare::Loop::start(server.port)?;
    std::thread::sleep(WARM_UP);
    measure(bare.pid(), || bare.count())
}

/// Counting is kept out of the time that is measured; it moves the number of runs by less than one in a thousand.
fn measure(pid: u32, mut count: impl FnMut() -> Result<u64>) -> Result<Round> {
    let before = count()?;
    let (began, cpu, switches) = (Instant::now(), Cpu::of(pid)?, process::switches(pid)?);
    std::thread::sleep(MEASURED);
    let (cpu, switches) = (Cpu::of(pid)?.since(cpu), process::switches(pid)?.saturating_sub(switches));
    let elapsed = began.elapsed();
    let runs = count()? - before;
    let asked = BUSY.runs_per_second() * elapsed.as_secs_f64();
    if (runs as f64) < asked * 0.98 {
        return Err(format!("only {runs} of {asked:.0} runs: this machine is too slow, or too busy").into());
    }
    Ok(Round { cpu, switches, runs, elapsed })
}

fn flatness(server: &Server) -> Result<bool> {
    println!("\nFlatness: statements as they arrive at the server, {} in all", BUSY.describe());
    let proxy = proxy::Proxy::start(server.port)?;
    let exporter = Exporter::start(&BUSY.config(proxy.port()), "warn")?;
    std::thread::sleep(WARM_UP);
    let from = tokio::time::Instant::now();
    std::thread::sleep(MEASURED + WARM_UP + WARM_UP);
    let seen = proxy.seen();
    drop(exporter);
    seen.same_statements(&BUSY)?;
    let (statements, flat, fullest) = seen.flatness(from);
    println!(
        "  {statements} statements; 100 ms bins hold {:.0} in the mean, {} at most; the fullest 100 ms wherever they begin: {fullest} ({:.2})",
        flat.mean,
        flat.largest,
        fullest as f64 / flat.mean,
    );
    Ok(bar("largest 100 ms bin / mean", flat.ratio(), MAX_FLATNESS))
}

fn memory(server: &Server) -> Result<()> {
    let smallest = Exporter::start(&SMALLEST.config(server.port), "warn")?;
    smallest.wait_until_ready()?;
    std::thread::sleep(Duration::from_secs(2));
    let base = process::resident(smallest.pid())?;
    drop(smallest);

    println!("\nMemory and scrapes: {}, {} rows each", LARGE.describe(), fleet::ROWS);
    let exporter = Exporter::start(&LARGE.config(server.port), "warn")?;
    exporter.wait_until_ready()?;
    std::thread::sleep(SETTLED);
    let unscraped = process::resident(exporter.pid())?;
    let page = exporter.page()?;
    let series = page.sum("query_exporter_snapshot_series", "");
    let bytes = page.sum("query_exporter_snapshot_bytes", "");
    let connections = page.sum("query_exporter_connections", "");
    let expected = (LARGE.items() * fleet::ROWS) as f64;
    if (series - expected).abs() > 0.5 {
        return Err(format!("{series} series instead of {expected}").into());
    }
    let scrape = scrape(&exporter, &page)?;
    let scraped = process::resident(exporter.pid())?;

    let (base, unscraped, scraped) = (base as f64, unscraped as f64, scraped as f64);
    println!(
        "  resident: {:.1} MiB, after {SCRAPES} scrapes {:.1} MiB; one target with one item {:.1} MiB",
        mib(unscraped),
        mib(scraped),
        mib(base)
    );
    println!(
        "  held: {series} series, {:.1} MiB of text, {:.0} bytes a series; {connections} connections open",
        mib(bytes),
        bytes / series
    );
    println!(
        "  above one target with one item: {:.0} bytes a series, {:.1} KiB an item, {:.0} KiB a target",
        (unscraped - base) / series,
        (unscraped - base) / 1024.0 / LARGE.items() as f64,
        (unscraped - base) / 1024.0 / f64::from(LARGE.targets),
    );
    println!(
        "  a scrape of {:.1} MiB: {:.1} ms CPU, {:.1} ms until the last byte",
        mib(page.text.len() as f64),
        scrape.cpu.as_secs_f64() * 1e3,
        scrape.wall.as_secs_f64() * 1e3
    );
    Ok(())
}

struct Scrape {
    cpu: Duration,
    wall: Duration,
}

/// The cost of one scrape in the mean, less what the runs cost meanwhile.
fn scrape(exporter: &Exporter, page: &Page) -> Result<Scrape> {
    let (began, idle) = (Instant::now(), Cpu::of(exporter.pid())?);
    std::thread::sleep(Duration::from_secs(5));
    let idle = Cpu::of(exporter.pid())?.since(idle).total().div_f64(began.elapsed().as_secs_f64());

    let (began, cpu) = (Instant::now(), Cpu::of(exporter.pid())?);
    for _ in 0..SCRAPES {
        // Its length moves with the digits of our own numbers only.
        if exporter.page()?.text.len() < page.text.len() / 2 {
            return Err("a page of another size".into());
        }
    }
    let elapsed = began.elapsed();
    let cpu = Cpu::of(exporter.pid())?.since(cpu).total();
    let cpu = cpu.saturating_sub(idle.mul_f64(elapsed.as_secs_f64()));
    Ok(Scrape { cpu: cpu / SCRAPES, wall: elapsed / SCRAPES })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Counters are whole numbers far below the precision of a double.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
fn whole(value: f64) -> u64 {
    value as u64
}
