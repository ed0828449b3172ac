//! The handle: notes runs without waiting, gives what was kept, closes.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Items, Overrides, Settings, State, Stats,
    dirty::{Dirty, Pending},
    keeper::Keeper,
    stats::{Counters, get},
    store::Fault,
};

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
pub struct Loading {
    loaded: oneshot::Receiver<Loaded>,
    state: watch::Receiver<State>,
    is_first: bool,
    is_over: bool,
}

impl Loading {
    /// Waits for what was kept, for no longer than `limit`. None if it has not come by then, or, at the first call,
    /// as soon as it is known that it will not come at once: the store fails, or the table is another's. It may come
    /// later still, to another call. Once given it does not come again. Dropping the future loses nothing.
    ///
    /// When it has come, [`History::intervals`] has what the table said of intervals.
    pub async fn wait(&mut self, limit: Duration) -> Option<Loaded> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        if self.is_over {
            // Whoever asks again and again shall not do it without a pause.
            sleep(limit).await;
            return None;
        }
        let settled = |state: &State| !matches!(state, State::Connecting | State::Owner);
        let hopeless = async {
            let known = self.state.wait_for(settled).await.is_ok();
            if !(known && is_first) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            loaded = &mut self.loaded => {
                self.is_over = true;
                loaded.ok()
            }
            () = hopeless => None,
            () = sleep(limit) => None,
        }
    }
}

/// Keeps what ran. One task of its own does all the work and is the only one to wait for the store; dropping this ends
/// it without a last flush.
#[derive(Debug)]
pub struct History {
    shared: Arc<Shared>,
    /// The one task, until it is closed.
    task: Mutex<JoinSet<()>>,
}

impl History {
    /// Begins to connect, and returns at once. It never fails: a store that cannot be used is tried again, with a
    /// growing wait, and [`stats`](Self::stats) says why. Needs a runtime of tokio.
    pub fn start(settings: Settings, items: Items, results: Arc<dyn Results>) -> (Self, Loading) {
        let shared = Arc::new(Shared {
            notes: Mutex::new(Notes { items: Arc::new(items), dirty: Dirty::default() }),
            items_changed: Notify::new(),
            closing: CancellationToken::new(),
            state: watch::Sender::new(State::Connecting),
            intervals: watch::Sender::default(),
            counters: Arc::default(),
            results,
        });
        let (sender, loaded) = oneshot::channel();
        let loading = Loading { loaded, state: shared.state.subscribe(), is_first: true, is_over: false };
        let mut task = JoinSet::new();
        task.spawn(Keeper::new(Arc::clone(&shared), settings, sender).keep());
        (Self { shared, task: Mutex::new(task) }, loading)
    }

    /// Notes a run. It waits for nobody and takes no more room than one note for each item: of several that are not
    /// written yet the last counts. Runs of items that are not configured (any more) are ignored.
    pub fn ran(&self, item: &Arc<str>, run: Run) {
        let mut notes = self.shared.notes();
        if notes.items.contains_key(item) {
            notes.dirty.note(item, run, Instant::now());
        }
    }

    /// The configured items have changed. Where an interval did, and nobody had written another into the table, the
    /// table follows.
    pub fn set_items(&self, items: Items) {
        let items = Arc::new(items);
        let mut notes = self.shared.notes();
        notes.dirty.retain(|item| items.contains_key(item));
        let before = std::mem::replace(&mut notes.items, items);
        drop(notes);
        // Nobody waits while a large map is freed.
        drop(before);
        self.shared.items_changed.notify_one();
    }

    /// The intervals that hold in place of the configuration's: all of them, each time they change.
    pub fn intervals(&self) -> watch::Receiver<Arc<Overrides>> {
        self.shared.intervals.subscribe()
    }

    /// The numbers of this moment.
    pub fn stats(&self) -> Stats {
        let (pending_items, oldest_pending) = {
            let notes = self.shared.notes();
            (notes.dirty.len() as u64, notes.dirty.oldest(Instant::now()))
        };
        let counters = &self.shared.counters;
        Stats {
            state: self.shared.state.borrow().clone(),
            pending_items,
            oldest_pending,
            pending_results: get(&counters.pending_results),
            items_written: get(&counters.items_written),
            results_written: get(&counters.results_written),
            bytes_written: get(&counters.bytes_written),
            failures: counters.failures(),
            dropped_results: get(&counters.dropped_results),
            dropped_items: get(&counters.dropped_items),
            results_bytes: get(&counters.results_bytes),
            unknown_rows: get(&counters.unknown_rows),
            overrides: self.shared.intervals.borrow().len() as u64,
            refused_intervals: get(&counters.refused_intervals),
            clamped_times: get(&counters.clamped_times),
        }
    }

    /// Writes what is pending, each changed result included, releases the table, and ends the task; no later than
    /// `limit` from now. Returns whether all was written. Later calls do nothing.
    pub async fn close(&self, limit: Duration) -> bool {
        self.shared.closing.cancel();
        let mut task = std::mem::take(&mut *lock(&self.task));
        let ended = timeout(limit, async { while task.join_next().await.is_some() {} }).await;
        drop(task);
        let written = ended.is_ok() && self.shared.is_all_written();
        self.shared.set_state(State::Closed);
        written
    }
}

/// What the handle and the task share.
pub(crate) struct Shared {
    notes: Mutex<Notes>,
    /// The items have changed.
    pub(crate) items_changed: Notify,
    /// A last flush, and no more.
    pub(crate) closing: CancellationToken,
    state: watch::Sender<State>,
    intervals: watch::Sender<Arc<Overrides>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) results: Arc<dyn Results>,
}

/// Guarded by one lock, which is held for moments only.
struct Notes {
    items: Arc<Items>,
    dirty: Dirty,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl Shared {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        lock(&self.notes)
    }

    pub(crate) fn items(&self) -> Arc<Items> {
        Arc::clone(&self.notes().items)
    }

    /// The first so many of what is to be written.
    pub(crate) fn first_pending(&self, most: usize) -> Vec<Pending> {
        self.notes().dirty.first(most)
    }

    pub(crate) fn pending(&self) -> usize {
        self.notes().dirty.len()
    }

    /// These are in the store.
    pub(crate) fn written(&self, batch: &[Pending]) {
        self.notes().dirty.written(batch);
    }

    fn is_all_written(&self) -> bool {
        self.pending() == 0 && get(&self.counters.pending_results) == 0
    }

    pub(crate) fn set_intervals(&self, overrides: Overrides) {
        self.intervals.send_if_modified(|now| {
            let differs = **now != overrides;
            if differs {
                *now = Arc::new(overrides);
            }
            differs
        });
    }

    /// Says what it does now, in the log too if that is news.
    pub(crate) fn set_state(&self, state: State) {
        self.state.send_if_modified(|now| {
            let is_news = *now != state;
            if is_news {
                log(now, &state);
                *now = state;
            }
            is_news
        });
    }

    /// Counts a failure of the store and says so.
    pub(crate) fn failed(&self, fault: Fault) {
        self.counters.failed(fault.reason);
        self.set_state(State::Failing { reason: fault.reason, message: fault.message });
    }
}

fn log(before: &State, now: &State) {
    match now {
        State::Connecting | State::Closed => {}
        State::Owner => tracing::info!("history is kept"),
        State::Standby { owner } => {
            tracing::warn!(
                owner,
                "history belongs to another exporter: nothing is read or written until it is gone"
            );
        }
        State::Failing { reason, message } => {
            // Attempts that fail in the same way are counted, not told.
            let is_same = matches!(before, State::Failing { reason: other, .. } if other == reason);
            if !is_same {
                let reason = reason.as_str();
                tracing::warn!(reason, error = message, "history is not kept: the store is tried again");
            }
        }
    }
}

/// The lock guards plain data that no panic leaves half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
