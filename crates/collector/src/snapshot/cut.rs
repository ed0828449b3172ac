//! A part of the fleet, by names.

use std::collections::BTreeSet;

/// Which targets, groups and queries. What is not narrowed by a name is all; within one kind each name adds, and the
/// kinds narrow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Names of targets.
    pub targets: BTreeSet<String>,
    /// Names of groups.
    pub groups: BTreeSet<String>,
    /// Names of queries.
    pub queries: BTreeSet<String>,
}

impl Cut {
    /// Whether it is all there is.
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a target of this name and group belongs to it.
    pub fn has_target(&self, name: &str, group: &str) -> bool {
        has(&self.targets, name) && has(&self.groups, group)
    }

    /// Whether a query of this name belongs to it.
    pub fn has_query(&self, name: &str) -> bool {
        has(&self.queries, name)
    }
}

fn has(names: &BTreeSet<String>, name: &str) -> bool {
    names.is_empty() || names.contains(name)
}
