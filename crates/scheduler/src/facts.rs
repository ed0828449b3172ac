//! What is known of an item beside its job: its loop, the scheduler and who looks at what comes next share it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use xxhash_rust::xxh64::xxh64;

use crate::{
    gate::{Gate, Rank},
    queue::Queue,
    schedule::Schedule,
    timeline::Timeline,
};

/// What all items share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// When it began.
    pub(crate) begun: Instant,
    pub(crate) timeline: Timeline,
    /// [`crate::Limits::startup_spread`].
    pub(crate) startup_spread: Duration,
    /// Runs at targets that are not down.
    pub(crate) runs: Arc<Queue>,
    /// Tries of down targets have permits of their own, so that hanging ones cannot take everybody's.
    pub(crate) tries: Arc<Queue>,
}

/// An [`crate::Item`] without its job, and its place in time. There is one for each item of a fleet, so it holds
/// nothing that follows from the rest and is seldom asked for. The job is not in it, since a job that has ended must not
/// live on with those who look at what comes next.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) target: Arc<str>,
    pub(crate) query: Arc<str>,
    pub(crate) lanes: usize,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) ran_before: bool,
    pub(crate) schedule: Schedule,
    pub(crate) gate: Arc<Gate>,
    pub(crate) shared: Arc<Shared>,
    /// The moment that is waited for, in milliseconds since the beginning, or [`NOT_WAITING`].
    pub(crate) pending_ms: AtomicU64,
}

/// No moment is waited for.
pub(crate) const NOT_WAITING: u64 = u64::MAX;

impl Facts {
    /// What items are ordered by.
    pub(crate) fn id(&self) -> (&str, &str) {
        (&self.query, &self.target)
    }

    /// The schedule of the first run, where the interval is longer than the start-up spread.
    pub(crate) fn startup(&self) -> Option<Schedule> {
        let spread = self.shared.startup_spread;
        let needed = self.interval > spread && !self.ran_before;
        needed.then(|| Schedule::new(&self.target, &self.query, spread))
    }

    pub(crate) fn rank(&self) -> Rank {
        Rank { interval: self.interval, query: xxh64(self.query.as_bytes(), 0) }
    }

    /// The item waits for this moment.
    pub(crate) fn waits_for(&self, due: Instant) {
        let pending = due.saturating_duration_since(self.shared.begun).as_millis();
        self.pending_ms.store(u64::try_from(pending).unwrap_or(NOT_WAITING), Ordering::Relaxed);
    }

    /// A run is going, or a try waits for its turn: it is late for nothing.
    pub(crate) fn waits_no_more(&self) {
        self.pending_ms.store(NOT_WAITING, Ordering::Relaxed);
    }

    /// The moment that is waited for; None if there is none.
    pub(crate) fn pending(&self) -> Option<Instant> {
        let ms = self.pending_ms.load(Ordering::Relaxed);
        (ms != NOT_WAITING).then(|| self.shared.begun + Duration::from_millis(ms))
    }
}
