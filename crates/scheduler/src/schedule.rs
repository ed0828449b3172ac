//! Due times as arithmetic: an item's ticks follow from its names and its interval alone.

use std::time::Duration;

use xxhash_rust::xxh64::xxh64;

/// Every tick lies on this grid, so that a process with thousands of items wakes forty times a second and finds
/// several due, instead of waking for each: an idle process that wakes pays more for waking than for a query.
pub const GRID: Duration = Duration::from_millis(25);

const GRID_MS: u64 = 25;

/// The span over which a target's own items are spread. Short, so that they share its connections while these are
/// warm; longer than most answers take, so that they do not queue.
const QUERY_SPREAD_MS: u64 = 10_000;

/// The ticks of one item: a fixed place within each interval, counted from the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    interval_ms: u64,
    offset_ms: u64,
}

impl Schedule {
    /// The schedule of `query` on `target`. An interval below the grid is taken as the grid's step.
    ///
    /// The offset is `(H(target) mod interval + H(query) mod min(interval, 10 s)) mod interval`, rounded down to
    /// the grid, with xxHash64 (seed 0) of the names as H: the fleet is spread flat over the interval, a target's
    /// items stay near each other, and neither a restart nor a reload moves anybody.
    pub fn new(target: &str, query: &str, interval: Duration) -> Self {
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(GRID_MS);
        let target_ms = xxh64(target.as_bytes(), 0) % interval_ms;
        let query_ms = xxh64(query.as_bytes(), 0) % interval_ms.min(QUERY_SPREAD_MS);
        Self { interval_ms, offset_ms: on_grid((target_ms + query_ms) % interval_ms) }
    }

    /// The item's place within its interval.
    pub fn offset(&self) -> Duration {
        Duration::from_millis(self.offset_ms)
    }

    /// When the tick of this number is due, since the epoch.
    pub fn due(&self, tick: u64) -> Duration {
        Duration::from_millis(on_grid(self.offset_ms.saturating_add(tick.saturating_mul(self.interval_ms))))
    }

    /// The number of the first tick that is due at or after `since_epoch`.
    pub fn tick_from(&self, since_epoch: Duration) -> u64 {
        let ms = u64::try_from(since_epoch.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let tick = ms.saturating_sub(self.offset_ms).div_ceil(self.interval_ms);
        // An interval that is no multiple of the grid is due up to one step before its exact moment.
        if self.due(tick) < since_epoch { tick + 1 } else { tick }
    }
}

/// A moment on the grid, since the epoch: these are whole milliseconds, which take half of a Duration's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Millis(u64);

impl From<Duration> for Millis {
    fn from(on_grid: Duration) -> Self {
        Self(u64::try_from(on_grid.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Millis> for Duration {
    fn from(Millis(ms): Millis) -> Self {
        Self::from_millis(ms)
    }
}

/// The first moment on the grid that is not before this one.
pub(crate) fn up_to_grid(since_epoch: Duration) -> Duration {
    let ms = u64::try_from(since_epoch.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Duration::from_millis(on_grid(ms.saturating_add(GRID_MS - 1)))
}

fn on_grid(ms: u64) -> u64 {
    ms - ms % GRID_MS
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(items: &[(&str, &str, u64)], expect: &Expect) {
        let lines = items.iter().map(|(target, query, seconds)| {
            let schedule = Schedule::new(target, query, Duration::from_secs(*seconds));
            format!("{query}@{target} every {seconds} s: {} ms\n", schedule.offset().as_millis())
        });
        expect.assert_eq(&lines.collect::<String>());
    }

    /// Pinned: a change of these numbers moves every item of every user at an upgrade.
    #[test]
    fn offsets_follow_from_the_names_alone() {
        check(
            &[
                ("db1", "process_count", 10),
                ("db2", "process_count", 10),
                ("db1", "threads", 10),
                ("db1", "threads", 60),
                ("db1", "process_count", 60),
                ("db1", "process_count", 3600),
                ("10.0.0.12:3307", "größe", 15),
            ],
            &expect![[r#"
                process_count@db1 every 10 s: 3700 ms
                process_count@db2 every 10 s: 6850 ms
                threads@db1 every 10 s: 3375 ms
                threads@db1 every 60 s: 43375 ms
                process_count@db1 every 60 s: 43700 ms
                process_count@db1 every 3600 s: 1903700 ms
                größe@10.0.0.12:3307 every 15 s: 2950 ms
            "#]],
        );
    }

    #[test]
    fn a_targets_items_lie_within_ten_seconds_of_each_other() {
        let offsets = (0..50).map(|q| {
            let schedule = Schedule::new("db1", &format!("q{q}"), Duration::from_secs(3600));
            schedule.offset().as_secs_f64()
        });
        let offsets: Vec<_> = offsets.collect();
        let spread =
            offsets.iter().copied().fold(0.0, f64::max) - offsets.iter().copied().fold(f64::MAX, f64::min);
        assert!(spread <= 10.0, "{spread}");
    }

    #[test]
    fn ticks_are_on_the_grid_and_at_a_fixed_rate() {
        let schedule = Schedule::new("db1", "q", Duration::from_millis(1010));
        let first = schedule.tick_from(Duration::from_secs(1_700_000_000));
        for n in 0..1000 {
            let due = schedule.due(first + n);
            assert_eq!(due.as_millis() % GRID.as_millis(), 0);
            let exact = schedule.due(first).as_millis() + u128::from(n) * 1010;
            assert!(due.as_millis() <= exact + 25 && due.as_millis() + 25 >= exact, "tick {n} drifted");
        }
    }

    #[test]
    fn the_next_tick_is_never_in_the_past_and_never_skips_one() {
        for interval in [1000, 1010, 2500, 60_000] {
            let schedule = Schedule::new("db1", "q", Duration::from_millis(interval));
            for us in (1_700_000_000_000_000_u64..).step_by(333_333).take(500) {
                let now = Duration::from_micros(us);
                let tick = schedule.tick_from(now);
                assert!(schedule.due(tick) >= now);
                assert!(schedule.due(tick - 1) < now);
            }
        }
    }

    /// 300 targets with 10 queries each at 10 s: mean 30 ticks in 100 ms.
    #[test]
    fn a_fleet_is_spread_flat() {
        let mut bins = [0_u32; 100];
        for target in 1..=300 {
            for query in 0..10 {
                let schedule = Schedule::new(
                    &format!("db{target:03}"),
                    &format!("query_{query}"),
                    Duration::from_secs(10),
                );
                bins[usize::try_from(schedule.offset().as_millis() / 100).unwrap()] += 1;
            }
        }
        assert_eq!(bins.iter().sum::<u32>(), 3000);
        let largest = bins.iter().max().unwrap();
        assert!(*largest <= 60, "the largest 100 ms holds {largest} ticks, twice the mean is 60");
    }
}
