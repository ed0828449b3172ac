//! The text of samples: encoded once, when a result is published, and checked before anybody sees it.
//!
//! One invalid byte costs Prometheus the whole page, so what leaves here has been read once more by [`is_valid`],
//! which shares no code with the writing.

/// Appends label pairs in encoded form, `a="b",c="d"`.
pub(crate) fn labels_text<'a>(labels: impl Iterator<Item = &'a (String, String)>) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        escape_label(&mut text, value);
        text.push('"');
    }
    text
}

/// Appends a label value with the three escapes of the format.
pub(crate) fn escape_label(text: &mut String, value: &str) {
    if !value.contains(['\\', '"', '\n']) {
        text.push_str(value);
        return;
    }
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

/// Appends a cell as a label value: invalid UTF-8 becomes U+FFFD, and what is longer than `max` bytes is cut on a
/// character's border. Returns whether it was cut.
pub(crate) fn append_label(out: &mut Vec<u8>, value: &[u8], max: usize) -> bool {
    // Most values are valid and short.
    if value.len() <= max
        && let Ok(valid) = std::str::from_utf8(value)
    {
        append_escaped(out, valid.as_bytes());
        return false;
    }
    let mut room = max;
    for chunk in value.utf8_chunks() {
        let (valid, whole) = cut(chunk.valid(), room);
        append_escaped(out, valid.as_bytes());
        if !whole {
            return true;
        }
        room -= valid.len();
        if !chunk.invalid().is_empty() {
            let replacement = "\u{fffd}";
            if room < replacement.len() {
                return true;
            }
            out.extend_from_slice(replacement.as_bytes());
            room -= replacement.len();
        }
    }
    false
}

fn cut(text: &str, room: usize) -> (&str, bool) {
    if text.len() <= room {
        return (text, true);
    }
    (&text[..text.floor_char_boundary(room)], false)
}

fn append_escaped(out: &mut Vec<u8>, valid: &[u8]) {
    // Most values need no escape at all.
    if !valid.iter().any(|b| matches!(b, b'\\' | b'"' | b'\n')) {
        out.extend_from_slice(valid);
        return;
    }
    for b in valid {
        match b {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            b => out.push(*b),
        }
    }
}

/// Whether these bytes are whole sample lines of the text format, as every reader of it understands them.
///
/// Source: the Prometheus text format 0.0.4, and what Prometheus 2.42 to 3.x drops a page for.
pub fn is_valid(fragment: &[u8]) -> bool {
    std::str::from_utf8(fragment).is_ok() && (fragment.is_empty() || fragment.ends_with(b"\n")) && {
        let mut rest = fragment;
        let mut names = Vec::new();
        while !rest.is_empty() {
            match sample_line(rest, &mut names) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        true
    }
}

/// Reads one line; `None` if it is not one. `names` is a list to fill anew.
fn sample_line<'a>(line: &'a [u8], names: &mut Vec<&'a [u8]>) -> Option<&'a [u8]> {
    let mut rest = name(line, b':')?;
    if let Some(labels) = rest.strip_prefix(b"{") {
        names.clear();
        rest = label_pairs(labels, names)?;
    }
    let rest = rest.strip_prefix(b" ")?;
    let end = rest.iter().position(|b| *b == b'\n')?;
    let value = &rest[..end];
    (value == b"NaN" || is_number(value)).then(|| &rest[end + 1..])
}

/// Whether all readers of the format take this for the same finite number: digits, with digits on both sides of the
/// point if there is one, and perhaps an exponent.
fn is_number(value: &[u8]) -> bool {
    let (mantissa, exponent) = match value.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(e) => (&value[..e], Some(&value[e + 1..])),
        None => (value, None),
    };
    let unsigned = |text: &[u8]| -> bool { !text.is_empty() && text.iter().all(u8::is_ascii_digit) };
    let without_sign = |text: &'_ [u8]| -> usize { usize::from(matches!(text.first(), Some(b'+' | b'-'))) };
    let digits = &mantissa[without_sign(mantissa)..];
    let plain = match digits.iter().position(|b| *b == b'.') {
        Some(dot) => unsigned(&digits[..dot]) && unsigned(&digits[dot + 1..]),
        None => unsigned(digits),
    };
    let scaled = exponent.is_none_or(|e| unsigned(&e[without_sign(e)..]));
    // Only a long number or one with an exponent can be beyond a double.
    let safe = exponent.is_none() && digits.len() <= 300;
    let double = || std::str::from_utf8(value).ok()?.parse::<f64>().ok();
    plain && scaled && (safe || double().is_some_and(f64::is_finite))
}

/// Reads a metric or label name; `also` is the one further byte that it may hold.
fn name(text: &[u8], also: u8) -> Option<&[u8]> {
    let part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b == also;
    let length = text.iter().take_while(|b| part(b)).count();
    (length > 0 && !text[0].is_ascii_digit()).then(|| &text[length..])
}

/// Reads `a="b",c="d"}`. A name that is there twice costs the page, too.
fn label_pairs<'a>(mut text: &'a [u8], names: &mut Vec<&'a [u8]>) -> Option<&'a [u8]> {
    loop {
        let behind = name(text, b'_')?;
        let label = &text[..text.len() - behind.len()];
        if names.contains(&label) {
            return None;
        }
        names.push(label);
        text = quoted(behind.strip_prefix(b"=\"")?)?;
        match text.first()? {
            b',' => text = &text[1..],
            b'}' => return Some(&text[1..]),
            _ => return None,
        }
    }
}

/// Reads a label value up to and with its closing quote.
fn quoted(text: &[u8]) -> Option<&[u8]> {
    let mut i = 0;
    loop {
        match text.get(i)? {
            b'"' => return Some(&text[i + 1..]),
            b'\\' if matches!(text.get(i + 1)?, b'\\' | b'"' | b'n') => i += 2,
            b'\n' | b'\\' => return None,
            _ => i += 1,
        }
    }
}

/// What a series is known by: its name and its labels, in whatever order they stand; an empty label is as good as
/// none. Within one metric of a query equal texts say the same at less cost.
pub(crate) fn identity(series: &[u8]) -> Vec<&[u8]> {
    let brace = series.iter().position(|b| *b == b'{').unwrap_or(series.len());
    let (name, labels) = series.split_at(brace);
    let mut parts = vec![name];
    let mut rest = labels.strip_prefix(b"{").unwrap_or_default();
    while let Some(quote) = rest.iter().position(|b| *b == b'"')
        && let Some(behind) = quoted(&rest[quote + 1..])
    {
        let pair = &rest[..rest.len() - behind.len()];
        // No value can end like this: the quotes within one are escaped.
        if !pair.ends_with(b"=\"\"") {
            parts.push(pair);
        }
        rest = behind.strip_prefix(b",").unwrap_or_default();
    }
    parts[1..].sort_unstable();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_cut_on_a_characters_border_and_made_valid() {
        for (value, max, expected, cut) in [
            (&b"plain"[..], 100, "plain", false),
            (b"a\\b\"c\nd", 100, "a\\\\b\\\"c\\nd", false),
            (b"a\xffb", 100, "a\u{fffd}b", false),
            ("größe".as_bytes(), 3, "gr", true),
            (b"abc", 3, "abc", false),
            (b"abcd", 3, "abc", true),
            (b"a\xff", 3, "a", true),
            (b"", 3, "", false),
        ] {
            let mut out = Vec::new();
            assert_eq!(append_label(&mut out, value, max), cut, "{value:?}");
            assert_eq!(std::str::from_utf8(&out).unwrap(), expected);
        }
    }

    #[test]
    fn a_series_is_the_same_in_any_order_of_its_labels_and_without_the_empty_ones() {
        #[track_caller]
        fn check(one: &str, other: &str, same: bool) {
            assert_eq!(identity(one.as_bytes()) == identity(other.as_bytes()), same, "{one} {other}");
        }
        check(r#"a{b="1",c="2"}"#, r#"a{c="2",b="1"}"#, true);
        check(r#"a{b="",c="2"}"#, r#"a{c="2"}"#, true);
        check(r#"a{b=""}"#, "a", true);
        check("a", "b", false);
        check(r#"a{b="1"}"#, r#"a{b="2"}"#, false);
        check(r#"a{b="1,c=\"2"}"#, r#"a{b="1",c="2"}"#, false);
        check(r#"a{b="=\"\""}"#, "a", false);
        check(r#"a{b="\\",c="}"}"#, r#"a{c="}",b="\\"}"#, true);
    }

    #[test]
    fn the_check_accepts_what_is_valid_and_nothing_else() {
        for valid in ["", "a 1\n", "a +007.50E-3\n", "a:b{c=\"d\"} -1.5\nx{y=\"\\\\\\\"\\n\",z=\"\"} NaN\n"] {
            assert!(is_valid(valid.as_bytes()), "{valid:?}");
        }
        for invalid in [
            "a 1",
            "a 1\n\n",
            "a\n",
            "1a 1\n",
            "a{} 1\n",
            "a{b=\"c\",} 1\n",
            "a{b=\"c} 1\n",
            "a{b=\"c\nd\"} 1\n",
            "a{b=\"\\x\"} 1\n",
            "a{1=\"c\"} 1\n",
            "a{b:c=\"d\"} 1\n",
            "a{b=\"c\",b=\"d\"} 1\n",
            "a  1\n",
            "a 1e999\n",
            "a 0x10\n",
            "a 1_000\n",
            "a .5\n",
            "a 5.\n",
            "a 1e\n",
            "a -\n",
            "a \n",
            "a inf\n",
            "a nan\n",
            "a ON\n",
            "a 1 1700000000\n",
            "a{b=\"c\"}1\n",
            "# HELP a b\n",
            "a 1\r\n",
        ] {
            assert!(!is_valid(invalid.as_bytes()), "{invalid:?}");
        }
        assert!(!is_valid(b"a{b=\"\xff\"} 1\n"));
        assert!(!is_valid(format!("a {}\n", "9".repeat(400)).as_bytes()), "beyond a double");
    }
}
