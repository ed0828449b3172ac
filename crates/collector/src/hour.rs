//! An hour of a target, minute by minute, in half a kilobyte: for a picture, so each number is rounded.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::BootTime;

/// How many minutes are kept.
pub const MINUTES: usize = 60;

/// The last hour of a target. Writing is one atomic exchange, and reading stops nobody.
#[derive(Debug)]
pub struct Hour([AtomicU64; MINUTES]);

/// What happened in one minute. All zero where nothing did.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Minute {
    /// The longest run that ended in it; None if none did.
    pub longest: Option<Duration>,
    /// The greatest lateness among those runs: from the tick to the start, the wait for permits included.
    pub latest: Duration,
    /// Failed runs; 255 is 255 or more.
    pub failed: u8,
    /// Missed ticks; 255 is 255 or more.
    pub missed: u8,
}

impl Default for Hour {
    fn default() -> Self {
        Self(array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Hour {
    /// A run has ended at `now`.
    pub(crate) fn ran(&self, now: BootTime, duration: Duration, lateness: Duration, failed: bool) {
        self.change(now, |minute| Packed {
            longest: minute.longest.max(rounded(duration).max(1)),
            latest: minute.latest.max(rounded(lateness)),
            failed: minute.failed.saturating_add(u8::from(failed)),
            ..minute
        });
    }

    /// Ticks were missed.
    pub(crate) fn missed(&self, now: BootTime, ticks: u64) {
        let ticks = u8::try_from(ticks).unwrap_or(u8::MAX);
        self.change(now, |minute| Packed { missed: minute.missed.saturating_add(ticks), ..minute });
    }

    /// The hour that ends with `now`, the present minute last.
    pub fn minutes(&self, now: BootTime) -> [Minute; MINUTES] {
        let last = minute_of(now);
        array::from_fn(|place| {
            let ago = (MINUTES - 1 - place) as u64;
            last.checked_sub(ago).map_or_else(Minute::default, |minute| {
                let packed = Packed::from_bits(self.cell(minute).load(Relaxed));
                if packed.stamp == stamp(minute) { packed.minute() } else { Minute::default() }
            })
        })
    }

    fn change(&self, now: BootTime, change: impl Fn(Packed) -> Packed) {
        let minute = minute_of(now);
        let changed = |bits| {
            let packed = Packed::from_bits(bits);
            let empty = Packed { stamp: stamp(minute), ..Packed::default() };
            Some(change(if packed.stamp == empty.stamp { packed } else { empty }).bits())
        };
        // The closure always gives a value, so this cannot fail.
        let _ = self.cell(minute).fetch_update(Relaxed, Relaxed, changed);
    }

    fn cell(&self, minute: u64) -> &AtomicU64 {
        // Below 60, so it fits.
        &self.0[usize::try_from(minute % MINUTES as u64).unwrap_or_default()]
    }
}

/// A minute's cell: which minute it is of, and what happened in it.
#[derive(Debug, Clone, Copy, Default)]
struct Packed {
    /// The low bits of the minute's number. With the cell's own place it repeats after almost two years.
    stamp: u16,
    longest: u16,
    latest: u16,
    failed: u8,
    missed: u8,
}

impl Packed {
    fn from_bits(bits: u64) -> Self {
        let [s0, s1, r0, r1, l0, l1, failed, missed] = bits.to_be_bytes();
        let (stamp, longest) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([r0, r1]));
        Self { stamp, longest, latest: u16::from_be_bytes([l0, l1]), failed, missed }
    }

    fn bits(self) -> u64 {
        let Self { stamp, longest, latest, failed, missed } = self;
        let ([s0, s1], [r0, r1], [l0, l1]) =
            (stamp.to_be_bytes(), longest.to_be_bytes(), latest.to_be_bytes());
        u64::from_be_bytes([s0, s1, r0, r1, l0, l1, failed, missed])
    }

    fn minute(self) -> Minute {
        Minute {
            longest: (self.longest > 0).then(|| exact(self.longest)),
            latest: exact(self.latest),
            failed: self.failed,
            missed: self.missed,
        }
    }
}

fn minute_of(now: BootTime) -> u64 {
    now.since(BootTime::from_boot(Duration::ZERO)).as_secs() / 60
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
fn stamp(minute: u64) -> u16 {
    minute as u16
}

/// Seconds as the upper half of an f32: any length from microseconds to years, within four thousandths. The numbers
/// keep their order, so the greatest of them is the greatest length.
fn rounded(length: Duration) -> u16 {
    let bits = length.as_secs_f32().to_bits();
    // Rounded to the nearest; the exponent of a Duration is far from the end of the range.
    u16::try_from((bits + 0x8000) >> 16).unwrap_or(u16::MAX)
}

fn exact(rounded: u16) -> Duration {
    Duration::try_from_secs_f32(f32::from_bits(u32::from(rounded) << 16)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u64, second: u64) -> BootTime {
        BootTime::from_boot(Duration::from_secs(minute * 60 + second))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[track_caller]
    fn assert_near(seen: Duration, expected: Duration) {
        let (seen, expected) = (seen.as_secs_f64(), expected.as_secs_f64());
        assert!((seen - expected).abs() <= expected * 0.004, "{seen} for {expected}");
    }

    #[test]
    fn a_minute_keeps_the_longest_run_the_greatest_lateness_and_both_counts() {
        let hour = Hour::default();
        hour.ran(at(100, 0), ms(12), ms(3), false);
        hour.ran(at(100, 30), ms(250), ms(1), true);
        hour.ran(at(100, 59), ms(40), ms(90), true);
        hour.missed(at(100, 59), 7);
        let minute = hour.minutes(at(100, 59))[MINUTES - 1];
        assert_near(minute.longest.unwrap(), ms(250));
        assert_near(minute.latest, ms(90));
        assert_eq!((minute.failed, minute.missed), (2, 7));
        hour.missed(at(100, 59), 10_000);
        assert_eq!(hour.minutes(at(100, 59))[MINUTES - 1].missed, u8::MAX);
    }

    #[test]
    fn what_is_more_than_an_hour_old_has_left() {
        let hour = Hour::default();
        hour.ran(at(100, 0), ms(12), ms(3), false);
        let place_of = |now| hour.minutes(now).iter().position(|minute| minute.longest.is_some());
        assert_eq!(place_of(at(100, 0)), Some(59));
        assert_eq!(place_of(at(101, 0)), Some(58));
        assert_eq!(place_of(at(159, 59)), Some(0));
        assert_eq!(place_of(at(160, 0)), None);
        // Days later, whichever minute it is.
        for minute in (160..300_000).step_by(7) {
            assert_eq!(place_of(at(minute, 0)), None, "minute {minute}");
        }
        hour.missed(at(160, 0), 1);
        let minute = hour.minutes(at(160, 0))[59];
        assert_eq!((minute.longest, minute.missed), (None, 1), "the cell begins anew");
    }

    #[test]
    fn a_machine_that_has_just_booted_has_a_short_hour() {
        let hour = Hour::default();
        hour.ran(at(0, 5), ms(0), ms(0), false);
        let minutes = hour.minutes(at(2, 0));
        assert_eq!(minutes.iter().filter(|minute| minute.longest.is_some()).count(), 1);
        assert!(minutes[57].longest.is_some(), "a run that took no time is a run all the same");
    }

    #[test]
    fn lengths_are_within_four_thousandths_and_in_order() {
        let lengths = [0, 1, 17, 999, 1500, 123_456, 10_000_000, 86_400_000_000_u64];
        for us in lengths {
            assert_near(exact(rounded(Duration::from_micros(us))), Duration::from_micros(us));
        }
        assert!(
            lengths
                .windows(2)
                .all(|w| { rounded(Duration::from_micros(w[0])) < rounded(Duration::from_micros(w[1])) })
        );
        assert!(exact(rounded(Duration::MAX)) > Duration::from_hours(1_000_000));
    }

    #[test]
    fn an_hour_is_half_a_kilobyte() {
        assert_eq!(size_of::<Hour>(), 480);
    }
}
