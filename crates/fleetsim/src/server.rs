//! What the sessions of one simulated server share: the script, the list of sessions, the records.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
};

use tokio::{net::TcpStream, sync::Notify};

use crate::{
    record::{Event, Records},
    script::Script,
    stream::is_closed,
};

/// One simulated server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) records: Records,
    script: RwLock<Arc<Script>>,
    sessions: Mutex<HashMap<u64, Arc<Handle>>>,
    next_id: AtomicU64,
    /// Whether one of the sessions did.
    panicked: AtomicBool,
}

impl Server {
    pub(crate) fn new(script: Script, port: u16) -> Self {
        let next_id = AtomicU64::new(script.first_id);
        let script = RwLock::new(Arc::new(script));
        let panicked = AtomicBool::new(false);
        Self { port, records: Records::default(), script, sessions: Mutex::default(), next_id, panicked }
    }

    /// The script as it is now.
    pub(crate) fn script(&self) -> Arc<Script> {
        Arc::clone(&self.script.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_script(&self, script: Arc<Script>) {
        *self.script.write().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// A connection begins: its session, and how many threads there are with it.
    pub(crate) fn enter(&self, tcp: &Arc<TcpStream>) -> (Arc<Handle>, u64) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let handle = Arc::new(Handle { id, tcp: Arc::downgrade(tcp), ..Handle::default() });
        let mut sessions = self.sessions();
        let (mut open, mut threads) = (1, 1);
        for other in sessions.values() {
            let is_open = other.is_open();
            open += u64::from(is_open);
            threads += u64::from(is_open || other.outlives_its_client());
        }
        sessions.insert(id, Arc::clone(&handle));
        drop(sessions);
        self.records.connects.fetch_add(1, Ordering::Relaxed);
        self.records.open.up(open);
        self.records.threads.up(threads);
        (handle, threads)
    }

    /// A session's thread is gone. Said twice, it counts once.
    pub(crate) fn leave(&self, session: &Arc<Handle>) {
        let mut sessions = self.sessions();
        // After a restart its number may be another's.
        if sessions.get(&session.id).is_some_and(|other| Arc::ptr_eq(other, session)) {
            sessions.remove(&session.id);
            self.records.threads.down();
        }
    }

    pub(crate) fn session(&self, id: u64) -> Option<Arc<Handle>> {
        self.sessions().get(&id).cloned()
    }

    /// Sessions are numbered from the first again.
    pub(crate) fn restart(&self) {
        self.next_id.store(self.script().first_id, Ordering::Relaxed);
    }

    /// Something has happened: it is kept and told as the script has it.
    pub(crate) fn note(&self, script: &Script, session: u64, event: impl FnOnce() -> Event) {
        if !script.records && script.watch.is_none() {
            return self.records.notify();
        }
        let event = event();
        if let Some(watch) = &script.watch {
            watch(session, &event);
        }
        if script.records {
            self.records.add(session, event);
        } else {
            self.records.notify();
        }
    }

    pub(crate) fn set_panicked(&self) {
        self.panicked.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::Relaxed)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<u64, Arc<Handle>>> {
        // A map is whole between any two operations on it, so a poisoned lock is as good.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What others see of a session, and by which they kill it.
#[derive(Debug, Default)]
pub(crate) struct Handle {
    pub(crate) id: u64,
    /// Its socket, for as long as it has one.
    tcp: Weak<TcpStream>,
    /// [`QUERY`] and [`CONNECTION`], as far as they were asked for.
    killed: AtomicU8,
    /// Whether a statement runs.
    busy: AtomicBool,
    /// Whether the session waits for something else than its client.
    waiting: AtomicBool,
    changed: Notify,
    user: OnceLock<Box<str>>,
}

const QUERY: u8 = 1;
const CONNECTION: u8 = 2;

impl Handle {
    /// Ends the session, or the statement that it runs.
    pub(crate) fn kill(&self, query_only: bool) {
        let what = match query_only {
            false => CONNECTION,
            true if self.is_busy() => QUERY,
            true => return,
        };
        self.killed.fetch_or(what, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Whether its client is there, as the kernel knows it: who closes one connection and opens another is not seen with
    /// both, whichever of the two the session's task learns first.
    fn is_open(&self) -> bool {
        self.tcp.upgrade().is_some_and(|tcp| !is_closed(&tcp))
    }

    /// Who has logged in; nobody before.
    pub(crate) fn user(&self) -> &str {
        self.user.get().map_or("", |user| user)
    }

    pub(crate) fn set_user(&self, user: &str) {
        // A session logs in once.
        let _ = self.user.set(user.into());
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Whether its thread stays although its client has gone. A statement that takes no time does not: the thread finds
    /// the client gone as soon as it looks.
    fn outlives_its_client(&self) -> bool {
        self.is_busy() && self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn set_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// A statement begins or ends; a KILL of the last one does not reach the next.
    pub(crate) fn set_busy(&self, busy: bool) {
        self.killed.fetch_and(!QUERY, Ordering::Relaxed);
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// Ends when the session is killed.
    pub(crate) async fn killed(&self) {
        self.asked_for(CONNECTION).await;
    }

    /// Ends when the statement that it runs is killed.
    pub(crate) async fn query_killed(&self) {
        self.asked_for(QUERY).await;
    }

    async fn asked_for(&self, what: u8) {
        loop {
            // Made before the look, so that nothing between the two is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.killed.load(Ordering::Relaxed) & what != 0 {
                return;
            }
            changed.await;
        }
    }
}
