//! What comes next, for whoever looks: an item's tick, and when a down target is tried. Looking stops no item.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{gate::Gate, item_loop::NOT_WAITING};

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
    items: Vec<(ItemName, Arc<AtomicU64>)>,
    gates: Vec<(Arc<str>, Arc<Gate>)>,
}

/// The names of an item's query and target.
pub(crate) type ItemName = (Arc<str>, Arc<str>);

impl Outlook {
    /// Makes these the items and targets. An item comes with the tick that it waits for.
    pub(crate) fn replace(
        &self,
        items: impl Iterator<Item = (ItemName, Arc<AtomicU64>)>,
        gates: &BTreeMap<Arc<str>, Arc<Gate>>,
    ) {
        let gates = gates.iter().map(|(target, gate)| (Arc::clone(target), Arc::clone(gate))).collect();
        let places = Arc::new(Places { items: items.collect(), gates });
        debug_assert!(places.items.is_sorted_by(|(a, _), (b, _)| a < b));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// The earliest moment that is waited for. `begun` is what items count from.
    pub(crate) fn oldest(&self, begun: Instant) -> Option<Instant> {
        let places = self.places();
        let due_ms = places.items.iter().map(|(_, ms)| ms.load(Ordering::Relaxed)).min();
        due_ms.filter(|ms| *ms != NOT_WAITING).map(|ms| begun + Duration::from_millis(ms))
    }

    /// What this item does next; None if there is no such item.
    pub(crate) fn next_tick(&self, query: &str, target: &str, begun: Instant) -> Option<NextTick> {
        let places = self.places();
        let place = places.items.binary_search_by(|((q, t), _)| (&**q, &**t).cmp(&(query, target))).ok()?;
        Some(match places.items[place].1.load(Ordering::Relaxed) {
            NOT_WAITING => NextTick::Running,
            ms => NextTick::Due(begun + Duration::from_millis(ms)),
        })
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
