//! What a cell is worth: its number as it goes on the page, its text as a label, or why it is no number.

use crate::{
    fragment,
    rows::{CellKind, Column},
    seconds::{append_duration, append_since_epoch},
};

/// Bytes of a cell that a message quotes.
const QUOTED_BYTES: usize = 40;

/// A number with more digits before its point may be beyond a double.
const SAFE_DIGITS: usize = 300;

/// Words that servers use for yes and no.
const WORDS: [(&[u8], u8); 6] =
    [(b"on", b'1'), (b"off", b'0'), (b"yes", b'1'), (b"no", b'0'), (b"true", b'1'), (b"false", b'0')];

/// Appends the number of a cell. Returns false, and appends nothing, if it is none.
pub(crate) fn append_number(out: &mut Vec<u8>, kind: CellKind, cell: &[u8]) -> bool {
    match kind {
        CellKind::Text => append_decimal(out, cell) || append_word(out, cell),
        CellKind::Padded => append_number(out, CellKind::Text, unpadded(cell)),
        CellKind::Bit => append_bit(out, cell),
        CellKind::Duration => append_duration(out, cell),
        CellKind::Utc => append_since_epoch(out, cell),
        CellKind::Temporal => false,
    }
}

/// Appends a cell as a label value, made valid and cut at `max` bytes. Returns whether it was cut.
pub(crate) fn append_label(out: &mut Vec<u8>, kind: CellKind, cell: &[u8], max: usize) -> bool {
    match kind {
        CellKind::Bit => {
            append_bit(out, cell);
            false
        }
        CellKind::Padded => fragment::append_label(out, unpadded(cell), max),
        CellKind::Text | CellKind::Duration | CellKind::Utc | CellKind::Temporal => {
            fragment::append_label(out, cell, max)
        }
    }
}

/// Why a cell of this column is no number, for a person.
pub(crate) fn not_a_number(column: &Column, cell: &[u8]) -> String {
    let name = &column.name;
    match column.kind {
        CellKind::Temporal => format!(
            "column {name} holds a date, which is a number only in a known time zone: use UNIX_TIMESTAMP({name}), or set \
             session.time_zone = \"+00:00\""
        ),
        CellKind::Bit => format!("column {name} holds more than 64 bits, which is not a number"),
        CellKind::Utc => format!("column {name} holds {}, a date that does not exist", quoted(cell)),
        CellKind::Padded => format!("column {name} holds {}, which is not a number", quoted(unpadded(cell))),
        CellKind::Text | CellKind::Duration => {
            format!("column {name} holds {}, which is not a number", quoted(cell))
        }
    }
}

/// The beginning of a cell in quotes.
fn quoted(cell: &[u8]) -> String {
    let shown = &cell[..cell.len().min(QUOTED_BYTES)];
    let more = if shown.len() < cell.len() { "…" } else { "" };
    format!("{:?}{more}", String::from_utf8_lossy(shown))
}

/// A BINARY cell without the NUL bytes that fill it up to the width of its column.
fn unpadded(cell: &[u8]) -> &[u8] {
    let end = cell.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    &cell[..end]
}

/// Appends a decimal number, with ASCII space around it or not.
///
/// The digits are those of the cell, so that a 30-digit DECIMAL stays exact; only a point without digits on both sides
/// (`.5`, `5.`) is written as others read it. `nan`, `inf`, hexadecimal, digits in groups and what is beyond a double
/// are no numbers: Prometheus drops the whole page for some of them.
fn append_decimal(out: &mut Vec<u8>, cell: &[u8]) -> bool {
    let text = cell.trim_ascii();
    let (sign, rest) = text.split_at(usize::from(matches!(text.first(), Some(b'+' | b'-'))));
    let (whole, rest) = digits(rest);
    let (point, (fraction, exponent)) = match rest {
        [b'.', rest @ ..] => (true, digits(rest)),
        _ => (false, (&[][..], rest)),
    };
    if whole.is_empty() && fraction.is_empty() || !is_exponent(exponent) {
        return false;
    }
    if (!exponent.is_empty() || whole.len() > SAFE_DIGITS) && !is_finite(text) {
        return false;
    }
    if whole.is_empty() || point && fraction.is_empty() {
        out.extend_from_slice(sign);
        out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
        if !fraction.is_empty() {
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        out.extend_from_slice(exponent);
    } else {
        out.extend_from_slice(text);
    }
    true
}

/// The digits that a text begins with, and the rest.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len()))
}

/// Whether this is nothing, or an exponent and nothing else.
fn is_exponent(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b'e' | b'E', b'+' | b'-', power @ ..] | [b'e' | b'E', power @ ..] => {
            !power.is_empty() && digits(power).1.is_empty()
        }
        _ => false,
    }
}

fn is_finite(number: &[u8]) -> bool {
    let number = std::str::from_utf8(number).ok().and_then(|text| text.parse::<f64>().ok());
    number.is_some_and(f64::is_finite)
}

/// Appends 1 or 0 for a word that says yes or no, so that SHOW GLOBAL STATUS and VARIABLES map whole.
fn append_word(out: &mut Vec<u8>, cell: &[u8]) -> bool {
    let text = cell.trim_ascii();
    let found = WORDS.iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
    out.extend(found.map(|(_, number)| *number));
    found.is_some()
}

/// Appends the digits of a BIT cell, an unsigned big-endian number of up to eight bytes.
fn append_bit(out: &mut Vec<u8>, cell: &[u8]) -> bool {
    if cell.len() > 8 {
        return false;
    }
    let number = cell.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(kind: CellKind, cell: &[u8]) -> Option<String> {
        let mut out = b"before ".to_vec();
        let is_number = append_number(&mut out, kind, cell);
        let text = String::from_utf8(out).unwrap().strip_prefix("before ").unwrap().to_owned();
        assert_eq!(is_number, !text.is_empty(), "{cell:?} became {text:?}");
        is_number.then_some(text)
    }

    #[track_caller]
    fn check(kind: CellKind, cell: impl AsRef<[u8]>, expected: Option<&str>) {
        let cell = cell.as_ref();
        assert_eq!(number(kind, cell).as_deref(), expected, "{:?}", String::from_utf8_lossy(cell));
    }

    #[test]
    fn numbers_keep_their_digits_and_nothing_else_passes_for_one() {
        let same = |cell: &str| check(CellKind::Text, cell, Some(cell));
        let becomes = |cell: &str, number| check(CellKind::Text, cell, Some(number));
        let refused = |cell: &str| check(CellKind::Text, cell, None);
        same("0");
        same("-0");
        same("+5");
        same("000042");
        same("18446744073709551615");
        same("-9223372036854775808");
        same("12345678901234567890.1234567890");
        same("1.7976931348623157e308");
        same("1E-320");
        same("1e-999");
        same("1e+5");
        becomes(" 42 ", "42");
        becomes("\t-1.50\r\n", "-1.50");
        becomes(".5", "0.5");
        becomes("-.5", "-0.5");
        becomes("5.", "5");
        becomes("+5.e3", "+5e3");
        becomes(".25e-1", "0.25e-1");
        same(&format!("0.{}", "9".repeat(400)));
        same(&"9".repeat(300));
        refused(&"9".repeat(400));
        for cell in [
            "",
            " ",
            "-",
            ".",
            "-.",
            ".e1",
            "e1",
            "1e",
            "1e+",
            "1e1.5",
            "1.2.3",
            "--1",
            "+-1",
            "1 2",
            "1-",
            "0x10",
            "0b1",
            "1_000",
            "1,000",
            "1e999",
            "-1e999",
            "nan",
            "NaN",
            "-nan",
            "inf",
            "-inf",
            "+Infinity",
            "infinity",
            "1n",
            "½",
            "٣",
            "2024-02-29",
            "12:30:00",
        ] {
            refused(cell);
        }
        check(CellKind::Text, b"1\0", None);
        check(CellKind::Text, b"\xff", None);
    }

    #[test]
    fn a_word_for_yes_or_no_is_one_or_nought_in_any_case_and_as_the_whole_cell() {
        for (yes, no) in [("on", "off"), ("YES", "NO"), ("True", "False"), (" On\n", "\toFF ")] {
            check(CellKind::Text, yes, Some("1"));
            check(CellKind::Text, no, Some("0"));
            check(CellKind::Padded, format!("{yes}\0"), Some("1"));
        }
        for word in ["o", "onn", "on off", "y", "n", "t", "yes.", "\"true\"", "null", "enabled", "ＯＮ"] {
            check(CellKind::Text, word, None);
        }
        check(CellKind::Text, b"on\0", None);
    }

    #[test]
    fn a_bit_is_an_unsigned_number_whatever_its_width() {
        check(CellKind::Bit, b"", Some("0"));
        check(CellKind::Bit, b"\x01", Some("1"));
        check(CellKind::Bit, b"\x01\x00", Some("256"));
        check(CellKind::Bit, b"1", Some("49"));
        check(CellKind::Bit, [0xff; 8], Some("18446744073709551615"));
        check(CellKind::Bit, [0xff; 9], None);
    }

    #[test]
    fn padding_is_no_part_of_a_binary_cell() {
        check(CellKind::Padded, b"42\0\0\0", Some("42"));
        check(CellKind::Padded, b"42", Some("42"));
        check(CellKind::Padded, b"4\x002\0", None);
        check(CellKind::Padded, b"\0\0", None);
    }

    #[test]
    fn each_kind_has_a_reason_of_its_own() {
        #[track_caller]
        fn check(kind: CellKind, cell: &[u8], expected: &str) {
            assert_eq!(
                not_a_number(&Column { name: "c".to_owned(), kind, type_name: "CHAR" }, cell),
                expected
            );
        }
        check(CellKind::Text, b"a\"\xff", "column c holds \"a\\\"\u{fffd}\", which is not a number");
        check(CellKind::Text, b"", "column c holds \"\", which is not a number");
        let long = format!("column c holds \"{}\"…, which is not a number", "x".repeat(40));
        check(CellKind::Text, &[b'x'; 41], &long);
        check(CellKind::Duration, b"?", "column c holds \"?\", which is not a number");
        check(CellKind::Padded, b"ab\0\0", "column c holds \"ab\", which is not a number");
        check(CellKind::Bit, &[0; 9], "column c holds more than 64 bits, which is not a number");
        check(CellKind::Utc, b"0000-00-00", "column c holds \"0000-00-00\", a date that does not exist");
        check(
            CellKind::Temporal,
            b"2024-02-29",
            "column c holds a date, which is a number only in a known time zone: use UNIX_TIMESTAMP(c), or set \
             session.time_zone = \"+00:00\"",
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn a_text_is_a_number_exactly_if_it_stands_for_a_finite_double_or_a_word(
            text in "[ +-]{0,2}[0-9]{0,25}\\.?[0-9]{0,5}([eE][+-]?[0-9]{0,4})?[ x]?|[a-zA-Z]{0,5}|.{0,8}"
        ) {
            let double = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
            let trimmed = text.trim_matches([' ', '\t', '\n', '\r', '\u{c}']);
            let word = match trimmed.to_ascii_lowercase().as_str() {
                "on" | "yes" | "true" => Some(1.0),
                "off" | "no" | "false" => Some(0.0),
                _ => None,
            };
            let number = number(CellKind::Text, text.as_bytes());
            prop_assert_eq!(number.as_deref().map(|number| double(number).unwrap()), double(trimmed).or(word));
            if let Some(number) = number {
                prop_assert!(fragment::is_valid(format!("f {number}\n").as_bytes()), "{}", number);
            }
        }
    }
}
