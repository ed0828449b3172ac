//! The owner of every item's task: it is given the wanted set and finds the difference.

use std::{
    collections::BTreeMap,
    mem,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::{JoinHandle, yield_now},
    time::Instant,
};
use xxhash_rust::xxh64::xxh64;

use crate::{
    facts::{Facts, NOT_WAITING, Shared},
    gate::Gate,
    item_loop::ItemLoop,
    job::{Job, Way},
    outlook::{NextTick, NextTry, Outlook},
    queue::Queue,
    schedule::Schedule,
    timeline::Timeline,
};

/// Limits over the whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Runs at once at targets that are not down.
    pub max_runs: usize,
    /// Runs at once, beside those, that try whether a down target answers again.
    pub max_tries: usize,
    /// An item with an interval longer than this runs once within it after the start, and then on its offset.
    pub startup_spread: Duration,
}

/// One query on one target.
#[derive(Debug)]
pub struct Item<J> {
    /// The target's name.
    pub target: Arc<str>,
    /// The query's name.
    pub query: Arc<str>,
    /// How many runs the target bears at once, the same for each of its items; at least 1.
    pub lanes: usize,
    /// How often.
    pub interval: Duration,
    /// How long a run waits for its permits at most; the run itself bounds itself.
    pub timeout: Duration,
    /// How long after a tick without a result the item runs again, then after twice as long, and so on; never so late
    /// that it could meet the next tick. None: it waits for that.
    pub retry_after: Option<Duration>,
    /// Whether its last run still counts, so that the first one waits for its tick, however long the interval. Not a
    /// part of what makes items equal.
    pub ran_before: bool,
    /// What to do. Equal jobs of equal items are the same job: the old one goes on.
    pub job: Arc<J>,
}

// By hand: a derive would ask for `J: Clone`, and the job is shared, not copied.
impl<J> Clone for Item<J> {
    fn clone(&self) -> Self {
        Self {
            target: Arc::clone(&self.target),
            query: Arc::clone(&self.query),
            lanes: self.lanes,
            interval: self.interval,
            timeout: self.timeout,
            retry_after: self.retry_after,
            ran_before: self.ran_before,
            job: Arc::clone(&self.job),
        }
    }
}

impl<J> Item<J> {
    /// What items are ordered by.
    fn id(&self) -> (&str, &str) {
        (&self.query, &self.target)
    }
}

impl<J: PartialEq> PartialEq for Item<J> {
    fn eq(&self, other: &Self) -> bool {
        let Self { target, query, lanes, interval, timeout, retry_after, ran_before: _, job } = self;
        *target == other.target
            && *query == other.query
            && *lanes == other.lanes
            && *interval == other.interval
            && *timeout == other.timeout
            && *retry_after == other.retry_after
            && *job == other.job
    }
}

/// What a [`Scheduler::sync`] did, in numbers of items. A changed item is stopped and started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Items that go on untouched.
    pub kept: usize,
    /// New and changed items.
    pub started: usize,
    /// Vanished and changed items.
    pub stopped: usize,
    /// Those of both: items that are there as before, but not the same.
    pub changed: usize,
}

/// The scheduler's own numbers, to be read at any time.
#[derive(Debug, Clone)]
pub struct Stats {
    shared: Arc<Shared>,
    outlook: Outlook,
}

impl Stats {
    /// Runs that are going at targets that are not down.
    pub fn runs_in_flight(&self) -> usize {
        self.shared.runs.in_flight()
    }

    /// Items that are due and wait for a permit.
    pub fn runs_waiting(&self) -> usize {
        self.shared.runs.waiting()
    }

    /// How many runs there may be.
    pub fn runs_limit(&self) -> usize {
        self.shared.runs.limit()
    }

    /// Runs that are going at down targets.
    pub fn tries_in_flight(&self) -> usize {
        self.shared.tries.in_flight()
    }

    /// Items whose down target may be tried again, as soon as a permit for that is free.
    pub fn tries_waiting(&self) -> usize {
        self.shared.tries.waiting()
    }

    /// How many tries there may be.
    pub fn tries_limit(&self) -> usize {
        self.shared.tries.limit()
    }

    /// How long ago the tick was due that has waited longest; zero if none has.
    pub fn oldest_overdue(&self) -> Duration {
        self.outlook.oldest().map_or(Duration::ZERO, |oldest| oldest.elapsed())
    }

    /// What this item does next; None if there is no such item.
    pub fn next_tick(&self, query: &str, target: &str) -> Option<NextTick> {
        self.outlook.next_tick(query, target)
    }

    /// When this target is tried next; None if it is not down.
    pub fn next_try(&self, target: &str) -> Option<NextTry> {
        self.outlook.next_try(target)
    }
}

/// The owner of every item's task. Dropping it ends them all.
#[derive(Debug)]
pub struct Scheduler<J> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) gates: BTreeMap<Arc<str>, Arc<Gate>>,
    /// In the order of their names.
    running: Vec<Running<J>>,
    outlook: Outlook,
    seed: u64,
}

/// An item and its task, which ends with this.
#[derive(Debug)]
pub(crate) struct Running<J> {
    facts: Arc<Facts>,
    job: Arc<J>,
    task: JoinHandle<()>,
}

impl<J> Running<J> {
    /// The item as it was wanted.
    fn item(&self) -> Item<J> {
        let Facts { target, query, lanes, interval, timeout, retry_after, ran_before, .. } = &*self.facts;
        Item {
            target: Arc::clone(target),
            query: Arc::clone(query),
            lanes: *lanes,
            interval: *interval,
            timeout: *timeout,
            retry_after: *retry_after,
            ran_before: *ran_before,
            job: Arc::clone(&self.job),
        }
    }
}

impl<J> Drop for Running<J> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<J: Job + PartialEq> Scheduler<J> {
    /// A scheduler without items. `seed` makes the jitter of back-offs repeatable.
    pub fn new(limits: Limits, timeline: Timeline, seed: u64) -> Self {
        let shared = Shared {
            begun: Instant::now(),
            timeline,
            startup_spread: limits.startup_spread,
            runs: Arc::new(Queue::new(limits.max_runs)),
            tries: Arc::new(Queue::new(limits.max_tries)),
        };
        Self {
            shared: Arc::new(shared),
            gates: BTreeMap::new(),
            running: Vec::new(),
            outlook: Outlook::default(),
            seed,
        }
    }

    /// The scheduler's own numbers.
    pub fn stats(&self) -> Stats {
        Stats { shared: Arc::clone(&self.shared), outlook: self.outlook.clone() }
    }

    /// Changes [`Limits::max_runs`] and [`Limits::max_tries`]. Runs that are going go on.
    pub fn limit_runs(&self, max_runs: usize, max_tries: usize) {
        self.shared.runs.resize(max_runs);
        self.shared.tries.resize(max_tries);
    }

    /// Makes the running items these. An item that is equal keeps its task and everything with it; one that
    /// vanished or changed has ended, its run dropped, when this returns. Of several items with the same query
    /// and target the last counts.
    pub async fn sync(&mut self, wanted: Vec<Item<J>>) -> Changes {
        let wanted = in_order(wanted);
        // A large fleet takes milliseconds; between the steps others have their turn.
        yield_now().await;
        let ways = self.ways(&wanted);
        yield_now().await;
        let as_wanted = |running: &Running<J>| {
            wanted
                .binary_search_by(|item| item.id().cmp(&running.facts.id()))
                .ok()
                .map(|place| &wanted[place])
        };
        let is_over = |running: &mut Running<J>| as_wanted(running) != Some(&running.item());
        let over: Vec<_> = self.running.extract_if(.., is_over).collect();
        let mut changes = Changes { stopped: over.len(), ..Changes::default() };
        changes.changed = over.iter().filter(|running| as_wanted(running).is_some()).count();
        self.stop(over).await;
        self.open_gates(&wanted, &ways);
        let mut started = Vec::new();
        for (n, item) in wanted.into_iter().enumerate() {
            if n % 1000 == 0 {
                yield_now().await;
            }
            if self.running.binary_search_by(|running| running.facts.id().cmp(&item.id())).is_ok() {
                changes.kept += 1;
                continue;
            }
            changes.started += 1;
            started.push(self.spawn(item));
        }
        self.running.reserve_exact(started.len());
        self.running.append(&mut started);
        self.running.sort_by(|a, b| a.facts.id().cmp(&b.facts.id()));
        self.tell_outlook();
        changes
    }

    /// The machine was suspended for `slept`, which tokio's clock did not see. Every item begins anew, as after a
    /// restart: on its offset, and within the start-up spread where its interval is longer. What ran is dropped; what
    /// is known about the targets stays.
    pub async fn resumed(&mut self, slept: Duration) {
        let timeline = self.shared.timeline.after_suspension(slept);
        self.shared = Arc::new(Shared { timeline, ..Shared::clone(&self.shared) });
        let over = mem::take(&mut self.running);
        let items: Vec<_> = over.iter().map(Running::item).collect();
        self.stop(over).await;
        self.running = items.into_iter().map(|item| self.spawn(Item { ran_before: false, ..item })).collect();
        self.tell_outlook();
    }

    fn tell_outlook(&self) {
        self.outlook.replace(self.running.iter().map(|running| Arc::clone(&running.facts)), &self.gates);
    }

    /// Ends every item, dropping what runs, and returns when all tasks are gone.
    pub async fn shutdown(mut self) {
        let over = mem::take(&mut self.running);
        self.stop(over).await;
    }

    /// Cancels first and waits second, so that all end together. Waiting makes sure that nothing of a stopped
    /// item is published after this.
    async fn stop(&self, mut over: Vec<Running<J>>) {
        for running in &over {
            running.task.abort();
        }
        for running in &mut over {
            // The loop catches its job's panics; a join error could only say what no longer matters.
            let _ = (&mut running.task).await;
            running.facts.gate.forget_trier();
        }
    }

    /// How the way to each target that was there has changed.
    fn ways(&self, wanted: &[Item<J>]) -> BTreeMap<Arc<str>, Way> {
        let before: BTreeMap<_, _> =
            self.running.iter().map(|running| (&running.facts.target, &running.job)).collect();
        let way = |item: &Item<J>| {
            let before = before.get(&item.target)?;
            Some((Arc::clone(&item.target), item.job.way_since(before)))
        };
        wanted.iter().filter_map(way).collect()
    }

    /// One gate for each target: kept while the server is the same, with its state while the way there is.
    fn open_gates(&mut self, wanted: &[Item<J>], ways: &BTreeMap<Arc<str>, Way>) {
        let mut targets: BTreeMap<&Arc<str>, (usize, Duration)> = BTreeMap::new();
        for item in wanted {
            let entry = targets.entry(&item.target).or_insert((item.lanes, item.interval));
            entry.1 = entry.1.min(item.interval);
        }
        self.gates.retain(|target, _| ways.get(target).is_some_and(|way| *way != Way::OtherServer));
        for (target, (lanes, shortest)) in targets {
            let seed = self.seed ^ xxh64(target.as_bytes(), 0);
            let new = || Arc::new(Gate::new(lanes, shortest, seed));
            let gate = self.gates.entry(Arc::clone(target)).or_insert_with(new);
            gate.set_shortest(shortest);
            gate.set_lanes(lanes);
            if ways.get(target) == Some(&Way::Changed) {
                gate.forget();
            }
        }
    }

    pub(crate) fn item_loop(&self, item: Item<J>) -> ItemLoop<J> {
        let Item { target, query, lanes, interval, timeout, retry_after, ran_before, job } = item;
        let facts = Facts {
            schedule: Schedule::new(&target, &query, interval),
            gate: Arc::clone(&self.gates[&target]),
            shared: Arc::clone(&self.shared),
            pending_ms: AtomicU64::new(NOT_WAITING),
            target,
            query,
            lanes,
            interval,
            timeout,
            retry_after,
            ran_before,
        };
        ItemLoop { facts: Arc::new(facts), job }
    }

    fn spawn(&self, item: Item<J>) -> Running<J> {
        let item_loop = self.item_loop(item);
        let (facts, job) = (Arc::clone(&item_loop.facts), Arc::clone(&item_loop.job));
        // The loop has no exit path that could be wrong: it is aborted. Nothing is wrapped around it, since each wrapper
        // is so much more memory for each item.
        let task = Handle::current().spawn(item_loop.run());
        Running { facts, job, task }
    }
}

/// By their names, each once: of several the last.
fn in_order<J>(mut items: Vec<Item<J>>) -> Vec<Item<J>> {
    items.sort_by(|a, b| a.id().cmp(&b.id()));
    items.dedup_by(|later, kept| {
        let same = later.id() == kept.id();
        if same {
            mem::swap(later, kept);
        }
        same
    });
    items
}
