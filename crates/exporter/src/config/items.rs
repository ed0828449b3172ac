//! Items: each query on each target that it reaches, with its settings, and labels that do not collide.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    ItemConfig,
    field::At,
    queries::CheckedQuery,
    report::{Findings, Place},
    targets::Fleet,
    timing::{Cascade, Timing},
};

/// Makes the items, in the order of the queries, then of the targets.
pub(super) fn check(
    found: &mut Findings,
    fleet: &Fleet,
    queries: &[CheckedQuery],
    defaults: &Timing,
    target_label: Option<&str>,
) -> Vec<ItemConfig> {
    let mut cascade = Cascade::default();
    let mut items = Vec::new();
    for query in queries {
        collisions(found, fleet, query, target_label);
        let reached: BTreeSet<usize> = query.groups.iter().copied().collect();
        for member in fleet.members.iter().filter(|member| reached.contains(&member.group)) {
            let layers = [&query.timing, &member.timing, &fleet.groups[member.group].timing, defaults];
            let name = format_args!("{}@{}", query.name, member.target.name);
            let settings = cascade.of(&layers, name, found);
            if let (Some(query), Some(settings)) = (&query.query, settings) {
                items.push(ItemConfig {
                    target: Arc::clone(&member.target),
                    query: Arc::clone(query),
                    interval: settings.interval,
                    timeout: settings.timeout,
                    expire_after: settings.expire_after,
                    on_failure: settings.on_failure,
                });
            }
        }
    }
    idle_groups(found, fleet, queries);
    items
}

/// A series has each label once: those of a query's rows may not be those of a target that it reaches.
fn collisions(found: &mut Findings, fleet: &Fleet, query: &CheckedQuery, target_label: Option<&str>) {
    let mut taken: BTreeMap<&str, &Place> = BTreeMap::new();
    for member in fleet.members.iter().filter(|member| query.groups.contains(&member.group)) {
        for At { at, value } in member.labels.iter() {
            taken.entry(value).or_insert(at);
        }
    }
    for At { at, value } in &query.labels {
        if Some(value.as_str()) == target_label {
            found
                .error(at, format!("`{value}` is the label of the target's name"))
                .help("give the column another name with AS, or set another target_label in [defaults]");
        } else if let Some(other) = taken.get(value.as_str()) {
            found
                .error(at, format!("`{value}` is a label of targets that this query reaches"))
                .note(other, "it is set here")
                .help("give the column another name with AS, or rename the targets' label");
        }
    }
}

/// A group that nothing runs on is probably a mistake, but does no harm.
fn idle_groups(found: &mut Findings, fleet: &Fleet, queries: &[CheckedQuery]) {
    // A group may look idle only because the query that names it is wrong.
    if queries.is_empty() || found.has_errors() {
        return;
    }
    for (index, group) in fleet.groups.iter().enumerate() {
        if !queries.iter().any(|query| query.groups.contains(&index)) {
            found
                .warn(&group.name.at, format!("no query runs on group `{}`", group.name.value))
                .help("add it to the groups of a query");
        }
    }
}
