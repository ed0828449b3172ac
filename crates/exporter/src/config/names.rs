//! The rules of names: what they may be made of, and that no two are alike.

use std::collections::BTreeMap;

use super::{
    field::Wrong,
    report::{Findings, Place},
};

/// The name of a group or query.
pub(super) fn plain(name: &str) -> Result<(), Wrong> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    Err(Wrong::new("cannot be a name", "a name has 1 to 64 of the characters A-Z a-z 0-9 _ . -"))
}

/// The name of a target.
pub(super) fn target(name: &str) -> Result<(), Wrong> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.:[]-".contains(c);
    if (1..=128).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    Err(Wrong::new(
        "cannot be a name",
        "a target's name has 1 to 128 of the characters A-Z a-z 0-9 _ . : [ ] -",
    ))
}

/// The full name of a family.
pub(super) fn family(name: &str) -> Result<(), Wrong> {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || "_:".contains(c));
    if first && chars.all(|c| c.is_ascii_alphanumeric() || "_:".contains(c)) {
        return Ok(());
    }
    Err(Wrong::new(
        "cannot be the name of a family",
        "it has the characters A-Z a-z 0-9 _ and does not begin with a digit",
    ))
}

/// The name of a label.
pub(super) fn label(name: &str) -> Result<(), Wrong> {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Wrong::new(
            "cannot be the name of a label",
            "it has the characters A-Z a-z 0-9 _ and does not begin with a digit; give a column another name with AS",
        ));
    }
    if name.starts_with("__") || matches!(name, "le" | "quantile") {
        return Err(Wrong::new(
            "is a label that Prometheus keeps for itself",
            "take a name other than le, quantile and those that begin with __",
        ));
    }
    Ok(())
}

/// Whether a column of this name can be a label, and begin the name of a family.
pub(crate) fn is_label_name(name: &str) -> bool {
    label(name).is_ok()
}

/// Names seen so far, without regard to case.
#[derive(Debug, Default)]
pub(super) struct Seen {
    places: BTreeMap<String, (String, Place)>,
    /// Pairs of entries that were reported: two ranges may share a hundred names.
    reported: Vec<(usize, usize)>,
}

impl Seen {
    /// Takes a name in, or reports both places.
    pub(super) fn add(&mut self, found: &mut Findings, what: &str, name: &str, at: &Place) -> bool {
        let Some((other, other_at)) = self.places.get(&name.to_ascii_lowercase()) else {
            self.places.insert(name.to_ascii_lowercase(), (name.to_owned(), at.clone()));
            return true;
        };
        let pair = (other_at.start, at.start);
        if !self.reported.contains(&pair) {
            self.reported.push(pair);
            let alike = if other == name { String::new() } else { format!(" (as `{other}`)") };
            found
                .error(at, format!("the {what} `{name}` is there twice{alike}"))
                .note(other_at, "the first is here")
                .help("names are unique over the whole fleet, without regard to case: rename one");
        }
        false
    }
}
