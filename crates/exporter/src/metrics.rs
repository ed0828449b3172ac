//! The exporter's metrics about the process and its queries, kept by prometheus-client.
//!
//! Those about targets and groups are the collector's; the closed list of all of them is docs/metrics.md.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fleet_collector::{Collector, clock::since_epoch};
use fleet_history::{Reason as HistoryReason, State, Stats as HistoryStats};
use fleet_scheduler::Stats;
use prometheus_client::{
    collector::Collector as Source,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};
use tokio::time::Instant;

use crate::{history::Keeper, logging::Suppressed, news::News};

/// From a lookup in memory to the longest timeouts.
const RUN_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// From a timer's own precision to the standstill of a machine.
const WAIT_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    query: String,
}

/// What runs add to.
#[derive(Debug)]
pub(crate) struct RunMetrics {
    pub(crate) lateness: Histogram,
    pub(crate) permit_wait: Histogram,
    pub(crate) panics: Counter,
    /// What the log is told.
    pub(crate) news: News,
    duration: Family<QueryLabels, Histogram, fn() -> Histogram>,
}

impl RunMetrics {
    /// Makes the metrics and registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            lateness: Histogram::new(WAIT_BUCKETS),
            permit_wait: Histogram::new(WAIT_BUCKETS),
            panics: Counter::default(),
            news: News::new(),
            duration: Family::new_with_constructor(|| Histogram::new(RUN_BUCKETS)),
        };
        registry.register(
            "query_exporter_schedule_lateness_seconds",
            "how long after its tick an item woke",
            metrics.lateness.clone(),
        );
        registry.register(
            "query_exporter_permit_wait_seconds",
            "how long an item that was due then waited for permits, the turn to connect included",
            metrics.permit_wait.clone(),
        );
        registry.register("query_exporter_run_panics", "runs that panicked", metrics.panics.clone());
        registry.register(
            "query_exporter_run_duration_seconds",
            "from the lane to the published result, failed runs included",
            metrics.duration.clone(),
        );
        metrics
    }

    /// The histogram of this query's run times; there from now on.
    pub(crate) fn duration(&self, query: &str) -> Histogram {
        self.duration.get_or_create(&QueryLabels { query: query.to_owned() }).clone()
    }

    /// The query is gone, and its histogram with it.
    pub(crate) fn remove(&self, query: &str) {
        self.duration.remove(&QueryLabels { query: query.to_owned() });
    }
}

/// Registers what this build is.
pub(crate) fn register_build_info(registry: &mut Registry) {
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", env!("FLEET_QUERY_EXPORTER_REVISION")),
        ("branch", env!("FLEET_QUERY_EXPORTER_BRANCH")),
        ("rustversion", env!("FLEET_QUERY_EXPORTER_RUSTVERSION")),
    ];
    registry.register(
        "query_exporter_build",
        "what was built: the value is always 1",
        Info::new(labels.to_vec()),
    );
}

/// How the last reading of a configuration went.
#[derive(Debug)]
pub(crate) struct ConfigMetrics {
    successful: Gauge,
    at: Gauge,
}

impl ConfigMetrics {
    /// Makes the metrics and registers them. This process runs, so its first reading went well.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        Self::register_as(registry, "config", "the configuration")
    }

    /// The same for the web file and its certificates. Where there is none, nothing is wrong with it.
    pub(crate) fn register_web(registry: &mut Registry) -> Self {
        Self::register_as(registry, "web_config", "the web configuration with its certificates")
    }

    fn register_as(registry: &mut Registry, name: &str, what: &str) -> Self {
        let metrics = Self { successful: Gauge::default(), at: Gauge::default() };
        registry.register(
            format!("query_exporter_{name}_last_reload_successful"),
            format!("1 if {what} was right when it was last read, else 0"),
            metrics.successful.clone(),
        );
        registry.register(
            format!("query_exporter_{name}_last_reload_success_timestamp_seconds"),
            format!("when {what} in force was read, since the epoch"),
            metrics.at.clone(),
        );
        metrics.read(true);
        metrics
    }

    /// It was read just now, and was right or not.
    pub(crate) fn read(&self, successful: bool) {
        self.successful.set(successful.into());
        if successful {
            self.at.set(i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX));
        }
    }
}

/// What costs too much to be read for each of many scrapers: read once in a second.
#[derive(Debug)]
pub(crate) struct Seldom<T>(Mutex<Option<(Instant, T)>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Seldom<T> {
    fn get(&self, read: impl FnOnce() -> T) -> T {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, value)) if at.elapsed() < Duration::from_secs(1) => value.clone(),
            _ => last.insert((Instant::now(), read())).1.clone(),
        }
    }
}

/// What is read at the moment of a scrape instead of being counted along the way.
pub(crate) struct Live {
    pub(crate) stats: Stats,
    pub(crate) collector: Arc<Collector>,
    pub(crate) log_suppressed: Suppressed,
    pub(crate) oldest_overdue: Seldom<Duration>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Source for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { stats, collector, log_suppressed, oldest_overdue } = self;
        let snapshot = collector.snapshot();
        for (name, help, value) in [
            (
                "runs_in_flight",
                "runs that are going at targets that are not down",
                count(stats.runs_in_flight()),
            ),
            ("runs_waiting", "items that are due and wait for a permit", count(stats.runs_waiting())),
            (
                "runs_limit",
                "runs that may go at once at targets that are not down",
                count(stats.runs_limit()),
            ),
            ("tries_in_flight", "runs that are going at down targets", count(stats.tries_in_flight())),
            (
                "tries_waiting",
                "down targets that wait for their turn to be tried",
                count(stats.tries_waiting()),
            ),
            ("tries_limit", "runs that may go at once at down targets", count(stats.tries_limit())),
            ("connects_in_flight", "connections being opened", count(collector.connects_in_flight())),
            ("connects_limit", "connections that may be opened at once", count(collector.connects_limit())),
            ("snapshot_series", "series held in memory, the exporter's own excluded", snapshot.series()),
            ("snapshot_bytes", "bytes of these series' text", snapshot.bytes()),
            ("snapshot_limit_bytes", "bytes that these series' text may have", snapshot.max_bytes()),
        ] {
            gauge(&mut encoder, &format!("query_exporter_{name}"), help, value)?;
        }
        gauge(
            &mut encoder,
            "query_exporter_schedule_oldest_overdue_seconds",
            "how long ago the tick was due that has waited longest",
            // It looks at each item.
            oldest_overdue.get(|| stats.oldest_overdue()).as_secs_f64(),
        )?;
        counter(
            &mut encoder,
            "query_exporter_log_suppressed",
            "log lines that stderr did not take",
            log_suppressed.lines(),
        )
    }
}

/// What the history does, at the moment of a scrape; all of it 0 without one.
#[derive(Debug)]
pub(crate) struct HistoryMetrics(pub(crate) Option<Arc<Keeper>>);

impl Source for HistoryMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.0.as_ref().map(|keeper| keeper.stats());
        let of = |number: fn(&HistoryStats) -> u64| stats.as_ref().map_or(0, number);
        let is = |fits: fn(&State) -> bool| i64::from(stats.as_ref().is_some_and(|stats| fits(&stats.state)));
        for (name, help, value) in [
            (
                "up",
                "1 if the store of the history answers, else 0",
                is(|state| matches!(state, State::Owner | State::Standby { .. })),
            ),
            (
                "owner",
                "1 if the history's table is this exporter's: read and written",
                is(|state| *state == State::Owner),
            ),
            (
                "pending_items",
                "items whose last run is not written to the history yet",
                count_u64(of(|stats| stats.pending_items)),
            ),
            (
                "pending_results",
                "items whose result has changed since it was last written to the history",
                count_u64(of(|stats| stats.pending_results)),
            ),
            (
                "results_bytes",
                "bytes of all results in the history",
                count_u64(of(|stats| stats.results_bytes)),
            ),
            (
                "unknown_rows",
                "rows of the history that name no item of this exporter",
                count_u64(of(|stats| stats.unknown_rows)),
            ),
            (
                "interval_overrides",
                "items whose interval is that of the history and not the configuration's",
                count_u64(of(|stats| stats.overrides)),
            ),
        ] {
            gauge(&mut encoder, &format!("query_exporter_history_{name}"), help, value)?;
        }
        gauge(
            &mut encoder,
            "query_exporter_history_oldest_pending_seconds",
            "how long the run has waited that waits longest to be written to the history",
            stats.as_ref().map_or(0.0, |stats| stats.oldest_pending.as_secs_f64()),
        )?;
        for (name, help, value) in [
            ("items_written", "items written to the history", of(|stats| stats.items_written)),
            ("results_written", "results written to the history", of(|stats| stats.results_written)),
            (
                "bytes_written",
                "bytes of names, values and results written to the history",
                of(|stats| stats.bytes_written),
            ),
            (
                "dropped_results",
                "results left out of the history as too large",
                of(|stats| stats.dropped_results),
            ),
            (
                "dropped_items",
                "runs left out of the history as its column cannot hold the item's name",
                of(|stats| stats.dropped_items),
            ),
            (
                "refused_intervals",
                "intervals in the history that were out of bounds",
                of(|stats| stats.refused_intervals),
            ),
            (
                "clamped_times",
                "times in the history that lay in the future and were taken as now",
                of(|stats| stats.clamped_times),
            ),
        ] {
            counter(&mut encoder, &format!("query_exporter_history_{name}"), help, value)?;
        }
        let failures = ConstCounter::new(0_u64);
        let mut descriptor = encoder.encode_descriptor(
            "query_exporter_history_failures",
            "failures of the history's store, by reason",
            None,
            failures.metric_type(),
        )?;
        for (place, reason) in HistoryReason::ALL.into_iter().enumerate() {
            let failures = stats.as_ref().map_or(0, |stats| stats.failures[place].1);
            let labels = [("reason", reason.as_str())];
            ConstCounter::new(failures).encode(descriptor.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// The process's own resources, under the names that Prometheus' client libraries give them.
#[derive(Debug, Default)]
pub(crate) struct Process(Seldom<Resources>);

/// None where /proc is hidden.
#[derive(Debug, Clone, Copy, Default)]
struct Resources {
    cpu: Option<f64>,
    resident: Option<u64>,
    virtual_memory: Option<u64>,
    threads: Option<i64>,
    started: Option<f64>,
    open_fds: Option<usize>,
    max_fds: Option<u64>,
}

impl Resources {
    fn read() -> Self {
        let Ok(process) = procfs::process::Process::myself() else { return Self::default() };
        let Ok(stat) = process.stat() else { return Self::default() };
        let ticks = procfs::ticks_per_second() as f64;
        let limit = process.limits().map(|limits| limits.max_open_files.soft_limit);
        Self {
            cpu: Some((stat.utime + stat.stime) as f64 / ticks),
            resident: Some(stat.rss.saturating_mul(procfs::page_size())),
            virtual_memory: Some(stat.vsize),
            threads: Some(stat.num_threads),
            started: procfs::boot_time_secs().ok().map(|boot| boot as f64 + stat.starttime as f64 / ticks),
            open_fds: process.fd_count().ok(),
            max_fds: match limit {
                Ok(procfs::process::LimitValue::Value(max)) => Some(max),
                _ => None,
            },
        }
    }
}

impl Source for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = self.0.get(Resources::read);
        if let Some(cpu) = now.cpu {
            counter(&mut encoder, "process_cpu_seconds", "CPU time used, user and system", cpu)?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "resident memory", now.resident.map(count_u64)),
            ("process_virtual_memory_bytes", "virtual memory", now.virtual_memory.map(count_u64)),
            ("process_threads", "threads of the process", now.threads),
            ("process_open_fds", "open file descriptors", now.open_fds.map(count)),
            ("process_max_fds", "file descriptors that may be open", now.max_fds.map(count_u64)),
        ] {
            if let Some(value) = value {
                gauge(&mut encoder, name, help, value)?;
            }
        }
        if let Some(started) = now.started {
            gauge(
                &mut encoder,
                "process_start_time_seconds",
                "start of the process since the epoch",
                started,
            )?;
        }
        Ok(())
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn count_u64(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn gauge<N>(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: N) -> fmt::Result
where
    ConstGauge<N>: EncodeMetric,
{
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

fn counter<N>(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: N) -> fmt::Result
where
    ConstCounter<N>: EncodeMetric,
{
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use fleet_collector::{Snapshot, mysql::MySql};
    use fleet_http::HttpMetrics;
    use fleet_scheduler::{Limits, Scheduler, Timeline};

    use super::*;
    use crate::{config::is_reserved, job::Job, logging};

    /// Every family of ours, as the parts that make a page name it.
    fn ours() -> BTreeSet<String> {
        let collector = Collector::new(Arc::new(MySql), 1, Arc::new(Snapshot::default()));
        let limits = Limits { max_runs: 1, max_tries: 1, startup_spread: Duration::ZERO };
        let scheduler = Scheduler::<Job>::new(limits, Timeline::new(Instant::now(), Duration::ZERO), 0);
        let families = collector.own_families().into_iter();
        let mut names: BTreeSet<_> = families.map(|family| family.family.name.clone()).collect();

        let mut registry = Registry::default();
        register_build_info(&mut registry);
        ConfigMetrics::register(&mut registry);
        ConfigMetrics::register_web(&mut registry);
        RunMetrics::register(&mut registry).duration("q");
        HttpMetrics::register(&mut registry);
        registry.register_collector(Box::new(Live {
            stats: scheduler.stats(),
            collector: Arc::new(collector),
            log_suppressed: logging::tests::no_lines(),
            oldest_overdue: Seldom::default(),
        }));
        registry.register_collector(Box::new(Process::default()));
        registry.register_collector(Box::new(HistoryMetrics(None)));
        let own = fleet_http::registry::LastRead::default().families(&registry).unwrap();
        names.extend(own.into_iter().map(|family| family.header.name.clone()));
        names
    }

    #[test]
    fn the_list_in_the_docs_is_closed_and_no_query_may_feed_a_family_of_it() {
        let docs =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md")).unwrap();
        let rows = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let listed: BTreeSet<_> =
            rows.filter(|name| name.starts_with("query_exporter_") || name.starts_with("process_")).collect();
        let ours = ours();
        assert_eq!(listed, ours.iter().map(String::as_str).collect());
        let free: Vec<_> = ours.iter().filter(|name| !is_reserved(name)).collect();
        assert!(free.is_empty(), "{free:?}");
    }
}
