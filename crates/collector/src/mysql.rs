//! The driver for real servers: bare sqlx connections, the text protocol, raw bytes.
//!
//! This file and its folder are all that knows sqlx. No pool, no prepared statements, none of sqlx's own session settings; errors
//! become the closed set of reasons here.

mod connect;
mod errors;
mod introduce;
mod settings;
mod tls;
mod types;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, TryStreamExt};
use sqlx::{
    AssertSqlSafe, Column as _, Connection as _, Either, Row as _, TypeInfo as _,
    mysql::{MySqlConnection, MySqlRow},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use crate::{
    Failure, Reason, Rows, Target,
    driver::{BoxFuture, Driver, QueryError, Server, Session, SessionState},
    login::Login,
    query::ResultLimits,
    rows::{CellKind, Column, MAX_COLUMNS, TooLarge},
};
use errors::query_error;

/// How long taking leave of a server may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Opens bare connections to real servers.
#[derive(Debug, Clone, Copy, Default)]
pub struct MySql;

impl Driver for MySql {
    fn connect<'a>(
        &'a self,
        target: &'a Target,
        login: &'a Login,
        permit: OwnedSemaphorePermit,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Box<dyn Session>, Failure>> {
        // Boxed within, since a future that may panic is kept whole beside what it gives.
        let session = AssertUnwindSafe(Box::pin(session(target, login, permit, deadline)));
        Box::pin(async move { session.catch_unwind().await.unwrap_or_else(|_| Err(not_understood())) })
    }
}

async fn session(
    target: &Target,
    login: &Login,
    permit: OwnedSemaphorePermit,
    deadline: Instant,
) -> Result<Box<dyn Session>, Failure> {
    let options = connect::options(target, login);
    let mut connection = connect::open(target, options, permit, deadline).await?;
    let (mut server, id) = introduce::introduce(&mut connection).await?;
    let utc = target.session.time_zone.as_deref() == Some("+00:00");
    let mut session = MySqlSession { connection, server: Arc::default(), id, utc };
    server.refused = session.make_guards(&server).await?;
    session.server = Arc::new(server);
    session.make_wishes(&target.session).await?;
    Ok(Box::new(session) as Box<dyn Session>)
}

/// sqlx 0.9 panics on some greetings that are none, such as an empty packet. What sends them is no server, so this is
/// an attempt to connect that failed, with its back-off, and no defect of the run's.
fn not_understood() -> Failure {
    Failure::unanswered(Reason::Protocol, "what the server sent is not the protocol that it should be")
}

#[derive(Debug)]
struct MySqlSession {
    connection: MySqlConnection,
    server: Arc<Server>,
    id: u64,
    /// Whether its time zone is known to be `+00:00`, so that dates are moments.
    utc: bool,
}

impl Session for MySqlSession {
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
        Box::pin(async move {
            let answer = fetch(&mut self.connection, Arc::clone(sql), self.utc, rows).await;
            // What is kept for sending is then as long as this statement in place of 8 KiB, and what a large answer needed
            // goes with it. Only behind an answer, so that something was sent: sqlx does not bear to keep nothing.
            if answer.is_ok() {
                self.connection.shrink_buffers();
            }
            answer
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Nobody waits for the answer of a server that does not answer, and its error says nothing new.
            let _ = timeout(CLOSE_TIMEOUT, self.connection.close()).await;
        })
    }
}

impl MySqlSession {
    /// Sends a statement whose answer is of no interest.
    async fn send(&mut self, sql: &str) -> Result<(), QueryError> {
        fetch(&mut self.connection, sql.into(), false, &mut Rows::new(ResultLimits::default())).await
    }
}

/// Sends one statement and collects the rows of its only result set. A statement without one has no rows, and neither
/// has an empty one: sqlx does not tell them apart.
async fn fetch(
    connection: &mut MySqlConnection,
    sql: Arc<str>,
    utc: bool,
    rows: &mut Rows,
) -> Result<(), QueryError> {
    #[expect(clippy::disallowed_methods, reason = "the one place where SQL reaches a server")]
    let query = sqlx::raw_sql(AssertSqlSafe(sql));
    let mut results = 0;
    let mut stream = query.fetch_many(connection);
    loop {
        match stream.try_next().await {
            // A CALL ends with a result of its own, behind those of its procedure.
            Ok(None) if results > 2 => {
                let failure = several_results();
                return Err(QueryError { failure, session: SessionState::Intact });
            }
            Ok(None) => return Ok(()),
            Ok(Some(Either::Left(_))) => {
                rows.mark_answered();
                results += 1;
            }
            Ok(Some(Either::Right(_))) if results > 0 => {
                return Err(doubtful(several_results()));
            }
            Ok(Some(Either::Right(row))) => push(&row, utc, rows).map_err(doubtful)?,
            Err(error) => return Err(query_error(&error, rows.is_answered())),
        }
    }
}

fn several_results() -> Failure {
    Failure::answered(Reason::Mapping, "the statement gave more than one result set: let it SELECT once")
}

fn push(row: &MySqlRow, utc: bool, rows: &mut Rows) -> Result<(), Failure> {
    let columns = row.columns();
    if columns.len() > MAX_COLUMNS {
        return Err(too_large(TooLarge::Columns));
    }
    if rows.columns().is_empty() {
        rows.set_columns(columns.iter().map(|c| column(c, utc)).collect());
    }
    let cells = (0..columns.len()).map(|n| row.try_get_unchecked::<Option<&[u8]>, _>(n).unwrap_or(None));
    rows.push(cells).map_err(too_large)
}

fn too_large(limit: TooLarge) -> Failure {
    let message = match limit {
        TooLarge::Rows(max) => format!("more than {max} rows: add a LIMIT, or raise max_rows"),
        TooLarge::Bytes(max) => format!("more than {max} bytes: select less, or raise max_result_bytes"),
        TooLarge::Columns => format!("more than {MAX_COLUMNS} columns: name those that are needed"),
    };
    Failure::answered(Reason::TooLarge, message)
}

fn column(column: &sqlx::mysql::MySqlColumn, utc: bool) -> Column {
    let type_name = types::name(column.type_info().name());
    let kind = match type_name {
        "BIT" => CellKind::Bit,
        "DATE" | "DATETIME" | "TIMESTAMP" if utc => CellKind::Utc,
        "DATE" | "DATETIME" | "TIMESTAMP" => CellKind::Temporal,
        "TIME" => CellKind::Duration,
        // Also what sqlx calls texts of a binary collation, which end in no NUL.
        "BINARY" => CellKind::Padded,
        _ => CellKind::Text,
    };
    Column { name: column.name().to_owned(), kind, type_name }
}

fn doubtful(failure: Failure) -> QueryError {
    QueryError { failure, session: SessionState::Doubtful }
}
