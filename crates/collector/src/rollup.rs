//! What is counted of targets and groups: counters that runs add to.
//!
//! A target's labels are encoded once, when it appears; a scrape adds the numbers of that moment where they have changed.

mod groups;
mod lines;
mod shown;
mod table;
mod targets;

use std::sync::{
    Arc,
    atomic::{
        AtomicBool, AtomicI64, AtomicU8, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::{
    Failure, Reason, Target, clock::wall_ms, driver::Server, fragment::labels_text, record::TargetRecord,
};

pub(crate) use lines::Lines;
pub(crate) use shown::{Tables, query_families};
pub use shown::{families, families_of};
pub(crate) use table::{Column, Row};

/// Why ticks were missed, as labels.
pub const MISSED: [&str; 4] = ["running", "no_permit", "target_down", "stopped"];

/// What became of a KILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillResult {
    /// The server confirmed it.
    Killed,
    /// The session was already gone.
    Gone,
    /// The server refused it.
    Refused,
    /// The side connection reached another server, so nothing was sent.
    OtherServer,
    /// No side connection, or no answer, in time.
    Unreachable,
}

impl KillResult {
    /// Every result.
    pub const ALL: [Self; 5] =
        [Self::Killed, Self::Gone, Self::Refused, Self::OtherServer, Self::Unreachable];

    /// The value of the label `result`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::OtherServer => "other_server",
            Self::Unreachable => "unreachable",
        }
    }
}

/// The counters of one group.
#[derive(Debug)]
pub struct GroupStats {
    name: Arc<str>,
    failures: [AtomicU64; Reason::ALL.len()],
    kills: [AtomicU64; KillResult::ALL.len()],
}

impl GroupStats {
    /// A group that nothing has happened in.
    pub fn new(name: Arc<str>) -> Self {
        Self { name, failures: Default::default(), kills: Default::default() }
    }

    /// A result that a KILL had, if there was any.
    pub(crate) fn any_kill(&self) -> Option<KillResult> {
        KillResult::ALL.into_iter().zip(&self.kills).find(|(_, n)| n.load(Relaxed) > 0).map(|(kill, _)| kill)
    }
}

/// The state and the counters of one target.
#[derive(Debug)]
pub struct TargetStats {
    name: Arc<str>,
    shown_as: ArcSwap<ShownAs>,
    up: AtomicBool,
    server: ArcSwapOption<Server>,
    last_success_ms: AtomicU64,
    successes: AtomicU64,
    failures: AtomicU64,
    missed: [AtomicU64; MISSED.len()],
    /// The place of the present reason in [`Reason::ALL`], or [`NO_REASON`].
    reason: AtomicU8,
    connections: AtomicI64,
    connects: AtomicU64,
    kills: AtomicU64,
    record: TargetRecord,
    /// Of what is shown of it.
    changes: AtomicU64,
}

/// What the configuration says of a target that its series show; a reload may change it, and the counters go on.
#[derive(Debug)]
struct ShownAs {
    group: Arc<GroupStats>,
    /// The labels of each of its series, encoded and without braces.
    labels: String,
    /// Those of them that `target_info` has no label of its own for.
    info_labels: String,
    tls: &'static str,
}

/// The labels that our own families of a target have themselves; a configured label of that name gives way.
const OWN_LABELS: [&str; 8] =
    ["outcome", "reason", "flavour", "version", "server_id", "role", "tls", "guards_refused"];

impl ShownAs {
    fn new(target: &Target, group: Arc<GroupStats>) -> Self {
        let not = |own: &'static [&'static str]| {
            target.labels.iter().filter(move |(name, _)| !own.contains(&name.as_str()))
        };
        Self {
            group,
            labels: labels_text(not(&["outcome", "reason"])),
            info_labels: labels_text(not(&OWN_LABELS)),
            tls: target.tls.mode.as_str(),
        }
    }
}

const NO_REASON: u8 = u8::MAX;

impl TargetStats {
    /// A target that nobody has tried.
    pub fn new(target: &Target, group: Arc<GroupStats>) -> Self {
        Self {
            name: Arc::clone(&target.name),
            shown_as: ArcSwap::from_pointee(ShownAs::new(target, group)),
            up: AtomicBool::new(false),
            server: ArcSwapOption::empty(),
            last_success_ms: AtomicU64::new(0),
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            missed: Default::default(),
            reason: AtomicU8::new(NO_REASON),
            connections: AtomicI64::new(0),
            connects: AtomicU64::new(0),
            kills: AtomicU64::new(0),
            record: TargetRecord::default(),
            changes: AtomicU64::new(0),
        }
    }

    /// To be called behind each change of what is shown: who sees the count sees the change.
    fn changed(&self) {
        self.changes.fetch_add(1, Release);
    }

    /// How often that was. To be asked for before it is looked at.
    fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    /// The same server is configured otherwise now.
    pub(crate) fn relabel(&self, target: &Target, group: Arc<GroupStats>) {
        self.shown_as.store(Arc::new(ShownAs::new(target, group)));
        self.changed();
    }

    /// A run succeeded. Returns whether the target was not up before.
    pub fn succeeded(&self) -> bool {
        self.successes.fetch_add(1, Relaxed);
        self.last_success_ms.store(wall_ms(), Relaxed);
        self.reason.store(NO_REASON, Relaxed);
        let is_news = !self.up.swap(true, Relaxed);
        self.changed();
        is_news
    }

    /// A run had succeeded then, before this process began; by the wall clock, which may have been set since.
    pub(crate) fn succeeded_at(&self, at_ms: u64) {
        self.last_success_ms.fetch_max(at_ms.min(wall_ms()), Relaxed);
        self.changed();
    }

    /// The server has let us in, though nothing was asked of it. Returns whether the target was not up before.
    pub fn answered(&self) -> bool {
        self.reason.store(NO_REASON, Relaxed);
        let is_news = !self.up.swap(true, Relaxed);
        self.changed();
        is_news
    }

    /// A run failed. Returns whether that is news of the target: it is down or up since, or down for a reason of another
    /// kind.
    pub fn failed(&self, failure: &Failure) -> bool {
        self.failures.fetch_add(1, Relaxed);
        let place = Reason::ALL.iter().position(|reason| *reason == failure.reason).unwrap_or_default();
        self.shown_as.load().group.failures[place].fetch_add(1, Relaxed);
        let before = self.reason.swap(u8::try_from(place).unwrap_or(NO_REASON), Relaxed);
        let was_up = self.up.swap(!failure.is_down(), Relaxed);
        self.changed();
        if was_up || !failure.is_down() {
            return was_up == failure.is_down();
        }
        // Nobody was up before the first run, but that it is down is news.
        let before = Reason::ALL.get(usize::from(before));
        before.is_none_or(|before| {
            *before != failure.reason && !(before.is_silence() && failure.reason.is_silence())
        })
    }

    /// Ticks were missed, for the reason at this place of [`MISSED`].
    pub fn missed(&self, reason: usize, ticks: u64) {
        self.missed[reason].fetch_add(ticks, Relaxed);
        self.changed();
        self.record.missed(ticks);
    }

    /// How many ticks were missed since the start, by the reasons of [`MISSED`].
    pub fn ticks_missed(&self) -> [u64; MISSED.len()] {
        self.missed.each_ref().map(|ticks| ticks.load(Relaxed))
    }

    /// What is known of its runs.
    pub fn record(&self) -> &TargetRecord {
        &self.record
    }

    /// What the server said of itself at the last connect.
    pub fn server(&self) -> Option<Arc<Server>> {
        self.server.load_full()
    }

    /// The target's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Why its last run failed, if it did.
    pub fn reason(&self) -> Option<Reason> {
        Reason::ALL.get(usize::from(self.reason.load(Relaxed))).copied()
    }

    /// Whether the last attempt got an answer.
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// How many of its runs have failed since the start.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Connections that are open, or whose query may still run at the server.
    pub fn connections(&self) -> i64 {
        self.connections.load(Relaxed)
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.fetch_add(1, Relaxed);
        self.changed();
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
        self.changed();
    }

    pub(crate) fn connect_begun(&self) {
        self.connects.fetch_add(1, Relaxed);
        self.changed();
    }

    /// A session has begun. Returns whether its server refused other guards than the one of the session before.
    pub(crate) fn introduced(&self, server: &Arc<Server>) -> bool {
        let before = self.server.swap(Some(Arc::clone(server)));
        self.changed();
        before.map(|before| before.guards_refused()).unwrap_or_default() != server.guards_refused()
    }

    pub(crate) fn killed(&self, result: KillResult) {
        self.kills.fetch_add(1, Relaxed);
        self.changed();
        let place = KillResult::ALL.iter().position(|known| *known == result).unwrap_or_default();
        self.shown_as.load().group.kills[place].fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
