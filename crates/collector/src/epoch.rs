//! Dates and times of a UTC session as seconds since the epoch: text in, digits out.

use time::{Date, Month};

/// The Julian day of 1970-01-01.
const EPOCH_DAY: i64 = 2_440_588;

/// The number for `YYYY-MM-DD`, `YYYY-MM-DD HH:MM:SS` or the same with a fraction, whose digits stay as they are. None
/// for a date that does not exist, the servers' zero dates among them, and for a time before the epoch that has a
/// fraction: its digits would count the other way.
pub(crate) fn seconds(cell: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(cell).ok()?;
    let (date, time) = text.split_once(' ').unwrap_or((text, "00:00:00"));
    let [year, month, day] = parts(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [hour, minute, second] = parts(time, ':')?;
    if hour > 23 || minute > 59 || second > 59 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    let day = i64::from(date.to_julian_day()) - EPOCH_DAY;
    let seconds = day * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    if fraction.is_empty() {
        return Some(seconds.to_string());
    }
    (seconds >= 0).then(|| format!("{seconds}.{fraction}"))
}

fn parts(text: &str, separator: char) -> Option<[u32; 3]> {
    let mut parts = text.split(separator).map(|part| {
        let digits = !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    });
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_the_epoch_and_what_is_no_date_is_no_number() {
        for (cell, expected) in [
            ("1970-01-01", Some("0")),
            ("1970-01-01 00:00:01", Some("1")),
            ("2024-02-29 12:34:56", Some("1709210096")),
            ("2024-02-29 12:34:56.789012", Some("1709210096.789012")),
            ("9999-12-31 23:59:59", Some("253402300799")),
            ("1969-12-31 23:59:59", Some("-1")),
            ("1969-12-31 23:59:59.5", None),
            ("0000-00-00 00:00:00", None),
            ("2023-02-29", None),
            ("2024-01-01 24:00:00", None),
            ("2024-01-01T00:00:00", None),
            ("2024-01", None),
            ("2024-01-01-01", None),
            ("2024-01-01 00:00:00.5x", None),
            ("", None),
        ] {
            assert_eq!(seconds(cell.as_bytes()).as_deref(), expected, "{cell:?}");
        }
    }
}
