//! The current result of every item, readable at any moment without waiting for anybody.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{BootTime, Family};

/// An item: one query on one target. Ordered by query first, so that a family's samples lie together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId {
    /// The query's name.
    pub query: Arc<str>,
    /// The target's name.
    pub target: Arc<str>,
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.query, self.target)
    }
}

/// One family as it goes on a page: its header's facts and its sample lines, each piece whole lines.
#[derive(Debug, Clone)]
pub struct FamilyText {
    /// Name, help and type.
    pub family: Arc<Family>,
    /// Whole sample lines, each ended by `\n`; never empty pieces.
    pub lines: Vec<Bytes>,
}

/// The current result of every item.
#[derive(Debug, Default)]
pub struct Snapshot {}

impl Snapshot {
    /// Everything that is within its age limit at `now`, family by family in the order of their names.
    pub fn read(&self, now: BootTime) -> Vec<FamilyText> {
        let _ = now;
        Vec::new()
    }

    /// Whether each item has been tried once, successfully or not.
    pub fn all_tried(&self) -> bool {
        true
    }
}
