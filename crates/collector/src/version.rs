//! Which servers a statement is for: their flavour, and a range of versions, compared as numbers.

use std::{cmp::Ordering, fmt, str::FromStr};

use crate::driver::{Flavour, Server};

/// What a server must be. Without any condition every server is it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct When {
    /// Whose dialect it speaks.
    pub flavour: Option<Flavour>,
    /// Which versions of it.
    pub version: Option<VersionRange>,
}

impl When {
    /// Whether a server is meant.
    pub fn fits(&self, server: &Server) -> bool {
        self.flavour.is_none_or(|flavour| flavour == server.flavour)
            && self.version.as_ref().is_none_or(|range| range.contains(&server.version))
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.flavour, &self.version) {
            (Some(flavour), Some(version)) => write!(f, "{} {version}", flavour.as_str()),
            (Some(flavour), None) => f.write_str(flavour.as_str()),
            (None, Some(version)) => version.fmt(f),
            (None, None) => f.write_str("any server"),
        }
    }
}

/// Bounds that all hold, such as `>=10.5, <11`.
///
/// A version is compared as far as the bound goes: 8.0.36 is `=8.0` and `<=8.0`, and is not `<8.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange(Vec<Bound>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Bound {
    sign: Sign,
    version: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Less,
    AtMost,
    Equal,
    AtLeast,
    Greater,
}

/// The longest first, since `<` begins `<=`.
const SIGNS: [(&str, Sign); 5] = [
    ("<=", Sign::AtMost),
    (">=", Sign::AtLeast),
    ("<", Sign::Less),
    (">", Sign::Greater),
    ("=", Sign::Equal),
];

/// Why a text is no range of versions, as it follows the name of what holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotARange;

impl fmt::Display for NotARange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not a range of versions")
    }
}

impl std::error::Error for NotARange {}

impl VersionRange {
    /// Whether a server's version, as it says it itself, is within all bounds. One that does not begin with a
    /// number is in no range.
    pub fn contains(&self, version: &str) -> bool {
        let version = numbers(version);
        !version.is_empty() && self.0.iter().all(|bound| bound.holds(&version))
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, bound) in self.0.iter().enumerate() {
            write!(f, "{}{bound}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = SIGNS.iter().find(|(_, sign)| *sign == self.sign).map_or("", |(text, _)| text);
        let numbers: Vec<_> = self.version.iter().map(u32::to_string).collect();
        write!(f, "{sign}{}", numbers.join("."))
    }
}

impl Bound {
    fn holds(&self, version: &[u32]) -> bool {
        // A server may say less than the bound: what it leaves out is 0.
        let digits = version.iter().copied().chain(std::iter::repeat(0));
        let order = digits.take(self.version.len()).cmp(self.version.iter().copied());
        match self.sign {
            Sign::Less => order == Ordering::Less,
            Sign::AtMost => order != Ordering::Greater,
            Sign::Equal => order == Ordering::Equal,
            Sign::AtLeast => order != Ordering::Less,
            Sign::Greater => order == Ordering::Greater,
        }
    }
}

impl FromStr for VersionRange {
    type Err = NotARange;

    fn from_str(text: &str) -> Result<Self, NotARange> {
        text.split(',').map(|bound| bound.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Bound {
    type Err = NotARange;

    fn from_str(text: &str) -> Result<Self, NotARange> {
        let found = SIGNS.iter().find_map(|(text_of, sign)| Some((*sign, text.strip_prefix(text_of)?)));
        let (sign, version) = found.ok_or(NotARange)?;
        let version: Option<Vec<u32>> = version.trim().split('.').map(number).collect();
        let version = version.filter(|version| version.len() <= 4).ok_or(NotARange)?;
        Ok(Self { sign, version })
    }
}

/// Digits alone: a sign or a space is no part of a version.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The numbers that a server's version begins with. MariaDB before 11 says `5.5.5-10.6.1-MariaDB` to those who may
/// not understand a 10.
pub(crate) fn numbers(version: &str) -> Vec<u32> {
    let rest = version.strip_prefix("5.5.5-").filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let version = rest.unwrap_or(version);
    let end = version.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(version.len());
    version[..end].split('.').map_while(number).take(4).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(range: &str, inside: &[&str], outside: &[&str]) {
        let parsed: VersionRange = range.parse().unwrap();
        for version in inside {
            assert!(parsed.contains(version), "{version} is {range}");
        }
        for version in outside {
            assert!(!parsed.contains(version), "{version} is not {range}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        check(
            ">=10.5",
            &["10.5.0-MariaDB", "10.11.19-MariaDB-0+deb12u1", "11.8.3-MariaDB", "5.5.5-10.11.6-MariaDB"],
            &["10.4.34-MariaDB", "9.7.4-2", "5.5.5-10.1.48-MariaDB", "5.5.5"],
        );
        check("<8.0", &["5.7.44-log", "5.5.5-MariaDB"], &["8.0.36-28", "9.7.4-2", "8.0"]);
        check("=5.7", &["5.7.9", "5.7"], &["5.70.1", "5.6.51", "8.0.36"]);
        check(">=10.5, <11", &["10.11.19-MariaDB"], &["11.4.2-MariaDB", "10.4.1"]);
        check("<=8.0", &["8.0.36", "5.7.1"], &["8.1.0", "8.4.0"]);
        check(">8.0", &["8.1.0"], &["8.0.99"]);
        check("> 8.0.35", &["8.0.36-28"], &["8.0.35-28", "8.0"]);
    }

    #[test]
    fn what_a_server_must_be_reads_as_it_was_written() {
        let version = |text: &str| Some(text.parse().unwrap());
        for (when, text) in [
            (When { flavour: Some(Flavour::MariaDb), version: version(">=10.5,<11") }, "mariadb >=10.5, <11"),
            (When { flavour: Some(Flavour::MySql), version: None }, "mysql"),
            (When { flavour: None, version: version("=5.7") }, "=5.7"),
        ] {
            assert_eq!(when.to_string(), text);
        }
    }

    #[test]
    fn what_says_no_version_is_in_no_range() {
        check(">=0", &["0.1"], &["", "unknown", "-1", ".5", "99999999999"]);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.5", ">=", ">=10.x", "=>10", ">=10,", ">= 10 5", ">=1.2.3.4.5", "^8", ">=-1"] {
            assert_eq!(text.parse::<VersionRange>(), Err(NotARange), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_range_or_none(range: String, version: String) {
            let _ = range.parse::<VersionRange>().map(|range| range.contains(&version));
        }

        #[test]
        fn a_version_is_on_one_side_of_a_bound(a in 0_u32..20, b in 0_u32..20, c in 0_u32..20, d in 0_u32..20) {
            let version = format!("{a}.{b}-log");
            let is = |sign: &str| format!("{sign}{c}.{d}").parse::<VersionRange>().unwrap().contains(&version);
            prop_assert_eq!(is(">="), (a, b) >= (c, d));
            prop_assert_eq!(is("<"), !is(">="));
            prop_assert_eq!(is("<="), is("<") || is("="));
            prop_assert_eq!(is(">"), !is("<="));
        }
    }
}
