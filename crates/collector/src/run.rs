//! One run of an item: a lane, a statement, an answer, and one synchronous call that publishes it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    BootTime, Failure, Query, Reason, Rows, Target,
    driver::{QueryError, SessionState},
    lanes::{Lane, Lanes},
    query::ResultLimits,
    record::{ItemRecord, Moment, Took},
    rollup::TargetStats,
    snapshot::{NotRestored, Slot, Snapshot},
    statement::Limited,
};

/// How much longer than the server we wait, so that normally its own clean error comes and the connection lives.
const MAX_GRACE: Duration = Duration::from_secs(1);

/// A connection that had been closed while it was idle says so within a round trip. One that ends later has been ended
/// in the middle of the query, maybe by somebody who does not want to see it again at once.
const FOUND_CLOSED: Duration = Duration::from_millis(500);

/// A connection that took longer than this to open has used up a part of its run's time worth telling the server.
/// Below it, and below half the grace, the statement goes out with its full limit, whose text is made once.
const NOTABLE_CONNECT: Duration = Duration::from_millis(50);

/// An item as the configuration says it.
#[derive(Debug, Clone)]
pub struct ItemSpec {
    /// What to ask.
    pub query: Arc<Query>,
    /// Whom.
    pub target: Arc<Target>,
    /// How long a run may take once it has its lane.
    pub timeout: Duration,
    /// How old a result may become before it is no longer shown.
    pub expire_after: Duration,
    /// Whether a failed run drops the last good result at once.
    pub drop_on_failure: bool,
    /// How large an answer may be.
    pub limits: ResultLimits,
}

/// One query on one target, ready to be run.
#[derive(Debug)]
pub struct Item {
    query: Arc<Query>,
    target: Arc<Target>,
    rules: Arc<Rules>,
    lanes: Arc<Lanes>,
    snapshot: Arc<Snapshot>,
    /// It knows how large an answer may be.
    slot: Arc<Slot>,
}

/// How an item runs; held once for all items with the same.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    timeout: Duration,
    expire_after: Duration,
    drop_on_failure: bool,
}

impl Rules {
    pub(crate) fn of(spec: &ItemSpec) -> Self {
        let ItemSpec { timeout, expire_after, drop_on_failure, .. } = *spec;
        Self { timeout, expire_after, drop_on_failure }
    }
}

/// How a run went.
#[derive(Debug)]
pub struct Report {
    /// Success, with what is worth a note, or why not. None: the query is not for this server, and nothing was asked.
    pub outcome: Result<Option<Success>, Failure>,
    /// From the lane to the published result.
    pub duration: Duration,
    /// How long it then waited for its turn to connect; no part of the duration, and of no timeout.
    pub waited: Duration,
    /// Whether it is news of the target: down or up since, or down for a reason of another kind.
    pub target_changed: bool,
}

/// Why a run asked nothing. It says nothing about the target, and counts as a missed tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStarted {
    /// It needed a connection, and too many others were being opened.
    NoPermit,
    /// It waited for another's connect to the same target, which failed.
    TargetDown,
}

/// What ended a run without rows.
#[derive(Debug)]
enum Stopped {
    NotStarted(NotStarted),
    Failed(Failure),
}

impl From<QueryError> for Stopped {
    fn from(error: QueryError) -> Self {
        Self::Failed(error.failure)
    }
}

/// The time of a run.
#[derive(Debug)]
struct Times {
    begun: Instant,
    waited: Duration,
}

/// What a successful run has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Success {
    /// Rows of the answer.
    pub rows: usize,
    /// Series published.
    pub series: usize,
    /// A value that was no number, if any was left out for it.
    pub not_a_number: Option<String>,
}

impl PartialEq for Item {
    /// Whether both would do the same for the same place of the snapshot.
    fn eq(&self, other: &Self) -> bool {
        // With other limits the place is another.
        Arc::ptr_eq(&self.slot, &other.slot)
            && Arc::ptr_eq(&self.lanes, &other.lanes)
            && self.query == other.query
            && self.target == other.target
            && self.rules == other.rules
    }
}

impl Item {
    pub(crate) fn new(
        spec: ItemSpec,
        rules: Arc<Rules>,
        lanes: Arc<Lanes>,
        snapshot: Arc<Snapshot>,
        slot: Arc<Slot>,
    ) -> Self {
        Self { query: spec.query, target: spec.target, rules, lanes, snapshot, slot }
    }

    /// What it is called.
    pub fn id(&self) -> &crate::ItemId {
        &self.slot.id
    }

    /// Its target, as configured.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Its query, as configured.
    pub fn query(&self) -> &Arc<Query> {
        &self.query
    }

    /// How old its result is, if there is one. A fresh item may have the one of another that it took the place of.
    pub fn result_age(&self) -> Option<Duration> {
        self.slot.age(BootTime::now())
    }

    /// Whether a failed run drops the last good result at once.
    pub fn drops_on_failure(&self) -> bool {
        self.rules.drop_on_failure
    }

    /// How long a run may take once it has its lane.
    pub fn timeout(&self) -> Duration {
        self.rules.timeout
    }

    /// How old a result may become before it is no longer shown.
    pub fn expire_after(&self) -> Duration {
        self.rules.expire_after
    }

    /// Whether both go to the same server by the same way, so that what one learns of it holds for the other.
    pub fn shares_lanes(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.lanes, &other.lanes)
    }

    /// Whether both go to the same server, by whatever way.
    pub fn shares_server(&self, other: &Self) -> bool {
        self.target().address == other.target().address
    }

    /// The state and the counters of its target.
    pub fn target_stats(&self) -> &Arc<TargetStats> {
        &self.lanes.stats
    }

    /// What is known of its runs.
    pub fn record(&self) -> &ItemRecord {
        &self.slot.record
    }

    /// Whether it has a result within its age limit, and so on the page.
    pub fn is_shown(&self) -> bool {
        self.slot.is_shown(BootTime::now())
    }

    /// Its result as bytes, for [`Item::restore`] in another process, and when it was read, in milliseconds since the epoch.
    pub fn result_bytes(&self) -> Option<(u64, Vec<u8>)> {
        self.slot.to_bytes(Moment::now())
    }

    /// The number of its result, if that is a single one.
    pub fn single_value(&self) -> Option<f64> {
        self.slot.single_value()
    }

    /// Takes over the result that an earlier process had, unless there is a newer one. It shows its true age, and is not
    /// shown beyond its limit. Gives its age.
    pub fn restore(&self, read_ms: u64, bytes: &[u8]) -> Result<Duration, NotRestored> {
        let age =
            self.snapshot.restore(&self.slot, (read_ms, bytes), Moment::now(), self.rules.expire_after)?;
        self.lanes.stats.succeeded_at(read_ms);
        Ok(age)
    }

    /// Takes note of how a run went, for whoever looks; it changes nothing. `lateness` is from the tick to the lane.
    pub fn note(&self, lateness: Duration, report: &Report) {
        let took = Took { lateness: lateness + report.waited, duration: report.duration };
        self.noted(took, &report.outcome);
    }

    fn noted(&self, took: Took, outcome: &Result<Option<Success>, Failure>) {
        let now = Moment::now();
        self.slot.record.note(now, took, outcome);
        self.lanes.stats.record().note(now, took, outcome);
    }

    /// One run. `permit` is the target's lane; it is given back when the run ends, or when the server has surely
    /// ended what the run left behind. Until `start_by` it may wait for its turn to connect; then it ends by itself: at
    /// its timeout and a short grace at the latest.
    pub async fn run(&self, permit: OwnedSemaphorePermit, start_by: Instant) -> Result<Report, NotStarted> {
        let mut times = Times { begun: Instant::now(), waited: Duration::ZERO };
        let outcome = match self.ask(&mut times, start_by, permit).await {
            Ok(Some(rows)) => self.publish(&rows).map(Some),
            Ok(None) => Ok(None),
            Err(Stopped::Failed(failure)) => Err(failure),
            Err(Stopped::NotStarted(why)) => return Err(why),
        };
        let target_changed = match &outcome {
            Ok(Some(_)) => self.lanes.stats.succeeded(),
            Ok(None) => {
                self.slot.leave();
                self.lanes.stats.answered()
            }
            Err(failure) => self.failed(failure),
        };
        Ok(Report { outcome, duration: times.begun.elapsed(), waited: times.waited, target_changed })
    }

    /// The target was down at the item's tick. Nothing more can be learned about it now, so nobody need wait for it
    /// to be tried.
    pub fn passed_over(&self) {
        self.slot.mark_tried();
    }

    /// A run of this item panicked.
    pub fn panicked(&self, message: &str) -> Failure {
        // Whether the server is up is another question than whether our code is.
        let failure =
            Failure { answered: self.lanes.stats.is_up(), ..Failure::unanswered(Reason::Panic, message) };
        self.failed(&failure);
        let took = Took { lateness: Duration::ZERO, duration: Duration::ZERO };
        self.noted(took, &Err(failure.clone()));
        failure
    }

    /// Keeps or drops the last good result, and counts. Returns whether the target's state changed.
    fn failed(&self, failure: &Failure) -> bool {
        self.slot.mark_tried();
        if self.rules.drop_on_failure {
            self.slot.clear();
        }
        self.lanes.stats.failed(failure)
    }

    fn publish(&self, rows: &Rows) -> Result<Success, Failure> {
        let mapped = self.slot.map(rows)?;
        let success =
            Success { rows: rows.len(), series: mapped.series, not_a_number: mapped.example.clone() };
        self.snapshot.publish(&self.slot, mapped, BootTime::now(), self.rules.expire_after)?;
        Ok(success)
    }

    /// Sends the statement and collects its answer; None if the query has none for this server. A reused connection
    /// that turns out to be closed is no failure of the target: the statement goes out once more, on a fresh one.
    async fn ask(
        &self,
        times: &mut Times,
        start_by: Instant,
        permit: OwnedSemaphorePermit,
    ) -> Result<Option<Rows>, Stopped> {
        let begun = times.begun;
        let mut permit = Some(permit);
        let answers = self.lanes.answers();
        if let Some(lane) = self.lanes.take_idle() {
            match self.ask_on(lane, begun, answers, &mut permit).await {
                Err(QueryError { session: SessionState::Ended, failure })
                    if begun.elapsed() < FOUND_CLOSED =>
                {
                    tracing::debug!(item = %self.slot.id, %failure, "an idle connection was closed; trying a fresh one");
                }
                other => return Ok(other?),
            }
        }
        let wait = Instant::now();
        let admission = self.lanes.admission(start_by).await.map_err(Stopped::NotStarted)?;
        times.waited = wait.elapsed();
        times.begun += times.waited;
        let begun = times.begun;
        // Boxed: connecting is rare, and each run is allocated as large as its largest future.
        let lane = Box::pin(self.lanes.connect(admission, begun + self.rules.timeout)).await;
        let lane = lane.map_err(Stopped::Failed)?;
        // The server has greeted us in this very run, so whatever becomes of the query, it is not down.
        Ok(self.ask_on(lane, begun, answers, &mut permit).await?)
    }

    /// `answers` is how often the server had answered when the run began.
    async fn ask_on(
        &self,
        lane: Lane,
        begun: Instant,
        answers: u64,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<Option<Rows>, QueryError> {
        let Some(statement) = self.query.statement_for(lane.session.server()) else {
            self.lanes.give_back(lane);
            return Ok(None);
        };
        let deadline = begun + self.rules.timeout + grace(self.rules.timeout);
        let limit = self.server_limit(begun);
        let server_limit = Instant::now() + limit;
        // Made anew for each run: that costs less than a hundredth of it, and keeping it would be a text for each item.
        let limited = statement.limited(lane.session.server().flavour, self.id(), limit);
        let mut lane = InFlight { lanes: &self.lanes, lane: Some(lane), permit, server_limit };
        let mut rows = Rows::new(*self.slot.limits());
        let asked = timeout_at(deadline, lane.ask(limited, &mut rows)).await;
        let answer = asked.unwrap_or_else(|_| {
            let message = format!("no answer within {:?}", self.rules.timeout + grace(self.rules.timeout));
            let failure = Failure::unanswered(Reason::Timeout, message);
            Err(QueryError {
                failure: Failure { answered: rows.is_answered(), ..failure },
                session: SessionState::Doubtful,
            })
        });
        let mut side = None;
        match &answer {
            Ok(()) => lane.give_back(),
            Err(error) if error.session == SessionState::Intact => lane.give_back(),
            // The server said so itself, or the connection had been closed before. Otherwise what cut it may have been
            // a proxy, and the server may still be at work.
            Err(QueryError { session: SessionState::Ended, failure })
                if failure.code.is_some() || begun.elapsed() < FOUND_CLOSED =>
            {
                lane.let_go();
            }
            Err(_) => side = lane.abandon(),
        }
        if let Err(mut error) = answer {
            if error.failure.answered {
                self.lanes.answered();
            } else {
                error.failure.answered = self.heard_of_since(answers, side).await;
            }
            return Err(error);
        }
        self.lanes.answered();
        if Instant::now() >= server_limit {
            // MySQL turns some interrupted statements into successful rows; what comes at the limit is not an
            // answer, whatever it says.
            let failure =
                Failure::answered(Reason::Timeout, format!("answered only at the limit of {limit:?}"));
            return Err(QueryError { failure, session: SessionState::Intact });
        }
        Ok(Some(rows))
    }

    /// Whether the server has been heard of since it had answered so often: by another lane, or by the side connection
    /// of the KILL, which is waited for. Who answers that is not down, however slow the statement was.
    async fn heard_of_since(&self, answers: u64, side: Option<oneshot::Receiver<()>>) -> bool {
        if self.lanes.answers() == answers
            && let Some(side) = side
        {
            // Ended without a word, it was not heard of.
            let _ = side.await;
        }
        self.lanes.answers() != answers
    }

    /// The item's timeout, less what a slow connect has used of it.
    fn server_limit(&self, begun: Instant) -> Duration {
        let (used, timeout) = (begun.elapsed(), self.rules.timeout);
        if used < NOTABLE_CONNECT.min(grace(timeout) / 2) {
            return timeout;
        }
        // Servers count in whole milliseconds.
        Duration::from_millis(
            u64::try_from(timeout.saturating_sub(used).as_millis()).unwrap_or(u64::MAX).max(1),
        )
    }
}

/// A tenth of the timeout, a second at most.
fn grace(timeout: Duration) -> Duration {
    (timeout / 10).min(MAX_GRACE)
}

/// A lane in use. Dropped in any other way than by giving it back, it is beyond use: the socket is closed, the
/// query stopped at the server, and the permit goes along.
struct InFlight<'a> {
    lanes: &'a Arc<Lanes>,
    lane: Option<Lane>,
    permit: &'a mut Option<OwnedSemaphorePermit>,
    server_limit: Instant,
}

impl InFlight<'_> {
    async fn ask(&mut self, limited: Limited, rows: &mut Rows) -> Result<(), QueryError> {
        let Some(lane) = self.lane.as_mut() else { return Ok(()) };
        if let Some(ms) = limited.session_limit_ms
            && lane.session_limit_ms != Some(ms)
        {
            let set = format!("SET SESSION max_execution_time = {ms}").into();
            lane.session_limit_ms = None;
            // Boxed for the same reason: it would be a seventh of the run.
            let mut nothing = Box::new(Rows::new(ResultLimits::default()));
            match lane.session.query(&set, &mut nothing).await {
                Ok(()) => {
                    self.lanes.answered();
                    lane.session_limit_ms = Some(ms);
                }
                // An old server or a proxy: our own timeout and KILL remain.
                Err(error) if error.session == SessionState::Intact => self.lanes.answered(),
                Err(error) => return Err(error),
            }
        }
        lane.session.query(&limited.sql.into(), rows).await
    }

    fn give_back(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.lanes.give_back(lane);
        }
    }

    /// It is beyond use. Only with the lane: a run whose lane is given back or let go keeps its permit.
    fn abandon(&mut self) -> Option<oneshot::Receiver<()>> {
        let lane = self.lane.take()?;
        self.lanes.abandon(lane, self.permit.take()?, self.server_limit)
    }

    /// The server has ended the session: there is nothing left to stop.
    fn let_go(&mut self) {
        drop(self.lane.take());
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.abandon();
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod rearranged;
#[cfg(test)]
mod tests;
pub mod trial;
