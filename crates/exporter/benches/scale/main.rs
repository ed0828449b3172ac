//! Whether more targets cost more than their share: flatness over five minutes, CPU and memory of a thousand targets, the
//! start of five thousand of which a third are black holes. `make bench-scale`; docs/performance.md says how to read it.
//!
//! What is measured is seen at simulated servers and in /proc. The parts overlap, so that all fits into eight minutes: the
//! even fleet goes on from the first moment to the last, whatever starts and ends beside it.

#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]
#![allow(
    clippy::disallowed_methods,
    reason = "no lane and no paused clock here: real time and blocking waits"
)]

#[path = "../support/mod.rs"]
mod support;

use std::{process::ExitCode, thread, time::Duration};

use fleet_scheduler::Timeline;
use fleetsim::Connect;
use tokio::time::Instant;

use support::{
    Result,
    arrivals::{Flatness, quantile},
    bar,
    exporter::Exporter,
    floor, mib,
    process::{self, Cpu},
    scene::{self, SECOND, Scene},
    simulated::{Shape, Simulated},
};

/// 1,000 runs a second, and a tenth of the large fleet's targets.
const EVEN: Shape =
    Shape { targets: 100, queries: 20, interval: SECOND.saturating_mul(2), timeout: SECOND, rows: ROWS };
const LARGE: Shape = Shape {
    targets: 1000,
    queries: 20,
    interval: SECOND.saturating_mul(10),
    timeout: SECOND.saturating_mul(5),
    rows: ROWS,
};
const WIDE: Shape = Shape {
    targets: 5000,
    queries: 10,
    interval: SECOND.saturating_mul(60),
    timeout: SECOND.saturating_mul(5),
    rows: ROWS,
};
const ROWS: usize = 20;

const BIN: Duration = Duration::from_millis(100);
const FLATNESS: f64 = 2.0;
/// What tokio's timers can tell apart.
const DRIFT: Duration = Duration::from_millis(1);
const KEPT: f64 = 0.999;
const CPU_RATIO: f64 = 1.3;
const PAGE_SHARE: f64 = 1.5;
const ITEM_BYTES: f64 = 2048.0;
const CONNECTION_BYTES: f64 = 16384.0;
const SCRAPES: usize = 5;
/// Items with an interval of up to a minute start on their offset.
const SPREAD: Duration = Duration::from_secs(60);
/// The longest back-off: the larger of 30 s and the shortest interval.
const BACK_OFF: Duration = WIDE.interval;

/// How long each part takes.
struct Times {
    even: Duration,
    /// The first and the last part of the even fleet's time, which are compared.
    drift: Duration,
    warm_up: Duration,
    cpu: Duration,
    black_holes: Duration,
    noticing: Duration,
}

const TIMES: Times = Times {
    even: Duration::from_secs(300),
    drift: Duration::from_secs(30),
    warm_up: Duration::from_secs(25),
    cpu: Duration::from_secs(60),
    black_holes: Duration::from_secs(120),
    noticing: Duration::from_secs(120),
};
const SHORT: Times = Times {
    even: Duration::from_secs(60),
    drift: Duration::from_secs(10),
    warm_up: Duration::from_secs(15),
    cpu: Duration::from_secs(20),
    black_holes: Duration::from_secs(70),
    noticing: Duration::from_secs(30),
};

fn main() -> ExitCode {
    support::main("scale", |words| match words {
        [] => bench(&TIMES),
        ["short"] => scene::unjudged(|| bench(&SHORT)),
        ["memory"] => only_memory(),
        _ => Err("arguments are `short`, or `memory` for that part alone".into()),
    })
}

fn bench(times: &Times) -> Result<bool> {
    let timeline = scene::timeline()?;
    // Before anything is measured: thousands of ports keep this process busy for a moment.
    let holes = holes(timeline)?;
    let even = Scene::start(EVEN, Duration::ZERO, timeline)?;
    thread::sleep(times.warm_up);
    let begun = Instant::now();
    let mut passed = large(&even, times, timeline)?;
    passed &= wide(times, holes)?;
    thread::sleep((begun + times.even).saturating_duration_since(Instant::now()));
    passed &= flatness(&even, begun, times);
    Ok(passed)
}

/// The CPU of ten times as many targets, in the same minute; and their memory.
fn large(even: &Scene, times: &Times, timeline: Timeline) -> Result<bool> {
    println!("\n{}\n  beside {}", LARGE.describe(), EVEN.describe());
    let large = Scene::start(LARGE, Duration::ZERO, timeline)?;
    thread::sleep(times.warm_up);
    let cpu = |scene: &Scene| Cpu::of(scene.exporter.pid());
    let (from, before) = (Instant::now(), [cpu(even)?, cpu(&large)?]);
    thread::sleep(times.cpu);
    let (to, after) = (Instant::now(), [cpu(even)?, cpu(&large)?]);
    let us = [0, 1].map(|n| {
        let runs = [even, &large][n].fleet.arrivals(from, to).len();
        after[n].since(before[n]).total().as_secs_f64() * 1e6 / runs.max(1) as f64
    });
    println!("  CPU per run: {:.1} us at {} targets, {:.1} at {}", us[0], EVEN.targets, us[1], LARGE.targets);
    let mut passed = bar("large / even", us[1] / us[0], CPU_RATIO);

    let everybody: Vec<_> = (0..LARGE.targets).collect();
    let ticks = large.fleet.ticks(&everybody, from, to - LARGE.interval);
    let p99 = quantile(&ticks.lateness, 0.99).as_secs_f64() * 1e3;
    println!("  {} of {} ticks, {} retries; p99 lateness {p99:.2} ms", ticks.kept, ticks.due, ticks.extra);
    passed &= floor("ticks kept", ticks.kept_share(), KEPT);
    Ok(passed & memory(&large)?)
}

/// The memory of the thousand targets, with nothing beside them.
fn only_memory() -> Result<bool> {
    println!("\n{}", LARGE.describe());
    let large = Scene::start(LARGE, Duration::ZERO, scene::timeline()?)?;
    thread::sleep(TIMES.warm_up);
    memory(&large)
}

fn memory(scene: &Scene) -> Result<bool> {
    let unscraped = process::resident(scene.exporter.pid())? as f64;
    let mut page = 0.0;
    for _ in 0..SCRAPES {
        page = scene.exporter.page()?.text.len() as f64;
    }
    let resident = process::resident(scene.exporter.pid())? as f64;
    let (items, open) = (scene.fleet.shape.items() as f64, scene.fleet.open() as f64);
    let terms = [PAGE_SHARE * page, ITEM_BYTES * items, CONNECTION_BYTES * open];
    println!(
        "  resident: {:.1} MiB before the first scrape, {:.1} after {SCRAPES}",
        mib(unscraped),
        mib(resident)
    );
    println!(
        "  allowed: {PAGE_SHARE} x the page's {:.1} MiB = {:.1}, 2 KiB x {items} items = {:.1}, \
         16 KiB x {open} connections = {:.1}",
        mib(page),
        mib(terms[0]),
        mib(terms[1]),
        mib(terms[2]),
    );
    Ok(bar("resident MiB", mib(resident), mib(terms.iter().sum())))
}

fn is_hole(target: usize) -> bool {
    target % 10 < 3
}

/// The wide fleet, of which a third swallows connects.
fn holes(timeline: Timeline) -> Result<Simulated> {
    let mut fleet = Simulated::start(WIDE, Duration::ZERO, timeline)?;
    for target in (0..WIDE.targets).filter(|n| is_hole(*n)) {
        fleet.connect(target, Connect::BlackHole)?;
    }
    Ok(fleet)
}

/// Its start; then some of the black holes recover while the others go on swallowing connects.
fn wide(times: &Times, mut fleet: Simulated) -> Result<bool> {
    let recovers = |n: usize| n.is_multiple_of(100);
    println!("\n{}; 30 % are black holes", WIDE.describe());
    let begun = Instant::now();
    let exporter = Exporter::start(&fleet.config(), "error")?;
    let well = (0..WIDE.targets).filter(|n| !is_hole(*n)).count();
    let mut tried = None;
    while begun.elapsed() < times.black_holes {
        thread::sleep(SECOND);
        if tried.is_some() || fleet.items_seen() < well * WIDE.queries {
            continue;
        }
        let page = exporter.page()?;
        let answered = page.count("query_exporter_up", |up| up > 0.0);
        let failed = page.count("query_exporter_target_failures_total", |failures| failures > 0.0);
        if answered + failed >= WIDE.targets {
            tried = Some(begun.elapsed());
        }
    }
    let tried = tried.map_or(f64::INFINITY, |time: Duration| time.as_secs_f64());
    let mut passed = bar("seconds until each item was tried", tried, 2.0 * SPREAD.as_secs_f64());

    let recovering: Vec<_> = (0..WIDE.targets).filter(|n| recovers(*n)).collect();
    for target in &recovering {
        fleet.connect(*target, Connect::Greet)?;
    }
    let recovered = Instant::now();
    let mut noticed = Vec::new();
    while noticed.len() < recovering.len() && recovered.elapsed() < times.noticing {
        thread::sleep(SECOND);
        let arrivals = fleet.arrivals(recovered, Instant::now());
        let first = |target: &usize| arrivals.iter().find(|arrival| arrival.target == *target);
        noticed = recovering.iter().filter_map(|target| Some(first(target)?.at - recovered)).collect();
    }
    noticed.sort();
    println!(
        "  {} of {} that recovered were noticed, half of them within {:.1?}",
        noticed.len(),
        recovering.len(),
        quantile(&noticed, 0.5)
    );
    let all = noticed.len() == recovering.len();
    let last = noticed.last().filter(|_| all).map_or(f64::INFINITY, Duration::as_secs_f64);
    passed &= bar("seconds until the last was", last, 2.0 * BACK_OFF.as_secs_f64());
    println!("  resident: {:.1} MiB", mib(process::resident(exporter.pid())? as f64));
    Ok(passed)
}

fn flatness(even: &Scene, begun: Instant, times: &Times) -> bool {
    let end = begun + times.even;
    let arrivals = even.fleet.arrivals(begun, end);
    let flat = Flatness::of(arrivals.iter().map(|arrival| arrival.at), begun, BIN);
    println!("\n{} for {:?}", EVEN.describe(), times.even);
    println!(
        "  {} statements; 100 ms bins hold {:.0} in the mean, {} at most, after {:.1} s",
        arrivals.len(),
        flat.mean,
        flat.largest,
        (BIN * u32::try_from(flat.place).unwrap_or_default()).as_secs_f64(),
    );
    let passed = bar("largest bin / mean", flat.ratio(), FLATNESS);
    let everybody: Vec<_> = (0..EVEN.targets).collect();
    let within = |from, to| even.fleet.ticks(&everybody, from, to);
    // The ticks of the last interval have until its end.
    let all = within(begun, end - EVEN.interval);
    let [p99, most] = [0.99, 1.0].map(|share| quantile(&all.lateness, share).as_secs_f64() * 1e3);
    println!(
        "  {} of {} ticks, {} retries; p99 lateness {p99:.2} ms, most {most:.2}",
        all.kept, all.due, all.extra
    );
    let [first, last] = [begun, end - EVEN.interval - times.drift]
        .map(|from| quantile(&within(from, from + times.drift).lateness, 0.5));
    println!("  median lateness: {first:.1?} in the first {:?}, {last:.1?} in the last", times.drift);
    passed & bar("drift in ms", first.abs_diff(last).as_secs_f64() * 1e3, DRIFT.as_secs_f64() * 1e3)
}
