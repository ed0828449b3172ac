//! What a history tells of itself: its state, counters, and what waits.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// What the history does at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The store has not answered yet.
    Connecting,
    /// The table is ours: it is read and written.
    Owner,
    /// Another exporter owns the table: nothing is read, nothing written, until it is gone.
    Standby {
        /// What that one calls itself.
        owner: String,
    },
    /// The store fails; it is tried again with a growing wait.
    Failing {
        /// Why.
        reason: Reason,
        /// In a sentence.
        message: String,
    },
    /// It was closed.
    Closed,
}

/// Why the store failed: a closed set, fit for a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No connection: refused, unreachable, no such name, TLS, no such folder; or it broke.
    Connection,
    /// The secret could not be read, or the server refused the login.
    Login,
    /// The account may not do this.
    Denied,
    /// The table cannot be used as it is.
    Layout,
    /// A statement took longer than it may.
    Timeout,
    /// Somebody else holds a lock for too long.
    Locked,
    /// No room is left.
    Full,
    /// The store takes no writes.
    ReadOnly,
    /// The file is damaged, or no file of SQLite's.
    Corrupt,
    /// Anything else.
    Other,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Connection,
        Self::Login,
        Self::Denied,
        Self::Layout,
        Self::Timeout,
        Self::Locked,
        Self::Full,
        Self::ReadOnly,
        Self::Corrupt,
        Self::Other,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Login => "login",
            Self::Denied => "denied",
            Self::Layout => "layout",
            Self::Timeout => "timeout",
            Self::Locked => "locked",
            Self::Full => "full",
            Self::ReadOnly => "read_only",
            Self::Corrupt => "corrupt",
            Self::Other => "other",
        }
    }
}

/// The numbers of one moment. Those whose name says no more are counted since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// What it does.
    pub state: State,
    /// Items whose last run is not written yet, now.
    pub pending_items: u64,
    /// How long the oldest of them has waited, now; zero where none does.
    pub oldest_pending: Duration,
    /// Items whose result has changed since it was last written, now.
    pub pending_results: u64,
    /// Rows of items written.
    pub items_written: u64,
    /// Results written.
    pub results_written: u64,
    /// Names, values and results sent to the store, in bytes, without what the store adds.
    pub bytes_written: u64,
    /// Failures of the store, by reason.
    pub failures: [(Reason, u64); Reason::ALL.len()],
    /// Results left out since they were too large, or since all of them together would have been.
    pub dropped_results: u64,
    /// Runs left out since the table's column cannot hold the item's name.
    pub dropped_items: u64,
    /// Bytes of all kept results, now.
    pub results_bytes: u64,
    /// Rows that name no item of ours, when last seen.
    pub unknown_rows: u64,
    /// Items that run at an interval from the table, now.
    pub overrides: u64,
    /// Intervals in the table that were out of bounds.
    pub refused_intervals: u64,
    /// Times in the table that lay in the future and were taken as now.
    pub clamped_times: u64,
}

/// What is counted since the start, and the last seen of what is not.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) pending_results: AtomicU64,
    pub(crate) items_written: AtomicU64,
    pub(crate) results_written: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    failures: [AtomicU64; Reason::ALL.len()],
    pub(crate) dropped_results: AtomicU64,
    pub(crate) dropped_items: AtomicU64,
    pub(crate) results_bytes: AtomicU64,
    pub(crate) unknown_rows: AtomicU64,
    pub(crate) refused_intervals: AtomicU64,
    pub(crate) clamped_times: AtomicU64,
}

impl Counters {
    /// Counts a failure.
    pub(crate) fn failed(&self, reason: Reason) {
        add(&self.failures[reason as usize], 1);
    }

    /// The failures so far.
    pub(crate) fn failures(&self) -> [(Reason, u64); Reason::ALL.len()] {
        Reason::ALL.map(|reason| (reason, get(&self.failures[reason as usize])))
    }
}

/// Counts so many more.
pub(crate) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// Says how many there are now.
pub(crate) fn set(gauge: &AtomicU64, now: u64) {
    gauge.store(now, Ordering::Relaxed);
}

/// What it says.
pub(crate) fn get(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_counted_under_its_own_reason() {
        let counters = Counters::default();
        for (n, reason) in Reason::ALL.into_iter().enumerate() {
            (0..=n).for_each(|_| counters.failed(reason));
        }
        let expected: Vec<_> = Reason::ALL.into_iter().zip(1..).collect();
        assert_eq!(counters.failures().to_vec(), expected);
    }
}
