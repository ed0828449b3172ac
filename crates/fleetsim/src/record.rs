//! What a simulated server has seen: records in their order, and counts.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// How many records a server keeps; beyond, the oldest go.
pub const MAX_RECORDS: usize = 100_000;

/// How long waiting for something to happen at a server may take.
pub const WAIT: Duration = Duration::from_secs(30);

/// Something that happened at a server.
#[derive(Debug, Clone)]
pub struct Record {
    /// When.
    pub at: Instant,
    /// The number of the session, or the one that it would have got.
    pub connection: u64,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody connected.
    Connected,
    /// Somebody tried to log in.
    Login(LoginSeen),
    /// A statement arrived.
    Statement(Box<str>),
    /// The last statement of this session is over.
    StatementEnded(StatementEnd),
    /// A KILL arrived.
    Kill {
        /// Of which session.
        session: u64,
        /// Whether only its query is meant.
        query_only: bool,
        /// Whether there was such a session.
        found: bool,
    },
    /// The client has taken leave.
    Quit,
    /// The connection is gone, and the server's side of it too.
    Closed,
}

/// How a statement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementEnd {
    /// Its answer was sent as the script has it.
    Answered,
    /// It was ended by its limit.
    Limit,
    /// It was ended by KILL, or with its server.
    Killed,
    /// The client went away before it had all of the answer.
    Lost,
}

/// What a client said to log in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoginSeen {
    /// The account's name.
    pub user: String,
    /// The schema that it asked for.
    pub database: Option<String>,
    /// The plugin by which the password was proved in the end.
    pub plugin: String,
    /// The password, where the client sent it in full.
    pub password: Option<String>,
    /// Whether the connection was encrypted by then.
    pub tls: bool,
    /// The capabilities that the client named.
    pub capabilities: u32,
    /// The error that it got; none if it was let in.
    pub refused: Option<u16>,
}

/// What a server has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections made.
    pub connects: u64,
    /// Logins, those refused included.
    pub logins: u64,
    /// Logins refused.
    pub refused: u64,
    /// Statements, those built in included, KILL left out.
    pub statements: u64,
    /// KILLs.
    pub kills: u64,
    /// Connections open now.
    pub open: u64,
    /// The most that were open at once.
    pub most_open: u64,
    /// Threads now: connections, and statements that run on although their client is gone.
    pub threads: u64,
    /// The most at once.
    pub most_threads: u64,
}

/// The records and the counts of one server.
#[derive(Debug, Default)]
pub(crate) struct Records {
    kept: Mutex<Kept>,
    changed: Notify,
    pub(crate) connects: AtomicU64,
    pub(crate) logins: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) statements: AtomicU64,
    pub(crate) kills: AtomicU64,
    pub(crate) open: Gauge,
    pub(crate) threads: Gauge,
}

#[derive(Debug, Default)]
struct Kept {
    records: VecDeque<Record>,
    /// How many went before the first that is kept.
    lost: u64,
}

/// A number that follows what it counts, and the most there were at the moment when one more came.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicU64,
    most: AtomicU64,
}

impl Gauge {
    /// One more, which makes so many that are certain at this moment.
    pub(crate) fn up(&self, certain: u64) {
        self.now.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(certain, Ordering::Relaxed);
    }

    pub(crate) fn down(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Records {
    /// Keeps a record, and wakes whoever waits for it.
    pub(crate) fn add(&self, connection: u64, event: Event) {
        {
            let mut kept = self.kept();
            if kept.records.len() == MAX_RECORDS {
                kept.records.pop_front();
                kept.lost += 1;
            }
            kept.records.push_back(Record { at: Instant::now(), connection, event });
        }
        self.changed.notify_waiters();
    }

    /// One more of a counter.
    pub(crate) fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
        self.notify();
    }

    /// A count has changed.
    pub(crate) fn notify(&self) {
        self.changed.notify_waiters();
    }

    pub(crate) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connects: read(&self.connects),
            logins: read(&self.logins),
            refused: read(&self.refused),
            statements: read(&self.statements),
            kills: read(&self.kills),
            open: read(&self.open.now),
            most_open: read(&self.open.most),
            threads: read(&self.threads.now),
            most_threads: read(&self.threads.most),
        }
    }

    pub(crate) fn all(&self) -> Vec<Record> {
        self.kept().records.iter().cloned().collect()
    }

    pub(crate) fn forget(&self) {
        let mut kept = self.kept();
        kept.lost += kept.records.len() as u64;
        kept.records.clear();
    }

    /// The first record, from the first that is kept, for which `is_it` holds.
    pub(crate) async fn wait_for(&self, is_it: impl Fn(&Record) -> bool) -> Option<Record> {
        let mut seen = 0;
        self.wait(|| {
            let kept = self.kept();
            let skip = usize::try_from(u64::saturating_sub(seen, kept.lost)).unwrap_or(usize::MAX);
            seen = kept.lost + kept.records.len() as u64;
            kept.records.iter().skip(skip).find(|record| is_it(record)).cloned()
        })
        .await
    }

    /// Asks `probe` again after each change until it gives something; None after [`WAIT`].
    pub(crate) async fn wait<T>(&self, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
        let waiting = async {
            loop {
                // Made before the probe, so that no change between the two is missed.
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Some(found) = probe() {
                    return found;
                }
                changed.await;
            }
        };
        timeout(WAIT, waiting).await.ok()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A list is whole between any two operations on it, so a poisoned lock is as good.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
