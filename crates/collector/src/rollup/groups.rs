//! The families about groups.

use std::{
    array,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{GroupStats, KillResult, Lines};
use crate::{FamilyText, Kind, Reason};

/// A group at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OfGroup {
    name: Arc<str>,
    failures: [u64; Reason::ALL.len()],
    kills: [u64; KillResult::ALL.len()],
}

/// What these groups have counted until now.
pub(super) fn numbers(groups: &[Arc<GroupStats>]) -> Vec<OfGroup> {
    let of_group = |group: &Arc<GroupStats>| OfGroup {
        name: Arc::clone(&group.name),
        failures: array::from_fn(|nth| group.failures[nth].load(Relaxed)),
        kills: array::from_fn(|nth| group.kills[nth].load(Relaxed)),
    };
    groups.iter().map(of_group).collect()
}

/// The families that say so.
pub(super) fn families(groups: &[OfGroup]) -> Vec<FamilyText> {
    let mut failures = Lines::new("query_exporter_failures_total");
    let mut kills = Lines::new("query_exporter_group_kills_total");
    for group in groups {
        let labels = format!("group=\"{}\"", group.name);
        for (reason, count) in Reason::ALL.iter().zip(group.failures) {
            failures.add(&labels, &format!("reason=\"{reason}\""), count);
        }
        for (result, count) in KillResult::ALL.iter().zip(group.kills) {
            kills.add(&labels, &format!("result=\"{}\"", result.as_str()), count);
        }
    }
    vec![
        failures.family("failed runs in the group, by reason", Kind::Counter),
        kills.family("attempts in the group to end one of our queries by KILL, by result", Kind::Counter),
    ]
}
