//! The one task: connects, claims the table, loads it, and then writes what ran and watches for changed intervals, until
//! the store fails or the history is closed. Nobody waits for it.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;
use tokio::{
    select,
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Items, KeptItem, KeptResult, Loaded, Reason, Settings, State,
    due::Due,
    history::Shared,
    intervals::{Intervals, Judged, seconds},
    stats::{add, set},
    store::{Claim, Claimed, Fault, MAX_BATCH, NewRow, Parts, ResultRow, Row, Session, since_epoch},
};

/// How much of the owner's name the lock holds, in characters.
const MAX_OWNER: usize = 255;

/// How many heartbeats an owner may miss.
const HEARTBEATS: u32 = 10;

/// The wait of one that was restarted and whose forerunner, though dead, was still heard of: what it had sent last.
const FORERUNNER: Duration = Duration::from_millis(50);

/// The wait before the first new try of a store that fails.
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);

/// How many results are asked for at once.
const RESULTS_BATCH: usize = 50;

/// What results may take of one flush, in bytes; the rest waits for the next, so that heartbeats and items have theirs.
const MAX_FLUSHED_RESULTS: usize = 16 << 20;

/// Looking for changed intervals takes no more than this part of the time, however large the table is.
const POLL_SHARE: u32 = 20;

/// A result of an item that is not configured is kept for so long, in case it comes back.
const KEEP_UNKNOWN: Duration = Duration::from_secs(30 * 86_400);

/// Where one session's service ended, other than by a fault.
enum End {
    Closed,
    /// Another has become the owner.
    Lost,
}

/// How large each kept result is, in bytes, and all of them.
#[derive(Debug, Default)]
struct Sizes {
    items: HashMap<Arc<str>, u64>,
    total: u64,
}

impl Sizes {
    fn of(&self, item: &str) -> u64 {
        self.items.get(item).copied().unwrap_or(0)
    }

    fn set(&mut self, item: &Arc<str>, size: usize) {
        let size = size as u64;
        self.total = self.total - self.of(item) + size;
        self.items.insert(Arc::clone(item), size);
    }

    fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.items.retain(|item, _| wanted(item));
        self.total = self.items.values().sum();
    }
}

pub(crate) struct Keeper {
    shared: Arc<Shared>,
    settings: Settings,
    claim: Claim,
    /// Who waits for what is loaded, until it is.
    loaded: Option<oneshot::Sender<Loaded>>,
    intervals: Intervals,
    due: Due,
    sizes: Sizes,
    /// Names by their lower case, where the table does not tell them apart.
    folded: HashMap<String, Arc<str>>,
    back_off: Duration,
    next_beat: Instant,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, settings: Settings, loaded: oneshot::Sender<Loaded>) -> Self {
        let lock_timeout = settings.limits.lock_timeout;
        let claim = Claim {
            owner: settings.owner.chars().take(MAX_OWNER).collect(),
            session: format!("{:032x}", fastrand::u128(..)),
            stale_after: i64::try_from(lock_timeout.as_secs()).unwrap_or(i64::MAX),
            has_owned: false,
        };
        Self {
            shared,
            settings,
            claim,
            loaded: Some(loaded),
            intervals: Intervals::default(),
            due: Due::default(),
            sizes: Sizes::default(),
            folded: HashMap::new(),
            back_off: FIRST_BACK_OFF,
            next_beat: Instant::now(),
        }
    }

    /// Serves until closed, with a new session after each fault.
    pub(crate) async fn keep(mut self) {
        loop {
            let is_last = self.shared.closing.is_cancelled();
            let served = AssertUnwindSafe(self.serve()).catch_unwind().await;
            let fault = match served {
                Ok(Ok(())) => return,
                Ok(Err(fault)) => fault,
                // sqlx panics on some answers that no server gives, and an item's result is not ours either.
                Err(_) => Fault::new(Reason::Other, "the history's task panicked"),
            };
            self.shared.failed(fault);
            if is_last {
                return;
            }
            let wait = self.back_off.mul_f64(0.5 + fastrand::f64() / 2.0);
            self.back_off = (self.back_off * 2).min(self.settings.limits.max_back_off);
            select! {
                () = sleep(wait) => {}
                () = self.shared.closing.cancelled() => {}
            }
        }
    }

    /// One session with the store.
    async fn serve(&mut self) -> Result<(), Fault> {
        let mut session = Session::open(&self.settings, &self.shared.counters).await?;
        loop {
            if !self.become_owner(&mut session).await? {
                break;
            }
            self.load(&mut session).await?;
            self.shared.set_state(State::Owner);
            match self.own(&mut session).await? {
                End::Lost => {}
                End::Closed => {
                    session.release(&self.claim).await?;
                    break;
                }
            }
        }
        session.close().await;
        Ok(())
    }

    fn heartbeat(&self) -> Duration {
        self.settings.limits.lock_timeout / HEARTBEATS
    }

    /// Waits until the table is ours. False: the history is closed, and it never was.
    async fn become_owner(&mut self, session: &mut Session) -> Result<bool, Fault> {
        loop {
            let wait = match session.claim(&self.claim).await? {
                Claimed::Ours => {
                    self.claim.has_owned = true;
                    self.next_beat = Instant::now() + self.heartbeat();
                    return Ok(true);
                }
                Claimed::Theirs { owner } if owner == self.claim.owner && !self.claim.has_owned => FORERUNNER,
                Claimed::Theirs { owner } => {
                    self.shared.set_state(State::Standby { owner });
                    self.heartbeat()
                }
            };
            select! {
                () = sleep(wait) => {}
                () = self.shared.closing.cancelled() => return Ok(false),
            }
        }
    }

    /// Renews the claim when it is time. False: the table is another's.
    async fn beat(&mut self, session: &mut Session) -> Result<bool, Fault> {
        if Instant::now() < self.next_beat {
            return Ok(true);
        }
        let is_ours = session.claim(&self.claim).await? == Claimed::Ours;
        // Once lost, it stays so until the table is claimed anew.
        if is_ours {
            self.next_beat = Instant::now() + self.heartbeat();
        }
        Ok(is_ours)
    }

    /// Reads the table: what holds of intervals, and, the first time, what was kept.
    async fn load(&mut self, session: &mut Session) -> Result<(), Fault> {
        let items = self.shared.items();
        self.fold_names(session, &items);
        self.intervals.remember(session.read_remembered().await?);
        let now = since_epoch(SystemTime::now());
        let mut kept: HashMap<Arc<str>, KeptItem> = HashMap::new();
        self.intervals.forget_parts(|_| true);
        let (mut clamped, wanted) = (0, self.loaded.is_some());
        session
            .read_items(|row| {
                let name = name_of(&items, &self.folded, &row.item);
                if let (Some(name), Some(last_run), true) = (&name, row.last_run, wanted) {
                    let last_run = clamp(Duration::from_secs(last_run.unsigned_abs()), now, &mut clamped);
                    kept.entry(Arc::clone(name)).or_default().last_run = Some(last_run);
                }
                self.intervals.saw(name, row.part, row.interval);
            })
            .await?;
        if wanted {
            self.load_results(session, &items, now, &mut kept, &mut clamped).await?;
        }
        add(&self.shared.counters.clamped_times, clamped);
        let judged = self.judge(&items);
        if let Some(waiting) = self.loaded.take() {
            // Nobody waits any more where the exporter is about to end.
            let _ = waiting.send(Loaded { items: kept });
        }
        self.settle(session, &items, judged).await
    }

    async fn load_results(
        &mut self,
        session: &mut Session,
        items: &Items,
        now: Duration,
        kept: &mut HashMap<Arc<str>, KeptItem>,
        clamped: &mut usize,
    ) -> Result<(), Fault> {
        let limits = self.settings.limits;
        let (sizes, mut outlived) = (&mut self.sizes, Vec::new());
        sizes.retain(|_| false);
        session
            .read_results(|row| {
                let read_at = Duration::from_millis(row.read_at.unsigned_abs());
                if let Some((name, _)) = items.get_key_value(&row.item) {
                    sizes.set(name, row.bytes.len());
                    let read_at = clamp(read_at, now, clamped);
                    let result = KeptResult { read_at, bytes: row.bytes };
                    kept.entry(Arc::clone(name)).or_default().result = Some(result);
                } else if now.saturating_sub(read_at) > KEEP_UNKNOWN && outlived.len() < MAX_BATCH {
                    outlived.push(row.item);
                }
                sizes.total <= limits.max_results_bytes
            })
            .await?;
        set(&self.shared.counters.results_bytes, self.sizes.total);
        if !outlived.is_empty() {
            session.delete_results(&outlived).await?;
        }
        Ok(())
    }

    /// Makes the names known under which a table finds items that does not tell upper from lower case.
    fn fold_names(&mut self, session: &Session, items: &Items) {
        self.folded.clear();
        if session.folds_case() {
            let folded = items.keys().map(|item| (item.to_ascii_lowercase(), Arc::clone(item)));
            self.folded.extend(folded);
        }
    }

    /// Says which intervals hold.
    fn judge(&mut self, items: &Items) -> Judged {
        let mut judged = self.intervals.judge(items);
        let counters = &self.shared.counters;
        set(&counters.unknown_rows, self.intervals.unknown());
        add(&counters.refused_intervals, judged.refused.len());
        for (item, seconds) in &judged.refused {
            let (shortest, longest) = items.get(item).map_or_else(Default::default, |known| {
                (known.shortest.as_secs_f64(), known.longest.as_secs_f64())
            });
            tracing::warn!(
                item = &**item,
                seconds,
                shortest,
                longest,
                "an interval in the history table is out of bounds: the configuration's holds"
            );
        }
        self.shared.set_intervals(std::mem::take(&mut judged.overrides));
        judged
    }

    /// Lets rows follow the configuration, and remembers it.
    async fn settle(&mut self, session: &mut Session, items: &Items, judged: Judged) -> Result<(), Fault> {
        for ((from, to), changed) in judged.follow {
            for batch in changed.chunks(MAX_BATCH) {
                session.change_intervals(from, to, batch).await?;
                self.intervals.followed(batch, to);
            }
        }
        for batch in self.intervals.settle(items).chunks(MAX_BATCH) {
            session.write_remembered(batch).await?;
        }
        Ok(())
    }

    /// Writes and watches for as long as the table is ours.
    async fn own(&mut self, session: &mut Session) -> Result<End, Fault> {
        let limits = self.settings.limits;
        let mut next_flush = Instant::now();
        let mut next_poll = Instant::now() + limits.poll_interval;
        loop {
            let mut items_changed = false;
            select! {
                () = sleep_until(next_flush.min(next_poll).min(self.next_beat)) => {}
                () = self.shared.items_changed.notified() => items_changed = true,
                () = self.shared.closing.cancelled() => {}
            }
            if self.shared.closing.is_cancelled() {
                self.flush_items(session).await?;
                self.flush_results(session, None, usize::MAX).await?;
                return Ok(End::Closed);
            }
            if !self.beat(session).await? {
                return Ok(End::Lost);
            }
            if items_changed {
                self.change_items(session).await?;
            }
            if Instant::now() >= next_flush {
                next_flush = Instant::now() + self.settings.flush_interval;
                self.flush_items(session).await?;
                self.flush_results(session, Some(Instant::now()), MAX_FLUSHED_RESULTS).await?;
            }
            if Instant::now() >= next_poll {
                let begun = Instant::now();
                self.poll(session).await?;
                next_poll = Instant::now() + limits.poll_interval.max(begun.elapsed() * POLL_SHARE);
            }
        }
    }

    /// Writes when items last ran, as far as they are dirty now.
    async fn flush_items(&mut self, session: &mut Session) -> Result<(), Fault> {
        let items = self.shared.items();
        let counters = Arc::clone(&self.shared.counters);
        for _ in 0..self.shared.pending().div_ceil(MAX_BATCH) {
            let batch = self.shared.first_pending(MAX_BATCH);
            let mut rows: Vec<NewRow> = Vec::with_capacity(batch.len());
            for pending in &batch {
                let Some(known) = items.get(&pending.item) else { continue };
                if pending.item.chars().count() > session.max_name() {
                    add(&counters.dropped_items, 1);
                    continue;
                }
                rows.push(NewRow {
                    item: Arc::clone(&pending.item),
                    last_run: i64::try_from(since_epoch(pending.run.at).as_secs()).unwrap_or(i64::MAX),
                    interval: seconds(known.interval),
                    value: pending.run.value,
                });
            }
            // In the order of the key, as two writers that must not wait for each other would.
            rows.sort_unstable_by(|a, b| a.item.cmp(&b.item));
            if !rows.is_empty() {
                session.write_items(&rows).await?;
                self.back_off = FIRST_BACK_OFF;
            }
            self.shared.written(&batch);
            add(&counters.items_written, rows.len());
            // The time, the interval and the value are 16 bytes.
            add(&counters.bytes_written, rows.iter().map(|row| row.item.len() + 16).sum());
            let now = Instant::now();
            for pending in batch.iter().filter(|pending| pending.run.has_result && session.has_results()) {
                let Some(known) = items.get(&pending.item) else { continue };
                self.due.changed(
                    &pending.item,
                    self.settings.limits.results_interval.max(known.interval),
                    now,
                );
            }
            set(&counters.pending_results, self.due.len() as u64);
            // A last flush is short, and what it leaves is gone.
            if !self.shared.closing.is_cancelled() && !self.beat(session).await? {
                break;
            }
        }
        Ok(())
    }

    /// Writes the results that are due by `until`, or all; `most` bytes of them and one statement more.
    async fn flush_results(
        &mut self,
        session: &mut Session,
        until: Option<Instant>,
        most: usize,
    ) -> Result<(), Fault> {
        let counters = Arc::clone(&self.shared.counters);
        let mut flushed = 0;
        while flushed < most {
            let due = self.due.first(until, RESULTS_BATCH);
            if due.is_empty() {
                break;
            }
            let (rows, taken) = self.take_results(session, &due);
            if !rows.is_empty() {
                session.write_results(&rows).await?;
            }
            let now = Instant::now();
            for item in &due[..taken] {
                self.due.done(item, now);
            }
            for row in &rows {
                self.sizes.set(&row.item, row.bytes.len());
            }
            let bytes: usize = rows.iter().map(|row| row.bytes.len()).sum();
            flushed += bytes;
            add(&counters.results_written, rows.len());
            add(&counters.bytes_written, rows.iter().map(|row| row.item.len() + 8).sum::<usize>() + bytes);
            set(&counters.results_bytes, self.sizes.total);
            set(&counters.pending_results, self.due.len() as u64);
            if !self.shared.closing.is_cancelled() && !self.beat(session).await? {
                break;
            }
        }
        Ok(())
    }

    /// Asks for the results of as many of these as fit into a statement; returns them, and how many of `due` that were.
    fn take_results(&self, session: &Session, due: &[Arc<str>]) -> (Vec<ResultRow>, usize) {
        let limits = self.settings.limits;
        let largest = limits.max_result_bytes.min(session.max_statement());
        let mut total = self.sizes.total;
        let (mut rows, mut bytes): (Vec<ResultRow>, usize) = (Vec::new(), 0);
        for (taken, item) in due.iter().enumerate() {
            let Some(result) = self.shared.results.result(item) else { continue };
            let size = result.bytes.len();
            let total_then = total - self.sizes.of(item) + size as u64;
            if size > largest || total_then > limits.max_results_bytes {
                add(&self.shared.counters.dropped_results, 1);
                continue;
            }
            if bytes + size > session.max_statement() {
                return (rows, taken);
            }
            (total, bytes) = (total_then, bytes + size);
            let read_at = i64::try_from(since_epoch(result.read_at).as_millis()).unwrap_or(i64::MAX);
            rows.push(ResultRow { item: Arc::clone(item), read_at, bytes: result.bytes });
        }
        (rows, due.len())
    }

    /// Looks whether somebody has changed an interval.
    async fn poll(&mut self, session: &mut Session) -> Result<(), Fault> {
        let items = self.shared.items();
        let mut rows = Vec::new();
        let changed = session.read_changes(|row| rows.push(row)).await?;
        match &changed {
            Parts::Some(parts) if parts.is_empty() => return Ok(()),
            Parts::Some(parts) => self.intervals.forget_parts(|part| parts.contains(&part)),
            Parts::All => self.intervals.forget_parts(|_| true),
        }
        self.see(&items, rows);
        let judged = self.judge(&items);
        self.settle(session, &items, judged).await
    }

    /// The items are others: rows that named nobody may name one now, and the other way round.
    async fn change_items(&mut self, session: &mut Session) -> Result<(), Fault> {
        let items = self.shared.items();
        self.fold_names(session, &items);
        self.due.retain(|item| items.contains_key(item));
        self.sizes.retain(|item| items.contains_key(item));
        let mut rows = Vec::new();
        session.read_items(|row| rows.push(row)).await?;
        self.intervals.forget_parts(|_| true);
        self.see(&items, rows);
        let judged = self.judge(&items);
        self.settle(session, &items, judged).await
    }

    fn see(&mut self, items: &Items, rows: Vec<Row>) {
        for row in rows {
            self.intervals.saw(name_of(items, &self.folded, &row.item), row.part, row.interval);
        }
    }
}

/// The item that a row names, if it is one of ours.
fn name_of(items: &Items, folded: &HashMap<String, Arc<str>>, stored: &str) -> Option<Arc<str>> {
    let exact = items.get_key_value(stored).map(|(name, _)| Arc::clone(name));
    exact.or_else(|| folded.get(&stored.to_ascii_lowercase()).cloned())
}

/// A moment that was stored, and no later than now.
fn clamp(stored: Duration, now: Duration, clamped: &mut usize) -> SystemTime {
    if stored > now {
        *clamped += 1;
    }
    SystemTime::UNIX_EPOCH + stored.min(now)
}
