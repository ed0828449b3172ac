//! Whether the machine has slept: the clock that schedules stands still meanwhile, the one that ages results goes on.

use std::time::Duration;

use fleet_collector::BootTime;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often the two clocks are compared.
const LOOK: Duration = Duration::from_secs(1);

/// A shorter sleep changes nothing worth a new beginning.
const SHORTEST: Duration = Duration::from_secs(2);

/// Two clocks, read together.
#[derive(Debug)]
pub(crate) struct Suspension {
    awake: Instant,
    in_all: BootTime,
}

impl Suspension {
    /// From now on.
    pub(crate) fn new() -> Self {
        Self { awake: Instant::now(), in_all: BootTime::now() }
    }

    /// Waits until the machine has slept, and says how long.
    pub(crate) async fn over(&mut self) -> Duration {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Some(slept) = self.slept(Instant::now(), BootTime::now()) {
                return slept;
            }
        }
    }

    /// How long the machine has slept by now, if it has since this was last said.
    fn slept(&mut self, awake: Instant, in_all: BootTime) -> Option<Duration> {
        let passed = awake.saturating_duration_since(self.awake);
        let slept = in_all.since(self.in_all).saturating_sub(passed);
        if slept < SHORTEST {
            return None;
        }
        *self = Self { awake, in_all };
        Some(slept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sleep_is_seen_once_and_a_busy_or_stopped_process_is_none() {
        let second = Duration::from_secs(1);
        let (awake, in_all) = (Instant::now(), BootTime::from_boot(second * 1000));
        let mut suspension = Suspension { awake, in_all };
        let mut look = |awake_for: u32, passed: u32| {
            suspension.slept(awake + second * awake_for, in_all.plus(second * passed))
        };
        assert_eq!(look(1, 1), None);
        assert_eq!(look(600, 600), None, "stopped and continued: both clocks went on");
        assert_eq!(look(601, 602), None);
        assert_eq!(look(602, 3602), Some(second * 3000));
        assert_eq!(look(603, 3603), None, "said once");
        assert_eq!(look(604, 7204), Some(second * 3600));
    }
}
