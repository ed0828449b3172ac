//! What of the fleet a page shows: what is wrong comes first, and every list has an end.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use fleet_collector::Reason;

use super::model::{Brief, Exporter, Fleet, Item, ItemCounts, Severity, State, Target};

/// Sick targets on the first page: what a person can take in.
pub(super) const MAX_SICK: usize = 50;
/// Names of paused targets on the first page: somebody may have forgotten them.
pub(super) const MAX_PAUSED: usize = 100;
/// Groups on the first page.
pub(super) const MAX_GROUPS: usize = 200;
/// Targets on a group's page.
pub(super) const MAX_TARGETS: usize = 200;
/// Items on a target's page.
pub(super) const MAX_ITEMS: usize = 500;
/// Names offered where there is no target or group of the one asked for.
const MAX_NEAR: usize = 20;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    Overview,
    Group(String),
    Target(String),
}

impl Ask {
    /// From a request's query string. What it does not know it ignores; of several the first target counts, then the
    /// first group. An empty name, as a form sends it, is none.
    pub(super) fn of(query: &str) -> Self {
        let value = |wanted: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            pairs
                .find(|(name, value)| name == wanted && !value.is_empty())
                .map(|(_, value)| value.into_owned())
        };
        match (value("target"), value("group")) {
            (Some(target), _) => Self::Target(target),
            (None, Some(group)) => Self::Group(group),
            (None, None) => Self::Overview,
        }
    }
}

/// A whole page.
#[derive(Debug)]
pub(super) struct View {
    pub(super) exporter: Exporter,
    pub(super) fleet: Counts,
    pub(super) shown: Shown,
}

/// What differs between pages.
#[derive(Debug)]
pub(super) enum Shown {
    Overview {
        sick: Cut<Target>,
        groups: Cut<Group>,
        paused: Cut<Arc<str>>,
    },
    Group {
        group: Group,
        targets: Cut<Target>,
    },
    Target {
        target: Box<Target>,
        items: Cut<Item>,
    },
    /// There is nothing of that name.
    Missing {
        ask: Ask,
        near: Cut<Arc<str>>,
    },
}

/// The beginning of a list, and how many are not in it.
#[derive(Debug)]
pub(super) struct Cut<T> {
    pub(super) list: Vec<T>,
    pub(super) more: usize,
}

impl<T> Cut<T> {
    /// The first `most`, each made into what is shown. What is gone meanwhile is left out.
    fn of<S>(all: Vec<S>, most: usize, show: impl FnMut(S) -> Option<T>) -> Self {
        let more = all.len().saturating_sub(most);
        Self { list: all.into_iter().take(most).filter_map(show).collect(), more }
    }
}

/// How many targets and items there are, and how they do.
#[derive(Debug, Default, Clone)]
pub(super) struct Counts {
    /// In the order of [`State::ALL`].
    pub(super) states: [usize; State::ALL.len()],
    /// Targets that are not down and have failing or stale items.
    pub(super) ailing: usize,
    pub(super) reasons: BTreeMap<Reason, usize>,
    pub(super) items: ItemCounts,
}

impl Counts {
    fn add(&mut self, brief: &Brief) {
        for (state, count) in State::ALL.iter().zip(&mut self.states) {
            *count += usize::from(*state == brief.state);
        }
        self.ailing += usize::from(brief.is_sick() && brief.state != State::Down);
        if let Some(reason) = brief.reason.filter(|_| brief.state == State::Down) {
            *self.reasons.entry(reason).or_default() += 1;
        }
        self.items.add_all(brief.items);
    }

    pub(super) fn of(&self, state: State) -> usize {
        State::ALL.iter().zip(self.states).find(|(known, _)| **known == state).map_or(0, |(_, count)| count)
    }

    pub(super) fn targets(&self) -> usize {
        self.states.iter().sum()
    }
}

/// A group of targets.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) counts: Counts,
}

/// The page that is asked for, of the fleet as it is now.
pub(super) fn look(fleet: &dyn Fleet, ask: Ask) -> View {
    let exporter = fleet.exporter();
    let mut briefs = fleet.briefs();
    let mut counts = Counts::default();
    let mut groups: BTreeMap<Arc<str>, Counts> = BTreeMap::new();
    for brief in &briefs {
        counts.add(brief);
        groups.entry(Arc::clone(&brief.group)).or_default().add(brief);
    }
    let shown = match ask {
        Ask::Overview => {
            let paused = briefs.iter().filter(|brief| brief.state == State::Paused);
            let mut paused: Vec<_> = paused.map(|brief| Arc::clone(&brief.name)).collect();
            paused.sort();
            briefs.retain(Brief::is_sick);
            Shown::Overview {
                sick: targets(fleet, briefs, MAX_SICK),
                groups: worst_groups(groups),
                paused: Cut::of(paused, MAX_PAUSED, Some),
            }
        }
        Ask::Group(name) => match groups.remove(&*name) {
            Some(counts) => {
                briefs.retain(|brief| *brief.group == *name);
                let group = Group { name: name.into(), counts };
                Shown::Group { group, targets: targets(fleet, briefs, MAX_TARGETS) }
            }
            None => missing(groups.into_keys(), Ask::Group(name)),
        },
        Ask::Target(name) => match fleet.target(&name) {
            Some(target) => {
                let mut items = fleet.items(&name);
                items.sort_by(|a, b| (a.state(), &a.query).cmp(&(b.state(), &b.query)));
                Shown::Target { target: Box::new(target), items: Cut::of(items, MAX_ITEMS, Some) }
            }
            None => missing(briefs.into_iter().map(|brief| brief.name), Ask::Target(name)),
        },
    };
    View { exporter, fleet: counts, shown }
}

/// The worst first. Of equally bad ones the newest: what has been so for weeks is known.
fn targets(fleet: &dyn Fleet, mut briefs: Vec<Brief>, most: usize) -> Cut<Target> {
    briefs.sort_by(|a, b| {
        let newest = |brief: &Brief| Reverse(brief.since_ms.filter(|_| brief.severity() == Severity::Down));
        (a.severity(), newest(a), &a.name).cmp(&(b.severity(), newest(b), &b.name))
    });
    Cut::of(briefs, most, |brief| fleet.target(&brief.name))
}

/// Those with the most down first, then with the most ailing, then by name.
fn worst_groups(groups: BTreeMap<Arc<str>, Counts>) -> Cut<Group> {
    let mut groups: Vec<_> = groups.into_iter().map(|(name, counts)| Group { name, counts }).collect();
    groups.sort_by_key(|group| Reverse((group.counts.of(State::Down), group.counts.ailing)));
    Cut::of(groups, MAX_GROUPS, Some)
}

/// The names that hold what was asked for, whatever the case of their letters.
fn missing(names: impl Iterator<Item = Arc<str>>, ask: Ask) -> Shown {
    let wanted = match &ask {
        Ask::Overview => String::new(),
        Ask::Group(name) | Ask::Target(name) => name.to_lowercase(),
    };
    let mut near: Vec<_> = names.filter(|name| name.to_lowercase().contains(&wanted)).collect();
    near.sort();
    Shown::Missing { ask, near: Cut::of(near, MAX_NEAR, Some) }
}
