//! The current result of every item, readable at any moment without waiting for anybody.
//!
//! Publishing swaps one pointer of one item; reading clones one pointer for each. Neither ever waits for the
//! other, and no lock is held while a whole fleet is read.

mod about_queries;
mod blocks;
mod cut;
mod kept;
mod reading;
mod slot;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::{
    BootTime, Failure, Family, ItemSpec, Reason,
    deflate::{Deflaters, Packed},
    fragment::identity,
    mapping::Mapped,
};

use about_queries::QueryStats;
use blocks::{Blocks, Parts};
use slot::{Common, Published, Totals};

pub(crate) use about_queries::OfQuery;
pub use cut::Cut;
pub use kept::NotRestored;
pub use reading::{Names, Piece, Reading};
pub use slot::Slot;

/// Of one result at most this much text is compressed where it is published, which takes half a millisecond; the rest
/// waits for its reader.
const PACK_AHEAD: usize = 256 << 10;

/// An item: one query on one target. Ordered by query first, so that a family's samples lie together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId {
    /// The query's name.
    pub query: Arc<str>,
    /// The target's name.
    pub target: Arc<str>,
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.query, self.target)
    }
}

/// One family as it goes on a page: its header's facts and its sample lines, each piece whole lines.
#[derive(Debug, Clone)]
pub struct FamilyText {
    /// Name, help and type.
    pub family: Arc<Family>,
    /// Whole sample lines, each ended by `\n`; never empty pieces. What begins at the same place in memory as a piece that
    /// somebody still has says the same.
    pub lines: Vec<Bytes>,
}

/// The current result of every item.
#[derive(Debug)]
pub struct Snapshot {
    layout: ArcSwap<Layout>,
    totals: Arc<Totals>,
    max_bytes: AtomicI64,
    deflaters: Deflaters,
}

impl Default for Snapshot {
    /// One without a bound.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

/// Which items there are, and which of their fragments make up which family.
#[derive(Debug, Default)]
struct Layout {
    /// No other layout of this snapshot has it.
    id: u64,
    /// In the order of the items.
    slots: Vec<Arc<Slot>>,
    queries: BTreeMap<Arc<str>, Arc<QueryStats>>,
    families: Vec<FamilyPlace>,
    blocks: Blocks,
    parts: Parts,
    names: Names,
    /// For each item of a family that several queries feed on its target: its sources on that target.
    shared: BTreeMap<ItemId, Vec<Arc<[Source]>>>,
}

/// An item and the place of a family's fragment within its result.
type Source = (Arc<Slot>, usize);

#[derive(Debug)]
struct FamilyPlace {
    family: Arc<Family>,
    /// What feeds it, in the order of the items.
    sources: Vec<Source>,
    /// Whether more than one query feeds it on some target, so that equal series are possible.
    shared: bool,
}

impl Snapshot {
    /// A snapshot that holds about this many bytes of sample lines at most, and so a bound for the page that is made of
    /// it. Runs that publish in the same instant may exceed it by their results.
    pub fn new(max_bytes: usize) -> Self {
        let snapshot = Self {
            layout: ArcSwap::default(),
            totals: Arc::default(),
            max_bytes: AtomicI64::default(),
            deflaters: Deflaters::default(),
        };
        snapshot.limit(max_bytes);
        snapshot
    }

    /// Changes that bound. What is there stays, though it be more.
    pub fn limit(&self, max_bytes: usize) {
        self.max_bytes.store(i64::try_from(max_bytes).unwrap_or(i64::MAX), Relaxed);
    }

    /// Makes these the items. One that was there and would yield the same now keeps its result; a query of the same name
    /// keeps its counters; the results of the others are gone with this call. Gives each item's place, in the order asked
    /// for.
    pub(crate) fn arrange(&self, items: &[ItemSpec]) -> Vec<Arc<Slot>> {
        let old = self.layout.load();
        let id = 1 + self.totals.layouts.fetch_add(1, Relaxed);
        let mut layout = Layout { id, ..Layout::default() };
        let mut places = Vec::with_capacity(items.len());
        let mut common = Common::default();
        for spec in items {
            let stats = layout
                .queries
                .entry(Arc::clone(&spec.query.name))
                .or_insert_with(|| old.queries.get(&spec.query.name).map(Arc::clone).unwrap_or_default());
            let id = ItemId { query: Arc::clone(&spec.query.name), target: Arc::clone(&spec.target.name) };
            let mut new =
                || Slot::new(id.clone(), spec, &mut common, (Arc::clone(stats), Arc::clone(&self.totals)));
            let slot = match old.slot(&id) {
                Some(before) => before.for_item(spec, new),
                None => Arc::new(new()),
            };
            slot.limit_age(spec.expire_after);
            places.push(slot);
        }
        layout.slots.clone_from(&places);
        layout.slots.sort_by(|a, b| a.id.cmp(&b.id));
        // Of several with one name the last counts.
        layout.slots.reverse();
        layout.slots.dedup_by(|a, b| a.id == b.id);
        layout.slots.reverse();
        layout.names = Names::of(items);
        layout.families = families(&layout.slots);
        layout.blocks = Blocks::of(&layout.slots);
        layout.parts = Parts::of(&layout.families);
        layout.shared = shared(&layout.families);
        let layout = Arc::new(layout);
        self.layout.store(Arc::clone(&layout));
        for slot in &old.slots {
            if !layout.slot(&slot.id).is_some_and(|new| Arc::ptr_eq(new, slot)) {
                slot.clear();
            }
        }
        places
    }

    /// Replaces an item's result whole. `now` is when it was read; after `expire_after` it is no longer shown. Where the
    /// snapshot would grow beyond its bound the old result stays, and the run has failed: whoever grows is refused,
    /// not whoever was there.
    pub(crate) fn publish(
        &self,
        slot: &Arc<Slot>,
        mapped: Mapped,
        now: BootTime,
        expire_after: Duration,
    ) -> Result<(), Failure> {
        let growth = mapped.bytes() - slot.current.load().as_ref().map_or(0, |published| published.bytes);
        if !self.has_room_for(growth) {
            let max_bytes = self.max_bytes.load(Relaxed);
            let message = format!(
                "the page would be larger than {max_bytes} bytes: select less, or raise max_page_bytes"
            );
            return Err(Failure::answered(Reason::TooLarge, message));
        }
        let before = slot.publish(mapped, now, expire_after);
        self.pack_ahead(slot, before.as_deref());
        for sources in self.layout.load().shared.get(&slot.id).into_iter().flatten() {
            count_hidden(sources, slot, before.as_deref(), now);
        }
        Ok(())
    }

    /// Whether the page may grow by so many bytes. It may always shrink.
    fn has_room_for(&self, growth: i64) -> bool {
        growth <= 0 || self.bytes().saturating_add(growth) <= self.max_bytes.load(Relaxed)
    }

    /// Compresses what the next reader will want so, as far as the last result was: where results come more often than
    /// readers, or nobody asks for compression, nothing is done for nobody. The result is there already.
    fn pack_ahead(&self, slot: &Slot, before: Option<&Published>) {
        let Some(before) = before.filter(|before| before.packed.iter().any(|(_, packed)| packed.was_used()))
        else {
            return;
        };
        let current = slot.current.load();
        let Some(published) = &*current else { return };
        let mut room = PACK_AHEAD;
        let mut deflater = self.deflaters.take();
        for (place, packed) in &published.packed {
            let text = &published.fragments[*place];
            let wanted = before.packed(*place).is_some_and(Packed::was_used);
            if wanted && text.len() <= room {
                room -= text.len();
                packed.fill(text, &mut deflater);
            }
        }
        self.deflaters.give_back(deflater);
    }

    /// Lets go of what is beyond its age limit. A reader does not see it anyway; this frees it and counts it out.
    pub fn sweep(&self, now: BootTime) {
        for slot in &self.layout.load().slots {
            let current = slot.current.load();
            if let Some(published) = current.as_ref()
                && published.expires <= now
            {
                let empty: Option<Arc<Published>> = None;
                let before = slot.current.compare_and_swap(&current, empty);
                // Unless a run has just published something newer.
                if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, published)) {
                    slot.totals.count(Some(published), None);
                    slot.changed();
                }
            }
        }
    }

    /// Whether each item has been tried once, successfully or not.
    pub fn all_tried(&self) -> bool {
        self.layout.load().slots.iter().all(|slot| slot.tried.load(Relaxed))
    }

    /// How many items have not been tried yet.
    pub fn untried(&self) -> usize {
        self.layout.load().slots.iter().filter(|slot| !slot.tried.load(Relaxed)).count()
    }

    /// Series that are held.
    pub fn series(&self) -> i64 {
        self.totals.series.load(Relaxed)
    }

    /// Bytes of sample lines that are held.
    pub fn bytes(&self) -> i64 {
        self.totals.bytes.load(Relaxed)
    }

    /// Bytes of sample lines that may be held.
    pub fn max_bytes(&self) -> i64 {
        self.max_bytes.load(Relaxed)
    }

    /// Bytes of compressed results that are held beside them.
    pub fn packed_bytes(&self) -> i64 {
        self.totals.packed_bytes.load(Relaxed)
    }
}

impl Layout {
    fn slot(&self, id: &ItemId) -> Option<&Arc<Slot>> {
        let place = self.slots.binary_search_by(|slot| slot.id.cmp(id)).ok()?;
        Some(&self.slots[place])
    }
}

/// The families in the order of their names, each with its sources in the order of the items.
fn families(slots: &[Arc<Slot>]) -> Vec<FamilyPlace> {
    let mut families: BTreeMap<&str, FamilyPlace> = BTreeMap::new();
    let mut targets: BTreeMap<&str, HashSet<&str>> = BTreeMap::new();
    for slot in slots {
        for (fragment, metric) in slot.plan.family_metrics().enumerate() {
            let family = &slot.query.metrics[metric].family;
            let place = families.entry(&family.name).or_insert_with(|| FamilyPlace {
                family: Arc::clone(family),
                sources: Vec::new(),
                shared: false,
            });
            // The label of the target makes series of different targets different.
            place.shared |= !targets.entry(&family.name).or_default().insert(&*slot.id.target);
            place.sources.push((Arc::clone(slot), fragment));
        }
    }
    families.into_values().collect()
}

/// The sources of shared families, target by target, under each item that is one of several.
fn shared(families: &[FamilyPlace]) -> BTreeMap<ItemId, Vec<Arc<[Source]>>> {
    let mut shared: BTreeMap<ItemId, Vec<Arc<[Source]>>> = BTreeMap::new();
    for place in families.iter().filter(|place| place.shared) {
        let mut targets: BTreeMap<&str, Vec<Source>> = BTreeMap::new();
        for (slot, fragment) in &place.sources {
            targets.entry(&slot.id.target).or_default().push((Arc::clone(slot), *fragment));
        }
        for sources in targets.into_values().filter(|sources| sources.len() > 1) {
            let sources: Arc<[Source]> = sources.into();
            for (slot, _) in &*sources {
                shared.entry(slot.id.clone()).or_default().push(Arc::clone(&sources));
            }
        }
    }
    shared
}

/// Counts the samples that the result just published by `slot` (after `before`) does not get shown, since a query
/// with an earlier name has them, and those of queries with later names that were shown up to now. So each sample
/// counts once; two items of one target that publish in the same moment may count one sample for both.
fn count_hidden(sources: &[Source], slot: &Arc<Slot>, before: Option<&Published>, now: BootTime) {
    let Some(own) = sources.iter().position(|(source, _)| Arc::ptr_eq(source, slot)) else {
        return;
    };
    let texts: Vec<_> =
        sources.iter().map(|(source, place)| source.fragment(*place, now).unwrap_or_default()).collect();
    let old = before.and_then(|before| before.fragment(sources[own].1, now)).unwrap_or_default();
    let series = |text| lines(text).map(|(_, series)| identity(series));
    let count = |slot: &Slot, hidden: usize| slot.stats.dropped[0].fetch_add(hidden as u64, Relaxed);

    let mut hidden: HashSet<_> = texts[..own].iter().flat_map(|text| series(text)).collect();
    let new: HashSet<_> = series(&texts[own]).collect();
    count(slot, new.intersection(&hidden).count());
    hidden.extend(series(&old));
    for ((later, _), text) in sources.iter().zip(&texts).skip(own + 1) {
        count(later, series(text).filter(|series| new.contains(series) && !hidden.contains(series)).count());
        hidden.extend(series(text));
    }
}

/// Each line and the name and labels in it. A label value may hold spaces but no line end, a number neither.
fn lines(piece: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    piece.split_inclusive(|b| *b == b'\n').map(|line| {
        let space = line.iter().rposition(|b| *b == b' ').unwrap_or(line.len());
        (line, &line[..space])
    })
}

#[cfg(test)]
mod tests;
