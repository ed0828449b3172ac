//! The items there are, and the intervals that somebody wrote into the table for some of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// Each item that is configured, by its name. Names are told apart without regard to case, and no longer than 255
/// characters.
pub type Items = HashMap<Arc<str>, KnownItem>;

/// Intervals changed in the table: those that are accepted and differ from the configuration's.
pub type Overrides = BTreeMap<Arc<str>, Duration>;

/// What the configuration says of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownItem {
    /// Its interval. The table shows it in seconds: rounded, and at least one.
    pub interval: Duration,
    /// The shortest interval that the table may ask for.
    pub shortest: Duration,
    /// The longest.
    pub longest: Duration,
}
