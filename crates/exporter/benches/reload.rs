//! What a reload of a large fleet costs: 500 targets and 20 queries, 10,000 items, of which nothing or one target changes.
//! Prints the CPU time of each step, and fails where applying it takes more than 200 ms.

#[allow(dead_code, unused_imports, reason = "the whole module is here for its loader alone")]
#[path = "../src/config/mod.rs"]
mod config;

use std::{fmt::Write as _, path::Path, process::ExitCode, sync::Arc, time::Duration};

use fleet_collector::{Collector, ItemSpec, Snapshot, mysql::MySql};
use fleet_scheduler::{Changes, Item, Job, Limits, Scheduler, Start, Timeline, Verdict, Way};
use tokio::time::Instant;

use config::{Config, OnFailure};

const LIMIT_US: i64 = 200_000;
const TARGETS: usize = 500;
const QUERIES: usize = 20;

/// An item that would not do anything; nothing is due while the bench runs.
#[derive(Debug, PartialEq)]
struct Idle(Arc<fleet_collector::Item>);

impl Job for Idle {
    async fn run(&self, _: Start) -> Verdict {
        Verdict::Answered
    }

    fn missed(&self, _: fleet_scheduler::Missed, _: u64) {}

    fn panicked(&self, _: &str) {}

    fn way_since(&self, before: &Self) -> Way {
        if self.0.shares_lanes(&before.0) { Way::Same } else { Way::Changed }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let collector = Collector::new(Arc::new(MySql), 32, Arc::new(Snapshot::default()));
    let limits = Limits { max_runs: 256, max_tries: 16, startup_spread: Duration::from_mins(1) };
    let mut scheduler = Scheduler::new(limits, Timeline::new(Instant::now(), Duration::ZERO), 1);
    let (one, other) = (fleet("10.0.0.1"), fleet("10.1.0.1"));
    let mut slow = false;
    for (what, text, expected) in [
        ("the start", &one, (0, TARGETS * QUERIES)),
        ("the same file", &one, (TARGETS * QUERIES, 0)),
        ("one target at another address", &other, ((TARGETS - 1) * QUERIES, QUERIES)),
        ("the same file", &other, (TARGETS * QUERIES, 0)),
    ] {
        let begun = cpu_us();
        let loaded = config::parse(Path::new("fleet.toml"), text, None);
        let config = loaded.unwrap_or_else(|report| panic!("{report}")).config;
        let read = cpu_us();
        let (mut arranged, wanted) = plan(&collector, &config);
        let arrange = cpu_us();
        let Changes { kept, started, .. } = scheduler.sync(wanted).await;
        arranged.take_leave();
        let applied = cpu_us();
        let steps = [read - begun, arrange - read, applied - arrange].map(|us| us / 1000);
        report(&format!(
            "{what}: {} ms to read and check, {} to arrange, {} to end and start items; {started} started, {kept} untouched",
            steps[0], steps[1], steps[2]
        ));
        slow |= (kept, started) != expected || applied - read > LIMIT_US;
    }
    if slow { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn plan(collector: &Collector, config: &Config) -> (fleet_collector::Arranged, Vec<Item<Idle>>) {
    let specs = config.items.iter().map(|item| ItemSpec {
        query: Arc::clone(&item.query),
        target: Arc::clone(&item.target),
        timeout: item.timeout,
        expire_after: item.expire_after,
        drop_on_failure: item.on_failure == OnFailure::Drop,
        limits: item.limits,
    });
    let arranged = collector.arrange(specs.collect());
    let wanted = config.items.iter().zip(&arranged.items).map(|(config, item)| Item {
        target: Arc::clone(&config.target.name),
        query: Arc::clone(&config.query.name),
        lanes: usize::from(config.target.lanes()),
        interval: config.interval,
        timeout: config.timeout,
        retry_after: config.retry_after,
        ran_before: true,
        job: Arc::new(Idle(Arc::clone(item))),
    });
    let wanted = wanted.collect();
    (arranged, wanted)
}

/// The first target at this address, the others where they are.
fn fleet(first: &str) -> String {
    let mut text = "[groups.g]\nuser = \"exporter\"\n[groups.g.targets]\n".to_owned();
    for n in 1..=TARGETS {
        let address = if n == 1 { first.to_owned() } else { format!("10.0.{}.{}", n / 250, n % 250) };
        let _ = writeln!(text, "db-{n} = {{ address = \"{address}\", labels = {{ shard = \"{n}\" }} }}");
    }
    for n in 0..QUERIES {
        let _ = write!(
            text,
            "[queries.q{n}]\ninterval = \"12h\"\ntimeout = \"5s\"\n\
             sql = \"select table_schema as db, count(*) as tables from information_schema.tables group by 1\"\n\
             [queries.q{n}.metrics.tables_{n}]\ntype = \"gauge\"\nhelp = \"tables of a schema\"\n\
             labels = [\"db\"]\nvalue = \"tables\"\n"
        );
    }
    text
}

fn cpu_us() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn report(line: &str) {
    println!("{line}");
}
