//! One item's life: wait for the tick, ask the gate, wait for permits, run, again. It ends by being dropped.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    gate::{Admission, Gate, Verdict},
    schedule::{GRID, Schedule},
    timeline::Timeline,
};

/// What an item does at each tick.
pub trait Job: Send + Sync + 'static {
    /// One run. It bounds itself by its own timeout, and must bear being dropped at any await: whatever it
    /// publishes, it publishes in one synchronous call.
    fn run(&self, start: Start) -> impl Future<Output = Verdict> + Send;

    /// This many ticks were missed, for one reason.
    fn missed(&self, reason: Missed, ticks: u64);

    /// The run panicked, with this message. The item goes on with its next tick.
    fn panicked(&self, message: &str);
}

/// What a run is given.
#[derive(Debug)]
pub struct Start {
    /// When the tick was due.
    pub due: Instant,
    /// How long after that the item woke.
    pub lateness: Duration,
    /// How long it then waited for permits.
    pub waited: Duration,
    /// The target's lane. The run may keep it beyond its end, while the server still works for it.
    pub lane: OwnedSemaphorePermit,
}

/// Why a tick was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missed {
    /// The item's last run was still going.
    Running,
    /// The exporter could not start the run in time: no permit was free, or the whole process stood still.
    NoPermit,
    /// The target is down and it was not this item's turn to try it.
    TargetDown,
}

/// What all item loops share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) timeline: Timeline,
    pub(crate) startup_spread: Duration,
    /// Runs at targets that are not down.
    pub(crate) runs: Arc<Semaphore>,
    /// Tries of down targets have permits of their own, so that hanging ones cannot take everybody's.
    pub(crate) tries: Arc<Semaphore>,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) waiting: AtomicUsize,
}

/// One item as its loop sees it.
#[derive(Debug)]
pub(crate) struct ItemLoop<J> {
    pub(crate) schedule: Schedule,
    /// The schedule of the first run, where the interval is longer than the start-up spread.
    pub(crate) startup: Option<Schedule>,
    pub(crate) timeout: Duration,
    pub(crate) gate: Arc<Gate>,
    pub(crate) job: Arc<J>,
    pub(crate) shared: Arc<Shared>,
    /// The tick that is waited for, in milliseconds since the epoch; [`NOT_WAITING`] while a run is going.
    pub(crate) pending_ms: Arc<AtomicU64>,
}

/// No tick is waited for.
pub(crate) const NOT_WAITING: u64 = u64::MAX;

impl<J: Job> ItemLoop<J> {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let now = self.now();
        let mut tick = self.schedule.tick_from(now);
        if let Some(startup) = self.startup {
            let first = startup.due(startup.tick_from(now));
            if first < self.schedule.due(tick) {
                self.wait(first).await;
                self.start_tick(first, self.schedule.due(tick)).await;
                tick = self.next_tick(tick.wrapping_sub(1));
            }
        }
        loop {
            tick = self.wait_out_a_standstill(tick).await;
            self.start_tick(self.schedule.due(tick), self.schedule.due(tick + 1)).await;
            tick = self.next_tick(tick);
        }
    }

    /// The first tick after `last` that is not over yet; those between were missed because of the run.
    fn next_tick(&self, last: u64) -> u64 {
        // A tick that came due less than a step of the grid ago is not over: waiting for permits ends at the very moment
        // of the next tick, and a timer may be a millisecond late.
        let next = self.schedule.tick_from(self.now().saturating_sub(GRID)).max(last.wrapping_add(1));
        let missed = next.wrapping_sub(last).wrapping_sub(1);
        if missed > 0 {
            self.job.missed(Missed::Running, missed);
        }
        next
    }

    /// Waits until the tick is due. A process that stood still wakes after several: only the last of them runs,
    /// there is no catching up.
    async fn wait_out_a_standstill(&self, tick: u64) -> u64 {
        self.wait(self.schedule.due(tick)).await;
        let latest = self.schedule.tick_from(self.now() + Duration::from_nanos(1)).saturating_sub(1);
        if latest > tick {
            self.job.missed(Missed::NoPermit, latest - tick);
        }
        latest.max(tick)
    }

    async fn wait(&self, due: Duration) {
        self.pending_ms.store(u64::try_from(due.as_millis()).unwrap_or(NOT_WAITING), Ordering::Relaxed);
        sleep_until(self.shared.timeline.instant(due)).await;
    }

    /// A tick that is due: runs it, or says why not.
    async fn start_tick(&self, due: Duration, next_due: Duration) {
        let woke = Instant::now();
        let (guard, global) = match self.gate.admit(woke) {
            Admission::Refused => return self.job.missed(Missed::TargetDown, 1),
            Admission::Run => (None, &self.shared.runs),
            Admission::Try(guard) => (Some(guard), &self.shared.tries),
        };
        let start_by = (woke + self.timeout).min(self.shared.timeline.instant(next_due));
        let Some((lane, global)) = self.permits(global, start_by).await else {
            return self.job.missed(Missed::NoPermit, 1);
        };
        if guard.is_none() && self.gate.is_down() {
            // It went down while we queued for it.
            return self.job.missed(Missed::TargetDown, 1);
        }
        let due = self.shared.timeline.instant(due);
        let lateness = woke.saturating_duration_since(due);
        let waited = woke.elapsed();
        self.start(Start { due, lateness, waited, lane }).await;
        drop((guard, global));
    }

    /// The target's permit first, the global one second: the other order lets a few hanging targets hold the
    /// permits of all.
    async fn permits(
        &self,
        global: &Arc<Semaphore>,
        start_by: Instant,
    ) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        // Most of the time both are free, and then no timer is needed.
        if let Ok(lane) = Arc::clone(&self.gate.lanes).try_acquire_owned()
            && let Ok(run) = Arc::clone(global).try_acquire_owned()
        {
            return Some((lane, run));
        }
        let _waiting = Counted::new(&self.shared.waiting);
        let both = async {
            let lane = Arc::clone(&self.gate.lanes).acquire_owned().await.ok()?;
            let run = Arc::clone(global).acquire_owned().await.ok()?;
            Some((lane, run))
        };
        timeout_at(start_by, both).await.ok().flatten()
    }

    async fn start(&self, start: Start) {
        self.pending_ms.store(NOT_WAITING, Ordering::Relaxed);
        let _in_flight = Counted::new(&self.shared.in_flight);
        // Boxed: a task keeps the largest future it will ever hold, and most items are idle most of the time.
        // Unwind safe: what a run shares, it changes in single synchronous calls.
        match Box::pin(AssertUnwindSafe(self.job.run(start)).catch_unwind()).await {
            Ok(verdict) => self.gate.settle(verdict, Instant::now()),
            Err(panic) => self.job.panicked(panic_message(panic.as_ref())),
        }
    }

    fn now(&self) -> Duration {
        self.shared.timeline.since_epoch(Instant::now())
    }
}

/// One more in a count, for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}
