//! The handle: notes runs without waiting, gives what was kept, closes.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use crate::{Items, Overrides, Reason, Settings, State, Stats};

/// The current results, as bytes that this crate only stores.
pub trait Results: Send + Sync {
    /// The item's result as it is now, and when it was read; none where there is none. Called when it is due to be
    /// written, on the history's own task, so it may take some time but must not wait.
    fn result(&self, item: &str) -> Option<KeptResult>;
}

/// One run of an item, as it ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// When, by the wall clock.
    pub at: SystemTime,
    /// The value, where the item yields one sample. What a FLOAT cannot hold is kept as NULL.
    pub value: Option<f64>,
    /// Whether it changed the item's result, which is then asked for when it is due to be written.
    pub has_result: bool,
}

/// A result of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptResult {
    /// When it was read from its target, by the wall clock; kept to the millisecond, and never in the future when it is loaded.
    pub read_at: SystemTime,
    /// The result.
    pub bytes: Vec<u8>,
}

/// What was kept of an item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptItem {
    /// When it last ran, to the second, and never in the future.
    pub last_run: Option<SystemTime>,
    /// Its last kept result.
    pub result: Option<KeptResult>,
}

/// What the table held of the items that are configured, when it was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// By name.
    pub items: HashMap<Arc<str>, KeptItem>,
}

/// What comes of the table once, after the start.
#[derive(Debug)]
pub struct Loading {}

impl Loading {
    /// Waits for what was kept, for no longer than `limit`. None if it has not come by then, or, at the first call,
    /// as soon as it is known that it will not come at once: the store fails, or the table is another's. It may come
    /// later still, to another call. Once given it does not come again. Dropping the future loses nothing.
    ///
    /// When it has come, [`History::intervals`] has what the table said of intervals.
    pub async fn wait(&mut self, limit: Duration) -> Option<Loaded> {
        tokio::time::sleep(limit).await;
        None
    }
}

/// Keeps what ran. One task of its own does all the work and is the only one to wait for the store; dropping this ends
/// it without a last flush.
#[derive(Debug)]
pub struct History {
    intervals: watch::Sender<Arc<Overrides>>,
}

impl History {
    /// Begins to connect, and returns at once. It never fails: a store that cannot be used is tried again, with a
    /// growing wait, and [`stats`](Self::stats) says why. Needs a runtime of tokio.
    pub fn start(_settings: Settings, _items: Items, _results: Arc<dyn Results>) -> (Self, Loading) {
        (Self { intervals: watch::Sender::default() }, Loading {})
    }

    /// Notes a run. It waits for nobody and takes no more room than one note for each item: of several that are not
    /// written yet the last counts. Runs of items that are not configured (any more) are ignored.
    pub fn ran(&self, _item: &Arc<str>, _run: Run) {}

    /// The configured items have changed. Where an interval did, and nobody had written another into the table, the
    /// table follows.
    pub fn set_items(&self, _items: Items) {}

    /// The intervals that hold in place of the configuration's: all of them, each time they change.
    pub fn intervals(&self) -> watch::Receiver<Arc<Overrides>> {
        self.intervals.subscribe()
    }

    /// The numbers of this moment.
    pub fn stats(&self) -> Stats {
        Stats {
            state: State::Connecting,
            pending_items: 0,
            oldest_pending: Duration::ZERO,
            pending_results: 0,
            items_written: 0,
            results_written: 0,
            bytes_written: 0,
            failures: Reason::ALL.map(|reason| (reason, 0)),
            dropped_results: 0,
            dropped_items: 0,
            results_bytes: 0,
            unknown_rows: 0,
            overrides: 0,
            refused_intervals: 0,
            clamped_times: 0,
        }
    }

    /// Writes what is pending, each changed result included, releases the table, and ends the task; no later than
    /// `limit` from now. Returns whether all was written. Later calls of anything do nothing.
    pub async fn close(&self, _limit: Duration) -> bool {
        true
    }
}
