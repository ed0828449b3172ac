//! Ranges and placeholders: `shard-{001..120}` is 120 names, `{1}` the value of the first range, `{target}` a name.

use std::collections::BTreeMap;

use super::field::Wrong;

/// Targets that one entry may stand for.
const MAX_COUNT: usize = 10_000;

/// A text with ranges and placeholders in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Range { first: usize, count: usize, width: usize },
    Hole(String),
}

impl Pattern {
    /// Reads `{001..120}`, `{word}` and `{{`, which is a brace; all else is text.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(open) = rest.find('{') {
            plain.push_str(&rest[..open]);
            rest = &rest[open + 1..];
            if let Some(after) = rest.strip_prefix('{') {
                plain.push('{');
                rest = after;
                continue;
            }
            let close = rest.find('}').ok_or_else(|| {
                Wrong::new(
                    "has a `{` without its `}`",
                    "write {{ for a brace, or close the range: {001..120}",
                )
            })?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece(&rest[..close])?);
            rest = &rest[close + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// How many values each range has, in their order.
    pub(super) fn counts(&self) -> Vec<usize> {
        self.0
            .iter()
            .filter_map(|piece| match piece {
                Piece::Range { count, .. } => Some(*count),
                _ => None,
            })
            .collect()
    }

    /// The values of the ranges at one step: what `{1}`, `{2}` and so on stand for.
    pub(super) fn values(&self, step: usize) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(move |piece| match piece {
            Piece::Range { first, width, .. } => Some(format!("{:0width$}", first + step, width = *width)),
            _ => None,
        })
    }

    /// The text at one step, where no placeholder is allowed.
    pub(super) fn expand(&self, step: usize) -> Result<String, Wrong> {
        let mut values = self.values(step);
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Ok(text.clone()),
                Piece::Range { .. } => Ok(values.next().unwrap_or_default()),
                Piece::Hole(hole) => Err(Wrong::new(
                    format!("has {{{hole}}}, which is no range"),
                    "write a range of numbers, such as {001..120}; {{ is a brace",
                )),
            })
            .collect()
    }

    /// The text with its placeholders filled, where no range is allowed.
    pub(super) fn fill(&self, holes: &BTreeMap<String, String>) -> Result<String, Wrong> {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Ok(text.clone()),
                Piece::Range { .. } => Err(Wrong::new(
                    "has a range",
                    "a range stands in a target's name and address; write {1} for the value of its first range",
                )),
                Piece::Hole(hole) => holes.get(hole).cloned().ok_or_else(|| {
                    let known: Vec<_> = holes.keys().map(|hole| format!("{{{hole}}}")).collect();
                    let help = match known.as_slice() {
                        [] => "the target's name has no range; {{ is a brace".to_owned(),
                        _ => format!("what can stand here: {}; {{{{ is a brace", known.join(", ")),
                    };
                    Wrong::new(format!("has {{{hole}}}, which means nothing here"), help)
                }),
            })
            .collect()
    }
}

/// What stands between two braces.
fn piece(inside: &str) -> Result<Piece, Wrong> {
    let Some((left, right)) = inside.split_once("..") else { return Ok(Piece::Hole(inside.to_owned())) };
    let wrong =
        |message: &str, help: &str| Err(Wrong::new(format!("has the range {{{inside}}}, {message}"), help));
    let number = |text: &str| -> Option<usize> {
        let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (Some(first), Some(last)) = (number(left), number(right)) else {
        return wrong(
            "which is not one of whole numbers",
            "write two numbers of at most 9 digits: {001..120}",
        );
    };
    if last < first {
        return wrong("which runs backwards", "write the smaller number first");
    }
    if right.len() > 1 && right.starts_with('0') && right.len() != left.len() {
        return wrong(
            "whose width is ambiguous",
            "the left number says how wide each is: {001..120} is 001, 002, …; {1..120} is 1, 2, …",
        );
    }
    let count = last - first + 1;
    if count > MAX_COUNT {
        return wrong(&format!("which is {count} targets"), "one range makes at most 10000 targets");
    }
    Ok(Piece::Range { first, count, width: left.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = match Pattern::parse(text) {
            Err(wrong) => format!("error: {}", wrong.message),
            Ok(pattern) => {
                let steps = pattern.counts().first().copied().unwrap_or(1);
                let all: Result<Vec<_>, _> = (0..steps).map(|step| pattern.expand(step)).collect();
                all.map_or_else(|wrong| format!("error: {}", wrong.message), |all| all.join(" "))
            }
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn a_range_is_as_wide_as_its_left_bound() {
        check("db{8..11}", "db8 db9 db10 db11");
        check("db{008..011}", "db008 db009 db010 db011");
        check("db{098..101}.x", "db098.x db099.x db100.x db101.x");
        check("db{0..0}", "db0");
        check("db{00..1}", "db00 db01");
        check("db{1..010}", "error: has the range {1..010}, whose width is ambiguous");
    }

    #[test]
    fn ranges_are_zipped_not_crossed() {
        check("a{1..3}-b{11..13}", "a1-b11 a2-b12 a3-b13");
    }

    #[test]
    fn two_opening_braces_are_one() {
        check("a{{1..3}", "a{1..3}");
        check("a{{{1..2}", "a{1 a{2");
        check("}", "}");
    }

    #[test]
    fn what_is_no_range_says_why() {
        check("a{1..", "error: has a `{` without its `}`");
        check("a{a..c}", "error: has the range {a..c}, which is not one of whole numbers");
        check("a{3..1}", "error: has the range {3..1}, which runs backwards");
        check("a{1..10001}", "error: has the range {1..10001}, which is 10001 targets");
        check("a{1}", "error: has {1}, which is no range");
    }

    #[test]
    fn placeholders_are_filled() {
        let holes = [("1", "007"), ("target", "db007")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let fill = |text| Pattern::parse(text).and_then(|pattern| pattern.fill(&holes));
        assert_eq!(fill("s/{target}.{1}{{x}").unwrap(), "s/db007.007{x}");
        assert_eq!(fill("{2}").unwrap_err().message, "has {2}, which means nothing here");
        assert!(fill("{1..2}").is_err());
    }
}
