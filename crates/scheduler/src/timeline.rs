//! The one pair of clock readings that anchors every due time.

use std::time::Duration;

use tokio::time::Instant;

use crate::schedule::up_to_grid;

/// A wall clock reading and the monotonic reading that belongs to it. Due times are computed since the epoch, so a
/// restart moves nobody; waiting is on the monotonic clock, so a step of the wall clock moves nobody either.
#[derive(Debug, Clone, Copy)]
pub struct Timeline {
    start: Instant,
    start_since_epoch: Duration,
}

impl Timeline {
    /// Anchors `start` at the wall clock's `since_epoch`, read at the same moment.
    pub fn new(start: Instant, since_epoch: Duration) -> Self {
        Self { start, start_since_epoch: since_epoch }
    }

    /// The time since the epoch that belongs to `at`; a moment before the anchor counts as the anchor.
    pub fn since_epoch(&self, at: Instant) -> Duration {
        self.start_since_epoch + at.saturating_duration_since(self.start)
    }

    /// The moment that lies `since_epoch`; one before the anchor becomes the anchor.
    pub fn instant(&self, since_epoch: Duration) -> Instant {
        self.start + since_epoch.saturating_sub(self.start_since_epoch)
    }

    /// The same anchor after the machine was suspended for this long, which the monotonic clock did not see.
    #[must_use]
    pub(crate) fn after_suspension(self, slept: Duration) -> Self {
        Self { start_since_epoch: self.start_since_epoch.saturating_add(slept), ..self }
    }

    /// The first moment on the grid that is not before `at`, since the epoch.
    pub(crate) fn on_grid(&self, at: Instant) -> Duration {
        up_to_grid(self.since_epoch(at))
    }
}
