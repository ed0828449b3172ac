//! What the exporter says about its targets and groups: counters that runs add to, and their text.
//!
//! Label sets are encoded once, when a target or group appears; a scrape adds the numbers of that moment.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;

use crate::{
    Failure, Family, FamilyText, Kind, Reason, Target,
    driver::Server,
    fragment::{escape_label, labels_text},
    record::TargetRecord,
    snapshot::Cut,
};

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
        }
    }

    /// The same server is configured otherwise now.
    pub(crate) fn relabel(&self, target: &Target, group: Arc<GroupStats>) {
        self.shown_as.store(Arc::new(ShownAs::new(target, group)));
    }

    /// A run succeeded. Returns whether the target was not up before.
    pub fn succeeded(&self) -> bool {
        self.successes.fetch_add(1, Relaxed);
        self.last_success_ms.store(wall_ms(), Relaxed);
        self.reason.store(NO_REASON, Relaxed);
        !self.up.swap(true, Relaxed)
    }

    /// The server has let us in, though nothing was asked of it. Returns whether the target was not up before.
    pub fn answered(&self) -> bool {
        self.reason.store(NO_REASON, Relaxed);
        !self.up.swap(true, Relaxed)
    }

    /// A run failed. Returns whether that is news of the target: it is down or up since, or down for a reason of another
    /// kind.
    pub fn failed(&self, failure: &Failure) -> bool {
        self.failures.fetch_add(1, Relaxed);
        let place = Reason::ALL.iter().position(|reason| *reason == failure.reason).unwrap_or_default();
        self.shown_as.load().group.failures[place].fetch_add(1, Relaxed);
        let before = self.reason.swap(u8::try_from(place).unwrap_or(NO_REASON), Relaxed);
        let was_up = self.up.swap(!failure.is_down(), Relaxed);
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
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    pub(crate) fn connect_begun(&self) {
        self.connects.fetch_add(1, Relaxed);
    }

    /// A session has begun. Returns whether its server refused other guards than the one of the session before.
    pub(crate) fn introduced(&self, server: &Arc<Server>) -> bool {
        let before = self.server.swap(Some(Arc::clone(server)));
        before.map(|before| before.guards_refused()).unwrap_or_default() != server.guards_refused()
    }

    pub(crate) fn killed(&self, result: KillResult) {
        self.kills.fetch_add(1, Relaxed);
        let place = KillResult::ALL.iter().position(|known| *known == result).unwrap_or_default();
        self.shown_as.load().group.kills[place].fetch_add(1, Relaxed);
    }
}

/// The wall clock, for what is shown; nothing is scheduled or aged by it.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Lines of a piece. By their number, not their size: so a number that grows a digit moves no other piece, and those are
/// found unchanged that have not changed.
const PIECE_LINES: usize = 96;

/// Writes the lines of one family.
pub(crate) struct Lines {
    name: &'static str,
    pieces: Vec<Bytes>,
    text: String,
    /// Lines of the piece that is not closed.
    in_piece: usize,
    digits: itoa::Buffer,
}

impl Lines {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, pieces: Vec::new(), text: String::new(), in_piece: 0, digits: itoa::Buffer::new() }
    }

    /// One sample; `labels` and `more` are encoded label pairs or empty.
    fn add(&mut self, labels: &str, more: &str, value: impl itoa::Integer) {
        if self.in_piece == PIECE_LINES {
            self.close();
        }
        self.in_piece += 1;
        let value = self.digits.format(value);
        self.text.push_str(self.name);
        if !(labels.is_empty() && more.is_empty()) {
            let comma = if labels.is_empty() || more.is_empty() { "" } else { "," };
            self.text.extend(["{", labels, comma, more, "}"]);
        }
        self.text.extend([" ", value, "\n"]);
    }

    /// One sample whose value is a number of seconds, given in milliseconds.
    pub(crate) fn add_seconds(&mut self, labels: &str, ms: u64) {
        let value = ms / 1000;
        self.add(labels, "", value);
        if !ms.is_multiple_of(1000) {
            self.text.pop();
            let _ = writeln!(self.text, ".{:03}", ms % 1000);
        }
    }

    /// The one sample of a target.
    fn of(&mut self, row: &Row, value: impl itoa::Integer) {
        self.add(&row.shown_as.labels, "", value);
    }

    /// One sample.
    pub(crate) fn add_value(&mut self, labels: &str, value: impl itoa::Integer) {
        self.add(labels, "", value);
    }

    pub(crate) fn family(mut self, help: &str, kind: Kind) -> FamilyText {
        let family = Arc::new(Family { name: self.name.to_owned(), help: help.to_owned(), kind });
        self.close();
        FamilyText { family, lines: self.pieces }
    }

    /// All lines as one text.
    fn text(mut self) -> Bytes {
        if self.pieces.is_empty() {
            return self.text.into();
        }
        self.close();
        self.pieces.concat().into()
    }

    fn close(&mut self) {
        if !self.text.is_empty() {
            let next = String::with_capacity(self.text.len());
            self.pieces.push(Bytes::from(std::mem::replace(&mut self.text, next)));
            self.in_piece = 0;
        }
    }
}

/// The families about the targets and groups of a cut, at this moment: about targets only if it names some or their
/// groups, as they are about all queries, and about groups only if it names those.
pub fn families_of(cut: &Cut, targets: &[Arc<TargetStats>], groups: &[Arc<GroupStats>]) -> Vec<FamilyText> {
    let by_target = !(cut.targets.is_empty() && cut.groups.is_empty());
    let of_cut = |target: &&Arc<TargetStats>| {
        by_target && cut.has_target(&target.name, &target.shown_as.load().group.name)
    };
    let targets: Vec<_> = targets.iter().filter(of_cut).cloned().collect();
    let of_cut = |group: &&Arc<GroupStats>| cut.groups.contains(&*group.name);
    let groups: Vec<_> = groups.iter().filter(of_cut).cloned().collect();
    families(&targets, &groups)
}

/// The families about these targets and groups, at this moment.
pub fn families(targets: &[Arc<TargetStats>], groups: &[Arc<GroupStats>]) -> Vec<FamilyText> {
    let mut families = Kept::default().target_families(targets);
    families.extend(group_families(groups));
    families
}

/// The families about these groups, at this moment.
pub(crate) fn group_families(groups: &[Arc<GroupStats>]) -> Vec<FamilyText> {
    vec![group_failures(groups), group_kills(groups)]
}

/// Targets whose lines are a piece of a family: of a change of one of them the lines of all are written anew.
const TARGETS_OF_A_PIECE: usize = 16;

/// What was last written, to be shown again where nothing has changed: the same text in the same place in memory, by
/// which a reader knows it.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Of each [`TARGETS_OF_A_PIECE`] targets.
    pieces: Vec<OfTargets>,
    others: Vec<FamilyText>,
}

/// Some targets as they were, and what was written of them.
#[derive(Debug, Default)]
struct OfTargets {
    rows: Vec<Row>,
    texts: [Bytes; TARGET_FAMILIES.len()],
}

impl OfTargets {
    /// Writes anew the families that say something else now.
    fn update(&mut self, targets: &[Arc<TargetStats>]) {
        let is_other = self.rows.len() != targets.len();
        let mut changed = [is_other; TARGET_FAMILIES.len()];
        if is_other {
            self.rows = targets.iter().map(|target| Row::of(target)).collect();
        }
        for (row, target) in self.rows.iter_mut().zip(targets).filter(|(row, target)| !row.is_of(target)) {
            let before = std::mem::replace(row, Row::of(target));
            let is_relabelled = !Arc::ptr_eq(&before.shown_as, &row.shown_as);
            for (changed, family) in changed.iter_mut().zip(&TARGET_FAMILIES) {
                *changed |= is_relabelled || !(family.is_same)(&before, row);
            }
        }
        for ((text, family), changed) in self.texts.iter_mut().zip(&TARGET_FAMILIES).zip(changed) {
            if changed {
                keep(text, family.text(&self.rows, text.len()));
            }
        }
    }
}

impl Kept {
    /// The families about these targets, at this moment.
    pub(crate) fn target_families(&mut self, targets: &[Arc<TargetStats>]) -> Vec<FamilyText> {
        self.pieces.resize_with(targets.len().div_ceil(TARGETS_OF_A_PIECE), OfTargets::default);
        for (piece, targets) in self.pieces.iter_mut().zip(targets.chunks(TARGETS_OF_A_PIECE)) {
            piece.update(targets);
        }
        let texts = |nth: usize| self.pieces.iter().map(move |piece| &piece.texts[nth]);
        let families =
            TARGET_FAMILIES.iter().enumerate().map(|(nth, TargetFamily { name, help, kind, .. })| {
                let family = Family { name: (*name).to_owned(), help: (*help).to_owned(), kind: *kind };
                let lines = texts(nth).filter(|text| !text.is_empty()).cloned().collect();
                FamilyText { family: Arc::new(family), lines }
            });
        families.collect()
    }

    /// The others, which are few and were written anew.
    pub(crate) fn others(&mut self, mut families: Vec<FamilyText>) -> Vec<FamilyText> {
        for (before, now) in self.others.iter().zip(&mut families) {
            for (before, now) in before.lines.iter().zip(&mut now.lines) {
                let written = std::mem::replace(now, before.clone());
                keep(now, written);
            }
        }
        self.others.clone_from(&families);
        families
    }
}

/// Leaves the text where it is, if it says the same.
fn keep(text: &mut Bytes, now: Bytes) {
    if *text != now {
        *text = now;
    }
}

/// A target at one moment.
#[derive(Debug)]
struct Row {
    shown_as: Arc<ShownAs>,
    server: Option<Arc<Server>>,
    numbers: Numbers,
}

#[derive(Debug, PartialEq, Eq)]
struct Numbers {
    up: bool,
    last_success_ms: u64,
    successes: u64,
    failures: u64,
    missed: [u64; MISSED.len()],
    reason: u8,
    connections: i64,
    connects: u64,
    kills: u64,
}

impl Row {
    fn of(target: &TargetStats) -> Self {
        let (shown_as, server) = (target.shown_as.load_full(), target.server.load_full());
        Self { shown_as, server, numbers: Numbers::of(target) }
    }

    /// Whether the target is still like this.
    fn is_of(&self, target: &TargetStats) -> bool {
        self.numbers == Numbers::of(target)
            && Arc::ptr_eq(&self.shown_as, &target.shown_as.load())
            && address(self.server.as_ref()) == address(target.server.load().as_ref())
    }
}

fn address(server: Option<&Arc<Server>>) -> Option<*const Server> {
    server.map(Arc::as_ptr)
}

impl Numbers {
    fn of(target: &TargetStats) -> Self {
        Self {
            up: target.is_up(),
            last_success_ms: target.last_success_ms.load(Relaxed),
            successes: target.successes.load(Relaxed),
            failures: target.failures.load(Relaxed),
            missed: std::array::from_fn(|nth| target.missed[nth].load(Relaxed)),
            reason: target.reason.load(Relaxed),
            connections: target.connections(),
            connects: target.connects.load(Relaxed),
            kills: target.kills.load(Relaxed),
        }
    }
}

/// A family about targets, and how the lines of one of them are written.
struct TargetFamily {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    /// Whether the lines of a target are the same, as far as its labels are.
    is_same: fn(&Row, &Row) -> bool,
    write: fn(&mut Lines, &Row),
}

impl TargetFamily {
    /// The lines, likely of about this length.
    fn text(&self, rows: &[Row], likely: usize) -> Bytes {
        let mut lines = Lines::new(self.name);
        lines.text.reserve(likely);
        for row in rows {
            (self.write)(&mut lines, row);
        }
        lines.text()
    }
}

static TARGET_FAMILIES: [TargetFamily; 10] = [
    TargetFamily {
        name: "query_exporter_up",
        help: "1 if the last attempt to get an answer from the target had one, else 0",
        kind: Kind::Gauge,
        is_same: |a, b| a.numbers.up == b.numbers.up,
        write: |lines, row| lines.of(row, u8::from(row.numbers.up)),
    },
    TargetFamily {
        name: "query_exporter_target_info",
        help: "what the target's server said of itself at the last connect, how TLS is asked for, and which guards it \
               refused",
        kind: Kind::Gauge,
        is_same: |a, b| address(a.server.as_ref()) == address(b.server.as_ref()),
        write: target_info,
    },
    TargetFamily {
        name: "query_exporter_target_last_success_timestamp_seconds",
        help: "when a run on the target last succeeded, since the epoch; 0 if none has",
        kind: Kind::Gauge,
        is_same: |a, b| a.numbers.last_success_ms == b.numbers.last_success_ms,
        write: |lines, row| lines.add_seconds(&row.shown_as.labels, row.numbers.last_success_ms),
    },
    TargetFamily {
        name: "query_exporter_runs_total",
        help: "runs of the target's items",
        kind: Kind::Counter,
        is_same: |a, b| {
            (a.numbers.successes, a.numbers.failures) == (b.numbers.successes, b.numbers.failures)
        },
        write: |lines, row| {
            lines.add(&row.shown_as.labels, r#"outcome="success""#, row.numbers.successes);
            lines.add(&row.shown_as.labels, r#"outcome="failure""#, row.numbers.failures);
        },
    },
    TargetFamily {
        name: "query_exporter_ticks_missed_total",
        help: "ticks without a run: the last one still running, no permit in time, or the target down",
        kind: Kind::Counter,
        is_same: |a, b| a.numbers.missed == b.numbers.missed,
        write: |lines, row| {
            for (reason, ticks) in MISSED.iter().zip(row.numbers.missed) {
                lines.add(&row.shown_as.labels, &format!("reason=\"{reason}\""), ticks);
            }
        },
    },
    TargetFamily {
        name: "query_exporter_target_failures_total",
        help: "failed runs on the target",
        kind: Kind::Counter,
        is_same: |a, b| a.numbers.failures == b.numbers.failures,
        write: |lines, row| lines.of(row, row.numbers.failures),
    },
    TargetFamily {
        name: "query_exporter_target_failure_reason",
        help: "1 for the reason of the target's last run, where it failed",
        kind: Kind::Gauge,
        is_same: |a, b| a.numbers.reason == b.numbers.reason,
        write: |lines, row| {
            if let Some(reason) = Reason::ALL.get(usize::from(row.numbers.reason)) {
                lines.add(&row.shown_as.labels, &format!("reason=\"{reason}\""), 1);
            }
        },
    },
    TargetFamily {
        name: "query_exporter_connections",
        help: "connections to the target that are open, or whose query may still run there",
        kind: Kind::Gauge,
        is_same: |a, b| a.numbers.connections == b.numbers.connections,
        write: |lines, row| lines.of(row, row.numbers.connections.max(0)),
    },
    TargetFamily {
        name: "query_exporter_connects_total",
        help: "attempts to open a connection to the target",
        kind: Kind::Counter,
        is_same: |a, b| a.numbers.connects == b.numbers.connects,
        write: |lines, row| lines.of(row, row.numbers.connects),
    },
    TargetFamily {
        name: "query_exporter_kills_total",
        help: "attempts to end one of our queries at the target by KILL",
        kind: Kind::Counter,
        is_same: |a, b| a.numbers.kills == b.numbers.kills,
        write: |lines, row| lines.of(row, row.numbers.kills),
    },
];

fn target_info(lines: &mut Lines, Row { shown_as, server, .. }: &Row) {
    let mut more = String::new();
    let server = server.as_ref();
    let refused = server.map(|s| s.guards_refused()).unwrap_or_default();
    let facts = [
        ("flavour", server.map_or("", |s| s.flavour.as_str())),
        ("version", server.map_or("", |s| s.version.as_str())),
        ("server_id", server.map_or("", |s| s.server_id.as_str())),
        ("role", server.map_or("", |s| s.role())),
        ("tls", shown_as.tls),
        ("guards_refused", &refused),
    ];
    for (name, value) in facts {
        let comma = if more.is_empty() { "" } else { "," };
        let _ = write!(more, "{comma}{name}=\"");
        escape_label(&mut more, value);
        more.push('"');
    }
    lines.add(&shown_as.info_labels, &more, 1);
}

fn group_failures(groups: &[Arc<GroupStats>]) -> FamilyText {
    let mut lines = Lines::new("query_exporter_failures_total");
    for group in groups {
        for (reason, failures) in Reason::ALL.iter().zip(&group.failures) {
            lines.add(&format!("group=\"{}\",reason=\"{reason}\"", group.name), "", failures.load(Relaxed));
        }
    }
    lines.family("failed runs in the group, by reason", Kind::Counter)
}

fn group_kills(groups: &[Arc<GroupStats>]) -> FamilyText {
    let mut lines = Lines::new("query_exporter_group_kills_total");
    for group in groups {
        for (result, kills) in KillResult::ALL.iter().zip(&group.kills) {
            let labels = format!("group=\"{}\",result=\"{}\"", group.name, result.as_str());
            lines.add(&labels, "", kills.load(Relaxed));
        }
    }
    lines.family("attempts in the group to end one of our queries by KILL, by result", Kind::Counter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Password, Tls, TlsMode};

    fn target(labels: &[(&str, &str)]) -> Arc<TargetStats> {
        let target = Target {
            name: "db1".into(),
            group: "prod".into(),
            address: Address::Tcp { host: "db1".into(), port: 3306 },
            user: Some("exporter".into()),
            password: Password::None,
            database: None,
            tls: Tls { mode: TlsMode::Preferred, ca: None, identity: None },
            labels: labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            max_connections: 3,
            kill: true,
            session: crate::SessionSettings::default(),
        };
        Arc::new(TargetStats::new(&target, Arc::new(GroupStats::new("prod".into()))))
    }

    fn text(families: &[FamilyText]) -> String {
        let lines = families.iter().flat_map(|family| &family.lines);
        lines.map(|bytes| std::str::from_utf8(bytes).unwrap()).collect()
    }

    #[test]
    fn up_is_zero_until_the_first_answer_and_the_last_attempt_after_it() {
        let target = target(&[]);
        assert!(!target.is_up());
        assert!(target.succeeded(), "a change");
        assert!(!target.succeeded(), "no change");
        assert!(
            !target.failed(&Failure::answered(Reason::Syntax, "x")),
            "an error of one query is no change"
        );
        assert!(target.is_up());
        assert!(target.failed(&Failure::unanswered(Reason::Refused, "x")));
        assert!(!target.is_up());
        assert!(!target.failed(&Failure::unanswered(Reason::Refused, "x")), "still down");
        assert!(!target.failed(&Failure::unanswered(Reason::Dns, "x")), "still down, and still silent");
        assert!(target.failed(&Failure::answered(Reason::Auth, "x")), "down for a reason of another kind");
        assert!(!target.failed(&Failure::answered(Reason::Auth, "x")));
    }

    #[test]
    fn a_target_costs_at_most_sixteen_series() {
        let target = target(&[("target", "db1")]);
        target.failed(&Failure::unanswered(Reason::Refused, "x"));
        let series = text(&families(&[target], &[])).lines().count();
        assert!(series <= 16, "{series}");
    }

    #[test]
    fn what_has_not_changed_is_the_same_memory_and_the_rest_is_as_if_written_anew() {
        let targets: Vec<_> = (0..40).map(|_| target(&[("target", "db1")])).collect();
        let groups = [Arc::new(GroupStats::new("prod".into()))];
        let mut kept = Kept::default();
        let mut write = |targets: &[_]| {
            let mut families = kept.target_families(targets);
            families.extend(kept.others(group_families(&groups)));
            assert_eq!(text(&families), text(&super::families(targets, &groups)));
            let pieces = families.into_iter().flat_map(|family| family.lines);
            pieces.collect::<Vec<_>>()
        };
        let changed = |before: &[Bytes], now: &[Bytes]| {
            before.iter().zip(now).filter(|(before, now)| before.as_ptr() != now.as_ptr()).count()
        };
        let first = write(&targets);
        assert_eq!(changed(&first, &write(&targets)), 0);
        targets[20].succeeded();
        let second = write(&targets);
        assert_eq!(second.len(), first.len());
        assert_eq!(changed(&first, &second), 3, "up, the last success and the runs, each in one piece");
        assert_eq!(changed(&second, &write(&targets)), 0);
        write(&targets[..10]);
        write(&targets);
    }

    #[test]
    fn everything_exists_from_the_start_and_own_labels_win() {
        let target = target(&[("env", "prod \"x\""), ("reason", "mine"), ("target", "db1"), ("tls", "mine")]);
        let text = text(&families(&[target], &[Arc::new(GroupStats::new("prod".into()))]));
        for line in [
            r#"query_exporter_up{env="prod \"x\"",target="db1",tls="mine"} 0"#,
            r#"query_exporter_target_info{env="prod \"x\"",target="db1",flavour="",version="",server_id="",role="",tls="preferred",guards_refused=""} 1"#,
            r#"query_exporter_ticks_missed_total{env="prod \"x\"",target="db1",tls="mine",reason="no_permit"} 0"#,
            r#"query_exporter_failures_total{group="prod",reason="too_large"} 0"#,
            r#"query_exporter_group_kills_total{group="prod",result="other_server"} 0"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_server_of_the_last_connect_is_shown_and_a_change_of_what_it_refuses_is_told() {
        let target = target(&[("target", "db1"), ("role", "replica")]);
        let server = |read_only, guards: &[&'static str]| {
            let refused =
                guards.iter().map(|guard| crate::driver::RefusedGuard { guard, error: "no".to_owned() });
            Arc::new(Server {
                version: "8.0.36".to_owned(),
                server_id: "7".to_owned(),
                read_only,
                refused: refused.collect(),
                ..Server::default()
            })
        };
        for (read_only, guards, changed, expected) in [
            (Some(false), &[][..], false, r#"role="writable",tls="preferred",guards_refused="""#),
            (
                Some(true),
                &["read_only", "wait_timeout"],
                true,
                r#"role="read_only",tls="preferred",guards_refused="read_only wait_timeout""#,
            ),
            (
                None,
                &["read_only", "wait_timeout"],
                false,
                r#"role="",tls="preferred",guards_refused="read_only wait_timeout""#,
            ),
            (None, &["read_only"], true, r#"role="",tls="preferred",guards_refused="read_only""#),
            (None, &[], true, r#"role="",tls="preferred",guards_refused="""#),
        ] {
            assert_eq!(target.introduced(&server(read_only, guards)), changed, "{expected}");
            let line = format!(
                r#"query_exporter_target_info{{target="db1",flavour="mysql",version="8.0.36",server_id="7",{expected}}} 1"#
            );
            let text = text(&families(&[Arc::clone(&target)], &[]));
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn without_any_label_there_are_no_braces() {
        assert!(text(&families(&[target(&[])], &[])).starts_with("query_exporter_up 0\n"));
    }
}
