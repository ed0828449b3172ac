//! Dates, and lengths of time, as seconds: text in, digits out.

use time::{Date, Month};

/// The Julian day of 1970-01-01.
const EPOCH_DAY: i64 = 2_440_588;

/// The most digits of a fraction. Servers send six.
const FRACTION_DIGITS: usize = 9;

/// Appends the seconds since the epoch of `YYYY-MM-DD`, `YYYY-MM-DD HH:MM:SS` or the same with a fraction, in UTC.
/// Appends nothing for a date that does not exist, the servers' zero dates among them, and returns whether it did.
pub(crate) fn append_since_epoch(out: &mut Vec<u8>, cell: &[u8]) -> bool {
    let (date, time) = match split(cell, b' ') {
        Some((date, time)) => (date, Some(time)),
        None => (cell, None),
    };
    let midnight = (0, &[][..]);
    let Some((day, (second, fraction))) = day(date).zip(time.map_or(Some(midnight), time_of_day)) else {
        return false;
    };
    let whole = day * 86_400 + second;
    match fraction_backwards(fraction) {
        // Before the epoch the fraction of a date counts forwards and the digits of a number backwards.
        Some(backwards) if whole < 0 => {
            append_signed(out, true, (whole + 1).unsigned_abs());
            append_fraction(out, backwards, fraction.len());
        }
        _ => {
            append_signed(out, whole < 0, whole.unsigned_abs());
            append_digits(out, fraction);
        }
    }
    true
}

/// Appends the seconds of `HH:MM:SS` or `-HHH:MM:SS.ffffff`: a length of time, which no time zone changes. Returns
/// whether it is one.
pub(crate) fn append_duration(out: &mut Vec<u8>, cell: &[u8]) -> bool {
    let (negative, cell) = match cell {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, cell),
    };
    let Some(([hour, minute, second], fraction)) = time(cell) else { return false };
    append_signed(out, negative, u64::from(hour * 3600 + minute * 60 + second));
    append_digits(out, fraction);
    true
}

/// The days from the epoch to this date.
fn day(date: &[u8]) -> Option<i64> {
    let [year, month, day] = parts(date, b'-')?;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    Some(i64::from(date.to_julian_day()) - EPOCH_DAY)
}

/// The second of the day, and the digits of its fraction.
fn time_of_day(text: &[u8]) -> Option<(i64, &[u8])> {
    let ([hour, minute, second], fraction) = time(text)?;
    (hour < 24).then(|| (i64::from(hour * 3600 + minute * 60 + second), fraction))
}

/// Hours, however many, minutes and seconds, and the digits of the fraction.
fn time(text: &[u8]) -> Option<([u32; 3], &[u8])> {
    let (whole, fraction) = match split(text, b'.') {
        Some((_, fraction)) if fraction.is_empty() || fraction.len() > FRACTION_DIGITS => return None,
        Some(split) => split,
        None => (text, &[][..]),
    };
    let parts = parts(whole, b':')?;
    let [_, minute, second] = parts;
    (minute < 60 && second < 60 && fraction.iter().all(u8::is_ascii_digit)).then_some((parts, fraction))
}

/// The three numbers between two separators.
fn parts(text: &[u8], separator: u8) -> Option<[u32; 3]> {
    let mut parts = text.split(|b| *b == separator).map(|part| {
        let digits = (1..=4).contains(&part.len()) && part.iter().all(u8::is_ascii_digit);
        digits.then(|| part.iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0')))
    });
    let three = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(three)
}

/// What stands before and after the first of these bytes.
fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == at)?;
    Some((&text[..at], &text[at + 1..]))
}

/// What is missing from this fraction to a whole, in units of its last digit; None if the fraction is nothing.
fn fraction_backwards(fraction: &[u8]) -> Option<u64> {
    let (part, whole) =
        fraction.iter().fold((0, 1), |(n, whole), digit| (n * 10 + u64::from(digit - b'0'), whole * 10));
    (part > 0).then_some(whole - part)
}

fn append_signed(out: &mut Vec<u8>, negative: bool, number: u64) {
    if negative {
        out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn append_fraction(out: &mut Vec<u8>, number: u64, digits: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number).as_bytes();
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', digits - text.len()));
    out.extend_from_slice(text);
}

fn append_digits(out: &mut Vec<u8>, fraction: &[u8]) {
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn appended(append: fn(&mut Vec<u8>, &[u8]) -> bool, cell: &[u8]) -> Option<String> {
        let mut out = b"before ".to_vec();
        let is_number = append(&mut out, cell);
        let text = String::from_utf8(out).unwrap().strip_prefix("before ").unwrap().to_owned();
        assert_eq!(is_number, !text.is_empty(), "{cell:?} became {text:?}");
        is_number.then_some(text)
    }

    #[test]
    fn dates_are_seconds_since_the_epoch_and_what_is_no_date_is_no_number() {
        #[track_caller]
        fn check(cell: &str, expected: Option<&str>) {
            assert_eq!(appended(append_since_epoch, cell.as_bytes()).as_deref(), expected, "{cell:?}");
        }
        check("1970-01-01", Some("0"));
        check("1970-01-01 00:00:01", Some("1"));
        check("2024-02-29 12:34:56", Some("1709210096"));
        check("2024-02-29 12:34:56.789012", Some("1709210096.789012"));
        check("1970-01-01 00:00:00.000001", Some("0.000001"));
        check("9999-12-31 23:59:59.999999", Some("253402300799.999999"));
        check("1969-12-31 23:59:59", Some("-1"));
        check("1969-12-31 23:59:59.5", Some("-0.5"));
        check("1969-12-31 23:59:59.999999", Some("-0.000001"));
        check("1969-12-31 23:59:58.250", Some("-1.750"));
        check("1969-12-31 23:59:58.000", Some("-2.000"));
        check("0000-00-00 00:00:00", None);
        check("0000-00-00", None);
        check("2024-00-00", None);
        check("2023-02-29", None);
        check("2024-02-30 00:00:00", None);
        check("2024-01-01 24:00:00", None);
        check("2024-01-01T00:00:00", None);
        check("2024-01", None);
        check("2024-01-01-01", None);
        check("2024-01-01 00:00:00.5x", None);
        check("2024-01-01 00:00:00.", None);
        check("2024-01-01 ", None);
        check("-2024-01-01", None);
        check("12:34:56", None);
        check("", None);
    }

    #[test]
    fn a_length_of_time_is_seconds_with_its_sign_and_its_fraction() {
        #[track_caller]
        fn check(cell: &str, expected: Option<&str>) {
            assert_eq!(appended(append_duration, cell.as_bytes()).as_deref(), expected, "{cell:?}");
        }
        check("00:00:00", Some("0"));
        check("00:00:01", Some("1"));
        check("12:34:56", Some("45296"));
        check("24:00:00", Some("86400"));
        check("838:59:59", Some("3020399"));
        check("-838:59:59.500", Some("-3020399.500"));
        check("-00:00:00.000001", Some("-0.000001"));
        check("00:00:00.500000", Some("0.500000"));
        check("00:60:00", None);
        check("00:00:60", None);
        check("00:00", None);
        check("00:00:00:00", None);
        check("00:00:00.", None);
        check("00:00:00.0000000001", None);
        check("--01:00:00", None);
        check("+01:00:00", None);
        check("00001:00:00", None);
        check("1 00:00:00", None);
        check("", None);
        check("-", None);
    }

    /// The same by way of another road: all in units of the last digit, and back.
    fn length_in_nanoseconds(text: &str) -> Option<i128> {
        let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit()).then(|| text.parse::<i128>().ok());
        let parts: Vec<_> = whole.split(':').map(|part| digits(part).flatten()).collect();
        let [Some(hour), Some(minute), Some(second)] = parts[..] else { return None };
        let short = whole.split(':').all(|part| part.len() <= 4) && (1..=9).contains(&fraction.len());
        let nanoseconds =
            digits(fraction).flatten()? * 10_i128.pow(u32::try_from(9 - fraction.len().min(9)).ok()?);
        let valid = short && minute < 60 && second < 60;
        valid.then(|| sign * ((hour * 3600 + minute * 60 + second) * 1_000_000_000 + nanoseconds))
    }

    /// Digits with a point, in units of a billionth.
    fn billionths(number: &str) -> i128 {
        let (sign, number) = number.strip_prefix('-').map_or((1, number), |rest| (-1, rest));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        sign * format!("{whole}{fraction:0<9}").parse::<i128>().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn any_length_is_what_another_way_to_work_it_out_says(
            text in "-?[0-9]{1,4}:[0-6]?[0-9]:[0-6]?[0-9](\\.[0-9]{0,10})?|[-0-9:. ]{0,16}|.{0,8}"
        ) {
            let number = appended(append_duration, text.as_bytes());
            prop_assert_eq!(number.as_deref().map(billionths), length_in_nanoseconds(&text), "{:?}", number);
        }

        #[test]
        fn any_moment_is_its_place_among_all_moments(second in -62_135_596_800_i64..253_402_300_800, micros in 0..1_000_000_u32) {
            let (day, rest) = (second.div_euclid(86_400), second.rem_euclid(86_400));
            let (year, month, date) = civil(day);
            let text = format!(
                "{year:04}-{month:02}-{date:02} {:02}:{:02}:{:02}.{micros:06}", rest / 3600, rest / 60 % 60, rest % 60
            );
            let number = appended(append_since_epoch, text.as_bytes());
            let expected = i128::from(second) * 1_000_000_000 + i128::from(micros) * 1000;
            prop_assert_eq!(number.as_deref().map(billionths), Some(expected), "{} {:?}", text, number);
        }
    }

    /// Year, month and day of a day since the epoch, counted from a March so that the leap day is a year's last.
    fn civil(day: i64) -> (i64, i64, i64) {
        let day = day + 719_468;
        let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let date = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        (year + era * 400 + i64::from(month <= 2), month, date)
    }
}
