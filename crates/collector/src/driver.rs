//! The seam between a lane and a server: connect, query, close. Tests bring their own.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{Failure, Rows, Target, login::Login};

/// A future on the heap, since a lane does not know its driver.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Opens sessions. It has no time limits of its own: its caller bounds each call and drops what is late.
pub trait Driver: fmt::Debug + Send + Sync + 'static {
    /// A new session at the server, logged in and with its settings made.
    ///
    /// `deadline` is when the caller gives up: a host of several addresses divides what is left until then among them.
    ///
    /// `permit` is one of the few connects that may be under way. A name is resolved on a thread that cannot be
    /// cancelled, so the permit is held until that thread has ended, even where this future is dropped before.
    fn connect<'a>(
        &'a self,
        target: &'a Target,
        login: &'a Login,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Box<dyn Session>, Failure>>;
}

/// One open connection. Dropping it closes the socket at once, without a word to the server.
pub trait Session: fmt::Debug + Send {
    /// What the server said of itself when the session began.
    fn server(&self) -> &Arc<Server>;

    /// The session's number at the server, for KILL; 0 where the server does not tell it.
    fn id(&self) -> u64;

    /// Sends one statement and collects its rows. After this future was dropped, or failed without leaving the
    /// session intact, the session may only be dropped.
    fn query<'a>(
        &'a mut self,
        sql: &'a Arc<str>,
        rows: &'a mut Rows,
    ) -> BoxFuture<'a, Result<(), QueryError>>;

    /// Takes leave of the server.
    fn close(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// A query that failed, and what is left of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// Why.
    pub failure: Failure,
    /// What may be done next.
    pub session: SessionState,
}

/// What is left of a session after a failed query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionState {
    /// The server answered with an error of its own; the session goes on.
    Intact,
    /// The server has ended it, and with it whatever it ran.
    Ended,
    /// Nobody knows where it stands; the server may still be at work for it.
    Doubtful,
}

/// What a server said of itself; a text is empty where it did not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// Whose dialect it speaks.
    pub flavour: Flavour,
    /// Its `@@version`.
    pub version: String,
    /// Its `@@hostname`.
    pub hostname: String,
    /// Its `@@port`.
    pub port: String,
    /// Its `@@server_id`.
    pub server_id: String,
    /// Its `@@read_only`.
    pub read_only: Option<bool>,
    /// The guards that it refused to set for this session.
    pub refused: Vec<RefusedGuard>,
}

/// A session setting that a server or a proxy refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedGuard {
    /// The guard's name, as in the label `guards_refused`.
    pub guard: &'static str,
    /// What the server said.
    pub error: String,
}

impl Server {
    /// Whether it said enough of itself to be told from any other.
    pub fn is_known(&self) -> bool {
        ![&self.hostname, &self.port, &self.server_id].iter().any(|text| text.is_empty())
    }

    /// Whether both are the same server: a side connection through a proxy may reach another one, where the same
    /// session number belongs to somebody else. Who does not say who it is, is nobody's same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.is_known()
            && (&self.hostname, &self.port, &self.server_id)
                == (&other.hostname, &other.port, &other.server_id)
    }

    /// The label `role`: what `@@read_only` says, and no more than that.
    pub fn role(&self) -> &'static str {
        match self.read_only {
            Some(true) => "read_only",
            Some(false) => "writable",
            None => "",
        }
    }

    /// The label `guards_refused`: their names with spaces between them.
    pub fn guards_refused(&self) -> String {
        self.refused.iter().map(|refused| refused.guard).collect::<Vec<_>>().join(" ")
    }
}

/// Whose dialect a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flavour {
    /// MariaDB.
    MariaDb,
    /// MySQL, Percona Server, and whatever does not say that it is MariaDB.
    #[default]
    MySql,
}

impl Flavour {
    /// The value of the label `flavour`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
        }
    }
}
