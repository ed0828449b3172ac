//! What the status pages show, as plain data. Who knows it fills it in; who shows it asks nobody else.

use std::{sync::Arc, time::Duration};

use fleet_collector::{
    Failure, Reason,
    driver::Server,
    hour::{MINUTES, Minute},
    record::{LastRun, Outcome},
};

/// The fleet as it is at one moment. Each call reads memory and waits for nobody.
pub trait Fleet: Send + Sync {
    /// The exporter itself.
    fn exporter(&self) -> Exporter;

    /// Each target in one line, in any order. Asked for once for each page, so cheap for thousands.
    fn briefs(&self) -> Vec<Brief>;

    /// All about one target; None if there is none of that name.
    fn target(&self, name: &str) -> Option<Target>;

    /// The items of one target, in any order.
    fn items(&self, target: &str) -> Vec<Item>;
}

/// The exporter itself.
#[derive(Debug, Clone, Default)]
pub struct Exporter {
    /// Its version.
    pub version: String,
    /// The wall clock now, in milliseconds since the epoch; what ages are told by.
    pub now_ms: u64,
    /// For how long it has run.
    pub uptime: Duration,
    /// When the configuration in force was read, in milliseconds since the epoch.
    pub config_loaded_ms: u64,
    /// Why the configuration that was read last is not in force, if it is not.
    pub config_error: Option<String>,
    /// Queries of the configuration.
    pub queries: usize,
    /// Runs at targets that are not down.
    pub runs: Queue,
    /// Runs that try whether a down target answers again.
    pub tries: Queue,
    /// Connections being opened, and how many may be.
    pub connects: (usize, usize),
    /// How long ago the tick was due that has waited longest.
    pub oldest_overdue: Duration,
    /// Series on the page, the exporter's own excluded.
    pub series: u64,
    /// Bytes of them, and how many there may be.
    pub bytes: (u64, u64),
    /// Log lines that stderr did not take.
    pub log_lines_dropped: u64,
}

/// Runs that are going, and that wait to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Queue {
    /// Are going.
    pub in_flight: usize,
    /// Are due and wait for a permit.
    pub waiting: usize,
    /// May go at once.
    pub limit: usize,
}

/// Whether a target is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The last attempt to get an answer had none, or the login was refused.
    Down,
    /// No run has ended yet.
    NeverTried,
    /// The last attempt had an answer.
    Up,
    /// No query reaches it.
    NoItems,
    /// The configuration says so.
    Paused,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Down, Self::NeverTried, Self::Up, Self::NoItems, Self::Paused];

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::NeverTried => "never_tried",
            Self::Up => "up",
            Self::NoItems => "no_items",
            Self::Paused => "paused",
        }
    }
}

/// A target in one line.
#[derive(Debug, Clone)]
pub struct Brief {
    /// Its name.
    pub name: Arc<str>,
    /// Its group's name.
    pub group: Arc<str>,
    /// Whether it is up.
    pub state: State,
    /// Since when, in milliseconds since the epoch; None before the first run.
    pub since_ms: Option<u64>,
    /// Why it is down, if it is.
    pub reason: Option<Reason>,
    /// Its items.
    pub items: ItemCounts,
}

/// How serious it is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Down,
    Failing,
    Stale,
    NeverTried,
    Well,
    Idle,
}

impl Brief {
    pub(super) fn severity(&self) -> Severity {
        match self.state {
            State::Down => Severity::Down,
            State::Paused | State::NoItems => Severity::Idle,
            _ if self.items.failing > 0 => Severity::Failing,
            _ if self.items.stale > 0 => Severity::Stale,
            State::NeverTried => Severity::NeverTried,
            State::Up => Severity::Well,
        }
    }

    /// Whether somebody should look at it.
    pub(super) fn is_sick(&self) -> bool {
        self.severity() <= Severity::Stale
    }
}

/// How many items there are of each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ItemCounts {
    /// All.
    pub all: usize,
    /// See [`ItemState::Failing`].
    pub failing: usize,
    /// See [`ItemState::Stale`].
    pub stale: usize,
    /// See [`ItemState::NotRun`].
    pub not_run: usize,
    /// See [`ItemState::NotForServer`].
    pub not_for_server: usize,
}

impl ItemCounts {
    /// One item more.
    pub fn add(&mut self, state: ItemState) {
        self.all += 1;
        match state {
            ItemState::Failing => self.failing += 1,
            ItemState::Stale => self.stale += 1,
            ItemState::NotRun => self.not_run += 1,
            ItemState::NotForServer => self.not_for_server += 1,
            ItemState::Well => {}
        }
    }

    pub(super) fn add_all(&mut self, other: Self) {
        let Self { all, failing, stale, not_run, not_for_server } = other;
        self.all += all;
        self.failing += failing;
        self.stale += stale;
        self.not_run += not_run;
        self.not_for_server += not_for_server;
    }
}

/// How an item does, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemState {
    /// Its last run failed.
    Failing,
    /// Its last run succeeded, but too long ago: nothing of it is on the page.
    Stale,
    /// No run has ended yet.
    NotRun,
    /// Its last run succeeded, and its result is on the page.
    Well,
    /// The query has no statement for the target's server.
    NotForServer,
}

impl ItemState {
    /// The state after this run; `shown` is whether there is a result within its age limit.
    pub fn of(last: Option<&LastRun>, shown: bool) -> Self {
        match last.map(|last| &last.outcome) {
            None => Self::NotRun,
            Some(Outcome::Failure(_)) => Self::Failing,
            Some(Outcome::NotForServer) => Self::NotForServer,
            Some(Outcome::Success(_)) if shown => Self::Well,
            Some(Outcome::Success(_)) => Self::Stale,
        }
    }

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Stale => "stale",
            Self::NotRun => "not_run",
            Self::Well => "well",
            Self::NotForServer => "not_for_server",
        }
    }
}

/// All about one target but its items.
#[derive(Debug, Clone)]
pub struct Target {
    /// In one line.
    pub brief: Brief,
    /// Where it listens.
    pub address: String,
    /// The labels of its series.
    pub labels: Vec<(String, String)>,
    /// Why it is down, or was last, and when that run ended in milliseconds since the epoch.
    pub down: Option<(u64, Failure)>,
    /// When it is tried next, if it is down.
    pub next_try: Option<NextTry>,
    /// Connections that are open, or whose query may still run there, and how many there may be.
    pub connections: (u64, u16),
    /// What the server said of itself at the last connect.
    pub server: Option<Arc<Server>>,
    /// How TLS is asked for.
    pub tls: &'static str,
    /// Ticks missed since the start: still running, no permit, down.
    pub missed: [u64; 4],
    /// The failing item whose failure is newest: its query, and its last run.
    pub trouble: Option<(Arc<str>, Arc<LastRun>)>,
    /// The last hour.
    pub hour: [Minute; MINUTES],
}

/// When a down target is tried next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextTry {
    /// Tries without an answer so far.
    pub failures: u32,
    /// How long until then; None while a try is going.
    pub wait: Option<Duration>,
}

/// One query on one target.
#[derive(Debug, Clone)]
pub struct Item {
    /// The query's name.
    pub query: Arc<str>,
    /// How often.
    pub interval: Duration,
    /// How often the configuration says, if that is something else: the interval was changed while the exporter runs.
    pub configured: Option<Duration>,
    /// How long a run may take.
    pub timeout: Duration,
    /// How old a result may be while it is shown.
    pub expire_after: Duration,
    /// The last run.
    pub last: Option<Arc<LastRun>>,
    /// Whether there is a result within its age limit.
    pub shown: bool,
    /// How old the last result is.
    pub age: Option<Duration>,
    /// What comes next; None while it is not known.
    pub next: Option<Next>,
}

impl Item {
    pub(super) fn state(&self) -> ItemState {
        ItemState::of(self.last.as_deref(), self.shown)
    }

    /// Why its last run failed, if it did.
    pub(super) fn failure(&self) -> Option<&Failure> {
        failure(self.last.as_deref()?)
    }

    /// What was left out of its last result, if anything.
    pub(super) fn note(&self) -> Option<&str> {
        match &self.last.as_deref()?.outcome {
            Outcome::Success(note) => note.as_deref(),
            _ => None,
        }
    }
}

/// Why a run failed, if it did.
pub(super) fn failure(run: &LastRun) -> Option<&Failure> {
    match &run.outcome {
        Outcome::Failure(failure) => Some(failure),
        _ => None,
    }
}

/// What an item does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Its tick is due after this.
    In(Duration),
    /// Its tick was due this long ago; it waits for a permit.
    Overdue(Duration),
    /// Its run is going.
    Running,
}
