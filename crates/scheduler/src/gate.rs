//! One target's gate: its lanes, and whether it is down and may be tried.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

/// What a run says about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The server answered, if only with an error.
    Answered,
    /// It did not, or it refused the login. The next try comes after a back-off of at most `cap`, or of the
    /// target's shortest interval where that is longer.
    Down {
        /// The longest back-off for what went wrong.
        cap: Duration,
    },
}

/// The first back-off; each further one is twice as long, up to the cap.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);

/// The permits of one target and its state. Shared by its items.
#[derive(Debug)]
pub(crate) struct Gate {
    /// One permit for each lane. A run may keep its permit beyond its end, for as long as the server still works
    /// for it.
    pub(crate) lanes: Arc<Semaphore>,
    /// How many lanes there were made with.
    pub(crate) size: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    down: Option<Down>,
    /// The shortest interval among the target's items.
    shortest: Duration,
    jitter: fastrand::Rng,
}

#[derive(Debug)]
struct Down {
    failures: u32,
    next_try: Instant,
    /// One item at a time tries a down target.
    trying: bool,
}

/// What the gate says to an item whose tick is due.
#[derive(Debug)]
pub(crate) enum Admission {
    /// The target is not down: run.
    Run,
    /// The target is down and this item may try it.
    Try(TryGuard),
    /// The target is down and it is not time, or another item tries.
    Refused,
}

/// The right to try a down target; given back on drop, however the run ends.
#[derive(Debug)]
pub(crate) struct TryGuard(Arc<Gate>);

impl Drop for TryGuard {
    fn drop(&mut self) {
        if let Some(down) = &mut self.0.state().down {
            down.trying = false;
        }
    }
}

impl Gate {
    /// A gate with this many lanes (at least one). `seed` makes its jitter repeatable.
    pub(crate) fn new(lanes: usize, shortest: Duration, seed: u64) -> Self {
        let size = lanes.max(1);
        let state = State { down: None, shortest, jitter: fastrand::Rng::with_seed(seed) };
        Self { lanes: Arc::new(Semaphore::new(size)), size, state: Mutex::new(state) }
    }

    /// The set of items has changed.
    pub(crate) fn set_shortest(&self, shortest: Duration) {
        self.state().shortest = shortest;
    }

    /// Whether an item that is due at `now` may run.
    pub(crate) fn admit(self: &Arc<Self>, now: Instant) -> Admission {
        match &mut self.state().down {
            None => Admission::Run,
            Some(down) if !down.trying && now >= down.next_try => {
                down.trying = true;
                Admission::Try(TryGuard(Arc::clone(self)))
            }
            Some(_) => Admission::Refused,
        }
    }

    /// Whether the target is down at this moment.
    pub(crate) fn is_down(&self) -> bool {
        self.state().down.is_some()
    }

    /// Takes note of how a run that ended at `now` found the target.
    pub(crate) fn settle(&self, verdict: Verdict, now: Instant) {
        let mut state = self.state();
        let Verdict::Down { cap } = verdict else {
            state.down = None;
            return;
        };
        let failures = state.down.as_ref().map_or(0, |down| down.failures);
        let trying = state.down.as_ref().is_some_and(|down| down.trying);
        let longest = FIRST_BACK_OFF.saturating_mul(1 << failures.min(20)).min(cap.max(state.shortest));
        // Full jitter: targets that fell together come back apart.
        let back_off = longest.mul_f64(state.jitter.f64());
        state.down = Some(Down { failures: failures + 1, next_try: now + back_off, trying });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here panics while it holds the lock; a poisoned one still holds a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn back_off_grows_to_its_cap_and_ends_with_the_first_answer() {
        let gate = Arc::new(Gate::new(2, Duration::from_secs(1), 7));
        let now = Instant::now();
        for failures in 0..12 {
            gate.settle(Verdict::Down { cap: CAP }, now);
            let longest = Duration::from_secs(1 << failures).min(CAP);
            assert!(matches!(gate.admit(now + longest), Admission::Try(_)), "after {failures} failures");
        }
        gate.settle(Verdict::Answered, now);
        assert!(matches!(gate.admit(now), Admission::Run));
    }

    #[tokio::test(start_paused = true)]
    async fn back_off_is_spread_over_its_whole_length() {
        let mut waits = Vec::new();
        for seed in 0..200 {
            let gate = Gate::new(1, Duration::from_secs(1), seed);
            let now = Instant::now();
            for _ in 0..10 {
                gate.settle(Verdict::Down { cap: CAP }, now);
            }
            let next_try = gate.state().down.as_ref().unwrap().next_try;
            waits.push((next_try - now).as_secs_f64() / CAP.as_secs_f64());
        }
        let mean = waits.iter().sum::<f64>() / 200.0;
        assert!((0.4..0.6).contains(&mean), "mean {mean}");
        assert!(waits.iter().any(|w| *w < 0.1) && waits.iter().any(|w| *w > 0.9));
    }

    #[tokio::test(start_paused = true)]
    async fn one_item_at_a_time_tries_a_down_target() {
        let gate = Arc::new(Gate::new(2, Duration::from_secs(1), 7));
        gate.settle(Verdict::Down { cap: CAP }, Instant::now());
        let later = Instant::now() + CAP;
        let first = gate.admit(later);
        assert!(matches!(first, Admission::Try(_)));
        assert!(matches!(gate.admit(later), Admission::Refused));
        drop(first);
        assert!(matches!(gate.admit(later), Admission::Try(_)), "a try that ends without a word gives way");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cap_below_the_shortest_interval_is_that_interval() {
        let hour = Duration::from_secs(3600);
        let longest = (0..50).map(|seed| {
            let gate = Gate::new(1, hour, seed);
            let now = Instant::now();
            for _ in 0..20 {
                gate.settle(Verdict::Down { cap: CAP }, now);
            }
            let next_try = gate.state().down.as_ref().unwrap().next_try;
            next_try - now
        });
        assert!(longest.max().unwrap() > CAP * 2);
    }
}
