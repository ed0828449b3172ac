//! The way to a fleet's databases, and how it follows the configuration: each arranging keeps what is still wanted as
//! it is, state and connections and results, and lets go of the rest.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::{
    BootTime, Cut, Failure, FamilyText, Item, ItemId, ItemSpec, Query, Target,
    connects::Connects,
    driver::Driver,
    lanes::{Lanes, Pool},
    login::{self, Login},
    rollup::{self, GroupStats, TargetStats},
    run::Rules,
    share::share,
    snapshot::Snapshot,
};

/// Secret files being read over the whole fleet. Far fewer than there are threads, most of which are others'.
const MAX_READS: usize = 16;

/// KILLs under way over the whole fleet.
const MAX_KILLS: usize = 8;

/// The way to the databases, shared by all items.
#[derive(Debug)]
pub struct Collector {
    pool: Arc<Pool>,
    snapshot: Arc<Snapshot>,
    fleet: ArcSwap<Fleet>,
    /// The exporter's families as they were last written; taken by those who make pages alone.
    kept: Mutex<rollup::Tables>,
}

/// What a collector was last arranged into.
#[derive(Debug, Default)]
struct Fleet {
    /// In the order of their ids.
    items: Vec<Arc<Item>>,
    /// By their names.
    lanes: BTreeMap<Arc<str>, Arc<Lanes>>,
    /// By their names.
    groups: BTreeMap<Arc<str>, Arc<GroupStats>>,
    /// As the items have them, by their names: equal ones stay the same, so that comparing items is comparing pointers.
    queries: BTreeMap<Arc<str>, Arc<Query>>,
    targets: BTreeMap<Arc<str>, Arc<Target>>,
    /// What the lanes and the groups are counted by, in the order of their names.
    target_stats: Arc<[Arc<TargetStats>]>,
    group_stats: Vec<Arc<GroupStats>>,
}

/// What a collector was arranged into.
#[derive(Debug)]
pub struct Arranged {
    /// The items, in the order asked for. One that would be equal to an item of the last arranging is that item.
    pub items: Vec<Arc<Item>>,
    /// Their targets, each once, by name.
    pub targets: Arc<[Arc<TargetStats>]>,
    /// Their groups, each once, by name.
    pub groups: Vec<Arc<GroupStats>>,
    /// The lanes that no item has any more.
    left: Vec<Arc<Lanes>>,
}

impl Collector {
    /// A collector that reaches servers by way of `driver`, with at most `max_connects` connects under way.
    pub fn new(driver: Arc<dyn Driver>, max_connects: usize, snapshot: Arc<Snapshot>) -> Self {
        let pool = Pool {
            driver,
            connects: Connects::new(max_connects),
            kills: Semaphore::new(MAX_KILLS),
            kill_connects: Arc::new(Semaphore::new(MAX_KILLS)),
            reads: Arc::new(Semaphore::new(MAX_READS)),
            tasks: TaskTracker::new(),
        };
        Self { pool: Arc::new(pool), snapshot, fleet: ArcSwap::default(), kept: Mutex::default() }
    }

    /// One without items and with a page of its own; the limits over the fleet hold for both together.
    pub(crate) fn beside(&self) -> Self {
        Self {
            pool: Arc::clone(&self.pool),
            snapshot: Arc::default(),
            fleet: ArcSwap::default(),
            kept: Mutex::default(),
        }
    }

    /// Makes these the items, with their places in the snapshot; what is no longer among them leaves the page with this
    /// call. The caller ends the runs of items that are gone or changed, and then calls [`Arranged::take_leave`].
    ///
    /// What stays: a target's connections, if the way to it is the same; its state and counters, if its address is; a
    /// result, if the item as it is now would say the same, whatever its pace, its age limit or its help. To be called
    /// by one caller at a time.
    pub fn arrange(&self, mut specs: Vec<ItemSpec>) -> Arranged {
        let before = self.fleet.load_full();
        let mut fleet = Fleet::default();
        let (mut queries, mut targets) = (HashMap::new(), HashMap::new());
        for spec in &mut specs {
            spec.query = keep(&spec.query, before.queries.get(&spec.query.name), &mut queries);
            spec.target = keep(&spec.target, before.targets.get(&spec.target.name), &mut targets);
        }
        let slots = self.snapshot.arrange(&specs);
        let mut items = Vec::with_capacity(specs.len());
        let mut rules = HashSet::new();
        for (spec, slot) in specs.into_iter().zip(slots) {
            fleet.queries.entry(Arc::clone(&spec.query.name)).or_insert_with(|| Arc::clone(&spec.query));
            let lanes = fleet.lanes_of(&spec.target, &before, &self.pool);
            let rules = share(Rules::of(&spec), &mut rules);
            let new = Item::new(spec, rules, lanes, Arc::clone(&self.snapshot), slot);
            let item = match before.item(new.id()) {
                Some(same) if **same == new => Arc::clone(same),
                _ => Arc::new(new),
            };
            items.push(item);
        }
        fleet.items.clone_from(&items);
        fleet.items.sort_by(|a, b| a.id().cmp(b.id()));
        fleet.target_stats = fleet.lanes.values().map(|lanes| Arc::clone(&lanes.stats)).collect();
        fleet.group_stats = fleet.groups.values().cloned().collect();
        let stays = |lanes: &Arc<Lanes>| {
            fleet.lanes.get(&lanes.target.name).is_some_and(|now| Arc::ptr_eq(now, lanes))
        };
        let arranged = Arranged {
            items,
            targets: Arc::clone(&fleet.target_stats),
            groups: fleet.group_stats.clone(),
            left: before.lanes.values().filter(|lanes| !stays(lanes)).cloned().collect(),
        };
        self.fleet.store(Arc::new(fleet));
        arranged
    }

    /// The snapshot that runs publish to.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The families about targets, groups and queries, at this moment. A text that has not changed since the last call is
    /// the same memory.
    pub fn own_families(&self) -> Vec<FamilyText> {
        let fleet = self.fleet.load();
        let mut place = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out: what a panic leaves half done is gone with it.
        let mut kept = std::mem::take(&mut *place);
        let mut families = kept.target_families(&fleet.target_stats);
        families.extend(kept.group_families(&fleet.group_stats));
        families.extend(kept.query_families(self.snapshot.queries()));
        *place = kept;
        families
    }

    /// Those of a cut: only the families that are about what it names.
    pub fn families_of(&self, cut: &Cut) -> Vec<FamilyText> {
        let fleet = self.fleet.load();
        let mut families = rollup::families_of(cut, &fleet.target_stats, &fleet.group_stats);
        families.extend(rollup::query_families(self.snapshot.queries_of(cut)));
        families
    }

    /// Those that are not about single targets.
    pub fn families_of_all(&self) -> Vec<FamilyText> {
        let mut families = rollup::families(&[], &self.fleet.load().group_stats);
        families.extend(rollup::query_families(self.snapshot.queries()));
        families
    }

    /// Reads who logs in at a server that is no target, as it is done for targets: secrets and certificates anew each time,
    /// in bounded time but for a file system that hangs. A failure quotes no secret.
    pub async fn login(&self, server: &Target) -> Result<Login, Failure> {
        login::login(server, &self.pool.reads).await
    }

    /// The targets, each once, by name.
    pub fn targets(&self) -> Arc<[Arc<TargetStats>]> {
        Arc::clone(&self.fleet.load().target_stats)
    }

    /// Connects under way.
    pub fn connects_in_flight(&self) -> usize {
        self.pool.connects.in_flight()
    }

    /// How many may be.
    pub fn connects_limit(&self) -> usize {
        self.pool.connects.limit()
    }

    /// How many of them may be to targets that are not known to answer: the rest is kept for the others.
    pub fn connects_for_tries(&self) -> usize {
        self.pool.connects.open_to_all()
    }

    /// Changes how many may be. Those under way go on.
    pub fn limit_connects(&self, max_connects: usize) {
        self.pool.connects.resize(max_connects);
    }

    /// Enforces age limits, and closes connections that nobody uses. To be called each second.
    pub fn sweep(&self) {
        self.snapshot.sweep(BootTime::now());
        self.fleet.load().lanes.values().for_each(|lanes| lanes.close_idle());
    }

    /// Takes leave of all servers and waits for the KILLs under way: at most `grace`. Returns whether all of it
    /// was done. To be called when no run is left.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.fleet.load().lanes.values().for_each(|lanes| lanes.close_all());
        self.pool.tasks.close();
        timeout_at(Instant::now() + grace, self.pool.tasks.wait()).await.is_ok()
    }
}

impl Fleet {
    fn item(&self, id: &ItemId) -> Option<&Arc<Item>> {
        let place = self.items.binary_search_by(|item| item.id().cmp(id)).ok()?;
        Some(&self.items[place])
    }

    /// The lanes of a target, which are those of before if the way there is the same.
    fn lanes_of(&mut self, target: &Arc<Target>, before: &Self, pool: &Arc<Pool>) -> Arc<Lanes> {
        if let Some(lanes) = self.lanes.get(&target.name) {
            return Arc::clone(lanes);
        }
        let group = self.groups.entry(Arc::clone(&target.group)).or_insert_with(|| {
            let new = || Arc::new(GroupStats::new(Arc::clone(&target.group)));
            before.groups.get(&target.group).map_or_else(new, Arc::clone)
        });
        let lanes = match before.lanes.get(&target.name) {
            Some(old) if old.target.address == target.address => {
                old.stats.relabel(target, Arc::clone(group));
                if old.target.way() == target.way() {
                    Arc::clone(old)
                } else {
                    Arc::new(old.succeeded_by(Arc::clone(target)))
                }
            }
            _ => {
                let stats = Arc::new(TargetStats::new(target, Arc::clone(group)));
                Arc::new(Lanes::new(Arc::clone(target), stats, Arc::clone(pool)))
            }
        };
        self.targets.insert(Arc::clone(&target.name), Arc::clone(target));
        self.lanes.insert(Arc::clone(&target.name), Arc::clone(&lanes));
        lanes
    }
}

impl Arranged {
    /// Says goodbye on the connections that no item has any more. To be called when no run of the items of before is
    /// left, since a run may still give one back.
    pub fn take_leave(&mut self) {
        self.left.drain(..).for_each(|lanes| lanes.close_all());
    }
}

/// The one of before, if it is equal. Each new one is compared once, however many items have it.
fn keep<T: PartialEq>(new: &Arc<T>, before: Option<&Arc<T>>, kept: &mut HashMap<*const T, Arc<T>>) -> Arc<T> {
    let choose = || Arc::clone(before.filter(|before| *before == new).unwrap_or(new));
    Arc::clone(kept.entry(Arc::as_ptr(new)).or_insert_with(choose))
}
