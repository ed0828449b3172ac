//! The owner of every item's task: it is given the wanted set and finds the difference.

use std::{
    collections::BTreeMap,
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
    gate::{Gate, Rank},
    item_loop::{ItemLoop, NOT_WAITING, Shared},
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
        self.outlook.oldest(self.shared.begun).map_or(Duration::ZERO, |oldest| oldest.elapsed())
    }

    /// What this item does next; None if there is no such item.
    pub fn next_tick(&self, query: &str, target: &str) -> Option<NextTick> {
        self.outlook.next_tick(query, target, self.shared.begun)
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
    running: BTreeMap<(Arc<str>, Arc<str>), Running<J>>,
    timeline: Arc<Timeline>,
    startup_spread: Duration,
    outlook: Outlook,
    seed: u64,
}

/// An item and its task, which ends with this.
#[derive(Debug)]
struct Running<J> {
    item: Item<J>,
    pending_ms: Arc<AtomicU64>,
    task: JoinHandle<()>,
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
            runs: Queue::new(limits.max_runs),
            tries: Queue::new(limits.max_tries),
        };
        Self {
            shared: Arc::new(shared),
            gates: BTreeMap::new(),
            running: BTreeMap::new(),
            timeline: Arc::new(timeline),
            startup_spread: limits.startup_spread,
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
        let wanted: BTreeMap<_, _> =
            wanted.into_iter().map(|item| ((item.query.clone(), item.target.clone()), item)).collect();
        // A large fleet takes milliseconds; between the steps others have their turn.
        yield_now().await;
        let mut changes = Changes::default();
        let over: Vec<_> = self
            .running
            .iter()
            .filter(|(id, old)| wanted.get(*id) != Some(&old.item))
            .map(|(id, _)| id.clone())
            .collect();
        changes.stopped = over.len();
        changes.changed = over.iter().filter(|id| wanted.contains_key(*id)).count();
        yield_now().await;
        let ways = self.ways(&wanted);
        self.stop(over).await;
        self.open_gates(&wanted, &ways);
        let mut started = Vec::new();
        for (n, (id, item)) in wanted.into_iter().enumerate() {
            if n % 1000 == 0 {
                yield_now().await;
            }
            if self.running.contains_key(&id) {
                changes.kept += 1;
                continue;
            }
            changes.started += 1;
            started.push((id, self.spawn(item)));
        }
        // Together: one by one, in their order, they would leave each node of the map half empty.
        self.running.append(&mut started.into_iter().collect());
        self.tell_outlook();
        changes
    }

    /// The machine was suspended for `slept`, which tokio's clock did not see. Every item begins anew, as after a
    /// restart: on its offset, and within the start-up spread where its interval is longer. What ran is dropped; what
    /// is known about the targets stays.
    pub async fn resumed(&mut self, slept: Duration) {
        self.timeline = Arc::new(self.timeline.after_suspension(slept));
        let items: Vec<_> = self.running.values().map(|running| running.item.clone()).collect();
        self.stop(self.running.keys().cloned().collect()).await;
        for mut item in items {
            let id = (Arc::clone(&item.query), Arc::clone(&item.target));
            item.ran_before = false;
            let running = self.spawn(item);
            self.running.insert(id, running);
        }
        self.tell_outlook();
    }

    fn tell_outlook(&self) {
        let waiting = self.running.iter().map(|(id, running)| (id.clone(), Arc::clone(&running.pending_ms)));
        self.outlook.replace(waiting, &self.gates);
    }

    /// Ends every item, dropping what runs, and returns when all tasks are gone.
    pub async fn shutdown(mut self) {
        self.stop(self.running.keys().cloned().collect()).await;
    }

    /// Cancels first and waits second, so that all end together. Waiting makes sure that nothing of a stopped
    /// item is published after this.
    async fn stop(&mut self, ids: Vec<(Arc<str>, Arc<str>)>) {
        let mut stopped: Vec<_> = ids.iter().filter_map(|id| self.running.remove(id)).collect();
        for running in &stopped {
            running.task.abort();
        }
        for running in &mut stopped {
            // The loop catches its job's panics; a join error could only say what no longer matters.
            let _ = (&mut running.task).await;
            if let Some(gate) = self.gates.get(&running.item.target) {
                gate.forget_trier();
            }
        }
    }

    /// How the way to each target that was there has changed.
    fn ways(&self, wanted: &BTreeMap<(Arc<str>, Arc<str>), Item<J>>) -> BTreeMap<Arc<str>, Way> {
        let before: BTreeMap<_, _> =
            self.running.values().map(|running| (&running.item.target, &running.item.job)).collect();
        let way = |item: &Item<J>| {
            let before = before.get(&item.target)?;
            Some((Arc::clone(&item.target), item.job.way_since(before)))
        };
        wanted.values().filter_map(way).collect()
    }

    /// One gate for each target: kept while the server is the same, with its state while the way there is.
    fn open_gates(
        &mut self,
        wanted: &BTreeMap<(Arc<str>, Arc<str>), Item<J>>,
        ways: &BTreeMap<Arc<str>, Way>,
    ) {
        let mut targets: BTreeMap<&Arc<str>, (usize, Duration)> = BTreeMap::new();
        for item in wanted.values() {
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

    pub(crate) fn item_loop(&self, item: &Item<J>) -> ItemLoop<J> {
        let spread = self.startup_spread;
        ItemLoop {
            timeline: Arc::clone(&self.timeline),
            schedule: Schedule::new(&item.target, &item.query, item.interval),
            startup: (item.interval > spread && !item.ran_before)
                .then(|| Schedule::new(&item.target, &item.query, spread)),
            timeout: item.timeout,
            retry_after: item.retry_after,
            rank: Rank { interval: item.interval, query: xxh64(item.query.as_bytes(), 0) },
            gate: Arc::clone(&self.gates[&item.target]),
            job: Arc::clone(&item.job),
            shared: Arc::clone(&self.shared),
            pending_ms: Arc::new(AtomicU64::new(NOT_WAITING)),
        }
    }

    fn spawn(&self, item: Item<J>) -> Running<J> {
        let item_loop = self.item_loop(&item);
        let pending_ms = Arc::clone(&item_loop.pending_ms);
        // The loop has no exit path that could be wrong: it is aborted. Nothing is wrapped around it, since each wrapper
        // is so much more memory for each item.
        let task = Handle::current().spawn(item_loop.run());
        Running { item, pending_ms, task }
    }
}
