//! The families about targets, groups and queries: all of them at one moment, or what has changed since they were last
//! written.

use std::sync::Arc;

use super::{GroupStats, TargetStats, groups::OfGroup, table::Table, targets::OfTarget};
use crate::{
    FamilyText,
    snapshot::{Cut, OfQuery},
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
    let mut kept = Tables::default();
    let mut families = kept.target_families(targets);
    families.extend(kept.group_families(groups));
    families
}

/// The families about queries that do so.
pub(crate) fn query_families(queries: Vec<OfQuery>) -> Vec<FamilyText> {
    Tables::default().query_families(queries)
}

/// What was last written.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    targets: Table<OfTarget>,
    groups: Table<OfGroup>,
    queries: Table<OfQuery>,
}

impl Tables {
    /// The families about these targets, at this moment.
    pub(crate) fn target_families(&mut self, targets: &[Arc<TargetStats>]) -> Vec<FamilyText> {
        self.targets.families(targets.len(), |nth, last| OfTarget::now(&targets[nth], last))
    }

    /// The families about these groups, at this moment.
    pub(crate) fn group_families(&mut self, groups: &[Arc<GroupStats>]) -> Vec<FamilyText> {
        self.groups.families(groups.len(), |nth, last| {
            Some(OfGroup::now(&groups[nth])).filter(|now| last != Some(now))
        })
    }

    /// The families about queries that do so.
    pub(crate) fn query_families(&mut self, queries: Vec<OfQuery>) -> Vec<FamilyText> {
        let count = queries.len();
        let mut queries = queries.into_iter();
        self.queries.families(count, |_, last| queries.next().filter(|now| last != Some(now)))
    }
}
