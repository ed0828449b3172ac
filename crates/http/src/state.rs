//! What the routes read: the sources of the page, its metrics, and how many pages are built at once.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fleet_collector::{
    BootTime,
    snapshot::{FamilyText, Snapshot},
};
use prometheus_client::{
    metrics::{counter::Counter, histogram::Histogram},
    registry::Registry,
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    exposition::{self, Parts},
    negotiate::Format,
    plain::Plain,
    registry,
    status::{self, Status},
};

/// Pages built at once. Each takes a processor for some milliseconds and, until it is sent, a copy of the small
/// results in memory; more at once would finish no earlier.
const BUILDS: usize = 8;

/// After this long the process counts as ready whatever its targets do: a scrape then shows what there is.
const READY_AFTER: Duration = Duration::from_secs(30);

/// Upper bounds of the buckets of `scrape_duration_seconds`: from a small page to Prometheus' usual timeout.
const DURATION_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Yields the roll-ups of the targets, as they are now. Called once for each page.
pub type Rollups = Box<dyn Fn() -> Vec<FamilyText> + Send + Sync>;

/// Asks for a reload of the configuration; none where requests may not. Asking is done with the call, waiting for the
/// answer is not: the text of what was done, or of why nothing was.
pub type Reload = Box<dyn Fn() -> Option<Reloading> + Send + Sync>;

/// A reload that was asked for.
pub type Reloading = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// Where a page comes from.
pub struct Sources {
    /// The results of the queries.
    pub snapshot: Arc<Snapshot>,
    /// The exporter's metrics per target and per group.
    pub rollups: Rollups,
    /// The exporter's metrics of the process; complete, since it is shared.
    pub registry: Arc<Registry>,
    /// How the fleet does, for the status pages.
    pub status: status::Source,
    /// What `POST /-/reload` does.
    pub reload: Reload,
    /// What `/-/config/items` tells, in JSON. Works for some milliseconds when the fleet is large.
    pub items: Box<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// What the exporter says about scrapes of itself. A scrape shows in the next one.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    pub(crate) scrape_duration: Histogram,
    pub(crate) scrape_bytes: Counter,
}

impl HttpMetrics {
    /// Makes the metrics and registers them under their full names.
    pub fn register(registry: &mut Registry) -> Self {
        let scrape_duration = Histogram::new(DURATION_BUCKETS);
        registry.register(
            "query_exporter_scrape_duration_seconds",
            "Time from a scrape to its finished page, the wait for a free builder included, sending excluded",
            scrape_duration.clone(),
        );
        let scrape_bytes = Counter::default();
        registry.register(
            "query_exporter_scrape_bytes",
            "Bytes of all pages that were built for a scrape",
            scrape_bytes.clone(),
        );
        Self { scrape_duration, scrape_bytes }
    }
}

/// What every request reads; shared by all connections.
#[derive(Debug)]
pub struct State {
    sources: Sources,
    pub(crate) metrics: HttpMetrics,
    pub(crate) status: Arc<Status>,
    pub(crate) version: String,
    started: Instant,
    /// One permit for each page being built.
    pub(crate) builds: Arc<Semaphore>,
    /// The families that the last page had to leave out, so that a change is logged and a repetition is not.
    repeated: Mutex<Vec<String>>,
}

impl State {
    /// `version` is shown on the start page; `started` is when the process began, for readiness.
    pub fn new(sources: Sources, metrics: HttpMetrics, version: impl Into<String>, started: Instant) -> Self {
        Self {
            status: Arc::new(Status::new(Arc::clone(&sources.status))),
            sources,
            metrics,
            version: version.into(),
            started,
            builds: Arc::new(Semaphore::new(BUILDS)),
            repeated: Mutex::default(),
        }
    }

    /// The page as it is now. Works for some milliseconds when the fleet is large, so not on an async thread.
    pub(crate) fn build(&self, format: Format) -> Vec<Bytes> {
        let own = registry::families(&self.sources.registry).unwrap_or_else(|error| {
            tracing::error!(%error, "a collector of the exporter's own metrics failed, the page goes out without them");
            Vec::new()
        });
        let rollups = (self.sources.rollups)();
        let results = Some(self.sources.snapshot.reading(BootTime::now()));
        let mut page = Plain::default();
        self.log_repeated(&exposition::write(format, Parts { own, rollups, results }, &mut page));
        page.finish()
    }

    fn log_repeated(&self, names: &[String]) {
        let mut last = self.repeated.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == names {
            return;
        }
        if !names.is_empty() {
            tracing::error!(?names, "families left out of the page, their names are taken");
        }
        *last = names.to_vec();
    }

    /// The effective items, in JSON; not on an async thread.
    pub(crate) fn items(&self) -> String {
        (self.sources.items)()
    }

    /// Asks for a reload, if requests may.
    pub(crate) fn reload(&self) -> Option<Reloading> {
        (self.sources.reload)()
    }

    /// How much longer scrapers should wait, or nothing if the page is worth reading.
    pub(crate) fn not_ready_for(&self) -> Option<Duration> {
        not_ready_for(self.sources.snapshot.all_tried(), self.started.elapsed())
    }
}

fn not_ready_for(all_tried: bool, since_start: Duration) -> Option<Duration> {
    if all_tried { None } else { READY_AFTER.checked_sub(since_start).filter(|wait| !wait.is_zero()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_once_all_items_were_tried_or_30_seconds_after_start() {
        #[track_caller]
        fn check(all_tried: bool, since_start: u64, expected: Option<u64>) {
            let wait = not_ready_for(all_tried, Duration::from_secs(since_start));
            assert_eq!(wait, expected.map(Duration::from_secs));
        }
        check(false, 0, Some(30));
        check(false, 29, Some(1));
        check(false, 30, None);
        check(false, 31, None);
        check(true, 0, None);
    }
}
