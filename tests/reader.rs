//! A strict reader of both text formats, written from their specifications; it shares no code with what writes them.
//! The tests of several crates read with it.

use std::collections::{BTreeMap, BTreeSet};

/// One sample: name, labels, value.
pub(crate) type Sample = (String, BTreeMap<String, String>, String);

/// The samples of a page, or what is wrong with it.
pub(crate) fn read(page: &[u8], open_metrics: bool) -> Result<Vec<Sample>, String> {
    let text = std::str::from_utf8(page).map_err(|error| error.to_string())?;
    let text = if open_metrics { text.strip_suffix("# EOF\n").ok_or("the end is missing")? } else { text };
    if !(text.is_empty() || text.ends_with('\n')) {
        return Err("the last line does not end".to_owned());
    }
    let mut families = BTreeSet::new();
    let mut samples = Vec::new();
    let mut present = ("", "");
    for line in text.split_terminator('\n') {
        let wrong = |what: &str| format!("{what}: {line}");
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').ok_or_else(|| wrong("no help"))?;
            check_help(help, open_metrics).map_err(|what| wrong(&what))?;
            if !families.insert(name) {
                return Err(wrong("the family is there twice"));
            }
            present = (name, "");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').ok_or_else(|| wrong("no type"))?;
            let known = if open_metrics {
                "gauge counter histogram info unknown"
            } else {
                "gauge counter histogram untyped"
            };
            if name != present.0 || !known.split(' ').any(|known| known == kind) {
                return Err(wrong("wrong type"));
            }
            present.1 = kind;
        } else {
            let sample = sample(line).map_err(|what| wrong(&what))?;
            let suffix = sample.0.strip_prefix(present.0).ok_or_else(|| wrong("in another family"))?;
            let fits = match present.1 {
                "counter" if open_metrics => suffix == "_total",
                "info" => suffix == "_info",
                "histogram" => matches!(suffix, "_bucket" | "_sum" | "_count"),
                _ => suffix.is_empty(),
            };
            if !fits {
                return Err(wrong("not a sample of its family"));
            }
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn check_help(help: &str, open_metrics: bool) -> Result<(), String> {
    let mut chars = help.chars();
    while let Some(char) = chars.next() {
        match (char, open_metrics) {
            ('"', true) => return Err("a bare quote".to_owned()),
            ('\\', _) => match chars.next() {
                Some('\\' | 'n') => {}
                Some('"') if open_metrics => {}
                other => return Err(format!("no such escape: {other:?}")),
            },
            _ => {}
        }
    }
    Ok(())
}

/// A line, as it stands without its end.
pub(crate) fn sample(line: &str) -> Result<Sample, String> {
    let (name, mut rest) = split_name(line, "_:")?;
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, behind) = split_name(rest, "_")?;
            let (value, behind) = unquoted(behind.strip_prefix("=\"").ok_or("no value of a label")?)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err("a label is there twice".to_owned());
            }
            match behind.split_at_checked(1) {
                Some((",", behind)) => rest = behind,
                Some(("}", behind)) => {
                    rest = behind;
                    break;
                }
                _ => return Err("no end of the labels".to_owned()),
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no value")?;
    let plain = value.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    // Beyond a double is no number, either: it costs Prometheus the page.
    let number = plain && value.parse().is_ok_and(f64::is_finite);
    if !(number || matches!(value, "NaN" | "+Inf" | "-Inf")) {
        return Err("no number".to_owned());
    }
    Ok((name.to_owned(), labels, value.to_owned()))
}

/// A name, and what is behind it.
fn split_name<'a>(text: &'a str, also: &str) -> Result<(&'a str, &'a str), String> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || also.contains(c))).unwrap_or(text.len());
    if end == 0 || text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("no name".to_owned());
    }
    Ok(text.split_at(end))
}

/// A label's value, and what is behind its closing quote.
fn unquoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((place, char)) = chars.next() {
        match char {
            '"' => return Ok((value, &text[place + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, char @ ('\\' | '"'))) => value.push(char),
                _ => return Err("no such escape".to_owned()),
            },
            char => value.push(char),
        }
    }
    Err("a label does not end".to_owned())
}
