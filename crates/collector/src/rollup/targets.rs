//! The families about targets.

use std::{
    fmt::Write as _,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{
    Lines, MISSED, ShownAs, TargetStats,
    table::{Column, Row},
};
use crate::{Kind, Reason, driver::Server, fragment::escape_label};

/// A target at one moment.
#[derive(Debug)]
pub(super) struct OfTarget {
    target: Arc<TargetStats>,
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

impl OfTarget {
    /// The target as it is now, unless it is as it was.
    pub(super) fn now(target: &Arc<TargetStats>, last: Option<&Self>) -> Option<Self> {
        // First: what changes while the rest is read is looked at again.
        let changes = target.changes();
        let is_known = |last: &Self| Arc::ptr_eq(&last.target, target) && last.changes == changes;
        if last.is_some_and(is_known) {
            return None;
        }
        let (shown_as, server) = (target.shown_as.load_full(), target.server.load_full());
        Some(Self { target: Arc::clone(target), changes, shown_as, server, numbers: Numbers::of(target) })
    }
}

impl Row for OfTarget {
    const COLUMNS: &'static [Column<Self>] = &FAMILIES;

    const OF_A_PIECE: usize = 16;

    fn is_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shown_as, &other.shown_as)
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

const FAMILIES: [Column<OfTarget>; 10] = [
    Column {
        name: "query_exporter_up",
        help: "1 if the last attempt to get an answer from the target had one, else 0",
        kind: Kind::Gauge,
        is_same: |a, b| a.numbers.up == b.numbers.up,
        write: |lines, row| lines.add(&row.shown_as.labels, "", u8::from(row.numbers.up)),
    },
    Column {
        name: "query_exporter_target_info",
        help: "what the target's server said of itself at the last connect, how TLS is asked for, and which guards it \
               refused",
        kind: Kind::Gauge,
        is_same: |a, b| address(a.server.as_ref()) == address(b.server.as_ref()),
        write: target_info,
    },
    Column {
        name: "query_exporter_target_last_success_timestamp_seconds",
        help: "when a run on the target last succeeded, since the epoch; 0 if none has",
        kind: Kind::Gauge,
        is_same: |a, b| a.numbers.last_success_ms == b.numbers.last_success_ms,
        write: |lines, row| lines.add_seconds(&row.shown_as.labels, row.numbers.last_success_ms),
    },
    Column {
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
    Column {
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
    Column {
        name: "query_exporter_target_failures_total",
        help: "failed runs on the target",
        kind: Kind::Counter,
        is_same: |a, b| a.numbers.failures == b.numbers.failures,
        write: |lines, row| lines.add(&row.shown_as.labels, "", row.numbers.failures),
    },
    Column {
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
    Column {
        name: "query_exporter_connections",
        help: "connections to the target that are open, or whose query may still run there",
        kind: Kind::Gauge,
        is_same: |a, b| a.numbers.connections == b.numbers.connections,
        write: |lines, row| lines.add(&row.shown_as.labels, "", row.numbers.connections.max(0)),
    },
    Column {
        name: "query_exporter_connects_total",
        help: "attempts to open a connection to the target",
        kind: Kind::Counter,
        is_same: |a, b| a.numbers.connects == b.numbers.connects,
        write: |lines, row| lines.add(&row.shown_as.labels, "", row.numbers.connects),
    },
    Column {
        name: "query_exporter_kills_total",
        help: "attempts to end one of our queries at the target by KILL",
        kind: Kind::Counter,
        is_same: |a, b| a.numbers.kills == b.numbers.kills,
        write: |lines, row| lines.add(&row.shown_as.labels, "", row.numbers.kills),
    },
];

fn target_info(lines: &mut Lines, OfTarget { shown_as, server, .. }: &OfTarget) {
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
