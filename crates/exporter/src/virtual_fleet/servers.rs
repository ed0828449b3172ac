//! Servers that are well or sick as the test says, and what was asked of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
};

use fleet_collector::{
    Failure, Reason, Rows, Target,
    driver::{BoxFuture, Driver, QueryError, Server, Session, SessionState},
    login::Login,
    rows::{CellKind, Column},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};

use super::SECOND;

/// How a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    /// Nothing listens.
    Refusing,
    /// No answer to anything, open connections included.
    Mute,
    /// Lets everybody in, and answers no query but KILL.
    Hanging,
    /// Refuses the account.
    LockedOut,
    /// Has no connection left.
    Crowded,
}

/// All servers of a fleet, by name.
#[derive(Debug, Clone)]
pub(super) struct Servers(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    health: BTreeMap<String, Health>,
    /// When each query was asked, by target and query.
    asked: BTreeMap<(String, String), Vec<Instant>>,
    connects: Vec<(Instant, String)>,
    alive: BTreeSet<u64>,
    next_id: u64,
}

impl Servers {
    pub(super) fn new(servers: impl Iterator<Item = (String, Health)>) -> Self {
        Self(Arc::new(Mutex::new(State { health: servers.collect(), ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn set(&self, name: &str, health: Health) {
        *self.state().health.get_mut(name).unwrap() = health;
    }

    fn health(&self, name: &str) -> Health {
        self.state().health[name]
    }

    /// When this query was asked.
    pub(super) fn asked(&self, target: &str, query: &str) -> Vec<Instant> {
        self.state().asked.get(&(target.to_owned(), query.to_owned())).cloned().unwrap_or_default()
    }

    /// When all queries were.
    pub(super) fn all_asked(&self) -> Vec<Instant> {
        self.state().asked.values().flatten().copied().collect()
    }

    /// When connections to this target were tried.
    pub(super) fn connects(&self, target: &str) -> Vec<Instant> {
        self.state().connects.iter().filter(|(_, name)| name == target).map(|(at, _)| *at).collect()
    }

    async fn log_in(&self, name: &str) -> Result<Box<dyn Session>, Failure> {
        self.state().connects.push((Instant::now(), name.to_owned()));
        match self.health(name) {
            Health::Well | Health::Hanging => {}
            Health::Refusing => return Err(Failure::unanswered(Reason::Refused, "refused")),
            Health::Mute => pending().await,
            Health::LockedOut => return Err(Failure::answered(Reason::Auth, "access denied").with_code(1045)),
            Health::Crowded => {
                let crowded = Failure::answered(Reason::TooManyConnections, "too many connections");
                return Err(crowded.with_code(1040));
            }
        }
        let mut state = self.state();
        state.next_id += 1;
        let id = state.next_id;
        state.alive.insert(id);
        let server = Server {
            hostname: name.to_owned(),
            port: "3306".to_owned(),
            server_id: "1".to_owned(),
            ..Server::default()
        };
        Ok(Box::new(Connection {
            servers: self.clone(),
            name: name.to_owned(),
            id,
            server: Arc::new(server),
        }))
    }
}

impl Driver for Servers {
    fn connect<'a>(
        &'a self,
        target: &'a Target,
        _: &'a Login,
        permit: OwnedSemaphorePermit,
        _: Instant,
    ) -> BoxFuture<'a, Result<Box<dyn Session>, Failure>> {
        Box::pin(async move {
            let session = self.log_in(&target.name).await;
            drop(permit);
            session
        })
    }
}

#[derive(Debug)]
struct Connection {
    servers: Servers,
    name: String,
    id: u64,
    server: Arc<Server>,
}

impl Connection {
    async fn answer(&self, sql: &str, rows: &mut Rows) -> Result<(), QueryError> {
        if let Some(id) = sql.strip_prefix("KILL ") {
            if self.servers.health(&self.name) == Health::Mute {
                pending::<()>().await;
            }
            let known = self.servers.state().alive.remove(&id.parse().unwrap());
            rows.mark_answered();
            return if known { Ok(()) } else { Err(refused(1094)) };
        }
        if let Some(tag) = sql.split("/* fleet-query-exporter ").nth(1) {
            let query = tag.split('@').next().unwrap().to_owned();
            self.servers.state().asked.entry((self.name.clone(), query)).or_default().push(Instant::now());
        }
        match self.servers.health(&self.name) {
            Health::Mute | Health::Hanging => pending().await,
            Health::Refusing => {
                let failure = Failure::unanswered(Reason::Lost, "gone");
                return Err(QueryError { failure, session: SessionState::Ended });
            }
            Health::Well | Health::LockedOut | Health::Crowded => sleep(SECOND / 200).await,
        }
        rows.set_columns(vec![Column { name: "n".to_owned(), kind: CellKind::Text, type_name: "BIGINT" }]);
        rows.push([Some(&b"1"[..])].into_iter()).unwrap();
        rows.mark_answered();
        Ok(())
    }
}

fn refused(code: u16) -> QueryError {
    let failure = Failure::answered(Reason::ServerError, "no such session").with_code(code);
    QueryError { failure, session: SessionState::Intact }
}

impl Session for Connection {
    fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn query<'a>(
        &'a mut self,
        sql: &'a Arc<str>,
        rows: &'a mut Rows,
    ) -> BoxFuture<'a, Result<(), QueryError>> {
        Box::pin(self.answer(sql, rows))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
