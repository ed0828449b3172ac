//! One item's place: its current result, swapped by one pointer, and what goes with it.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;

use super::{ItemId, about_queries::QueryStats, blocks::Changes};
use crate::{
    BootTime, Failure, ItemSpec, Query, ResultLimits, Rows, Target,
    clock::wall_ms,
    deflate::Packed,
    mapping::{Fragments, Mapped, Plan},
    record::ItemRecord,
    share::share,
};

/// Fragments of this size and more are compressed by themselves; smaller ones would gain too little without their
/// neighbours. Alone 4 KiB of a fleet's text shrink to a ninth, 8 KiB to an eleventh, 16 KiB to a twelfth.
const PACK_FROM: usize = 8 << 10;

/// What is shown in all.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) series: AtomicI64,
    pub(super) bytes: AtomicI64,
    /// How often the items were arranged.
    pub(super) layouts: AtomicU64,
    /// Bytes of compressed fragments.
    pub(super) packed_bytes: Arc<AtomicI64>,
}

/// One item's place in the snapshot.
#[derive(Debug)]
pub struct Slot {
    /// Whose place it is.
    pub id: ItemId,
    pub(super) query: Arc<Query>,
    /// Where the result is from.
    pub(super) target: Arc<Target>,
    pub(super) limits: Arc<ResultLimits>,
    pub(crate) plan: Arc<Plan>,
    pub(super) stats: Arc<QueryStats>,
    pub(super) totals: Arc<Totals>,
    pub(super) current: ArcSwapOption<Published>,
    /// Where a change of what is shown is counted.
    pub(super) changes: ArcSwap<Changes>,
    pub(super) tried: AtomicBool,
    /// Whether the query has no statement for the target's server, so that the item does not exist there.
    pub(super) absent: AtomicBool,
    pub(super) last_success_ms: AtomicU64,
    pub(crate) record: ItemRecord,
}

#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) at: BootTime,
    pub(super) expires: BootTime,
    pub(super) fragments: Fragments,
    /// The compressed forms of the large fragments, with their places, in that order.
    pub(super) packed: Box<[(usize, Arc<Packed>)]>,
    pub(super) series: i64,
    pub(super) bytes: i64,
}

/// What many items have in common, held once.
#[derive(Debug, Default)]
pub(super) struct Common {
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

/// The places of fragments that are compressed by themselves.
fn large(fragments: &[Bytes]) -> impl Iterator<Item = usize> {
    let large = |fragment: &Bytes| fragment.len() >= PACK_FROM;
    fragments.iter().enumerate().filter(move |(_, fragment)| large(fragment)).map(|(place, _)| place)
}

impl Totals {
    pub(super) fn packed(&self) -> Packed {
        Packed::new(Arc::clone(&self.packed_bytes))
    }

    pub(super) fn count(&self, before: Option<&Published>, after: Option<&Published>) {
        let diff = |of: fn(&Published) -> i64| after.map_or(0, of) - before.map_or(0, of);
        self.series.fetch_add(diff(|p| p.series), Relaxed);
        self.bytes.fetch_add(diff(|p| p.bytes), Relaxed);
    }
}

impl Slot {
    pub(super) fn new(
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
    pub(super) fn for_item(self: &Arc<Self>, spec: &ItemSpec, new: impl FnOnce() -> Self) -> Arc<Self> {
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
    pub(super) fn has_result(&self) -> bool {
        self.current.load().is_some()
    }

    /// How old the result is, if there is one.
    pub(crate) fn age(&self, now: BootTime) -> Option<Duration> {
        self.current.load().as_ref().map(|published| now.since(published.at))
    }

    /// The result that is there gets this age limit, unless it has it.
    pub(super) fn limit_age(&self, expire_after: Duration) {
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
    pub(super) fn publish(
        &self,
        mapped: Mapped,
        now: BootTime,
        expire_after: Duration,
    ) -> Option<Arc<Published>> {
        for (counter, dropped) in self.stats.dropped.iter().zip(mapped.dropped) {
            counter.fetch_add(dropped, Relaxed);
        }
        self.stats.cut.fetch_add(mapped.cut, Relaxed);
        self.last_success_ms.store(wall_ms(), Relaxed);
        self.tried.store(true, Relaxed);
        self.absent.store(false, Relaxed);
        self.swap(Some(self.published(mapped, now, expire_after)))
    }

    pub(super) fn published(&self, mapped: Mapped, at: BootTime, expire_after: Duration) -> Published {
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
    pub(super) fn read_at(&self, read_ms: u64) {
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

    pub(super) fn swap(&self, new: Option<Published>) -> Option<Arc<Published>> {
        let new = new.map(Arc::new);
        let old = self.current.swap(new.clone());
        self.totals.count(old.as_deref(), new.as_deref());
        self.changed();
        old
    }

    pub(super) fn changed(&self) {
        self.changes.load().add();
    }

    /// Whether there is a result within its age limit.
    pub(crate) fn is_shown(&self, now: BootTime) -> bool {
        self.current.load().as_ref().is_some_and(|published| published.expires > now)
    }

    pub(super) fn fragment(&self, place: usize, now: BootTime) -> Option<Bytes> {
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
    pub(super) fn packed(&self, place: usize) -> Option<&Packed> {
        let nth = self.packed.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        Some(&self.packed[nth].1)
    }

    pub(super) fn fragment(&self, place: usize, now: BootTime) -> Option<Bytes> {
        let fragment = self.fragments.get(place).filter(|fragment| !fragment.is_empty())?;
        (self.expires > now).then(|| fragment.clone())
    }
}
