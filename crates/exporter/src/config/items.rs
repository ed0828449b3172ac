//! Items: each query on each target that it reaches, with its settings, and labels that do not collide.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use super::{
    ItemConfig, ItemSettings,
    field::{At, nearest},
    glob,
    queries::CheckedQuery,
    report::{Findings, Place},
    settings::{Cascade, Layers, Settings},
    targets::{Fleet, Member},
};

/// Items of a fleet. Each is a task with its result: more would be a slip.
const MAX_ITEMS: usize = 2_000_000;

/// What items are made of.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) fleet: Fleet,
    pub(super) queries: Vec<CheckedQuery>,
    pub(super) defaults: Settings,
    pub(super) limits: Settings,
}

/// The items, and how many there would be besides.
#[derive(Debug, Default)]
pub(super) struct Items {
    pub(super) list: Vec<ItemConfig>,
    /// Those with `enabled = false`.
    pub(super) n_disabled: usize,
    /// Those of targets that are paused.
    pub(super) n_paused: usize,
}

impl Parts {
    /// What each level says of a query on a target.
    pub(super) fn layers<'a>(&'a self, query: &'a CheckedQuery, member: &'a Member) -> Layers<'a> {
        let group = &self.fleet.groups[member.group];
        let name = &query.name.value;
        Layers([
            member.entry.overrides.get(name).map(|o| &o.value),
            group.overrides.get(name).map(|o| &o.value),
            Some(&query.settings),
            Some(&member.entry.settings),
            Some(&group.settings),
            Some(&self.defaults),
            Some(&self.limits),
        ])
    }

    /// Makes the items, in the order of the queries, then of the targets.
    pub(super) fn items(&self, found: &mut Findings, target_label: Option<&str>) -> Items {
        self.unknown_overrides(found);
        let mut cascade = Cascade::default();
        let mut items = Items::default();
        let mut known: HashSet<Arc<ItemSettings>> = HashSet::new();
        let mut used = BTreeSet::new();
        for query in &self.queries {
            let reached = self.reached(found, query);
            if items.list.len() + reached.len() > MAX_ITEMS {
                found
                    .error(&query.name.at, format!("the fleet has more than {MAX_ITEMS} items"))
                    .help("let the query reach fewer targets, or share the fleet among several exporters");
                break;
            }
            collisions(found, query, &reached, target_label);
            endless_calls(found, query, &reached);
            for member in reached {
                used.insert(member.group);
                let layers = self.layers(query, member);
                if !layers.enabled().value {
                    items.n_disabled += 1;
                    continue;
                }
                let name = format_args!("{}@{}", query.name.value, member.target.name);
                let settings = cascade.of(&layers, name, found);
                if member.paused {
                    items.n_paused += 1;
                } else if let (Some(query), Some(settings)) = (&query.query, settings) {
                    let settings = known.get(&settings).cloned().unwrap_or_else(|| {
                        let new = Arc::new(settings);
                        known.insert(Arc::clone(&new));
                        new
                    });
                    let target = Arc::clone(&member.target);
                    items.list.push(ItemConfig { target, query: Arc::clone(query), settings });
                }
            }
        }
        self.idle_groups(found, &used);
        items.list.shrink_to_fit();
        items
    }

    /// The targets that a query reaches: in its groups, with its labels, of its names.
    pub(super) fn reach<'a>(&'a self, query: &'a CheckedQuery) -> impl Iterator<Item = &'a Member> {
        let in_groups = self.fleet.members.iter().filter(|member| query.groups.contains(&member.group));
        in_groups.filter(|member| {
            let labels = &member.target.labels;
            let has = |label: &str, value: &str| labels.iter().any(|(l, v)| l == label && v == value);
            query.where_labels.iter().all(|(label, value)| has(&label.value, &value.value))
                && (query.targets.is_empty()
                    || query.targets.iter().any(|pattern| glob::fits(&pattern.value, &member.target.name)))
        })
    }

    /// The same, with a warning where a condition can be met by no target.
    fn reached<'a>(&'a self, found: &mut Findings, query: &'a CheckedQuery) -> Vec<&'a Member> {
        let reached: Vec<_> = self.reach(query).collect();
        // A target may be missing only because something in it is wrong.
        if found.has_errors() {
            return reached;
        }
        let in_groups: Vec<_> =
            self.fleet.members.iter().filter(|member| query.groups.contains(&member.group)).collect();
        let mut said = false;
        for At { at, value } in &query.targets {
            let names = || in_groups.iter().map(|member| member.target.name.as_ref());
            if !names().any(|name| glob::fits(value, name)) {
                let bare = value.replace(['*', '?'], "");
                let help = match nearest(&bare, names()) {
                    Some(name) => format!("did you mean \"{name}\"?"),
                    None => {
                        "* stands for any characters, ? for one; the targets are those of the query's groups"
                            .to_owned()
                    }
                };
                found.warn(at, format!("no target is called {value:?}")).help(help);
                said = true;
            }
        }
        for (label, value) in &query.where_labels {
            let labels = || in_groups.iter().flat_map(|member| &member.target.labels);
            let values: BTreeSet<_> =
                labels().filter(|(l, _)| *l == label.value).map(|(_, v)| v.as_str()).collect();
            if values.contains(value.value.as_str()) {
                continue;
            }
            said = true;
            if values.is_empty() {
                let problem = found.warn(
                    &label.at,
                    format!("no target that this query reaches has the label `{}`", label.value),
                );
                match nearest(&label.value, labels().map(|(l, _)| l.as_str())) {
                    Some(name) => problem.help(format!("did you mean `{name}`?")),
                    None => problem.help("`where` compares labels of groups and targets"),
                };
            } else {
                let message =
                    format!("no target that this query reaches has {} = {:?}", label.value, value.value);
                let help = if let Some(meant) = nearest(&value.value, values.iter().copied()) {
                    format!("did you mean {meant:?}?")
                } else {
                    let some: Vec<_> = values.iter().take(5).map(|v| format!("{v:?}")).collect();
                    format!("its values are {}", some.join(", "))
                };
                found.warn(&value.at, message).help(help);
            }
        }
        if reached.is_empty() && !said && !in_groups.is_empty() {
            found
                .warn(&query.name.at, format!("query `{}` reaches no target", query.name.value))
                .help("a target must be in its groups, have all labels of `where`, and fit one of `targets`");
        }
        reached
    }

    /// An override says which query it is for.
    fn unknown_overrides(&self, found: &mut Findings) {
        let names = || self.queries.iter().map(|query| query.name.value.as_str());
        let known: BTreeMap<&str, &CheckedQuery> =
            self.queries.iter().map(|query| (query.name.value.as_str(), query)).collect();
        let of_groups =
            self.fleet.groups.iter().enumerate().map(|(n, group)| (n, &group.overrides, "this group"));
        // One entry may stand for many targets, next to each other.
        let mut members = self.fleet.members.iter().collect::<Vec<_>>();
        members.dedup_by(|a, b| Arc::ptr_eq(&a.entry, &b.entry));
        let of_targets = members.iter().map(|member| (member.group, &member.entry.overrides, "this target"));
        for (group, overrides, what) in of_groups.chain(of_targets) {
            for (name, At { at, .. }) in overrides {
                match known.get(name.as_str()) {
                    None => {
                        let help = match nearest(name, names()) {
                            Some(name) => format!("did you mean `{name}`?"),
                            None => format!("the queries are {}", names().collect::<Vec<_>>().join(", ")),
                        };
                        found.error(at, format!("there is no query `{name}`")).help(help);
                    }
                    Some(query) if !query.groups.contains(&group) => {
                        found
                            .warn(at, format!("query `{name}` does not run on {what}"))
                            .help("add the group to the groups of the query, or take this override out");
                    }
                    Some(_) => {}
                }
            }
        }
    }

    /// A group that nothing runs on is probably a mistake, but does no harm.
    fn idle_groups(&self, found: &mut Findings, used: &BTreeSet<usize>) {
        // A group may look idle only because the query that names it is wrong.
        if self.queries.is_empty() || found.has_errors() {
            return;
        }
        for (index, group) in self.fleet.groups.iter().enumerate() {
            if !used.contains(&index) {
                found
                    .warn(&group.name.at, format!("no query runs on group `{}`", group.name.value))
                    .help("add it to the groups of a query");
            }
        }
    }
}

/// MySQL limits the time of a SELECT and of nothing else, so what ends a procedure there is KILL.
fn endless_calls(found: &mut Findings, query: &CheckedQuery, reached: &[&Member]) {
    let Some(at) = &query.calls else { return };
    let mut immortal = reached.iter().filter(|member| !member.target.may_kill());
    let Some(first) = immortal.next() else { return };
    let others = match immortal.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    found
        .warn(
            at,
            format!("on MySQL nothing ends a procedure that takes too long on `{}`{others}", first.target.name),
        )
        .help(
            "MySQL limits no CALL, and there is no KILL with kill = false or max_connections = 1: calls that hang pile up; \
             limit the procedure itself, or leave these targets out",
        );
}

/// A series has each label once: those of a query's rows may not be those of a target that it reaches.
fn collisions(found: &mut Findings, query: &CheckedQuery, reached: &[&Member], target_label: Option<&str>) {
    let mut taken: BTreeMap<&str, &Place> = BTreeMap::new();
    // The targets of one entry have the same labels.
    let mut entries: Vec<_> = reached.iter().map(|member| &member.entry).collect();
    entries.dedup_by(|a, b| Arc::ptr_eq(a, b));
    for At { at, value } in entries.iter().flat_map(|entry| &entry.labels) {
        taken.entry(value).or_insert(at);
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
