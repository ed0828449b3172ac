//! Whether a sick third of a fleet harms the rest: two exporters with equal files, each on a simulated fleet of its own, of
//! which one falls sick and recovers. `make bench-isolation`; docs/performance.md says how to read it.
//!
//! Both at once, so that a busy machine is late for both. What is measured is seen at the servers.

#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]
#![allow(
    clippy::disallowed_methods,
    reason = "no lane and no paused clock here: real time and blocking waits"
)]

#[path = "../support/mod.rs"]
mod support;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use fleetsim::Sickness;
use tokio::time::Instant;

use support::{
    Result,
    arrivals::{Ticks, fullest, quantile},
    bar,
    exporter::Exporter,
    floor,
    scene::{self, SECOND, Scene},
    simulated::Shape,
};

const SHAPE: Shape = Shape {
    targets: 300,
    queries: 10,
    interval: SECOND.saturating_mul(10),
    timeout: SECOND.saturating_mul(5),
    rows: 5,
};
/// The default of `max_connections`.
const CAP: f64 = 3.0;
/// A login takes a while, so that those at once are seen to be.
const LOGIN: Duration = Duration::from_millis(20);
/// The longest back-off of a target that gives no answer.
const BACK_OFF: Duration = Duration::from_secs(30);

const KEPT: f64 = 0.999;
const LATENESS_RATIO: f64 = 1.5;
const LATENESS_MORE: Duration = Duration::from_millis(10);
const RUNS_RATIO: f64 = 1.2;

/// How long each part takes.
struct Times {
    warm_up: Duration,
    sick: Duration,
    recovery: Duration,
}

const TIMES: Times = Times {
    warm_up: Duration::from_secs(25),
    sick: Duration::from_secs(180),
    // Twice the back-off, within which bar 1 has all back.
    recovery: Duration::from_secs(60),
};
const SHORT: Times = Times {
    warm_up: Duration::from_secs(15),
    sick: Duration::from_secs(30),
    recovery: Duration::from_secs(40),
};

fn main() -> ExitCode {
    support::main("isolation", |words| match words {
        [] => bench(&TIMES),
        ["short"] => scene::unjudged(|| bench(&SHORT)),
        _ => Err("the only argument is `short`".into()),
    })
}

/// Scrapes twice a second until it is told to stop; then gives how long each scrape took, sorted.
struct Scraper {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<Duration>>,
}

impl Scraper {
    fn start(exporter: &Arc<Exporter>) -> Self {
        let (stop, exporter) = (Arc::new(AtomicBool::new(false)), Arc::clone(exporter));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut took = Vec::new();
            while !stopped.load(Relaxed) {
                let begun = Instant::now();
                // A scrape that fails took for ever.
                took.push(exporter.page().map_or(Duration::MAX, |_| begun.elapsed()));
                thread::sleep(SECOND / 2);
            }
            took.sort();
            took
        });
        Self { stop, thread }
    }

    fn stop(self) -> Result<Vec<Duration>> {
        self.stop.store(true, Relaxed);
        self.thread.join().map_err(|_| "the scraper panicked".into())
    }
}

fn bench(times: &Times) -> Result<bool> {
    let timeline = scene::timeline()?;
    println!("Isolation: {}; two exporters and fleets, of which one falls sick", SHAPE.describe());
    let healthy = Scene::start(SHAPE, LOGIN, timeline)?;
    let mut sick = Scene::start(SHAPE, LOGIN, timeline)?;
    thread::sleep(times.warm_up);

    let well = sick.fleet.fall_sick(Sickness::default())?;
    let fallen = Instant::now();
    let scrapers = [&healthy, &sick].map(|scene| Scraper::start(&scene.exporter));
    // The ticks of the last interval have until its end.
    thread::sleep(times.sick);
    let span = (fallen, Instant::now() - SHAPE.interval);
    let [healthy_scrapes, sick_scrapes] = scrapers.map(Scraper::stop);
    println!(
        "\n{:?}: {} of {} targets refuse, are mute or hang; figures of the {} others, here and in the healthy fleet",
        times.sick,
        SHAPE.targets - well.len(),
        SHAPE.targets,
        well.len()
    );
    let ticks = |scene: &Scene| scene.fleet.ticks(&well, span.0, span.1);
    let (beside, of_well) = (ticks(&healthy), ticks(&sick));
    tell("healthy", &beside, &healthy_scrapes?);
    tell("sick", &of_well, &sick_scrapes?);
    let mut passed = floor("ticks kept", of_well.kept_share(), KEPT);
    let p99 = |ticks: &Ticks| quantile(&ticks.lateness, 0.99);
    let most = p99(&beside).mul_f64(LATENESS_RATIO) + LATENESS_MORE;
    passed &= bar("p99 lateness in ms", ms(p99(&of_well)), ms(most));

    passed &= recovery(&mut sick, times)?;

    let end = Instant::now();
    println!("\nOver all of it");
    let largest = |scene: &Scene| busiest_second(scene, fallen, end) as f64;
    let (usual, all) = (largest(&healthy), largest(&sick));
    println!("  runs in the busiest second: healthy {usual}, sick and recovering {all}");
    passed &= bar("sick / healthy", all / usual, RUNS_RATIO);
    passed &= bar("connections at any one server", sick.fleet.most_at_one() as f64, CAP);
    Ok(passed)
}

/// All are well from now on.
fn recovery(sick: &mut Scene, times: &Times) -> Result<bool> {
    let limit = sick.exporter.page()?.sum("query_exporter_connects_limit", "");
    let while_sick = sick.fleet.most_connecting();
    sick.fleet.recover()?;
    let from = Instant::now();
    println!("\nAll recover");
    let mut all_up = None;
    while from.elapsed() < times.recovery {
        thread::sleep(SECOND / 2);
        let page = sick.exporter.page()?;
        if page.count("query_exporter_up", |up| up > 0.0) == SHAPE.targets && all_up.is_none() {
            all_up = Some(from.elapsed());
        }
    }
    let connects = sick.fleet.connects_since(from);
    println!(
        "  {} connects, {} in the busiest second; the limit of those at once is {limit}; while sick at most {while_sick} were, KILLs included",
        connects.len(),
        fullest(connects.iter().copied(), SECOND),
    );
    let mut passed = bar("connects at once", sick.fleet.most_connecting() as f64, limit);
    let all_up = all_up.map_or(f64::INFINITY, |time: Duration| time.as_secs_f64());
    passed &= bar("seconds until all are up", all_up, 2.0 * BACK_OFF.as_secs_f64());
    Ok(passed)
}

fn busiest_second(scene: &Scene, from: Instant, to: Instant) -> usize {
    fullest(scene.fleet.arrivals(from, to).iter().map(|arrival| arrival.at), SECOND)
}

fn tell(which: &str, ticks: &Ticks, scrapes: &[Duration]) {
    let [median, p99, most] = [0.5, 0.99, 1.0].map(|share| ms(quantile(&ticks.lateness, share)));
    println!(
        "  {which}: {} of {} ticks; lateness p50 {median:.2} ms, p99 {p99:.2}, most {most:.2}; {} retries; \
         a scrape p50 {:.2} ms, p99 {:.2}",
        ticks.kept,
        ticks.due,
        ticks.extra,
        ms(quantile(scrapes, 0.5)),
        ms(quantile(scrapes, 0.99)),
    );
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
