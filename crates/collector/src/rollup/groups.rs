//! The families about groups.

use std::{
    array,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{
    GroupStats, KillResult,
    table::{Column, Row},
};
use crate::{Kind, Reason};

/// A group at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OfGroup {
    name: Arc<str>,
    failures: [u64; Reason::ALL.len()],
    kills: [u64; KillResult::ALL.len()],
}

impl OfGroup {
    /// The group as it is now.
    pub(super) fn now(group: &GroupStats) -> Self {
        Self {
            name: Arc::clone(&group.name),
            failures: array::from_fn(|nth| group.failures[nth].load(Relaxed)),
            kills: array::from_fn(|nth| group.kills[nth].load(Relaxed)),
        }
    }

    fn labels(&self) -> String {
        format!("group=\"{}\"", self.name)
    }
}

impl Row for OfGroup {
    const COLUMNS: &'static [Column<Self>] = &FAMILIES;

    const OF_A_PIECE: usize = 4;

    fn is_of(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const FAMILIES: [Column<OfGroup>; 2] = [
    Column {
        name: "query_exporter_failures_total",
        help: "failed runs in the group, by reason",
        kind: Kind::Counter,
        is_same: |a, b| a.failures == b.failures,
        write: |lines, group| {
            let labels = group.labels();
            for (reason, count) in Reason::ALL.iter().zip(group.failures) {
                lines.add(&labels, &format!("reason=\"{reason}\""), count);
            }
        },
    },
    Column {
        name: "query_exporter_group_kills_total",
        help: "attempts in the group to end one of our queries by KILL, by result",
        kind: Kind::Counter,
        is_same: |a, b| a.kills == b.kills,
        write: |lines, group| {
            let labels = group.labels();
            for (result, count) in KillResult::ALL.iter().zip(group.kills) {
                lines.add(&labels, &format!("result=\"{}\"", result.as_str()), count);
            }
        },
    },
];
