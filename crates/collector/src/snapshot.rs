//! The current result of every item, readable at any moment without waiting for anybody.
//!
//! Publishing swaps one pointer of one item; reading clones one pointer for each. Neither ever waits for the
//! other, and no lock is held while a whole fleet is read.

mod blocks;
mod cut;
mod kept;
mod reading;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;

use crate::{
    BootTime, Failure, Family, ItemSpec, Kind, Query, Reason, ResultLimits, Rows, Target,
    deflate::{Deflaters, Packed},
    fragment::identity,
    mapping::{DROPPED, Fragments, Mapped, Plan},
    record::ItemRecord,
    rollup::{Lines, wall_ms},
    share::share,
};

use blocks::{Blocks, Changes, Part};

pub use cut::Cut;
pub use kept::NotRestored;
pub use reading::{Names, Piece, Reading};

/// Fragments of this size and more are compressed by themselves; smaller ones would gain too little without their
/// neighbours. Alone 4 KiB of a fleet's text shrink to a ninth, 8 KiB to an eleventh, 16 KiB to a twelfth.
const PACK_FROM: usize = 8 << 10;

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
    /// Whole sample lines, each ended by `\n`; never empty pieces.
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
    parts: Vec<Part>,
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

/// What is shown in all.
#[derive(Debug, Default)]
struct Totals {
    series: AtomicI64,
    bytes: AtomicI64,
    /// How often the items were arranged.
    layouts: AtomicU64,
    /// Bytes of compressed fragments.
    packed_bytes: Arc<AtomicI64>,
}

/// One item's place in the snapshot.
#[derive(Debug)]
pub struct Slot {
    /// Whose place it is.
    pub id: ItemId,
    query: Arc<Query>,
    /// Where the result is from.
    target: Arc<Target>,
    limits: Arc<ResultLimits>,
    pub(crate) plan: Arc<Plan>,
    stats: Arc<QueryStats>,
    totals: Arc<Totals>,
    current: ArcSwapOption<Published>,
    /// Where a change of what is shown is counted.
    changes: ArcSwap<Changes>,
    tried: AtomicBool,
    /// Whether the query has no statement for the target's server, so that the item does not exist there.
    absent: AtomicBool,
    last_success_ms: AtomicU64,
    pub(crate) record: ItemRecord,
}

#[derive(Debug, Clone)]
struct Published {
    at: BootTime,
    expires: BootTime,
    fragments: Fragments,
    /// The compressed forms of the large fragments, with their places, in that order.
    packed: Box<[(usize, Arc<Packed>)]>,
    series: i64,
    bytes: i64,
}

/// The counters of one query over all its targets.
#[derive(Debug, Default)]
struct QueryStats {
    dropped: [AtomicU64; DROPPED.len()],
    cut: AtomicU64,
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
        layout.parts = Part::of(&layout.families);
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

    /// The families about queries, at this moment.
    pub fn query_families(&self) -> Vec<FamilyText> {
        self.query_families_of(&Cut::default())
    }

    /// The families about the queries of a cut, at this moment: only if it names queries and nothing else, as they are about
    /// all targets. The whole has them all.
    pub fn query_families_of(&self, cut: &Cut) -> Vec<FamilyText> {
        let by_query = cut.targets.is_empty() && cut.groups.is_empty() && !cut.queries.is_empty();
        if !(by_query || cut.is_whole()) {
            return Vec::new();
        }
        let layout = self.layout.load();
        let mut items = Lines::new("query_exporter_query_items");
        let mut stale = Lines::new("query_exporter_query_items_stale");
        let mut oldest = Lines::new("query_exporter_query_oldest_success_timestamp_seconds");
        let mut dropped = Lines::new("query_exporter_series_dropped_total");
        let mut labels_cut = Lines::new("query_exporter_labels_cut_total");
        for (name, stats) in &layout.queries {
            let labels = format!("query=\"{name}\"");
            if !cut.has_query(name) {
                continue;
            }
            let tally = layout.blocks.tally(name);
            let none = tally.items == 0;
            items.add_value(&labels, tally.items);
            stale.add_value(&labels, tally.stale);
            oldest.add_seconds(&labels, if none { 0 } else { tally.oldest_success_ms });
            for (reason, count) in DROPPED.iter().zip(&stats.dropped) {
                dropped.add_value(&format!("{labels},reason=\"{reason}\""), count.load(Relaxed));
            }
            labels_cut.add_value(&labels, stats.cut.load(Relaxed));
        }
        vec![
            items.family("items of the query", Kind::Gauge),
            stale.family("items of the query that have no result within its age limit", Kind::Gauge),
            oldest.family(
                "when the item of the query that waits longest for a success had its last one, since the epoch; 0 if one \
                 never had any",
                Kind::Gauge,
            ),
            dropped.family("samples that rows should have yielded and that are not shown, by reason", Kind::Counter),
            labels_cut.family("label values cut at max_label_bytes", Kind::Counter),
        ]
    }
}

/// What many items have in common, held once.
#[derive(Debug, Default)]
struct Common {
    limits: HashSet<Arc<ResultLimits>>,
    /// By the address of the query, which the specs hold.
    plans: HashMap<*const Query, Arc<Plan>>,
}

impl Common {
    fn limits(&mut self, limits: ResultLimits) -> Arc<ResultLimits> {
        share(limits, &mut self.limits)
    }

    fn plan(&mut self, query: &Arc<Query>) -> Arc<Plan> {
        Arc::clone(self.plans.entry(Arc::as_ptr(query)).or_insert_with(|| Arc::new(Plan::new(query))))
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

/// The places of fragments that are compressed by themselves.
fn large(fragments: &[Bytes]) -> impl Iterator<Item = usize> {
    let large = |fragment: &Bytes| fragment.len() >= PACK_FROM;
    fragments.iter().enumerate().filter(move |(_, fragment)| large(fragment)).map(|(place, _)| place)
}

impl Totals {
    fn packed(&self) -> Packed {
        Packed::new(Arc::clone(&self.packed_bytes))
    }

    fn count(&self, before: Option<&Published>, after: Option<&Published>) {
        let diff = |of: fn(&Published) -> i64| after.map_or(0, of) - before.map_or(0, of);
        self.series.fetch_add(diff(|p| p.series), Relaxed);
        self.bytes.fetch_add(diff(|p| p.bytes), Relaxed);
    }
}

impl Slot {
    fn new(
        id: ItemId,
        spec: &ItemSpec,
        common: &mut Common,
        (stats, totals): (Arc<QueryStats>, Arc<Totals>),
    ) -> Self {
        Self {
            id,
            query: Arc::clone(&spec.query),
            target: Arc::clone(&spec.target),
            limits: common.limits(spec.limits),
            plan: common.plan(&spec.query),
            stats,
            totals,
            current: ArcSwapOption::empty(),
            changes: ArcSwap::default(),
            tried: AtomicBool::new(false),
            absent: AtomicBool::new(false),
            last_success_ms: AtomicU64::new(0),
            record: ItemRecord::default(),
        }
    }

    /// The place of the item as it is now: this one, if nothing about its samples has changed; a new one with this one's
    /// result, if only their HELP has; else an empty one.
    fn for_item(self: &Arc<Self>, spec: &ItemSpec, new: impl FnOnce() -> Self) -> Arc<Self> {
        let same_query = self.query == spec.query;
        if same_query && self.target == spec.target && *self.limits == spec.limits {
            return Arc::clone(self);
        }
        let new = new();
        if self.says() != new.says() {
            return Arc::new(new);
        }
        if same_query {
            return Arc::clone(self);
        }
        let current = self.current.load_full();
        new.totals.count(None, current.as_deref());
        new.current.store(current);
        new.tried.store(self.tried.load(Relaxed), Relaxed);
        new.absent.store(self.absent.load(Relaxed), Relaxed);
        new.last_success_ms.store(self.last_success_ms.load(Relaxed), Relaxed);
        new.record.follow(&self.record);
        Arc::new(new)
    }

    /// How large an answer may be.
    pub(crate) fn limits(&self) -> &ResultLimits {
        &self.limits
    }

    /// Makes lines of an answer, or says why it does not fit.
    pub(crate) fn map(&self, rows: &Rows) -> Result<Mapped, Failure> {
        self.plan.map(&self.query, &self.target, *self.limits, rows)
    }

    /// Whether there is a result.
    fn has_result(&self) -> bool {
        self.current.load().is_some()
    }

    /// How old the result is, if there is one.
    pub(crate) fn age(&self, now: BootTime) -> Option<Duration> {
        self.current.load().as_ref().map(|published| now.since(published.at))
    }

    /// The result that is there gets this age limit, unless it has it.
    fn limit_age(&self, expire_after: Duration) {
        let has = |published: &Published| published.expires == published.at.plus(expire_after);
        if self.current.load().as_deref().is_none_or(has) {
            return;
        }
        self.current.rcu(|current| {
            let published = current.as_deref()?;
            Some(Arc::new(Published { expires: published.at.plus(expire_after), ..published.clone() }))
        });
        self.changed();
    }

    /// Gives the result before.
    fn publish(&self, mapped: Mapped, now: BootTime, expire_after: Duration) -> Option<Arc<Published>> {
        for (counter, dropped) in self.stats.dropped.iter().zip(mapped.dropped) {
            counter.fetch_add(dropped, Relaxed);
        }
        self.stats.cut.fetch_add(mapped.cut, Relaxed);
        self.last_success_ms.store(wall_ms(), Relaxed);
        self.tried.store(true, Relaxed);
        self.absent.store(false, Relaxed);
        self.swap(Some(self.published(mapped, now, expire_after)))
    }

    fn published(&self, mapped: Mapped, at: BootTime, expire_after: Duration) -> Published {
        Published {
            at,
            expires: at.plus(expire_after),
            series: i64::try_from(mapped.series).unwrap_or(i64::MAX),
            bytes: mapped.bytes(),
            packed: large(&mapped.fragments).map(|place| (place, Arc::new(self.totals.packed()))).collect(),
            fragments: mapped.fragments,
        }
    }

    /// An earlier process had its last success at this moment.
    fn read_at(&self, read_ms: u64) {
        self.last_success_ms.fetch_max(read_ms, Relaxed);
    }

    /// The item has had its turn, with or without a result; the last good one stays until its age limit.
    pub(crate) fn mark_tried(&self) {
        self.tried.store(true, Relaxed);
    }

    /// The query has no statement for the target's server.
    pub(crate) fn leave(&self) {
        self.tried.store(true, Relaxed);
        self.absent.store(true, Relaxed);
        self.clear();
    }

    /// Drops the result at once.
    pub(crate) fn clear(&self) {
        self.swap(None);
    }

    fn swap(&self, new: Option<Published>) -> Option<Arc<Published>> {
        let new = new.map(Arc::new);
        let old = self.current.swap(new.clone());
        self.totals.count(old.as_deref(), new.as_deref());
        self.changed();
        old
    }

    fn changed(&self) {
        self.changes.load().add();
    }

    /// Whether there is a result within its age limit.
    pub(crate) fn is_shown(&self, now: BootTime) -> bool {
        self.current.load().as_ref().is_some_and(|published| published.expires > now)
    }

    fn fragment(&self, place: usize, now: BootTime) -> Option<Bytes> {
        self.current.load().as_ref()?.fragment(place, now)
    }
}

impl Drop for Slot {
    /// A run that outlived its item's place may have published once more; nothing else would count that out.
    fn drop(&mut self) {
        self.clear();
    }
}

impl Published {
    fn packed(&self, place: usize) -> Option<&Packed> {
        let nth = self.packed.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        Some(&self.packed[nth].1)
    }

    fn fragment(&self, place: usize, now: BootTime) -> Option<Bytes> {
        let fragment = self.fragments.get(place).filter(|fragment| !fragment.is_empty())?;
        (self.expires > now).then(|| fragment.clone())
    }
}

#[cfg(test)]
mod tests;
