//! One target's few connections: opened late, reused while they are beyond doubt, never more than the cap.
//!
//! Who wants a connection holds one of the target's permits first, so that the idle ones, those in use and those
//! whose query may still run at the server never exceed the lanes. A connection that was dropped in mid-query
//! takes its permit along, until the server has confirmed a KILL or its own limit has passed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::{
    Failure, Reason, Rows, Target,
    driver::{Driver, Session, SessionState},
    login::login,
    query::ResultLimits,
    rollup::{KillResult, TargetStats},
};

/// A connection that nobody has used for this long is closed.
pub const IDLE_CLOSE: Duration = Duration::from_mins(5);

/// No connection lives longer than twice this, and none is given up sooner: so an exporter follows a name that
/// moved to another server, and a fleet does not reconnect all at once.
const LIFETIME: Duration = Duration::from_mins(30);

/// How long stopping a query at its server may take, connecting included.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// After a server's own limit for a query has passed, this much later it has ended.
const LIMIT_SLACK: Duration = Duration::from_secs(2);

/// What the lanes of all targets share.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) driver: Arc<dyn Driver>,
    /// Connects under way, over the whole fleet.
    pub(crate) connects: Arc<Semaphore>,
    pub(crate) connects_limit: usize,
    /// KILLs under way, over the whole fleet.
    pub(crate) kills: Arc<Semaphore>,
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
    /// One permit for each connection that the server may see at once, whatever it is for and until it is gone. The
    /// lanes' permits and `side` leave room for every one but those that are just being closed.
    slots: Arc<Semaphore>,
    /// At most one side connection at a time.
    side: Semaphore,
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
        let slots = Arc::new(Semaphore::new(usize::from(target.max_connections.max(1))));
        Self { target, stats, pool, idle: Mutex::default(), slots, side: Semaphore::new(1) }
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

    /// Opens a connection; all of it, from reading the secret to the session's settings, ends at `deadline`.
    pub(crate) async fn connect(&self, deadline: Instant) -> Result<Lane, Failure> {
        let late = |what: &str| {
            let message = format!("no connection to {} in time: {what}", self.target.address);
            Failure::unanswered(Reason::ConnectTimeout, message)
        };
        let Ok(Some((slot, permit))) = timeout_at(deadline, self.admitted(&self.pool.connects)).await else {
            // Our own queue says nothing about the server.
            let failure = late("too many connects are under way");
            return Err(Failure { answered: self.stats.is_up(), ..failure });
        };
        let connecting = timeout_at(deadline, self.open(slot, permit)).await;
        connecting.unwrap_or_else(|_| Err(late("the server did not answer")))
    }

    /// A slot of the target first, then a permit of the fleet: who waits for one target keeps nobody else waiting.
    async fn admitted(&self, fleet: &Arc<Semaphore>) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        // Neither semaphore is ever closed.
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        Some((slot, Arc::clone(fleet).acquire_owned().await.ok()?))
    }

    async fn open(&self, slot: OwnedSemaphorePermit, permit: OwnedSemaphorePermit) -> Result<Lane, Failure> {
        let open = Open::new(&self.stats, slot);
        let login = login(&self.target, &self.pool.reads).await?;
        self.stats.connect_begun();
        let session = self.pool.driver.connect(&self.target, &login, permit).await?;
        self.stats.introduced(session.server());
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

    /// Ends a connection whose query may still run: the socket now, the query at the server by KILL where that is
    /// allowed. `permit` is the lane that it occupies; it is free again when the KILL is confirmed, or when the
    /// server's own limit, at `server_limit`, has surely ended the query.
    pub(crate) fn abandon(self: &Arc<Self>, lane: Lane, permit: OwnedSemaphorePermit, server_limit: Instant) {
        let Lane { session, _open: open, .. } = lane;
        let (id, server) = (session.id(), Arc::clone(session.server()));
        drop(session);
        // Without a runtime the process is over, and the server's own limit is all that is left.
        let Ok(runtime) = Handle::try_current() else { return };
        let lanes = Arc::clone(self);
        let kill = async move {
            let killed = lanes.target.may_kill() && {
                let result = timeout(KILL_TIMEOUT, lanes.kill(id, &server)).await;
                let result = result.unwrap_or(KillResult::Unreachable);
                lanes.stats.killed(result);
                tracing::debug!(target = %lanes.target.name, id, result = result.as_str(), "kill");
                result.is_gone()
            };
            if !killed {
                sleep_until(server_limit + LIMIT_SLACK).await;
            }
            drop((open, permit));
        };
        self.pool.tasks.spawn_on(kill, &runtime);
    }

    /// Kills the session, not only its query: we will not use it again, and KILL QUERY could meet a later query.
    async fn kill(&self, id: u64, server: &crate::driver::Server) -> KillResult {
        let Ok(_one) = self.side.acquire().await else { return KillResult::Unreachable };
        let Some((slot, few)) = self.admitted(&self.pool.kills).await else {
            return KillResult::Unreachable;
        };
        let Ok(mut side) = self.open(slot, few).await else { return KillResult::Unreachable };
        if !side.session.server().is_same(server) {
            self.farewell(side);
            return KillResult::OtherServer;
        }
        // Sessions are numbered upwards: a side connection with a lower number than ours says that the server was
        // restarted, and our number is somebody else's now.
        if side.session.id() <= id {
            self.farewell(side);
            return KillResult::Gone;
        }
        let mut rows = Rows::new(ResultLimits::default());
        let result = match side.session.query(&format!("KILL {id}").into(), &mut rows).await {
            Ok(()) => KillResult::Killed,
            Err(error) => match error.failure.code {
                Some(1094) => KillResult::Gone,
                Some(_) if error.session == SessionState::Intact => KillResult::Refused,
                _ => return KillResult::Unreachable,
            },
        };
        self.farewell(side);
        result
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
