//! One target's few connections: opened late, reused while they are beyond doubt, never more than the cap.
//!
//! Who wants a connection holds one of the target's permits first, so that the idle ones, those in use and those
//! whose query may still run at the server never exceed the lanes. A connection that was dropped in mid-query
//! takes its permit along, until the server knows it no more or its own limit has passed.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, oneshot},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::{
    Failure, Reason, Rows, Target,
    connects::Connects,
    driver::{Driver, QueryError, Server, Session, SessionState},
    login::login,
    permits::Permits,
    query::ResultLimits,
    rollup::{KillResult, TargetStats},
    run::NotStarted,
};

/// A connection that nobody has used for this long is closed.
pub const IDLE_CLOSE: Duration = Duration::from_mins(5);

/// No connection lives longer than twice this, and none is given up sooner: so an exporter follows a name that
/// moved to another server, and a fleet does not reconnect all at once.
const LIFETIME: Duration = Duration::from_mins(30);

/// How long stopping a query at its server may take, connecting included.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long after a KILL the server is asked for the first time whether the session is gone.
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// The server's error for a KILL of a session that it does not know.
const NO_SUCH_SESSION: u16 = 1094;

/// After a server's own limit for a query has passed, this much later it has ended.
const LIMIT_SLACK: Duration = Duration::from_secs(2);

/// A server that was told to end a session and still lists it is short of breath: its limits pass late too.
const STALLED_SLACK: Duration = Duration::from_secs(10);

/// What the lanes of all targets share.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) driver: Arc<dyn Driver>,
    /// Connects under way, over the whole fleet.
    pub(crate) connects: Connects,
    /// KILLs under way, over the whole fleet, and the connects for them.
    pub(crate) kills: Semaphore,
    pub(crate) kill_connects: Arc<Semaphore>,
    /// Secret files being read, over the whole fleet.
    pub(crate) reads: Arc<Semaphore>,
    /// The tasks that outlive a run: KILLs, and farewells to servers.
    pub(crate) tasks: TaskTracker,
}

/// One target's connections.
#[derive(Debug)]
pub(crate) struct Lanes {
    pub(crate) target: Arc<Target>,
    pub(crate) stats: Arc<TargetStats>,
    pub(crate) pool: Arc<Pool>,
    idle: Mutex<Vec<Lane>>,
    /// How often the server has answered, with a greeting, rows or an error of its own.
    answers: AtomicU64,
    /// One permit for each connection that the server may see at once, whatever it is for and until it is gone. The
    /// lanes' permits and `side` leave room for every one but those that are just being closed.
    slots: Arc<Permits>,
    /// At most one side connection at a time.
    side: Semaphore,
    /// At most one connect at a time while the target is not up.
    unproven: Semaphore,
}

/// The right to open one connection now.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    slot: OwnedSemaphorePermit,
    permit: OwnedSemaphorePermit,
    _unproven: Option<SemaphorePermit<'a>>,
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) session: Box<dyn Session>,
    /// The session's `max_execution_time` as far as we have set it.
    pub(crate) session_limit_ms: Option<u64>,
    expires: Instant,
    idle_since: Instant,
    _open: Open,
}

/// Counts a connection as open for as long as it lives, and holds its slot.
#[derive(Debug)]
struct Open {
    stats: Arc<TargetStats>,
    _slot: OwnedSemaphorePermit,
}

impl Open {
    fn new(stats: &Arc<TargetStats>, slot: OwnedSemaphorePermit) -> Self {
        stats.connection_opened();
        Self { stats: Arc::clone(stats), _slot: slot }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stats.connection_closed();
    }
}

impl Lanes {
    pub(crate) fn new(target: Arc<Target>, stats: Arc<TargetStats>, pool: Arc<Pool>) -> Self {
        let slots = Arc::new(Permits::new(target.max_connections.max(1).into()));
        Self::within(slots, target, stats, pool)
    }

    /// Lanes in the place of these, to the same server by another way. Both count as one against its cap: what the old
    /// ones still hold, the new ones wait for. A lower cap holds as soon as the old ones are gone, since until then they
    /// may need a connection to end what they left behind.
    pub(crate) fn succeeded_by(&self, target: Arc<Target>) -> Self {
        self.slots.announce(target.max_connections.max(1).into());
        Self::within(Arc::clone(&self.slots), target, Arc::clone(&self.stats), Arc::clone(&self.pool))
    }

    fn within(slots: Arc<Permits>, target: Arc<Target>, stats: Arc<TargetStats>, pool: Arc<Pool>) -> Self {
        Self {
            target,
            stats,
            pool,
            idle: Mutex::default(),
            answers: AtomicU64::new(0),
            slots,
            side: Semaphore::new(1),
            unproven: Semaphore::new(1),
        }
    }

    /// How often the server has answered so far. Who looks twice knows whether it was heard of in between.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Relaxed)
    }

    /// It has answered.
    pub(crate) fn answered(&self) {
        self.answers.fetch_add(1, Relaxed);
    }

    /// An idle connection, the last one used first, so that those that are not needed grow old.
    pub(crate) fn take_idle(&self) -> Option<Lane> {
        loop {
            let lane = self.idle().pop()?;
            if lane.expires > Instant::now() {
                return Some(lane);
            }
            self.farewell(lane);
        }
    }

    /// Gives back a connection that is beyond doubt. Its permit is released after this, not before.
    pub(crate) fn give_back(&self, mut lane: Lane) {
        lane.idle_since = Instant::now();
        self.idle().push(lane);
    }

    /// Waits for the right to open a connection, until `start_by`. This is our own queue, which says nothing about the
    /// server.
    pub(crate) async fn admission(&self, start_by: Instant) -> Result<Admission<'_>, NotStarted> {
        timeout_at(start_by, self.next_admission()).await.unwrap_or(Err(NotStarted::NoPermit))
    }

    async fn next_admission(&self) -> Result<Admission<'_>, NotStarted> {
        // No semaphore is ever closed.
        let closed = |_| NotStarted::NoPermit;
        let unproven = if self.stats.is_up() {
            None
        } else {
            let failures = self.stats.failures();
            let unproven = self.unproven.acquire().await.map_err(closed)?;
            if !self.stats.is_up() && self.stats.failures() != failures {
                // Whoever went before has found out what a second connect would.
                return Err(NotStarted::TargetDown);
            }
            Some(unproven)
        };
        let slot = Arc::clone(self.slots.semaphore()).acquire_owned().await.map_err(closed)?;
        let down = !self.stats.is_up() && self.stats.failures() > 0;
        let permit = self.pool.connects.acquire(down).await.map_err(closed)?;
        Ok(Admission { slot, permit, _unproven: unproven })
    }

    /// Opens a connection; all of it, from reading the secret to the session's settings, ends at `deadline`.
    pub(crate) async fn connect(&self, admission: Admission<'_>, deadline: Instant) -> Result<Lane, Failure> {
        let Admission { slot, permit, _unproven } = admission;
        let connecting = timeout_at(deadline, self.open(slot, permit, deadline)).await;
        connecting.unwrap_or_else(|_| {
            let message =
                format!("no connection to {} in time: the server did not answer", self.target.address);
            Err(Failure::unanswered(Reason::ConnectTimeout, message))
        })
    }

    /// A slot of the target first, then a permit of the fleet: who waits for one target keeps nobody else waiting.
    async fn admitted(&self, fleet: &Arc<Semaphore>) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        // Neither semaphore is ever closed.
        let slot = Arc::clone(self.slots.semaphore()).acquire_owned().await.ok()?;
        Some((slot, Arc::clone(fleet).acquire_owned().await.ok()?))
    }

    async fn open(
        &self,
        slot: OwnedSemaphorePermit,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> Result<Lane, Failure> {
        let open = Open::new(&self.stats, slot);
        let login = login(&self.target, &self.pool.reads).await?;
        self.stats.connect_begun();
        let session = self.pool.driver.connect(&self.target, &login, permit, deadline).await?;
        self.answered();
        if self.stats.introduced(session.server()) {
            self.log_guards(session.server());
        }
        let now = Instant::now();
        // Spread by the session's number, which differs between servers and goes up on each.
        let jitter = Duration::from_secs(session.id().wrapping_mul(7919) % LIFETIME.as_secs());
        Ok(Lane {
            session,
            session_limit_ms: None,
            expires: now + LIFETIME + jitter,
            idle_since: now,
            _open: open,
        })
    }

    fn log_guards(&self, server: &Server) {
        let (target_name, group) = (&*self.target.name, &*self.target.group);
        if server.refused.is_empty() {
            tracing::info!(target_name, group, "the server now sets every guard of a session");
            return;
        }
        let errors = server.refused.iter().map(|refused| format!("{}: {}", refused.guard, refused.error));
        let errors = errors.collect::<Vec<_>>().join("; ");
        tracing::warn!(
            target_name,
            group,
            guards = server.guards_refused(),
            error = errors,
            "the server refused guards of the session, which goes on without them"
        );
    }

    /// Ends a connection whose query may still run: the socket now, the query at the server by KILL where that is
    /// allowed. `permit` is the lane that it occupies; it is free again when the session is gone there, or when the
    /// server's own limit, at `server_limit`, has surely ended the query.
    ///
    /// Returns, where there is a KILL, what ends as soon as the server has answered the side connection, or it is
    /// certain that it does not: two seconds later at the latest.
    pub(crate) fn abandon(
        self: &Arc<Self>,
        lane: Lane,
        permit: OwnedSemaphorePermit,
        server_limit: Instant,
    ) -> Option<oneshot::Receiver<()>> {
        let Lane { session, _open: open, .. } = lane;
        let (id, server) = (session.id(), Arc::clone(session.server()));
        drop(session);
        // Without a runtime the process is over, and the server's own limit is all that is left.
        let runtime = Handle::try_current().ok()?;
        // Whoever is unknown could not be told from another, and a side connection would be for nothing.
        let may_kill = self.target.may_kill() && server.is_known() && id != 0;
        let lanes = Arc::clone(self);
        let (heard, side) = oneshot::channel();
        let kill = async move {
            let left = if may_kill { lanes.stop(id, &server, heard).await } else { Some(LIMIT_SLACK) };
            if let Some(slack) = left {
                sleep_until(server_limit + slack).await;
            }
            drop((open, permit));
        };
        self.pool.tasks.spawn_on(kill, &runtime);
        may_kill.then_some(side)
    }

    /// Ends a session at the server, within bounds, and counts what became of that. None if it is gone, else how long
    /// after the server's own limit it is taken for gone.
    async fn stop(&self, id: u64, server: &Server, heard: oneshot::Sender<()>) -> Option<Duration> {
        let mut result = KillResult::Unreachable;
        let killing = self.kill(id, server, heard, &mut result);
        let gone = timeout(KILL_TIMEOUT, killing).await.unwrap_or(false);
        self.stats.killed(result);
        tracing::debug!(target = %self.target.name, id, result = result.as_str(), gone, "kill");
        match result {
            _ if gone => None,
            KillResult::Killed => Some(STALLED_SLACK),
            _ => Some(LIMIT_SLACK),
        }
    }

    /// Kills the session, not only its query: we will not use it again, and KILL QUERY could meet a later query.
    /// Then asks again until the server does not know it any more: before, it is a connection like any other there.
    async fn kill(
        &self,
        id: u64,
        server: &Server,
        heard: oneshot::Sender<()>,
        result: &mut KillResult,
    ) -> bool {
        let deadline = Instant::now() + KILL_TIMEOUT;
        let Ok(_one) = self.side.acquire().await else { return false };
        let Ok(_few) = self.pool.kills.acquire().await else { return false };
        let Some((slot, connect)) = self.admitted(&self.pool.kill_connects).await else { return false };
        let Ok(mut side) = self.open(slot, connect, deadline).await else { return false };
        // Nobody may wait for it.
        let _ = heard.send(());
        // Sessions are numbered upwards: a side connection with a lower number than ours says that the server was
        // restarted, and our number is somebody else's now.
        let gone = if !side.session.server().is_same(server) {
            *result = KillResult::OtherServer;
            false
        } else if side.session.id() <= id {
            *result = KillResult::Gone;
            true
        } else {
            end_session(&mut *side.session, id, result).await
        };
        if *result != KillResult::Unreachable {
            self.farewell(side);
        }
        gone
    }

    /// Closes the connections that nobody has used for long.
    pub(crate) fn close_idle(&self) {
        let now = Instant::now();
        let old: Vec<_> = self
            .idle()
            .extract_if(.., |lane| {
                now.saturating_duration_since(lane.idle_since) >= IDLE_CLOSE || lane.expires <= now
            })
            .collect();
        for lane in old {
            self.farewell(lane);
        }
    }

    /// Closes all idle connections.
    pub(crate) fn close_all(&self) {
        let all = std::mem::take(&mut *self.idle());
        for lane in all {
            self.farewell(lane);
        }
    }

    /// Closes a connection with the protocol's goodbye, so that the server does not log an aborted one.
    fn farewell(&self, lane: Lane) {
        let Ok(runtime) = Handle::try_current() else { return };
        let Lane { session, _open: open, .. } = lane;
        let close = async move {
            session.close().await;
            drop(open);
        };
        self.pool.tasks.spawn_on(close, &runtime);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Lane>> {
        // A list is whole between any two operations on it, so a poisoned lock is as good.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.slots.settle();
    }
}

/// Sends KILL until the server says that there is no such session. Returns whether it came to that.
async fn end_session(side: &mut dyn Session, id: u64, result: &mut KillResult) -> bool {
    let statement = format!("KILL {id}").into();
    let mut pause = FIRST_LOOK;
    loop {
        let mut rows = Rows::new(ResultLimits::default());
        match side.query(&statement, &mut rows).await {
            Ok(()) => *result = KillResult::Killed,
            Err(QueryError { failure, session: SessionState::Intact }) => {
                let gone = failure.code == Some(NO_SUCH_SESSION);
                if *result != KillResult::Killed {
                    *result = if gone { KillResult::Gone } else { KillResult::Refused };
                }
                return gone;
            }
            Err(_) => return false,
        }
        sleep(pause).await;
        pause *= 2;
    }
}
