//! What the routes read: the sources of the page, its metrics, and how many pages are built at once.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fleet_collector::{
    BootTime, Cut,
    snapshot::{FamilyText, Reading, Snapshot},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    builds::{Builds, Content, Wanted},
    exposition::{self, OwnFamily},
    kept::Kept,
    negotiate::{Encoding, Format},
    registry,
    status::{self, Status},
    web::Web,
};

/// Scrapes at once, from the request until the last byte is sent. Each may hold a page of another moment, and who has
/// more scrapers than this has something else in mind.
const SCRAPES: usize = 64;

/// After this long the process counts as ready whatever its targets do: a scrape then shows what there is.
const READY_AFTER: Duration = Duration::from_secs(30);

/// Upper bounds of the buckets of `scrape_duration_seconds`: from a small page to Prometheus' usual timeout.
const DURATION_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Yields the exporter's families about targets, groups and queries, as they are now. Called once for each page.
pub type Rollups = Box<dyn Fn(Scope<'_>) -> Vec<FamilyText> + Send + Sync>;

/// Which of these families.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// All.
    Whole,
    /// Those about what the cut names.
    Cut(&'a Cut),
    /// Those that are not about single targets.
    Own,
}

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
    pub(crate) refused: Family<RefusedLabels, Counter>,
    compressed_bytes: Gauge,
    joined_bytes: Gauge,
}

/// Why a request or a connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refused {
    /// As many scrapes as may be at once were under way.
    Scrapes,
    /// The page was not ready in time.
    Busy,
    /// Pages that are still being sent hold too much memory.
    Memory,
    /// The reader took nothing for too long, or was too slow.
    SlowReader,
    /// TLS could not be agreed upon in time, or was not spoken.
    Handshake,
    /// The login was wrong, or there was none.
    Login,
    /// Too many logins were being checked.
    LoginsBusy,
    /// Requests came too often.
    RateLimit,
}

impl Refused {
    const ALL: [Self; 8] = [
        Self::Scrapes,
        Self::Busy,
        Self::Memory,
        Self::SlowReader,
        Self::Handshake,
        Self::Login,
        Self::LoginsBusy,
        Self::RateLimit,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Scrapes => "scrapes",
            Self::Busy => "busy",
            Self::Memory => "memory",
            Self::SlowReader => "slow_reader",
            Self::Handshake => "handshake",
            Self::Login => "login",
            Self::LoginsBusy => "logins_busy",
            Self::RateLimit => "rate_limit",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusedLabels {
    pub(crate) reason: &'static str,
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
        let refused = Family::<RefusedLabels, Counter>::default();
        for reason in Refused::ALL {
            drop(refused.get_or_create(&RefusedLabels { reason: reason.as_str() }));
        }
        registry.register(
            "query_exporter_http_refused",
            "Requests and connections that got no answer, or none that they wanted, by reason",
            refused.clone(),
        );
        let compressed_bytes = Gauge::default();
        registry.register(
            "query_exporter_compressed_bytes",
            "Bytes of compressed text that are kept for the next page",
            compressed_bytes.clone(),
        );
        let joined_bytes = Gauge::default();
        registry.register(
            "query_exporter_joined_bytes",
            "Bytes of text that are kept for the next page as they are sent without compression",
            joined_bytes.clone(),
        );
        Self { scrape_duration, scrape_bytes, refused, compressed_bytes, joined_bytes }
    }

    pub(crate) fn refuse(&self, reason: Refused) {
        self.refused.get_or_create(&RefusedLabels { reason: reason.as_str() }).inc();
    }

    /// How many were refused so far.
    #[cfg(test)]
    pub(crate) fn refused(&self, reason: Refused) -> u64 {
        self.refused.get_or_create(&RefusedLabels { reason: reason.as_str() }).get()
    }
}

/// What every request reads; shared by all connections.
#[derive(Debug)]
pub struct State {
    sources: Sources,
    web: Arc<Web>,
    pub(crate) metrics: HttpMetrics,
    pub(crate) status: Arc<Status>,
    pub(crate) version: String,
    started: Instant,
    /// The pages being built.
    pub(crate) builds: Builds,
    /// Whose turn it is to have the items told: one at a time.
    pub(crate) items_turn: Arc<Semaphore>,
    /// One permit for each scrape.
    pub(crate) scrapes: Arc<Semaphore>,
    kept: Kept,
    /// The process' own families.
    own: Mutex<registry::LastRead>,
    /// The families that the last page had to leave out, so that a change is logged and a repetition is not.
    repeated: Mutex<Vec<String>>,
}

impl State {
    /// `version` is shown on the start page; `started` is when the process began, for readiness.
    pub fn new(sources: Sources, metrics: HttpMetrics, version: impl Into<String>, started: Instant) -> Self {
        Self {
            status: Arc::new(Status::new(Arc::clone(&sources.status))),
            sources,
            web: Arc::default(),
            metrics,
            version: version.into(),
            started,
            builds: Builds::default(),
            items_turn: Arc::new(Semaphore::new(1)),
            scrapes: Arc::new(Semaphore::new(SCRAPES)),
            kept: Kept::default(),
            own: Mutex::default(),
            repeated: Mutex::default(),
        }
    }

    /// Who comes in and how; open until it is set.
    pub fn web(&self) -> &Arc<Web> {
        &self.web
    }

    /// How clients reach the routes.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.web.tls().is_some() { "https" } else { "http" }
    }

    /// The results as they are now.
    pub(crate) fn reading(&self) -> Reading {
        self.sources.snapshot.reading(BootTime::now())
    }

    /// Whether another scrape is under way beside the one that asks.
    pub(crate) fn has_other_scrapes(&self) -> bool {
        self.scrapes.available_permits() + 1 < SCRAPES
    }

    /// A number for the items that there are now.
    pub(crate) fn layout(&self) -> u64 {
        self.reading().layout()
    }

    /// The page as it is now. May work for some milliseconds when the fleet is large: not on an async thread then.
    pub(crate) fn build(&self, Wanted { format, encoding, content }: &Wanted) -> Vec<Bytes> {
        match content {
            Content::Whole => self.build_whole(*format, *encoding),
            Content::Cut(cut) => {
                let rollups = (self.sources.rollups)(Scope::Cut(cut));
                let results = Some((self.reading(), cut));
                self.kept.once(*format, *encoding, exposition::Sources { own: Vec::new(), rollups, results })
            }
            Content::Own => {
                let rollups = (self.sources.rollups)(Scope::Own);
                self.kept.once(
                    *format,
                    *encoding,
                    exposition::Sources { own: self.own(), rollups, results: None },
                )
            }
        }
    }

    fn build_whole(&self, format: Format, encoding: Encoding) -> Vec<Bytes> {
        let reading = self.reading();
        let own = (self.own(), (self.sources.rollups)(Scope::Whole));
        let text = u64::try_from(self.sources.snapshot.bytes()).unwrap_or_default();
        let (chunks, repeated) = self.kept.whole(format, encoding, own, (&reading, text));
        self.log_repeated(&repeated);
        let held = |encoding| i64::try_from(self.kept.bytes(encoding)).unwrap_or(i64::MAX);
        self.metrics.joined_bytes.set(held(Encoding::Identity));
        let packed = self.sources.snapshot.packed_bytes();
        self.metrics.compressed_bytes.set(held(Encoding::Gzip).saturating_add(packed));
        chunks
    }

    fn own(&self) -> Vec<OwnFamily> {
        let mut kept = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out: what a panic leaves half done is gone with it.
        let mut own = std::mem::take(&mut *kept);
        let families = own.families(&self.sources.registry).unwrap_or_else(|error| {
            tracing::error!(%error, "a collector of the exporter's own metrics failed, the page goes out without them");
            Vec::new()
        });
        *kept = own;
        families
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
