//! What has changed since a reader last looked: neighbouring items of one query share a count of their changes, and a
//! family's text comes in parts that belong to one of these blocks.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use super::{FamilyPlace, Slot};

/// Items of a block. Fewer mean more counts to look at, more mean that more text is joined and compressed anew for each
/// result that changes.
const BLOCK: usize = 8;

/// How often the items of a block have changed.
#[derive(Debug, Default)]
pub(super) struct Changes(AtomicU64);

impl Changes {
    /// To be called behind each change: who sees the count sees the change.
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Release);
    }

    /// To be called before the items are looked at.
    fn count(&self) -> u64 {
        self.0.load(Acquire)
    }
}

/// Neighbouring items of one query.
#[derive(Debug)]
pub(super) struct Block {
    changes: Arc<Changes>,
    slots: Vec<Arc<Slot>>,
    /// The last tally, and at which count it was made.
    tally: Mutex<Option<(u64, Tally)>>,
}

/// How the items of a query do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    pub(super) items: u64,
    pub(super) stale: u64,
    /// Since the epoch; 0 if one never had a success, the largest number if there is no item.
    pub(super) oldest_success_ms: u64,
}

impl Block {
    /// Blocks of all items, in their order. From now on the items count their changes here.
    pub(super) fn of(slots: &[Arc<Slot>]) -> Vec<Self> {
        let mut blocks: Vec<Self> = Vec::new();
        for slot in slots {
            let fits = |block: &&mut Self| block.slots.len() < BLOCK && block.query() == &slot.id.query;
            if let Some(block) = blocks.last_mut().filter(fits) {
                block.slots.push(Arc::clone(slot));
            } else {
                let slots = vec![Arc::clone(slot)];
                blocks.push(Self { changes: Arc::default(), slots, tally: Mutex::default() });
            }
        }
        for Self { changes, slots, .. } in &blocks {
            for slot in slots {
                slot.changes.store(Arc::clone(changes));
            }
        }
        blocks
    }

    pub(super) fn query(&self) -> &Arc<str> {
        &self.slots[0].id.query
    }

    /// How its items do now.
    pub(super) fn tally(&self) -> Tally {
        let count = self.changes.count();
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        match *tally {
            Some((at, tally)) if at == count => tally,
            _ => tally.insert((count, self.tally_anew())).1,
        }
    }

    fn tally_anew(&self) -> Tally {
        let mut tally = Tally::NONE;
        for slot in self.slots.iter().filter(|slot| !slot.absent.load(Relaxed)) {
            tally = tally.and(Tally {
                items: 1,
                stale: u64::from(slot.current.load().is_none()),
                oldest_success_ms: slot.last_success_ms.load(Relaxed),
            });
        }
        tally
    }
}

impl Tally {
    /// That of no items.
    pub(super) const NONE: Self = Self { items: 0, stale: 0, oldest_success_ms: u64::MAX };

    /// That of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            items: self.items + other.items,
            stale: self.stale + other.stale,
            oldest_success_ms: self.oldest_success_ms.min(other.oldest_success_ms),
        }
    }
}

/// A part of a family: what one block feeds to it; or all of it, where that has to be looked at as a whole.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) family: usize,
    pub(super) sources: Range<usize>,
    changes: Vec<Arc<Changes>>,
}

impl Part {
    /// The parts of all families, in their order. The items have their blocks.
    pub(super) fn of(families: &[FamilyPlace]) -> Vec<Self> {
        let mut parts: Vec<Self> = Vec::new();
        for (family, place) in families.iter().enumerate() {
            for (nth, (slot, _)) in place.sources.iter().enumerate() {
                let changes = slot.changes.load_full();
                let last = parts.last_mut().filter(|part| part.family == family);
                let known = last.as_ref().is_some_and(|part| part.counts(&changes));
                match last {
                    Some(part) if place.shared || known => {
                        part.sources.end = nth + 1;
                        if !known {
                            part.changes.push(changes);
                        }
                    }
                    _ => parts.push(Self { family, sources: nth..nth + 1, changes: vec![changes] }),
                }
            }
        }
        parts
    }

    /// Sources come in the order of the blocks.
    fn counts(&self, changes: &Arc<Changes>) -> bool {
        self.changes.last().is_some_and(|last| Arc::ptr_eq(last, changes))
    }

    /// A number that is another one after each change. To be asked for before the part is looked at.
    pub(super) fn stamp(&self) -> u64 {
        // Each count only grows, so a sum that is the same is one of the same counts.
        self.changes.iter().fold(0, |sum, changes| sum.wrapping_add(changes.count()))
    }
}
