//! The families about targets and groups: all of them at one moment, or what has changed since they were last written.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;

use super::{
    GroupStats, Lines, MISSED, ShownAs, TargetStats,
    groups::{self, OfGroup},
};
use crate::{
    Family, FamilyText, Kind, Reason,
    driver::Server,
    fragment::escape_label,
    snapshot::{Cut, OfQuery, query_families},
};

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
    families.extend(groups::families(&groups::numbers(groups)));
    families
}

/// Targets whose lines are a piece of a family: of a change of one of them the lines of all are written anew.
const TARGETS_OF_A_PIECE: usize = 16;

/// What was last written, to be shown again where nothing has changed: the same text in the same place in memory, by
/// which a reader knows it.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Of each [`TARGETS_OF_A_PIECE`] targets.
    pieces: Vec<OfTargets>,
    groups: Unchanged<OfGroup>,
    queries: Unchanged<OfQuery>,
}

/// What was written of these numbers.
#[derive(Debug)]
struct Unchanged<T> {
    of: Vec<T>,
    families: Vec<FamilyText>,
}

impl<T> Default for Unchanged<T> {
    fn default() -> Self {
        Self { of: Vec::new(), families: Vec::new() }
    }
}

impl<T: PartialEq> Unchanged<T> {
    /// The families of these numbers, as `write` does it.
    fn families(&mut self, of: Vec<T>, write: fn(&[T]) -> Vec<FamilyText>) -> Vec<FamilyText> {
        if self.families.is_empty() || self.of != of {
            let before = std::mem::replace(&mut self.families, write(&of));
            for (before, now) in before.iter().zip(&mut self.families) {
                for (before, now) in before.lines.iter().zip(&mut now.lines) {
                    let written = std::mem::replace(now, before.clone());
                    keep(now, written);
                }
            }
            self.of = of;
        }
        self.families.clone()
    }
}

/// Some targets as they were, and what was written of them.
#[derive(Debug, Default)]
struct OfTargets {
    targets: Vec<Arc<TargetStats>>,
    rows: Vec<Row>,
    texts: [Bytes; TARGET_FAMILIES.len()],
}

impl OfTargets {
    /// Writes anew the families that say something else now.
    fn update(&mut self, targets: &[Arc<TargetStats>]) {
        let is_same = self.targets.iter().map(Arc::as_ptr).eq(targets.iter().map(Arc::as_ptr));
        let mut changed = [!is_same; TARGET_FAMILIES.len()];
        if !is_same {
            targets.clone_into(&mut self.targets);
            self.rows = targets.iter().map(|target| Row::of(target)).collect();
        }
        let of_targets = self.rows.iter_mut().zip(targets);
        for (row, target) in of_targets.filter(|(row, target)| row.changes != target.changes()) {
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
        let families =
            TARGET_FAMILIES.iter().enumerate().map(|(nth, TargetFamily { name, help, kind, .. })| {
                let family = Family { name: (*name).to_owned(), help: (*help).to_owned(), kind: *kind };
                let mut lines = Vec::with_capacity(self.pieces.len());
                let texts = self.pieces.iter().map(|piece| &piece.texts[nth]);
                lines.extend(texts.filter(|text| !text.is_empty()).cloned());
                FamilyText { family: Arc::new(family), lines }
            });
        families.collect()
    }

    /// The families about these groups, at this moment.
    pub(crate) fn group_families(&mut self, groups: &[Arc<GroupStats>]) -> Vec<FamilyText> {
        self.groups.families(groups::numbers(groups), groups::families)
    }

    /// The families about queries that do so.
    pub(crate) fn query_families(&mut self, queries: Vec<OfQuery>) -> Vec<FamilyText> {
        self.queries.families(queries, query_families)
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
    /// Until then.
    changes: u64,
    shown_as: Arc<ShownAs>,
    server: Option<Arc<Server>>,
    numbers: Numbers,
}

#[derive(Debug)]
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
        // First: what changes while the rest is read is looked at again.
        let changes = target.changes();
        let (shown_as, server) = (target.shown_as.load_full(), target.server.load_full());
        Self { changes, shown_as, server, numbers: Numbers::of(target) }
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
