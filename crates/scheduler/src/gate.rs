//! One target's gate: its lanes, whether it is down, and who may try it when.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{job::BackOff, limit::Limit, outlook::NextTry};

/// The back-off of a try that ended without a word about the target.
const WITHOUT_A_WORD: BackOff = BackOff { first: Duration::from_secs(1), cap: Duration::from_secs(30) };

/// The permits of one target and its state. Shared by its items.
#[derive(Debug)]
pub(crate) struct Gate {
    /// One permit for each lane. A run may keep its permit beyond its end, for as long as the server still works
    /// for it.
    pub(crate) lanes: Limit,
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
    /// The item that wakes for the next try; the others have their ticks only.
    trier: Option<Rank>,
    /// The item whose try panicked: it tells nothing about the target, so others go first.
    unlucky: Option<Rank>,
}

/// An item among those of its target: the shorter its interval, the better it is at trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) interval: Duration,
    /// The hash of the query's name.
    pub(crate) query: u64,
}

/// What the gate says to an item that is due.
#[derive(Debug)]
pub(crate) enum Admission {
    /// The target is not down: run.
    Run,
    /// The target is down and this item may try it.
    Try(TryGuard),
    /// The target is down and it is not time, or another item tries.
    Refused,
}

/// The right to try a down target. Dropped without a word, it goes to whoever comes first, a little later.
#[derive(Debug)]
pub(crate) struct TryGuard {
    gate: Arc<Gate>,
    over: bool,
}

impl TryGuard {
    /// The try panicked.
    pub(crate) fn panicked(mut self, rank: Rank, now: Instant) {
        let mut state = self.gate.state();
        state.failed(WITHOUT_A_WORD, None, now);
        if let Some(down) = &mut state.down {
            down.unlucky = Some(rank);
        }
        drop(state);
        self.over = true;
    }
}

impl Drop for TryGuard {
    fn drop(&mut self) {
        if !self.over
            && let Some(down) = &mut self.gate.state().down
        {
            down.trying = false;
            down.trier = None;
            down.next_try = Instant::now() + WITHOUT_A_WORD.first;
        }
    }
}

impl Gate {
    /// A gate with this many lanes (at least one). `seed` makes its jitter repeatable.
    pub(crate) fn new(lanes: usize, shortest: Duration, seed: u64) -> Self {
        let state = State { down: None, shortest, jitter: fastrand::Rng::with_seed(seed) };
        Self { lanes: Limit::new(lanes), state: Mutex::new(state) }
    }

    /// The set of items has changed.
    pub(crate) fn set_shortest(&self, shortest: Duration) {
        self.state().shortest = shortest;
    }

    /// The back-off, if the target is down.
    pub(crate) fn next_try(&self) -> Option<NextTry> {
        let state = self.state();
        let Down { failures, next_try, trying, .. } = state.down.as_ref()?;
        Some(NextTry { failures: *failures, not_before: *next_try, trying: *trying })
    }

    /// The target has this many lanes now (at least one). Those in use stay so.
    pub(crate) fn set_lanes(&self, lanes: usize) {
        self.lanes.resize(lanes);
    }

    /// Whoever was best at trying the target may be gone.
    pub(crate) fn forget_trier(&self) {
        if let Some(down) = &mut self.state().down {
            down.trier = None;
        }
    }

    /// What is known of the target may no longer be so.
    pub(crate) fn forget(&self) {
        self.state().down = None;
    }

    /// Whether an item that is due at `now` may run.
    pub(crate) fn admit(self: &Arc<Self>, rank: Rank, now: Instant) -> Admission {
        match &mut self.state().down {
            None => Admission::Run,
            Some(down) if !down.trying && now >= down.next_try => {
                down.trying = true;
                down.trier = Some(rank);
                Admission::Try(TryGuard { gate: Arc::clone(self), over: false })
            }
            Some(_) => Admission::Refused,
        }
    }

    /// When this item should wake to try the target, if it is down and nobody is better at it. Asked by every item
    /// between its ticks, so that the one with the shortest interval soon has the task, without anybody being told.
    pub(crate) fn try_at(&self, rank: Rank) -> Option<Instant> {
        let mut state = self.state();
        let down = state.down.as_mut().filter(|down| !down.trying && down.unlucky != Some(rank))?;
        if down.trier.is_none_or(|trier| rank < trier) {
            down.trier = Some(rank);
        }
        (down.trier == Some(rank)).then_some(down.next_try)
    }

    /// Whether the target is down at this moment.
    pub(crate) fn is_down(&self) -> bool {
        self.state().down.is_some()
    }

    /// A run got an answer.
    pub(crate) fn answered(&self, guard: Option<TryGuard>) {
        self.state().down = None;
        if let Some(mut guard) = guard {
            guard.over = true;
        }
    }

    /// A run that ended at `now` got no answer. Only the first one and tries count: runs that began before the target
    /// was known to be down say nothing new.
    pub(crate) fn unanswered(&self, back_off: BackOff, guard: Option<TryGuard>, rank: Rank, now: Instant) {
        let mut state = self.state();
        if guard.is_some() || state.down.is_none() {
            state.failed(back_off, Some(rank), now);
        }
        drop(state);
        if let Some(mut guard) = guard {
            guard.over = true;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here panics while it holds the lock; a poisoned one still holds a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn failed(&mut self, back_off: BackOff, trier: Option<Rank>, now: Instant) {
        let BackOff { first, cap } = back_off;
        let (failures, unlucky) = self.down.as_ref().map_or((0, None), |down| (down.failures, down.unlucky));
        let longest = first.saturating_mul(1 << failures.min(20)).min(cap.max(self.shortest));
        // Full jitter: targets that fell together come back apart. Half a step at least, or it would be no back-off.
        let wait = longest.mul_f64(self.jitter.f64()).max(first / 2);
        let failures = failures.saturating_add(1);
        self.down = Some(Down { failures, next_try: now + wait, trying: false, trier, unlucky });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BACK_OFF: BackOff = BackOff { first: SECOND, cap: Duration::from_secs(30) };

    fn rank(seconds: u32) -> Rank {
        Rank { interval: SECOND * seconds, query: 0 }
    }

    /// A gate after this many failures in a row, and when the last was.
    fn down(failures: u32, shortest: Duration, seed: u64, back_off: BackOff) -> (Arc<Gate>, Instant) {
        let gate = Arc::new(Gate::new(2, shortest, seed));
        let mut now = Instant::now();
        gate.unanswered(back_off, None, rank(1), now);
        for _ in 1..failures {
            now += shortest.max(back_off.cap);
            let Admission::Try(guard) = gate.admit(rank(1), now) else { panic!("not tried after the cap") };
            gate.unanswered(back_off, Some(guard), rank(1), now);
        }
        (gate, now)
    }

    fn wait(failures: u32, shortest: Duration, seed: u64, back_off: BackOff) -> Duration {
        let (gate, now) = down(failures, shortest, seed, back_off);
        gate.try_at(rank(1)).unwrap() - now
    }

    #[tokio::test(start_paused = true)]
    async fn back_off_grows_to_its_cap_and_ends_with_the_first_answer() {
        for failures in 1..12 {
            let bound = (SECOND * (1 << (failures - 1))).min(BACK_OFF.cap);
            let waits: Vec<_> = (0..50).map(|seed| wait(failures, SECOND, seed, BACK_OFF)).collect();
            assert!(waits.iter().all(|wait| (SECOND / 2..=bound).contains(wait)), "{failures}: {waits:?}");
            assert!(waits.iter().any(|wait| *wait > bound.mul_f64(0.9)), "{failures}: {waits:?}");
        }
        let (gate, now) = down(5, SECOND, 7, BACK_OFF);
        gate.answered(None);
        assert!(matches!(gate.admit(rank(1), now), Admission::Run));
        assert_eq!(gate.try_at(rank(1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn back_off_is_spread_over_its_whole_length() {
        let waits: Vec<_> =
            (0..200).map(|seed| wait(10, SECOND, seed, BACK_OFF).div_duration_f64(BACK_OFF.cap)).collect();
        let mean = waits.iter().sum::<f64>() / 200.0;
        assert!((0.4..0.6).contains(&mean), "mean {mean}");
        assert!(waits.iter().any(|w| *w < 0.1) && waits.iter().any(|w| *w > 0.9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cap_below_the_shortest_interval_is_that_interval() {
        let longest = (0..50).map(|seed| wait(20, SECOND * 3600, seed, BACK_OFF)).max().unwrap();
        assert!(longest > BACK_OFF.cap * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_item_at_a_time_tries_a_down_target() {
        let (gate, now) = down(1, SECOND, 7, BACK_OFF);
        let later = now + BACK_OFF.cap;
        let first = gate.admit(rank(1), later);
        assert!(matches!(first, Admission::Try(_)));
        assert!(matches!(gate.admit(rank(2), later), Admission::Refused));
        drop(first);
        assert!(matches!(gate.admit(rank(2), later), Admission::Try(_)), "a try without a word gives way");
    }

    #[tokio::test(start_paused = true)]
    async fn the_item_with_the_shortest_interval_takes_over_the_tries() {
        let gate = Arc::new(Gate::new(2, SECOND, 7));
        gate.unanswered(BACK_OFF, None, rank(3600), Instant::now());
        assert!(gate.try_at(rank(3600)).is_some(), "who found it down, until somebody better comes");
        assert!(gate.try_at(rank(10)).is_some());
        assert_eq!((gate.try_at(rank(3600)), gate.try_at(rank(60))), (None, None));
        let Admission::Try(guard) = gate.admit(rank(10), Instant::now() + SECOND) else { panic!() };
        assert_eq!(gate.try_at(rank(5)), None, "not while somebody tries");
        guard.panicked(rank(10), Instant::now());
        assert_eq!(gate.try_at(rank(10)), None, "a panic says nothing about the target");
        assert!(gate.try_at(rank(60)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn runs_that_began_before_the_target_was_down_do_not_lengthen_its_back_off() {
        let (gate, now) = down(1, SECOND, 7, BACK_OFF);
        let before = gate.try_at(rank(1));
        for _ in 0..10 {
            gate.unanswered(BACK_OFF, None, rank(2), now);
        }
        assert_eq!(gate.try_at(rank(1)), before);
    }
}
