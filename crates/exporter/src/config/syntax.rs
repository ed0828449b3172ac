//! The first stage: text to a TOML tree, or every syntax error. It also decides what may never be shown.

use std::path::Path;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::report::{Findings, Place};

/// Parses the text of a file and reports its syntax errors. With any of them the tree has holes.
pub(super) fn parse<'t>(found: &mut Findings, path: &Path, text: &'t str) -> Spanned<DeTable<'t>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    let mut masked = Vec::new();
    mask_table(tree.get_ref(), false, &mut masked);
    if !errors.is_empty() {
        // The tree cannot be trusted to hold every password.
        mask_lines(text, &mut masked);
    }
    let base = found.sources.next_base();
    found.sources.add(path, text, masked);
    let mut last_line = None;
    for error in errors {
        let at = error.span().unwrap_or(text.len()..text.len());
        // A parser that lost its way says more about the same line; only the first of it helps.
        let line = text[..at.start].matches('\n').count();
        if last_line.replace(line) != Some(line) {
            let problem = found.error(&(base + at.start..base + at.end), error.message());
            if let Some(help) = help_for(error.message(), text, &at) {
                problem.help(help);
            }
        }
    }
    let tree =
        if base == 0 { tree } else { Spanned::new(moved(&tree, base), moved_table(tree.into_inner(), base)) };
    refuse_useless(tree.get_ref(), found);
    tree
}

/// The tree of a file that is not the first: its places count from where the file begins.
fn moved_table(table: DeTable<'_>, base: usize) -> DeTable<'_> {
    let entries = table.into_iter().map(|(key, value)| {
        let key = Spanned::new(moved(&key, base), key.into_inner());
        (key, moved_value(value, base))
    });
    entries.collect()
}

fn moved_value(value: Spanned<DeValue<'_>>, base: usize) -> Spanned<DeValue<'_>> {
    let at = moved(&value, base);
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(moved_table(table, base)),
        DeValue::Array(values) => {
            DeValue::Array(values.into_iter().map(|value| moved_value(value, base)).collect())
        }
        other => other,
    };
    Spanned::new(at, value)
}

fn moved<T>(value: &Spanned<T>, base: usize) -> Place {
    base + value.span().start..base + value.span().end
}

/// What to write instead, for the syntax errors that people make.
fn help_for(message: &str, text: &str, at: &Place) -> Option<&'static str> {
    let line_start = text[..at.start].rfind('\n').map_or(0, |i| i + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let value = line.split_once('=').map(|(_, value)| value.trim_start());
    let bare = value.is_some_and(|value| !value.starts_with(['"', '\'', '[', '{']));
    if message.starts_with("duplicate key") {
        Some("a key stands once in its table: join the two, or rename one")
    } else if line.trim_start().starts_with('[') && value.is_none() {
        Some(
            "a table's name stands in brackets, and in quotes what has other characters than A-Z a-z 0-9 _ -",
        )
    } else if bare {
        Some("text stands in quotes, as in interval = \"15s\"; numbers, true and false stand without")
    } else if message.contains("string") {
        Some("a string ends with the quote it began with; one of several lines stands in ''' … '''")
    } else {
        None
    }
}

/// Values that no key takes and that serde could not carry: dates, and numbers beyond 64 bits.
fn refuse_useless(table: &DeTable<'_>, found: &mut Findings) {
    fn walk(value: &Spanned<DeValue<'_>>, found: &mut Findings) {
        match value.get_ref() {
            DeValue::Datetime(_) => {
                found.error(&value.span(), "no key takes a date or time").help("write text in quotes");
            }
            DeValue::Integer(n) if i64::from_str_radix(n.as_str(), n.radix()).is_err() => {
                found
                    .error(&value.span(), "this number is too large")
                    .help("write at most 9223372036854775807");
            }
            DeValue::Float(n)
                if n.as_str().parse().is_ok_and(f64::is_infinite) && !n.as_str().contains("inf") =>
            {
                found.error(&value.span(), "this number is too large").help("write at most 1e308");
            }
            DeValue::Array(values) => values.iter().for_each(|value| walk(value, found)),
            DeValue::Table(table) => table.values().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    table.values().for_each(|value| walk(value, found));
}

/// Whether a key's value may be a password: `password` itself, and what somebody wrote who meant it.
fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    if matches!(key.as_str(), "password_file" | "password_env") {
        return false;
    }
    ["pass", "pwd", "secret"].iter().any(|part| key.contains(part))
        || strsim::jaro_winkler(&key, "password") >= 0.8
}

/// Masks the values of secret keys, and addresses that carry a login (`user:password@host`). With `names` the keys
/// of this table are names that the author chose, which say nothing about their values.
fn mask_table(table: &DeTable<'_>, names: bool, masked: &mut Vec<Place>) {
    for (key, value) in table {
        let key = key.get_ref().as_ref();
        if !names && is_secret(key) {
            mask_leaves(value, &|_| true, masked);
        } else if matches!(key, "address" | "targets") {
            mask_leaves(value, &|text| text.contains('@'), masked);
        }
        let chosen = matches!(
            key,
            "groups" | "targets" | "queries" | "metrics" | "labels" | "static_labels" | "where"
        );
        match value.get_ref() {
            DeValue::Table(inner) => mask_table(inner, chosen && !names, masked),
            DeValue::Array(values) => {
                for inner in values.iter().filter_map(|value| value.get_ref().as_table()) {
                    mask_table(inner, false, masked);
                }
            }
            _ => {}
        }
    }
}

/// Masks each value that is no table or array and, if a string, passes the test.
fn mask_leaves(value: &Spanned<DeValue<'_>>, secret: &dyn Fn(&str) -> bool, masked: &mut Vec<Place>) {
    match value.get_ref() {
        DeValue::Table(table) => table.values().for_each(|value| mask_leaves(value, secret, masked)),
        DeValue::Array(values) => values.iter().for_each(|value| mask_leaves(value, secret, masked)),
        DeValue::String(text) if !secret(text) => {}
        DeValue::String(_) => masked.push(value.span()),
        _ if secret("") => masked.push(value.span()),
        _ => {}
    }
}

/// In a text that is not TOML: whatever follows a word that may be a secret key, to the end of its line, or of the
/// string of several lines that begins there.
fn mask_lines(text: &str, masked: &mut Vec<Place>) {
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(after) = after_secret_word(line) {
            let start = line_start + after;
            let string =
                ["\"\"\"", "'''"].into_iter().find_map(|quote| Some((quote, line[after..].find(quote)?)));
            let end = string.map_or(line_start + line.trim_end().len(), |(quote, opens)| {
                let inside = start + opens + quote.len();
                text[inside..].find(quote).map_or(text.len(), |closes| {
                    // To the end of that line: a quote inside the password may have ended the string too early.
                    let closes = inside + closes;
                    text[closes..].find('\n').map_or(text.len(), |i| closes + i)
                })
            });
            masked.push(start..end.max(start));
        }
        line_start += line.len();
    }
    // An address with a login is as good as a password.
    for (at, _) in text.match_indices('@') {
        let line_start = text[..at].rfind('\n').map_or(0, |i| i + 1);
        let start =
            text[line_start..at].rfind(['"', '\'', '=', ' ']).map_or(line_start, |i| line_start + i + 1);
        masked.push(start..at);
    }
}

/// The byte after the first word of a line that may be a secret key, and after the `=` that follows it.
fn after_secret_word(line: &str) -> Option<usize> {
    let mut start = 0;
    for word in line.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_' && c != '-') {
        let bare = word.trim_end_matches(|c: char| !c.is_alphanumeric() && c != '_' && c != '-');
        let end = start + bare.len();
        if is_secret(bare) {
            let gap: &[_] = &['"', '\'', ' ', '\t', '='];
            return Some(line.len() - line[end..].trim_start_matches(gap).len()).map(|after| {
                // An opening quote belongs to the secret: it may open a string of several lines.
                let equals = line[end..after].find('=').map_or(end, |i| end + i + 1);
                let spaces = line[equals..].len() - line[equals..].trim_start().len();
                (equals + spaces).min(line.trim_end().len().max(end))
            });
        }
        start += word.len();
    }
    None
}
