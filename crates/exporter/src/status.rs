//! What the status pages are told: the scheduler's and the collector's memory of each item, put together.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use fleet_collector::{
    BootTime, Collector, Item, Target, TargetStats,
    clock::wall_ms,
    hour::{MINUTES, Minute},
    record::LastRun,
};
use fleet_http::status::{
    Fleet, Source,
    model::{self, Brief, Exporter, ItemCounts, ItemState, Next, NextTry, Queue, State},
};
use fleet_scheduler::{NextTick, Stats};
use tokio::time::Instant;

use crate::{logging::Suppressed, plan::Intervals};

/// What is shown. The fleet in it is exchanged whole when the configuration changes.
pub(crate) struct Board {
    facts: Facts,
    fleet: ArcSwap<Shown>,
    /// When the configuration in force was read.
    loaded_ms: AtomicU64,
    /// Why the last reload was not taken.
    config_error: ArcSwapOption<String>,
}

/// Where the exporter's own numbers come from.
pub(crate) struct Facts {
    pub(crate) started: Instant,
    pub(crate) stats: Stats,
    pub(crate) collector: Arc<Collector>,
    pub(crate) log_suppressed: Suppressed,
}

/// The fleet of one configuration.
#[derive(Default)]
struct Shown {
    /// By their names.
    targets: BTreeMap<Arc<str>, TargetEntry>,
    queries: usize,
    max_bytes: usize,
}

struct TargetEntry {
    target: Arc<Target>,
    paused: bool,
    items: Vec<ItemEntry>,
}

struct ItemEntry {
    item: Arc<Item>,
    interval: Duration,
    /// That of the file, if it is another.
    configured: Option<Duration>,
}

impl Board {
    /// A board that shows no fleet yet.
    pub(crate) fn new(facts: Facts) -> Arc<Self> {
        Arc::new(Self {
            facts,
            fleet: ArcSwap::default(),
            loaded_ms: AtomicU64::new(wall_ms()),
            config_error: ArcSwapOption::empty(),
        })
    }

    /// This is in force from now on; `items` are those of it, in its order.
    pub(crate) fn show(&self, intervals: &Intervals<'_>, items: &[Arc<Item>]) {
        let config = intervals.config;
        let mut targets: BTreeMap<Arc<str>, TargetEntry> = BTreeMap::new();
        for (target, paused) in config.targets_and_pauses() {
            let entry = TargetEntry { target: Arc::clone(target), paused, items: Vec::new() };
            targets.insert(Arc::clone(&target.name), entry);
        }
        for ((item, now), written) in items.iter().zip(intervals.items()).zip(&config.items) {
            if let Some(entry) = targets.get_mut(&now.target.name) {
                entry.items.push(ItemEntry {
                    item: Arc::clone(item),
                    interval: now.interval,
                    configured: Some(written.interval).filter(|interval| *interval != now.interval),
                });
            }
        }
        for entry in targets.values_mut() {
            entry.items.shrink_to_fit();
        }
        let (queries, max_bytes) = (config.queries.len(), config.max_page_bytes);
        self.fleet.store(Arc::new(Shown { targets, queries, max_bytes }));
    }

    /// The configuration was read and taken.
    pub(crate) fn reloaded(&self) {
        self.loaded_ms.store(wall_ms(), Relaxed);
        self.config_error.store(None);
    }

    /// The configuration was read and not taken, for this reason.
    pub(crate) fn not_reloaded(&self, why: String) {
        self.config_error.store(Some(Arc::new(why)));
    }

    /// What the status pages ask.
    pub(crate) fn source(self: &Arc<Self>) -> Source {
        let board = Arc::clone(self);
        Arc::new(move || {
            let (board, fleet) = (Arc::clone(&board), board.fleet.load_full());
            Arc::new(Now { board, fleet, at: Instant::now(), boot: BootTime::now() })
        })
    }
}

/// The fleet at one moment.
struct Now {
    board: Arc<Board>,
    fleet: Arc<Shown>,
    at: Instant,
    boot: BootTime,
}

impl Fleet for Now {
    fn exporter(&self) -> Exporter {
        let Facts { started, stats, collector, log_suppressed } = &self.board.facts;
        let snapshot = collector.snapshot();
        let count = |n: i64| u64::try_from(n).unwrap_or_default();
        Exporter {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now_ms: wall_ms(),
            uptime: started.elapsed(),
            config_loaded_ms: self.board.loaded_ms.load(Relaxed),
            config_error: self.board.config_error.load().as_deref().cloned(),
            queries: self.fleet.queries,
            runs: Queue {
                in_flight: stats.runs_in_flight(),
                waiting: stats.runs_waiting(),
                limit: stats.runs_limit(),
            },
            tries: Queue {
                in_flight: stats.tries_in_flight(),
                waiting: stats.tries_waiting(),
                limit: stats.tries_limit(),
            },
            connects: (collector.connects_in_flight(), collector.connects_limit()),
            oldest_overdue: stats.oldest_overdue(),
            series: count(snapshot.series()),
            bytes: (count(snapshot.bytes()), self.fleet.max_bytes as u64),
            log_lines_dropped: log_suppressed.lines(),
        }
    }

    fn briefs(&self) -> Vec<Brief> {
        self.fleet.targets.values().map(TargetEntry::brief).collect()
    }

    fn target(&self, name: &str) -> Option<model::Target> {
        let entry = self.fleet.targets.get(name)?;
        let brief = entry.brief();
        let stats = entry.stats();
        let next_try = self.board.facts.stats.next_try(name).map(|next| {
            let wait = next.not_before.saturating_duration_since(self.at);
            NextTry { failures: next.failures, wait: (!next.trying).then_some(wait) }
        });
        let open = stats.map_or(0, |stats| u64::try_from(stats.connections()).unwrap_or_default());
        Some(model::Target {
            brief,
            address: entry.target.address.to_string(),
            labels: entry.target.labels.clone(),
            down: stats.and_then(|stats| stats.record().state()?.down.clone()),
            next_try,
            connections: (open, entry.target.max_connections),
            server: stats.and_then(TargetStats::server),
            tls: entry.target.tls.mode.as_str(),
            missed: stats.map(TargetStats::ticks_missed).unwrap_or_default(),
            trouble: entry.trouble(),
            hour: stats.map_or([Minute::default(); MINUTES], |stats| stats.record().hour.minutes(self.boot)),
        })
    }

    fn items(&self, target: &str) -> Vec<model::Item> {
        let items = self.fleet.targets.get(target).map(|entry| &*entry.items).unwrap_or_default();
        items.iter().map(|entry| self.item(entry)).collect()
    }
}

impl Now {
    fn item(&self, entry: &ItemEntry) -> model::Item {
        let ItemEntry { item, interval, configured } = entry;
        let id = item.id();
        let next = self.board.facts.stats.next_tick(&id.query, &id.target).map(|next| match next {
            NextTick::Running => Next::Running,
            NextTick::Due(due) if due >= self.at => Next::In(due - self.at),
            NextTick::Due(due) => Next::Overdue(self.at - due),
        });
        let last = item.record().last_run();
        let result = last.as_ref().and_then(|last| last.result);
        model::Item {
            query: Arc::clone(&id.query),
            interval: *interval,
            configured: *configured,
            timeout: item.timeout(),
            expire_after: item.expire_after(),
            shown: item.is_shown(),
            age: result.map(|result| self.boot.since(result.at)),
            last,
            next,
        }
    }
}

impl TargetEntry {
    /// What is counted of it; None where no item is.
    fn stats(&self) -> Option<&TargetStats> {
        self.items.first().map(|entry| &**entry.item.target_stats())
    }

    fn brief(&self) -> Brief {
        let mut items = ItemCounts::default();
        for ItemEntry { item, .. } in &self.items {
            items.add(ItemState::of(item.record().last_run().as_deref(), item.is_shown()));
        }
        let known = self.stats().and_then(|stats| stats.record().state());
        let state = match &known {
            _ if self.paused => State::Paused,
            _ if self.items.is_empty() => State::NoItems,
            None => State::NeverTried,
            Some(known) if known.up => State::Up,
            Some(_) => State::Down,
        };
        Brief {
            name: Arc::clone(&self.target.name),
            group: Arc::clone(&self.target.group),
            state,
            since_ms: known.as_ref().map(|known| known.since_ms),
            reason: known
                .filter(|known| !known.up)
                .and_then(|known| known.down.as_ref().map(|(_, failure)| failure.reason)),
            items,
        }
    }

    /// Of its failing items the one that began to fail last.
    fn trouble(&self) -> Option<(Arc<str>, Arc<LastRun>)> {
        let failing = self.items.iter().filter_map(|entry| {
            let last = entry.item.record().last_run().filter(|last| last.failures > 0)?;
            Some((Arc::clone(&entry.item.id().query), last))
        });
        failing.max_by_key(|(_, last)| last.since_ms)
    }
}
