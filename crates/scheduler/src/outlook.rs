//! What comes next, for whoever looks: an item's tick, and when a down target is tried. Looking stops no item.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

use crate::{facts::Facts, gate::Gate};

/// What an item does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextTick {
    /// It waits for this moment: a tick, a retry, a try of its target. One that is past waits for a permit since then.
    Due(Instant),
    /// Its run is going, or is about to try a down target.
    Running,
}

/// The back-off of a down target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextTry {
    /// How often it has been found down without an answer in between.
    pub failures: u32,
    /// It is not tried before this.
    pub not_before: Instant,
    /// Whether a try is going.
    pub trying: bool,
}

/// The items and gates of the present set. Replaced whole when the set changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outlook(Arc<Mutex<Arc<Places>>>);

/// Both in the order of their names.
#[derive(Debug, Default)]
struct Places {
    items: Vec<Arc<Facts>>,
    gates: Vec<(Arc<str>, Arc<Gate>)>,
}

impl Outlook {
    /// Makes these the items and targets.
    pub(crate) fn replace(
        &self,
        items: impl Iterator<Item = Arc<Facts>>,
        gates: &BTreeMap<Arc<str>, Arc<Gate>>,
    ) {
        let gates = gates.iter().map(|(target, gate)| (Arc::clone(target), Arc::clone(gate))).collect();
        let places = Arc::new(Places { items: items.collect(), gates });
        debug_assert!(places.items.is_sorted_by(|a, b| a.id() < b.id()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// The earliest moment that is waited for.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.places().items.iter().filter_map(|item| item.pending()).min()
    }

    /// What this item does next; None if there is no such item.
    pub(crate) fn next_tick(&self, query: &str, target: &str) -> Option<NextTick> {
        let places = self.places();
        let place = places.items.binary_search_by(|item| item.id().cmp(&(query, target))).ok()?;
        Some(places.items[place].pending().map_or(NextTick::Running, NextTick::Due))
    }

    /// When this target is tried next; None if it is not down.
    pub(crate) fn next_try(&self, target: &str) -> Option<NextTry> {
        let places = self.places();
        let place = places.gates.binary_search_by(|(name, _)| (**name).cmp(target)).ok()?;
        places.gates[place].1.next_try()
    }

    fn places(&self) -> Arc<Places> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
