//! The families about targets and groups: all of them at one moment, or what has changed since they were last written.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;

use super::{GroupStats, KillResult, Lines, MISSED, ShownAs, TargetStats};
use crate::{Family, FamilyText, Kind, Reason, driver::Server, fragment::escape_label, snapshot::Cut};

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
        let mut lines = Lines::of_about(self.name, likely);
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
        write: |lines, row| lines.add(&row.shown_as.labels, "", u8::from(row.numbers.up)),
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
        write: |lines, row| lines.add(&row.shown_as.labels, "", row.numbers.failures),
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
        write: |lines, row| lines.add(&row.shown_as.labels, "", row.numbers.connections.max(0)),
    },
    TargetFamily {
        name: "query_exporter_connects_total",
        help: "attempts to open a connection to the target",
        kind: Kind::Counter,
        is_same: |a, b| a.numbers.connects == b.numbers.connects,
        write: |lines, row| lines.add(&row.shown_as.labels, "", row.numbers.connects),
    },
    TargetFamily {
        name: "query_exporter_kills_total",
        help: "attempts to end one of our queries at the target by KILL",
        kind: Kind::Counter,
        is_same: |a, b| a.numbers.kills == b.numbers.kills,
        write: |lines, row| lines.add(&row.shown_as.labels, "", row.numbers.kills),
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
