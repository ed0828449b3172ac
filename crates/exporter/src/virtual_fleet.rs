//! A fleet in virtual time: the scheduler, the collector and the log as they run together, on servers that do as told.
//!
//! Nothing here waits for a socket, so hours pass in seconds, and a tick that is late by a millisecond is seen.

mod isolation;
mod logs;
mod memory;
mod pace;
mod servers;
mod warm;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use fleet_collector::{
    Address, Arranged, Collector, Family, ItemSpec, Kind, Metric, OnNull, Password, Query, ResultLimits,
    SessionSettings, Snapshot, Target, Tls, TlsMode, ValueSource, rollup, statement::Statement,
};
use fleet_scheduler::{Item, Limits, Schedule, Scheduler, Stats, Timeline};
use prometheus_client::registry::Registry;
use tokio::time::{Instant, sleep};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _};

use crate::{
    job::Job,
    metrics::RunMetrics,
    plan::{STARTUP_SPREAD, ran_lately},
};
use servers::{Health, Servers};

const SECOND: Duration = Duration::from_secs(1);

/// When the fleet starts, since the epoch.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// Queries on targets: each query is its name, its interval and its timeout.
struct Plan<'a> {
    targets: usize,
    queries: &'a [(&'a str, Duration, Duration)],
    /// As `retry_after` of the configuration.
    retry_after: Option<Duration>,
    /// What each item is given before it begins.
    kept: Option<(u64, &'a [u8])>,
}

/// A fleet that runs.
struct Fleet {
    scheduler: Scheduler<Job>,
    collector: Collector,
    arranged: Arc<Arranged>,
    servers: Servers,
    start: Instant,
    metrics: Arc<RunMetrics>,
    lines: Lines,
    _log: DefaultGuard,
}

impl Fleet {
    /// The targets t0, t1 and so on, with the limits that a configuration would give them, all of this health.
    async fn start(plan: &Plan<'_>, health: impl Fn(usize) -> Health) -> Self {
        let lines = Lines::default();
        let log = tracing_subscriber::fmt::layer().with_ansi(false).without_time().with_writer(lines.clone());
        let level = tracing_subscriber::filter::LevelFilter::INFO;
        let log = tracing::subscriber::set_default(tracing_subscriber::registry().with(log).with(level));

        let start = Instant::now();
        let servers = Servers::new((0..plan.targets).map(|n| (name(n), health(n))));
        let max_connects = (plan.targets / 16).max(32);
        let snapshot = Arc::new(Snapshot::new(usize::MAX));
        let collector = Collector::new(Arc::new(servers.clone()), max_connects, snapshot);
        let limits = Limits {
            max_runs: (2 * plan.targets).max(256),
            max_tries: collector.connects_for_tries(),
            startup_spread: STARTUP_SPREAD,
        };
        let mut scheduler = Scheduler::new(limits, Timeline::new(start, EPOCH), 42);
        let metrics = Arc::new(RunMetrics::register(&mut Registry::default()));

        let targets: Vec<_> = (0..plan.targets).map(|n| Arc::new(target(&name(n)))).collect();
        let mut specs = Vec::new();
        let mut intervals = Vec::new();
        for (query_name, interval, timeout) in plan.queries {
            let query = Arc::new(query(query_name));
            for target in &targets {
                intervals.push(*interval);
                specs.push(ItemSpec {
                    query: Arc::clone(&query),
                    target: Arc::clone(target),
                    timeout: *timeout,
                    expire_after: 2 * *interval,
                    drop_on_failure: false,
                    limits: ResultLimits::default(),
                });
            }
        }
        let timeouts: Vec<_> = specs.iter().map(|spec| spec.timeout).collect();
        let arranged = Arc::new(collector.arrange(specs));
        if let Some((read_ms, bytes)) = plan.kept {
            arranged.items.iter().for_each(|item| assert!(item.restore(read_ms, bytes).is_ok()));
        }
        let items =
            arranged.items.iter().zip(intervals).zip(timeouts).map(|((item, interval), timeout)| Item {
                target: Arc::clone(&item.target().name),
                query: Arc::clone(&item.query().name),
                lanes: usize::from(item.target().lanes()),
                interval,
                timeout,
                ran_before: ran_lately(item, interval),
                retry_after: plan.retry_after,
                job: Arc::new(Job::new(Arc::clone(item), Arc::clone(&metrics), None)),
            });
        scheduler.sync(items.collect()).await;
        Self { scheduler, collector, arranged, servers, start, metrics, lines, _log: log }
    }

    /// Lets this much time pass, with what the exporter does each second.
    async fn run(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(SECOND.min(end - Instant::now())).await;
            self.metrics.news.tell(&self.arranged.targets);
            let connects = self.collector.connects_in_flight();
            assert!(connects <= self.collector.connects_limit(), "{connects}");
        }
    }

    fn stats(&self) -> Stats {
        self.scheduler.stats()
    }

    fn is_up(&self, n: usize) -> bool {
        self.arranged.targets.iter().any(|target| **target.name() == *name(n) && target.is_up())
    }

    /// The ticks that a target has missed so far, by reason.
    fn missed(&self, n: usize) -> BTreeMap<&'static str, u64> {
        let families = rollup::families(&self.arranged.targets, &self.arranged.groups);
        let missed =
            families.iter().find(|family| family.family.name.ends_with("ticks_missed_total")).unwrap();
        let text: Vec<_> = missed.lines.iter().flat_map(|line| line.to_vec()).collect();
        let text = String::from_utf8(text).unwrap();
        let of = |reason: &'static str| {
            let start =
                format!("query_exporter_ticks_missed_total{{target=\"{}\",reason=\"{reason}\"}} ", name(n));
            let ticks = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
            (reason, ticks.parse().unwrap())
        };
        rollup::MISSED.into_iter().map(of).filter(|(_, ticks)| *ticks > 0).collect()
    }

    /// That a query came to a target exactly at each of its ticks in this span, and at no other time.
    #[track_caller]
    fn assert_on_time(&self, n: usize, query: &str, interval: Duration, from: Duration, to: Duration) {
        let schedule = Schedule::new(&name(n), query, interval);
        let first = schedule.tick_from(EPOCH + from);
        let ticks =
            (first..).map(|tick| schedule.due(tick).saturating_sub(EPOCH)).take_while(|due| *due < to);
        let came = self.servers.asked(&name(n), query).into_iter().map(|at| at - self.start);
        let came: Vec<_> = came.filter(|at| (from..to).contains(at)).collect();
        assert_eq!(came, ticks.collect::<Vec<_>>(), "{query}@{}", name(n));
    }
}

fn name(n: usize) -> String {
    format!("t{n}")
}

fn target(name: &str) -> Target {
    Target {
        name: name.into(),
        group: "g".into(),
        address: Address::Tcp { host: name.to_owned(), port: 3306 },
        user: Some("exporter".to_owned()),
        password: Password::None,
        database: None,
        tls: Tls { mode: TlsMode::Disabled, ca: None, identity: None },
        labels: vec![("target".to_owned(), name.to_owned())],
        max_connections: 3,
        kill: true,
        session: SessionSettings::default(),
    }
}

fn query(name: &str) -> Query {
    let metric = Metric {
        family: Arc::new(Family { name: name.to_owned(), help: "h".to_owned(), kind: Kind::Gauge }),
        labels: Vec::new(),
        static_labels: Vec::new(),
        value: ValueSource::Column("n".to_owned()),
        on_null: OnNull::Skip,
    };
    let statement = Statement::check("select 1 n").unwrap();
    Query { name: name.into(), statement: Some(statement), variants: Vec::new(), metrics: vec![metric] }
}

/// The lines of the log.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn all(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
