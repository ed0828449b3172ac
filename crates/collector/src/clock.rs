//! Age: time since boot, counting the time the machine was suspended. And the wall clock, for what is shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Moments are counted from this long before boot: what an earlier process read may be older than this boot. Longer than
/// any age limit.
const BEFORE_BOOT: Duration = Duration::from_hours(400 * 24);

/// A moment on `CLOCK_BOOTTIME`. Unlike tokio's monotonic clock it goes on while the machine is suspended, so a
/// result read before a night's sleep is a night old; unlike the wall clock nobody can set it.
///
/// In nanoseconds, which suffice for five centuries: each result has two of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(u64);

impl BootTime {
    /// This moment.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        // The kernel counts up from zero and keeps the nanoseconds below a second; the defaults are never taken.
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Self::from_boot(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default()))
    }

    /// The moment this long after boot, for tests of ages.
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(nanos(BEFORE_BOOT.saturating_add(since_boot)))
    }

    /// The moment `later` after this one.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        Self(self.0.saturating_add(nanos(later)))
    }

    /// The moment `earlier` before this one, however long the machine has run; 400 days before boot at the earliest.
    #[must_use]
    pub fn before(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(earlier)))
    }

    /// How long ago `earlier` was; zero if it is still to come.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The wall clock, since the epoch: for what is shown. Nothing is scheduled or aged by it.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// The same in milliseconds.
pub fn wall_ms() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}

const fn nanos(length: Duration) -> u64 {
    let nanos = length.as_nanos();
    #[expect(clippy::cast_possible_truncation, reason = "what does not fit is the largest number")]
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}
