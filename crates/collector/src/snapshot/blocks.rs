//! What has changed since a reader last looked: neighbouring items of one query share a count of their changes, and a
//! family's text comes in parts that belong to one of these blocks.

use std::{
    collections::BTreeMap,
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

/// Where an item counts its changes, with the others of its block. The counts of all blocks lie side by side, since a
/// reader looks at each of them.
#[derive(Debug, Default)]
pub(super) struct Changes {
    counts: Arc<[AtomicU64]>,
    block: usize,
}

impl Changes {
    /// To be called behind each change: who sees the count sees the change.
    pub(super) fn add(&self) {
        // An item that was never arranged has no block.
        if let Some(count) = self.counts.get(self.block) {
            count.fetch_add(1, Release);
        }
    }
}

/// All items as blocks.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    counts: Arc<[AtomicU64]>,
    queries: BTreeMap<Arc<str>, BlocksOfQuery>,
}

/// Those of one query.
#[derive(Debug)]
struct BlocksOfQuery {
    first: usize,
    slots: Vec<Vec<Arc<Slot>>>,
    tallies: Mutex<Tallies>,
}

/// What was last tallied.
#[derive(Debug)]
struct Tallies {
    /// Of each block the count at which it was; the largest number of what was not yet.
    counts: Vec<u64>,
    of_blocks: Vec<Tally>,
    sum: Tally,
}

/// How the items of a query do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) items: u64,
    pub(super) stale: u64,
    /// Since the epoch; 0 if one never had a success, the largest number if there is no item.
    pub(super) oldest_success_ms: u64,
}

impl Blocks {
    /// Blocks of all items, in their order. From now on the items count their changes here.
    pub(super) fn of(slots: &[Arc<Slot>]) -> Self {
        let mut blocks: Vec<Vec<Arc<Slot>>> = Vec::new();
        for slot in slots {
            let fits = |block: &&mut Vec<Arc<Slot>>| {
                block.len() < BLOCK && block.last().is_some_and(|last| last.id.query == slot.id.query)
            };
            match blocks.last_mut().filter(fits) {
                Some(block) => block.push(Arc::clone(slot)),
                None => blocks.push(vec![Arc::clone(slot)]),
            }
        }
        let counts: Arc<[AtomicU64]> = blocks.iter().map(|_| AtomicU64::default()).collect();
        let mut queries: BTreeMap<Arc<str>, BlocksOfQuery> = BTreeMap::new();
        for (block, slots) in blocks.into_iter().enumerate() {
            let changes = Arc::new(Changes { counts: Arc::clone(&counts), block });
            for slot in &slots {
                slot.changes.store(Arc::clone(&changes));
            }
            let of_query = queries.entry(Arc::clone(&slots[0].id.query)).or_insert_with(|| BlocksOfQuery {
                first: block,
                slots: Vec::new(),
                tallies: Mutex::new(Tallies { counts: Vec::new(), of_blocks: Vec::new(), sum: Tally::NONE }),
            });
            of_query.slots.push(slots);
        }
        Self { counts, queries }
    }

    /// How often the items of this block have changed. To be asked for before they are looked at.
    fn count(&self, block: usize) -> u64 {
        self.counts[block].load(Acquire)
    }

    /// How the items of this query do now.
    pub(super) fn tally(&self, query: &str) -> Tally {
        let Some(BlocksOfQuery { first, slots, tallies }) = self.queries.get(query) else {
            return Tally::NONE;
        };
        let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let Tallies { counts, of_blocks, sum } = &mut *tallies;
        let mut is_same = counts.len() == slots.len();
        // No block has changed so often.
        counts.resize(slots.len(), u64::MAX);
        of_blocks.resize(slots.len(), Tally::NONE);
        for (nth, known) in counts.iter_mut().enumerate() {
            let count = self.count(first + nth);
            if *known != count {
                (*known, of_blocks[nth], is_same) = (count, Tally::of(&slots[nth]), false);
            }
        }
        if !is_same {
            *sum = of_blocks.iter().fold(Tally::NONE, |sum, tally| sum.and(*tally));
        }
        *sum
    }
}

impl Tally {
    /// That of no items.
    const NONE: Self = Self { items: 0, stale: 0, oldest_success_ms: u64::MAX };

    fn of(slots: &[Arc<Slot>]) -> Self {
        let mut tally = Self::NONE;
        for slot in slots.iter().filter(|slot| !slot.absent.load(Relaxed)) {
            tally = tally.and(Self {
                items: 1,
                stale: u64::from(slot.current.load().is_none()),
                oldest_success_ms: slot.last_success_ms.load(Relaxed),
            });
        }
        tally
    }

    /// That of both.
    fn and(self, other: Self) -> Self {
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
}

/// The parts of all families, in their order.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) list: Vec<Part>,
    /// The first block of each. By themselves, since a reader looks at all of them, and at few of the parts.
    blocks: Vec<usize>,
    /// The other blocks of those that have more, which are few.
    more_blocks: BTreeMap<usize, Vec<usize>>,
}

impl Parts {
    /// The items have their blocks.
    pub(super) fn of(families: &[FamilyPlace]) -> Self {
        let mut parts = Self::default();
        for (family, place) in families.iter().enumerate() {
            let mut last_block = None;
            for (nth, (slot, _)) in place.sources.iter().enumerate() {
                let block = slot.changes.load().block;
                let is_known = last_block == Some(block);
                let goes_on = is_known || place.shared && last_block.is_some();
                if let Some(part) = parts.list.last_mut().filter(|_| goes_on) {
                    part.sources.end = nth + 1;
                } else {
                    parts.list.push(Part { family, sources: nth..nth + 1 });
                    parts.blocks.push(block);
                }
                // Sources come in the order of the blocks.
                if goes_on && !is_known {
                    parts.more_blocks.entry(parts.list.len() - 1).or_default().push(block);
                }
                last_block = Some(block);
            }
        }
        parts
    }

    /// A number that is another one after each change. To be asked for before the part is looked at.
    pub(super) fn stamp(&self, part: usize, blocks: &Blocks) -> u64 {
        let count = blocks.count(self.blocks[part]);
        if self.more_blocks.is_empty() {
            return count;
        }
        // Each count only grows, so a sum that is the same is one of the same counts.
        let more = self.more_blocks.get(&part).into_iter().flatten();
        more.map(|block| blocks.count(*block)).fold(count, u64::wrapping_add)
    }
}
