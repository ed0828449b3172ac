//! Lengths, ages and moments as a person reads them.

use std::{fmt, time::Duration};

use time::OffsetDateTime;

/// A length with two or three digits, in the unit that fits, from which no line end parts them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Length(pub(super) Duration);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let whole = self.0.as_secs();
        match whole {
            0 if seconds < 0.000_000_5 => f.write_str("0\u{a0}s"),
            0 if seconds < 0.000_999_5 => write!(f, "{:.0}\u{a0}µs", seconds * 1e6),
            0 if seconds < 0.009_995 => write!(f, "{:.1}\u{a0}ms", seconds * 1e3),
            0 if seconds < 0.999_5 => write!(f, "{:.0}\u{a0}ms", seconds * 1e3),
            0..10 if self.0.subsec_millis() > 0 => write!(f, "{seconds:.1}\u{a0}s"),
            0..120 => write!(f, "{whole}\u{a0}s"),
            120..7_200 => write!(f, "{}\u{a0}min", whole / 60),
            7_200..172_800 => write!(f, "{}\u{a0}h", whole / 3600),
            _ => write!(f, "{}\u{a0}days", whole / 86_400),
        }
    }
}

/// A moment in UTC, for machines and for comparing with logs: 2025-07-25T03:12:45Z.
#[derive(Debug, Clone, Copy)]
pub(super) struct Utc(pub(super) u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0 / 1000).unwrap_or(i64::MAX);
        let Ok(at) = OffsetDateTime::from_unix_timestamp(seconds) else { return f.write_str("never") };
        let (date, time) = (at.date(), at.time());
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Bytes in the binary unit that fits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..10_240 => write!(f, "{bytes} B"),
            bytes @ 10_240..10_485_760 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{} MiB", bytes >> 20),
        }
    }
}

/// A number and its noun: "1 target", "2 targets".
#[derive(Debug, Clone, Copy)]
pub(super) struct Count(pub(super) usize, pub(super) &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(n, noun) = self;
        write!(f, "{n} {noun}{}", if *n == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_the_unit_that_fits() {
        #[track_caller]
        fn check(us: u64, expected: &str) {
            assert_eq!(Length(Duration::from_micros(us)).to_string().replace('\u{a0}', " "), expected);
        }
        check(0, "0 s");
        check(7, "7 µs");
        check(999, "999 µs");
        check(1_000, "1.0 ms");
        check(9_990, "10.0 ms");
        check(10_000, "10 ms");
        check(999_400, "999 ms");
        check(999_600, "1.0 s");
        check(1_000_000, "1 s");
        check(1_250_000, "1.2 s");
        check(59_900_000, "59 s");
        check(119_000_000, "119 s");
        check(120_000_000, "2 min");
        check(7_199_000_000, "119 min");
        check(7_200_000_000, "2 h");
        check(259_200_000_000, "3 days");
    }

    #[test]
    fn moments_are_in_utc() {
        assert_eq!(Utc(1_753_413_165_999).to_string(), "2025-07-25T03:12:45Z");
        assert_eq!(Utc(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Utc(u64::MAX).to_string(), "never");
    }

    #[test]
    fn bytes_and_counts_read_well() {
        assert_eq!(
            [Bytes(10_239), Bytes(20_480), Bytes(268_435_456)].map(|b| b.to_string()),
            ["10239 B", "20 KiB", "256 MiB"]
        );
        assert_eq!(format!("{}, {}", Count(1, "target"), Count(0, "item")), "1 target, 0 items");
    }
}
