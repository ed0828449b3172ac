//! What reloads do to a fleet that runs: 500 simulated targets, 10,000 items, 500 runs a second, and 100 reloads of which
//! each changes one target. Prints their CPU time; fails where any other target loses a connection, a tick or a sample, or
//! where the process keeps something of each reload.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]
#![allow(
    clippy::disallowed_methods,
    reason = "real time and blocking waits, beside the simulator's own threads"
)]

#[allow(missing_docs, unreachable_pub, reason = "of the whole module a part is used here")]
#[path = "support/mod.rs"]
mod support;

use std::{
    env,
    fmt::Write as _,
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use fleetsim::{Answer, Fleet, Script};
use tempfile::TempDir;

use support::{
    Result,
    process::{self, Cpu, Killed, guarded, resident, scratch},
};

const TARGETS: usize = 500;
const QUERIES: usize = 20;
const RELOADS: usize = 100;
/// Of these the first: by then each kind of reload has been done some times.
const SETTLED: usize = 20;
/// How long the cost of the runs themselves is measured.
const QUIET: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);

/// What the process may keep of 80 reloads: nothing, but an allocator is no exact thing.
const MAX_GROWTH: u64 = 8 << 20;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["guarded", program, ref arguments @ ..] => Err(process::become_guarded(program, arguments)),
        ref other if other.contains(&"--bench") => bench(),
        _ => Ok(true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("reload_live bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let script = |_| Script::default().records(false).on("from t", Answer::integer("n", 1));
    let fleet = runtime.block_on(Fleet::start(TARGETS, script))?;
    let changing = format!("first = {{ address = \"{}\"", fleet[0].address());
    let with = |first: &str| config(&fleet, first);
    let files = [
        with(&format!("{changing} }}")),
        with(&format!("{changing}, labels = {{ role = \"replica\" }} }}")),
        with(&format!("{changing}, max_connections = 2 }}")),
        with(""),
    ];
    let exporter = Exporter::start(&files[0])?;
    exporter.wait_for_series(TARGETS * QUERIES)?;

    let (cpu, begun) = (Cpu::of(exporter.pid())?, Instant::now());
    std::thread::sleep(QUIET);
    let idle = Cpu::of(exporter.pid())?.since(cpu).total().as_secs_f64() / begun.elapsed().as_secs_f64();

    let (cpu, begun) = (Cpu::of(exporter.pid())?, Instant::now());
    let (mut slowest, mut footprints, mut lost) = (Duration::ZERO, Vec::new(), 0);
    for n in 1..=RELOADS {
        exporter.write(&files[n % files.len()])?;
        let asked = Instant::now();
        let answer = exporter.request("POST", "/-/reload")?;
        slowest = slowest.max(asked.elapsed());
        if !answer.contains(&format!("untouched {}", (TARGETS - 1) * QUERIES)) {
            return Err(format!("reload {n}: {answer}").into());
        }
        if n % 10 == 0 {
            lost += (TARGETS - 1) * QUERIES - samples(&exporter.request("GET", "/metrics")?);
        }
        if n == SETTLED || n == RELOADS {
            footprints.push(Footprint::of(exporter.pid())?);
        }
    }
    let took = begun.elapsed();
    let used = Cpu::of(exporter.pid())?.since(cpu).total().as_secs_f64() - idle * took.as_secs_f64();
    println!(
        "{} items, {:.1} % of a core without reloads; {RELOADS} reloads in {took:.1?}, the slowest {slowest:.0?}: \
         {:.0} ms of CPU each",
        TARGETS * QUERIES,
        idle * 100.0,
        used * 1000.0 / RELOADS as f64
    );

    let page = exporter.request("GET", "/metrics")?;
    let missed = sum_of_others(&page, "query_exporter_ticks_missed_total");
    let failures = sum_of_others(&page, "query_exporter_target_failures_total");
    let counts = fleet.sims()[1..].iter().map(fleetsim::Sim::counts);
    let closed: u64 = counts.map(|counts| counts.connects - counts.open).sum();
    println!(
        "of the 499 others: {missed} ticks missed, {failures} runs failed, {lost} samples lost, {closed} connections closed"
    );
    let [early, late] = &footprints[..] else { return Err("no footprints".into()) };
    println!("after {SETTLED} reloads {early}, after {RELOADS} {late}");
    let grown = late.resident.saturating_sub(early.resident);
    let kept = grown > MAX_GROWTH || late.threads > early.threads + 4 || late.files > early.files + 100;
    Ok(missed + failures == 0.0 && lost == 0 && closed == 0 && !kept)
}

/// The first target as it is told, the others as they are.
fn config(fleet: &Fleet, first: &str) -> String {
    let mut text =
        "[server]\nreload = true\n[groups.g]\nuser = \"monitor\"\ntls = { mode = \"disabled\" }\n".to_owned();
    let _ = writeln!(text, "[groups.g.targets]\n{first}");
    for (n, sim) in fleet.sims().iter().enumerate().skip(1) {
        let _ = writeln!(text, "other-{n} = \"{}\"", sim.address());
    }
    for n in 0..QUERIES {
        let _ = write!(
            text,
            "[queries.q{n}]\ninterval = \"20s\"\ntimeout = \"5s\"\nsql = \"select n from t{n}\"\n\
             [queries.q{n}.metrics.sample_{n}]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n"
        );
    }
    text
}

/// Samples of the others on a page.
fn samples(page: &str) -> usize {
    let own = |line: &&str| line.starts_with("query_exporter_sample_") && line.contains("target=\"other-");
    page.lines().filter(own).count()
}

/// The sum of a family over all targets but the first.
fn sum_of_others(page: &str, family: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(family) && line.contains("target=\"other-"));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// The real binary on a file that changes.
struct Exporter {
    process: Killed,
    port: u16,
    path: PathBuf,
    _scratch: TempDir,
}

impl Exporter {
    fn start(config: &str) -> Result<Self> {
        let scratch = scratch()?;
        let path = scratch.path().join("fleet.toml");
        write_private(&path, config)?;
        // Free a moment ago; nothing else here asks for ports.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = guarded(Path::new(env!("CARGO_BIN_EXE_fleet-query-exporter")))?
            .arg("--config")
            .arg(&path)
            .args(["--log-level", "error", "--bind", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self { process: Killed(process), port, path, _scratch: scratch })
    }

    fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Puts another file in the place of its own, as a whole.
    fn write(&self, config: &str) -> Result<()> {
        let beside = self.path.with_extension("new");
        write_private(&beside, config)?;
        Ok(fs::rename(beside, &self.path)?)
    }

    fn wait_for_series(&self, series: usize) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let line = format!("query_exporter_snapshot_series {series}\n");
        while !self.request("GET", "/metrics").is_ok_and(|page| page.contains(&line)) {
            if Instant::now() > until {
                return Err(format!("no {series} series within {PATIENCE:?}").into());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    fn request(&self, method: &str, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(answer.into()) }
    }
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

/// What the process takes of the system.
struct Footprint {
    resident: u64,
    threads: i64,
    files: usize,
}

impl Footprint {
    fn of(pid: u32) -> Result<Self> {
        let process = procfs::process::Process::new(i32::try_from(pid)?)?;
        Ok(Self {
            resident: resident(pid)?,
            threads: process.stat()?.num_threads,
            files: process.fd_count()?,
        })
    }
}

impl std::fmt::Display for Footprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { resident, threads, files } = self;
        write!(f, "{:.1} MiB, {threads} threads, {files} files", *resident as f64 / f64::from(1 << 20))
    }
}
