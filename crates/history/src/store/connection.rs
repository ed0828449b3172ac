//! One bare connection to either database: statements with values, rows as cells, and a limit of time for each.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::TryStreamExt as _;
use secrecy::ExposeSecret as _;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode},
    sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous},
};
use tokio::time::timeout;

use super::Fault;
use crate::{Address, Login, MySql, Reason, Store, TlsMode, stats::Counters};

/// How long SQLite waits for another process that holds the file; after that it is our back-off that waits.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Statements with more values than this are prepared for one use: there are as many of them as sizes of a batch.
const MAX_REUSED_VALUES: usize = 16;

/// A value that goes into a statement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Int(Option<i64>),
    Float(Option<f64>),
    Bytes(&'a [u8]),
}

/// What a column is read as.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    Int,
    Bytes,
}

/// A cell as it was read; NULL is None.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Text(Option<String>),
    Int(Option<i64>),
    Bytes(Option<Vec<u8>>),
}

impl Cell {
    pub(super) fn text(self) -> String {
        if let Self::Text(Some(text)) = self { text } else { String::new() }
    }

    pub(super) fn int(self) -> Option<i64> {
        if let Self::Int(int) = self { int } else { None }
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        if let Self::Bytes(Some(bytes)) = self { bytes } else { Vec::new() }
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    database: Database,
    limit: Duration,
    counters: Arc<Counters>,
}

#[derive(Debug)]
enum Database {
    Sqlite(SqliteConnection),
    MySql(Box<MySqlConnection>),
}

/// A statement of either database with its values.
macro_rules! statement {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe($sql.to_owned()));
        for value in $values {
            query = match *value {
                Value::Text(text) => query.bind(text),
                Value::Int(int) => query.bind(int),
                Value::Float(float) => query.bind(float),
                Value::Bytes(bytes) => query.bind(bytes),
            };
        }
        query.persistent($values.len() <= MAX_REUSED_VALUES)
    }};
}

/// A row of either database as cells.
macro_rules! cells {
    ($row:expr, $kinds:expr) => {
        $kinds
            .iter()
            .enumerate()
            .map(|(n, kind)| {
                let row = &$row;
                Ok(match kind {
                    // Collations that compare bytes make a text look like bytes to the client.
                    Kind::Text => {
                        let bytes = row.try_get_unchecked::<Option<Vec<u8>>, _>(n)?;
                        Cell::Text(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
                    }
                    Kind::Int => Cell::Int(row.try_get_unchecked(n)?),
                    Kind::Bytes => Cell::Bytes(row.try_get_unchecked(n)?),
                })
            })
            .collect::<Result<Vec<Cell>, sqlx::Error>>()
    };
}

impl Connection {
    pub(super) async fn open(store: &Store, limit: Duration, counters: Arc<Counters>) -> Result<Self, Fault> {
        let database = match store {
            Store::Sqlite(path) => {
                let opened = patient(limit, &counters, sqlite(path)).await;
                Database::Sqlite(opened.map_err(|fault| Fault {
                    message: format!("{}: {}", path.display(), fault.message),
                    ..fault
                })?)
            }
            Store::MySql(server) => {
                let opened = timeout(limit, mysql(server)).await;
                Database::MySql(Box::new(opened.unwrap_or_else(|_| Err(Fault::timeout(limit)))?))
            }
        };
        Ok(Self { database, limit, counters })
    }

    pub(super) fn is_sqlite(&self) -> bool {
        matches!(self.database, Database::Sqlite(_))
    }

    /// Runs a statement; returns how many rows it found or made.
    pub(super) async fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<u64, Fault> {
        let limit = self.limit;
        match &mut self.database {
            Database::Sqlite(connection) => {
                let done = async { Ok(statement!(sql, values).execute(connection).await?.rows_affected()) };
                patient(limit, &self.counters, done).await
            }
            Database::MySql(connection) => {
                let done =
                    async { Ok(statement!(sql, values).execute(&mut **connection).await?.rows_affected()) };
                timeout(limit, done).await.unwrap_or_else(|_| Err(Fault::timeout(limit)))
            }
        }
    }

    /// Runs a statement and hands over its rows, one by one.
    pub(super) async fn fetch(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
        kinds: &[Kind],
        mut each: impl FnMut(Vec<Cell>),
    ) -> Result<(), Fault> {
        let limit = self.limit;
        match &mut self.database {
            Database::Sqlite(connection) => {
                let done = async {
                    let mut rows = statement!(sql, values).fetch(connection);
                    while let Some(row) = rows.try_next().await? {
                        each(cells!(row, kinds)?);
                    }
                    Ok(())
                };
                patient(limit, &self.counters, done).await
            }
            Database::MySql(connection) => {
                let done = async {
                    let mut rows = statement!(sql, values).fetch(&mut **connection);
                    while let Some(row) = rows.try_next().await? {
                        each(cells!(row, kinds)?);
                    }
                    Ok(())
                };
                timeout(limit, done).await.unwrap_or_else(|_| Err(Fault::timeout(limit)))
            }
        }
    }

    /// Takes leave.
    pub(super) async fn close(self) {
        let limit = Duration::from_secs(1);
        // What remains undone after that does not matter: the socket or the file is closed either way.
        let _ = match self.database {
            Database::Sqlite(connection) => timeout(limit, connection.close()).await,
            Database::MySql(connection) => timeout(limit, connection.close()).await,
        };
    }
}

/// Waits for work of SQLite's thread, and counts when that takes longer than it may. The thread cannot be stopped: to
/// give it up would leave one behind for each try on a disk that hangs.
async fn patient<T>(
    limit: Duration,
    counters: &Counters,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = timeout(limit, &mut work).await {
        return done;
    }
    counters.failed(Reason::Timeout);
    work.await
}

async fn sqlite(path: &Path) -> Result<SqliteConnection, Fault> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A power cut may cost the last writes, never the file; a killed process costs nothing that was written.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("journal_size_limit", "16777216")
        .disable_statement_logging();
    Ok(options.connect().await?)
}

async fn mysql(server: &MySql) -> Result<MySqlConnection, Fault> {
    let login = server.login.read().await.map_err(|message| Fault::new(Reason::Login, message))?;
    let options = mysql_options(server, &login);
    let connected = match options.connect().await {
        // caching_sha2_password asks for the whole password when it has not seen it for a while. A socket could carry
        // it in plain text, but sqlx gives it under TLS only; what it sends instead is refused.
        Err(error) if is_refused(&error) && is_bare_socket(server) => {
            options.ssl_mode(MySqlSslMode::Preferred).connect().await
        }
        other => other,
    };
    let mut connection = connected?;
    // Strict, so that nothing is cut or bent in silence; short waits, since the dirty map waits better than a session.
    let session = "SET SESSION sql_mode = 'STRICT_ALL_TABLES', autocommit = 1, lock_wait_timeout = 5, \
                   innodb_lock_wait_timeout = 5, wait_timeout = 120";
    sqlx::query(session).execute(&mut connection).await?;
    Ok(connection)
}

fn is_refused(error: &sqlx::Error) -> bool {
    let number = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>())
        .map(sqlx::mysql::MySqlDatabaseError::number);
    number == Some(1045)
}

fn is_bare_socket(server: &MySql) -> bool {
    matches!(server.address, Address::Socket(_)) && server.tls == TlsMode::Disabled
}

/// Built anew for each connect, since sqlx keeps the password in plain text for as long as the options live.
fn mysql_options(server: &MySql, login: &Login) -> MySqlConnectOptions {
    let verified = matches!(server.tls, TlsMode::VerifyCa | TlsMode::VerifyIdentity);
    let mode = match server.tls {
        TlsMode::Disabled => MySqlSslMode::Disabled,
        TlsMode::Preferred => MySqlSslMode::Preferred,
        TlsMode::Required => MySqlSslMode::Required,
        TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
        TlsMode::VerifyIdentity => MySqlSslMode::VerifyIdentity,
    };
    let mut options = MySqlConnectOptions::new()
        .username(&login.user)
        .database(&server.database)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        // A TIMESTAMP is shown in the session's time zone; ours is the one without summer time.
        .timezone(Some("+00:00".to_owned()))
        .ssl_mode(mode)
        // What the server could be asked to prove, and was not, must not get the password as it is.
        .enable_cleartext_plugin(verified)
        .disable_statement_logging();
    if !login.password.expose_secret().is_empty() {
        options = options.password(login.password.expose_secret());
    }
    if let Some(ca) = &login.ca {
        options = options.ssl_ca_from_pem(ca.clone());
    }
    if let Some((chain, key)) = &login.identity {
        options = options.ssl_client_cert_from_pem(chain).ssl_client_key_from_pem(key);
    }
    match &server.address {
        Address::Tcp { host, port } => options.host(host).port(*port),
        Address::Socket(path) => options.socket(path),
    }
}
