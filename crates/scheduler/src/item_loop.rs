//! One item's life: wait for the tick, ask the gate, wait for permits, run, again. It ends by being dropped.

use std::{any::Any, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::{
    facts::Facts,
    gate::{Admission, TryGuard},
    job::{Job, Missed, Start, Verdict},
    schedule::{GRID, Millis, up_to_grid},
};

/// How long a try waits for its turn at most. Who is tried is down, so nothing is lost by waiting; but every wait ends.
const TRY_PATIENCE: Duration = Duration::from_mins(5);

/// An item that wakes later than this has slept through its moment: the process was stopped, or gets no processor.
/// If everybody who was due meanwhile ran now, they would all run at once.
const STANDSTILL: Duration = Duration::from_secs(2);

/// One item as its loop sees it. A task keeps this all the time, so it is two pointers.
#[derive(Debug)]
pub(crate) struct ItemLoop<J> {
    pub(crate) facts: Arc<Facts>,
    pub(crate) job: Arc<J>,
}

/// What an item waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wake {
    Tick,
    /// The first run after the start. Missed, it counts like a tick.
    First,
    /// A run since the last one has brought no result, after the first wait doubled so often. Missed, it does not
    /// count: the tick that it stands for has.
    Retry {
        doubled: u8,
    },
    /// The end of its target's back-off.
    Try,
}

/// A run that is due between two ticks.
#[derive(Debug, Clone, Copy)]
struct Owed {
    /// When, since the epoch.
    due: Duration,
    /// As what.
    wake: Wake,
}

/// What became of a moment at which the item was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It ran, and need not again before the next tick.
    Ran,
    /// It ran for nothing.
    Failed,
    /// It ran, and the target is down.
    FoundDown,
    /// It did not run.
    Missed(Missed),
}

impl<J: Job> ItemLoop<J> {
    /// Runs until it is dropped. What it holds while it waits for its moment is what most tasks hold most of the time: that
    /// moment, the tick, the timer.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async function keeps room for what it is given twice: as its argument and as a variable"
    )]
    pub(crate) fn run(self) -> impl Future<Output = ()> + Send {
        async move {
            let mut tick = self.facts.schedule.tick_from(self.now());
            let mut owed = self.first_run();
            let mut slept = false;
            loop {
                let (due, wake) = self.next_wake(tick, owed);
                self.wait(due).await;
                let due = Duration::from(due);
                // Not twice in a row: on a machine that is always late, late is better than never.
                slept = !slept && wake != Wake::Try && self.now().saturating_sub(due) > STANDSTILL;
                if slept {
                    // As after a start: on the offset, and soon where that is far.
                    tick = self.next_tick(tick.wrapping_sub(1), Missed::NoPermit);
                    owed = self.first_run();
                    continue;
                }
                let due = match wake {
                    Wake::Tick => {
                        let latest = self.latest(tick);
                        tick = latest + 1;
                        self.facts.schedule.due(latest)
                    }
                    _ => due,
                };
                let is_tick = matches!(wake, Wake::Tick | Wake::First);
                let unfinished = Unfinished { item: &self, next_tick: tick, is_tick };
                let outcome = self.attempt(due, self.facts.schedule.due(tick)).await;
                unfinished.has_ended();
                if let Outcome::Missed(reason) = outcome
                    && is_tick
                {
                    self.job.missed(reason, 1);
                }
                let down = matches!(outcome, Outcome::FoundDown | Outcome::Missed(Missed::TargetDown));
                let reason = if down { Missed::TargetDown } else { Missed::Running };
                tick = self.next_tick(tick.wrapping_sub(1), reason);
                owed = self.owed_after(outcome, wake, tick);
            }
        }
    }

    /// The run within the start-up spread, where the interval is longer.
    fn first_run(&self) -> Option<Owed> {
        let startup = self.facts.startup()?;
        Some(Owed { due: startup.due(startup.tick_from(self.now())), wake: Wake::First })
    }

    /// What comes first, the tick where it is the same moment.
    fn next_wake(&self, tick: u64, owed: Option<Owed>) -> (Millis, Wake) {
        let Facts { schedule, gate, shared, .. } = &*self.facts;
        let mut next = (schedule.due(tick), Wake::Tick);
        if let Some(owed) = owed.filter(|owed| owed.due < next.0) {
            next = (owed.due, owed.wake);
        }
        let try_at = gate.try_at(self.facts.rank()).map(|at| shared.timeline.on_grid(at));
        if let Some(try_at) = try_at.filter(|try_at| *try_at < next.0) {
            next = (try_at, Wake::Try);
        }
        let (due, wake) = next;
        (due.into(), wake)
    }

    /// The run that is due before the next tick, after one that came to this. Failures in a row come ever more slowly.
    /// While the target is down there is nothing to run for, only the question whether it still is.
    fn owed_after(&self, outcome: Outcome, wake: Wake, next_tick: u64) -> Option<Owed> {
        let first = self.facts.retry_after?;
        let doubled = match (outcome, wake) {
            (Outcome::Ran, _) => return None,
            (Outcome::Failed, Wake::Retry { doubled }) => doubled.saturating_add(1),
            _ => 0,
        };
        let due = up_to_grid(self.now() + first.saturating_mul(1 << doubled.min(31)));
        // A retry that could not end before the tick would cost it.
        let in_time = due + self.facts.timeout <= self.facts.schedule.due(next_tick);
        in_time.then_some(Owed { due, wake: Wake::Retry { doubled } })
    }

    /// The first tick after `last` that is not over yet; those between were missed while the item was busy.
    fn next_tick(&self, last: u64, reason: Missed) -> u64 {
        // A tick that came due less than a step of the grid ago is not over: waiting for permits ends at the very moment
        // of the next tick, and a timer may be a millisecond late.
        let next = self.facts.schedule.tick_from(self.now().saturating_sub(GRID)).max(last.wrapping_add(1));
        let missed = next.wrapping_sub(last).wrapping_sub(1);
        if missed > 0 {
            self.job.missed(reason, missed);
        }
        next
    }

    /// The last tick that is due. Who wakes after several runs once: there is no catching up.
    fn latest(&self, tick: u64) -> u64 {
        let latest = self.facts.schedule.tick_from(self.now() + Duration::from_nanos(1)).saturating_sub(1);
        if latest > tick {
            self.job.missed(Missed::NoPermit, latest - tick);
        }
        latest.max(tick)
    }

    /// Not an async function: it would keep room for more than the timer.
    fn wait(&self, due: Millis) -> Sleep {
        let due = self.facts.shared.timeline.instant(due.into());
        self.facts.waits_for(due);
        sleep_until(due)
    }

    /// A moment at which the item is due. Boxed: a task keeps room for the largest future it will ever hold, and most items
    /// are idle most of the time.
    fn attempt(&self, due: Duration, next_due: Duration) -> Pin<Box<impl Future<Output = Outcome>>> {
        Box::pin(self.try_to_run(due, next_due))
    }

    /// Runs the item, or says why not.
    async fn try_to_run(&self, due: Duration, next_due: Duration) -> Outcome {
        let woke = Instant::now();
        let Facts { gate, shared, timeout, .. } = &*self.facts;
        let (guard, queue, start_by) = match gate.admit(self.facts.rank(), woke) {
            Admission::Refused => return Outcome::Missed(Missed::TargetDown),
            Admission::Run => {
                let start_by = (woke + *timeout).min(shared.timeline.instant(next_due));
                (None, &shared.runs, start_by)
            }
            Admission::Try(guard) => {
                self.facts.waits_no_more();
                (Some(guard), &shared.tries, woke + TRY_PATIENCE)
            }
        };
        // Most of the time both are free, and then no timer is needed.
        let permits = match queue.try_both(gate.lanes.permits()) {
            Some(permits) => Some(permits),
            None => timeout_at(start_by, queue.both(gate.lanes.permits())).await.ok().flatten(),
        };
        if guard.is_none() && gate.is_down() {
            // It went down while we queued for it.
            return Outcome::Missed(Missed::TargetDown);
        }
        let Some((lane, _held)) = permits else {
            let reason = if guard.is_some() { Missed::TargetDown } else { Missed::NoPermit };
            return Outcome::Missed(reason);
        };
        let due = shared.timeline.instant(due);
        let (lateness, waited) = (woke.saturating_duration_since(due), woke.elapsed());
        self.start(Start { due, lateness, waited, start_by, lane }, guard).await
    }

    async fn start(&self, start: Start, guard: Option<TryGuard>) -> Outcome {
        self.facts.waits_no_more();
        let gate = &self.facts.gate;
        // Boxed once more: whoever waits for permits keeps no room for the run, and in bad times many wait.
        // Unwind safe: what a run shares, it changes in single synchronous calls.
        match Box::pin(AssertUnwindSafe(self.job.run(start)).catch_unwind()).await {
            Ok(Verdict::Answered) => gate.answered(guard),
            Ok(Verdict::Failed) => {
                gate.answered(guard);
                return Outcome::Failed;
            }
            Ok(Verdict::NotStarted(reason)) => {
                // A try that found no room is no news either: the target is down as before.
                return Outcome::Missed(if guard.is_some() { Missed::TargetDown } else { reason });
            }
            Ok(Verdict::Down(back_off)) => {
                gate.unanswered(back_off, guard, self.facts.rank(), Instant::now());
                return Outcome::FoundDown;
            }
            Err(panic) => {
                if let Some(guard) = guard {
                    guard.panicked(self.facts.rank(), Instant::now());
                }
                self.job.panicked(panic_message(panic.as_ref()));
            }
        }
        Outcome::Ran
    }

    fn now(&self) -> Duration {
        self.facts.shared.timeline.since_epoch(Instant::now())
    }
}

/// A moment at which the item was due, until it is known what became of it. Dropped before, since the item was changed or
/// taken out, it counts what is lost by that.
struct Unfinished<'a, J: Job> {
    item: &'a ItemLoop<J>,
    /// The first tick after it.
    next_tick: u64,
    is_tick: bool,
}

impl<J: Job> Unfinished<'_, J> {
    /// The loop itself counts what became of it.
    fn has_ended(self) {
        std::mem::forget(self);
    }
}

impl<J: Job> Drop for Unfinished<'_, J> {
    fn drop(&mut self) {
        let Self { item, next_tick, is_tick } = *self;
        if is_tick {
            item.job.missed(Missed::Stopped, 1);
        }
        let passed = item.facts.schedule.tick_from(item.now()).saturating_sub(next_tick);
        if passed > 0 {
            item.job.missed(Missed::Running, passed);
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}
