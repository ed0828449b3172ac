//! A server that does what its script says, and writes down what is asked of it and when.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};

use crate::{
    Failure, Reason, Rows, Target,
    driver::{BoxFuture, Driver, Flavour, QueryError, RefusedGuard, Server, Session, SessionState},
    login::Login,
    rows::{CellKind, Column},
};

/// What becomes of one connect.
#[derive(Debug, Clone)]
pub(super) struct Connect {
    pub(super) after: Duration,
    /// What each query of the session gets, in their order; from the last on, a row.
    pub(super) outcome: Result<Vec<Act>, Failure>,
    pub(super) flavour: Flavour,
    pub(super) hostname: &'static str,
    /// How long the goodbye takes.
    pub(super) goodbye: Duration,
    /// The guards that it refuses.
    pub(super) refused: Vec<RefusedGuard>,
    /// Whether the server was restarted before, and numbers its sessions from 1 again.
    pub(super) restarted: bool,
    /// Whether it tells the session's number.
    pub(super) numbered: bool,
}

/// A session whose queries get these acts.
pub(super) fn session<const N: usize>(acts: [Act; N]) -> Connect {
    Connect {
        after: Duration::ZERO,
        outcome: Ok(acts.into()),
        flavour: Flavour::MariaDb,
        hostname: "db1",
        goodbye: Duration::ZERO,
        refused: Vec::new(),
        restarted: false,
        numbered: true,
    }
}

/// A connect that fails.
pub(super) fn refused(failure: Failure) -> Connect {
    Connect { outcome: Err(failure), ..session([]) }
}

/// What one query gets, after this time.
#[derive(Debug, Clone)]
pub(super) struct Act {
    pub(super) after: Duration,
    pub(super) then: Then,
}

#[derive(Debug, Clone)]
pub(super) enum Then {
    /// One row with `n` = 1.
    Row,
    Fail(QueryError),
    /// A row, and no end of the answer.
    RowAndSilence,
    /// The KILL is accepted; its session is gone so much later.
    Lingers(Duration),
    /// Nothing any more; the server has finished with it when `after` has passed.
    Silence,
    Panic,
}

impl Act {
    pub(super) fn now(then: Then) -> Self {
        Self::after(Duration::ZERO, then)
    }

    pub(super) fn after(after: Duration, then: Then) -> Self {
        Self { after, then }
    }
}

/// An error of the server's own, after which the session goes on.
pub(super) fn server_error(reason: Reason, code: u16) -> Then {
    let failure = Failure::answered(reason, "as the script says").with_code(code);
    Then::Fail(QueryError { failure, session: SessionState::Intact })
}

/// The end of the connection.
pub(super) fn closed() -> Then {
    let failure = Failure::unanswered(Reason::Lost, "closed");
    Then::Fail(QueryError { failure, session: SessionState::Ended })
}

/// The driver and the server in one.
#[derive(Debug, Clone)]
pub(super) struct Fake(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    script: VecDeque<Connect>,
    begun: Instant,
    log: String,
    next_id: u64,
    /// The sessions as the server sees them: each until it has ended there, which for one that was left in the
    /// middle of a query is when that has ended.
    alive: BTreeMap<u64, Option<Instant>>,
    /// Those that were killed and are not gone at once.
    dying: BTreeSet<u64>,
    most: usize,
    passwords: Vec<String>,
}

impl Fake {
    pub(super) fn new(script: Vec<Connect>) -> Self {
        Self(Arc::new(Mutex::new(State {
            script: script.into(),
            begun: Instant::now(),
            log: String::new(),
            next_id: 1,
            alive: BTreeMap::new(),
            dying: BTreeSet::new(),
            most: 0,
            passwords: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn note(&self, what: &str) {
        let mut state = self.state();
        let at = state.begun.elapsed().as_secs_f64();
        writeln!(state.log, "{at:.3} {what}").unwrap();
    }

    /// What has happened so far.
    pub(super) fn log(&self) -> String {
        self.state().log.clone()
    }

    /// The most connections that the server has seen at once.
    pub(super) fn most(&self) -> usize {
        self.state().most
    }

    fn is_alive(&self, id: u64) -> bool {
        self.state().alive.get(&id).is_some_and(|until| until.is_none_or(|until| until > Instant::now()))
    }

    /// What the connects logged in with.
    pub(super) fn passwords(&self) -> Vec<String> {
        self.state().passwords.clone()
    }

    fn begin(&self, login: &Login) -> (Connect, Wire) {
        let mut state = self.state();
        state.passwords.push(login.password.expose().to_owned());
        let connect = state.script.pop_front().unwrap_or_else(|| session([]));
        if connect.restarted {
            state.alive.clear();
            state.next_id = 1;
        }
        let id = state.next_id;
        state.next_id += 1;
        let now = Instant::now();
        state.alive.insert(id, None);
        state.alive.retain(|_, until| until.is_none_or(|until| until > now));
        state.most = state.most.max(state.alive.len());
        (connect, Wire { fake: self.clone(), id, busy_until: None })
    }
}

impl Driver for Fake {
    fn connect<'a>(
        &'a self,
        _: &'a Target,
        login: &'a Login,
        permit: OwnedSemaphorePermit,
        _: Instant,
    ) -> BoxFuture<'a, Result<Box<dyn Session>, Failure>> {
        Box::pin(async move {
            let (connect, wire) = self.begin(login);
            let Connect { after, outcome, flavour, hostname, goodbye, refused, numbered, .. } = connect;
            self.note(&format!("connect {}", wire.id));
            sleep(after).await;
            drop(permit);
            let server = Server {
                flavour,
                version: "1".to_owned(),
                hostname: hostname.to_owned(),
                port: "3306".to_owned(),
                server_id: "1".to_owned(),
                refused,
                ..Server::default()
            };
            let session = FakeSession {
                acts: outcome?.into(),
                server: Arc::new(server),
                goodbye,
                numbered,
                wire,
                said_goodbye: false,
            };
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }
}

/// The server's side of a connection.
#[derive(Debug)]
struct Wire {
    fake: Fake,
    id: u64,
    /// While a query is under way, when the server will have ended it.
    busy_until: Option<Instant>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut state = self.fake.state();
        match self.busy_until.filter(|until| *until > Instant::now()) {
            Some(until) => state.alive.insert(self.id, Some(until)),
            None => state.alive.remove(&self.id),
        };
    }
}

#[derive(Debug)]
struct FakeSession {
    acts: VecDeque<Act>,
    server: Arc<Server>,
    goodbye: Duration,
    numbered: bool,
    said_goodbye: bool,
    wire: Wire,
}

impl FakeSession {
    async fn act(&mut self, sql: &str, rows: &mut Rows) -> Result<(), QueryError> {
        let id = self.wire.id;
        let sql = sql.replace("/* fleet-query-exporter q@db1 */ ", "");
        self.wire.fake.note(&format!("{id}: {sql}"));
        let killed: Option<u64> = sql.strip_prefix("KILL ").map(|id| id.parse().unwrap());
        let Act { after, then } = self.acts.pop_front().unwrap_or_else(|| match killed {
            Some(id) if !self.wire.fake.is_alive(id) => Act::now(server_error(Reason::ServerError, 1094)),
            _ => Act::now(Then::Row),
        });
        self.wire.busy_until = Some(Instant::now() + after);
        let mut row = || {
            if let Some(id) = killed {
                let mut state = self.wire.fake.state();
                if !state.dying.contains(&id) {
                    state.alive.remove(&id);
                }
            } else if sql.contains("select") {
                rows.set_columns(vec![Column {
                    name: "n".to_owned(),
                    kind: CellKind::Text,
                    type_name: "INT",
                }]);
                rows.push([Some(&b"1"[..])].into_iter()).unwrap();
            }
            rows.mark_answered();
        };
        match then {
            Then::Silence => std::future::pending::<()>().await,
            Then::RowAndSilence => {
                row();
                std::future::pending::<()>().await;
            }
            Then::Row => {
                sleep(after).await;
                row();
            }
            Then::Lingers(gone_after) => {
                sleep(after).await;
                row();
                if let Some(id) = killed {
                    let mut state = self.wire.fake.state();
                    state.dying.insert(id);
                    state.alive.insert(id, Some(Instant::now() + gone_after));
                }
            }
            Then::Fail(error) => {
                sleep(after).await;
                self.wire.busy_until = None;
                return Err(error);
            }
            Then::Panic => {
                sleep(after).await;
                // The server does not notice.
                self.wire.busy_until = Some(Instant::now() + Duration::from_hours(1));
                panic!("as the script says");
            }
        }
        self.wire.busy_until = None;
        Ok(())
    }
}

impl Session for FakeSession {
    fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn id(&self) -> u64 {
        if self.numbered { self.wire.id } else { 0 }
    }

    fn query<'a>(
        &'a mut self,
        sql: &'a Arc<str>,
        rows: &'a mut Rows,
    ) -> BoxFuture<'a, Result<(), QueryError>> {
        Box::pin(self.act(sql, rows))
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.said_goodbye = true;
            self.wire.fake.note(&format!("{} says goodbye", self.wire.id));
            sleep(self.goodbye).await;
        })
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        if !self.said_goodbye {
            self.wire.fake.note(&format!("{} is dropped", self.wire.id));
        }
    }
}
