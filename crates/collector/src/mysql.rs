//! The driver for real servers: bare sqlx connections, the text protocol, raw bytes.
//!
//! The only file that knows sqlx. No pool, no prepared statements, none of sqlx's own session settings; errors
//! become the closed set of reasons here.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Either, Row as _, TypeInfo as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow, MySqlSslMode},
};
use tokio::{sync::OwnedSemaphorePermit, task::spawn_blocking, time::timeout};

use crate::{
    Address, Failure, Password, Reason, Rows, Target, TlsMode,
    driver::{BoxFuture, Driver, Flavour, QueryError, Server, Session, SessionState},
    login::Login,
    query::ResultLimits,
    rows::{CellKind, Column, TooLarge},
    target::{Isolation, SessionSettings},
};

/// How long a session may lie idle before the server ends it: a minute more than we keep it ourselves, so that
/// a server reaps what an exporter that was killed left behind.
const WAIT_TIMEOUT: Duration = Duration::from_secs(crate::lanes::IDLE_CLOSE.as_secs() + 60);

/// How long a statement waits for a table that is being altered. Servers wait a day or a year by default, and on
/// MySQL no other limit covers what is not a SELECT.
const LOCK_WAIT_TIMEOUT: Duration = Duration::from_secs(2);

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
    ) -> BoxFuture<'a, Result<Box<dyn Session>, Failure>> {
        Box::pin(async move {
            let options = options(target, login).await?;
            let mut connection = open(target, options, permit).await?;
            let (server, id) = introduce(&mut connection).await?;
            let utc = target.session.time_zone.as_deref() == Some("+00:00");
            let mut session = MySqlSession { connection, server: Arc::new(server), id, utc };
            session.make_settings().await?;
            session.make_wishes(&target.session).await?;
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }
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
        Box::pin(fetch(&mut self.connection, Arc::clone(sql), self.utc, rows))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Nobody waits for the answer of a server that does not answer, and its error says nothing new.
            let _ = timeout(CLOSE_TIMEOUT, self.connection.close()).await;
        })
    }
}

impl MySqlSession {
    /// The session's settings, in one statement; where the server or a proxy refuses one, each on its own.
    async fn make_settings(&mut self) -> Result<(), Failure> {
        let settings = settings(self.server.flavour);
        match self.set(&settings.join(", ")).await {
            Err(refused) if refused.session == SessionState::Intact => {}
            other => return other.map_err(|error| error.failure),
        }
        for setting in settings {
            match self.set(setting).await {
                Err(refused) if refused.session == SessionState::Intact => {
                    tracing::debug!(setting, error = %refused.failure, "the server refused a session setting");
                }
                other => other.map_err(|error| error.failure)?,
            }
        }
        Ok(())
    }

    /// What the configuration asks for besides. Numbers may depend on it, so a session without it is none.
    async fn make_wishes(&mut self, wishes: &SessionSettings) -> Result<(), Failure> {
        for statement in wish_statements(wishes) {
            self.send(&statement).await.map_err(|QueryError { failure, .. }| {
                let message = format!("the session's setting `{statement}` was refused: {}", failure.message);
                Failure { message: Failure::answered(failure.reason, message).message, ..failure }
            })?;
        }
        Ok(())
    }

    async fn set(&mut self, settings: &str) -> Result<(), QueryError> {
        self.send(&format!("SET SESSION {settings}")).await
    }

    async fn send(&mut self, sql: &str) -> Result<(), QueryError> {
        fetch(&mut self.connection, sql.into(), false, &mut Rows::new(ResultLimits::default())).await
    }
}

/// Read-only, autocommit, short waits. The time zone and the `sql_mode` stay as the server has them.
fn settings(flavour: Flavour) -> [&'static str; 4] {
    const _: () = assert!(WAIT_TIMEOUT.as_secs() == 360 && LOCK_WAIT_TIMEOUT.as_secs() == 2);
    let read_only = match flavour {
        Flavour::MariaDb => "tx_read_only = 1",
        Flavour::MySql => "transaction_read_only = 1",
    };
    [read_only, "autocommit = 1", "lock_wait_timeout = 2", "wait_timeout = 360"]
}

/// The statements that make a session what the configuration wants, in the order in which they may depend on each
/// other. The configuration holds the values to characters that need no quoting.
fn wish_statements(wishes: &SessionSettings) -> Vec<String> {
    let SessionSettings { time_zone, sql_mode, isolation, extra } = wishes;
    let level = isolation.map(|isolation| match isolation {
        Isolation::ReadUncommitted => "READ UNCOMMITTED",
        Isolation::ReadCommitted => "READ COMMITTED",
        Isolation::RepeatableRead => "REPEATABLE READ",
        Isolation::Serializable => "SERIALIZABLE",
    });
    let quoted =
        |name: &str, value: &String| format!("SET SESSION {name} = '{}'", value.replace(['\\', '\''], ""));
    let level = level.map(|level| format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}"));
    let zone = time_zone.as_ref().map(|zone| quoted("time_zone", zone));
    let mode = sql_mode.as_ref().map(|mode| quoted("sql_mode", mode));
    [level, zone, mode].into_iter().flatten().chain(extra.iter().cloned()).collect()
}

/// Who the server is, and the session's number.
async fn introduce(connection: &mut MySqlConnection) -> Result<(Server, u64), Failure> {
    const WHO: &str = "SELECT @@version, @@version_comment, CONNECTION_ID(), @@hostname, @@port, @@server_id";
    // A few short words; they end up in labels.
    let mut rows = Rows::new(ResultLimits { rows: 1, result_bytes: 4096, ..ResultLimits::default() });
    fetch(connection, WHO.into(), false, &mut rows).await.map_err(|error| error.failure)?;
    let Some(row) = rows.iter().next() else {
        return Err(Failure::answered(Reason::Protocol, "the server did not say its version"));
    };
    let text = |n| String::from_utf8_lossy(row.cell(n).unwrap_or_default()).into_owned();
    let says_mariadb = |n| text(n).to_ascii_lowercase().contains("mariadb");
    let flavour = if says_mariadb(0) || says_mariadb(1) { Flavour::MariaDb } else { Flavour::MySql };
    let id = text(2).parse();
    let id = id.map_err(|_| Failure::answered(Reason::Protocol, "the server gave no connection id"))?;
    Ok((Server { flavour, version: text(0), hostname: text(3), port: text(4), server_id: text(5) }, id))
}

/// Sends one statement and collects the rows of its only result.
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
            Ok(None) => return Ok(()),
            Ok(Some(Either::Left(_))) => {
                rows.mark_answered();
                results += 1;
            }
            Ok(Some(Either::Right(_))) if results > 0 => {
                return Err(doubtful(Failure::answered(
                    Reason::Mapping,
                    "the statement gave more than one result",
                )));
            }
            Ok(Some(Either::Right(row))) => push(&row, utc, rows).map_err(doubtful)?,
            Err(error) => return Err(query_error(&error, rows.is_answered())),
        }
    }
}

fn push(row: &MySqlRow, utc: bool, rows: &mut Rows) -> Result<(), Failure> {
    if rows.columns().is_empty() {
        rows.set_columns(row.columns().iter().map(|c| column(c, utc)).collect());
    }
    let cells =
        (0..row.columns().len()).map(|n| row.try_get_unchecked::<Option<&[u8]>, _>(n).unwrap_or(None));
    rows.push(cells).map_err(|too_large| {
        let message = match too_large {
            TooLarge::Rows(max) => format!("more than {max} rows: add a LIMIT, or raise max_rows"),
            TooLarge::Bytes(max) => format!("more than {max} bytes: select less, or raise max_result_bytes"),
        };
        Failure::answered(Reason::TooLarge, message)
    })
}

fn column(column: &sqlx::mysql::MySqlColumn, utc: bool) -> Column {
    let kind = match column.type_info().name() {
        "BIT" => CellKind::Bit,
        "DATE" | "DATETIME" | "TIMESTAMP" if utc => CellKind::Utc,
        "DATE" | "DATETIME" | "TIMESTAMP" | "TIME" => CellKind::Temporal,
        _ => CellKind::Text,
    };
    Column { name: column.name().to_owned(), kind }
}

fn doubtful(failure: Failure) -> QueryError {
    QueryError { failure, session: SessionState::Doubtful }
}

/// What to connect with. Built anew for each connect, since secrets and certificates rotate, and since sqlx keeps
/// the password in plain text for as long as the options live.
async fn options(target: &Target, login: &Login) -> Result<MySqlConnectOptions, Failure> {
    let mut options = MySqlConnectOptions::new()
        .username(&login.user)
        .statement_cache_capacity(0)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .ssl_mode(ssl_mode(target.tls.mode))
        .disable_statement_logging();
    if !login.password.expose().is_empty() {
        options = options.password(login.password.expose());
    }
    if let Some(database) = &target.database {
        options = options.database(database);
    }
    if let Some(ca) = &target.tls.ca {
        options = options.ssl_ca_from_pem(read(ca).await?);
    }
    if let Some((cert, key)) = &target.tls.identity {
        options =
            options.ssl_client_cert_from_pem(read(cert).await?).ssl_client_key_from_pem(read(key).await?);
    }
    Ok(match &target.address {
        Address::Tcp { host, port } => options.host(host).port(*port),
        Address::Socket(path) => options.socket(path),
    })
}

fn ssl_mode(mode: TlsMode) -> MySqlSslMode {
    match mode {
        TlsMode::Disabled => MySqlSslMode::Disabled,
        TlsMode::Preferred => MySqlSslMode::Preferred,
        TlsMode::Required => MySqlSslMode::Required,
        TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
        TlsMode::VerifyIdentity => MySqlSslMode::VerifyIdentity,
    }
}

/// Reads a certificate or key file, off the async threads.
async fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let file = path.to_owned();
    let content = spawn_blocking(move || std::fs::read(file)).await;
    let content = content.unwrap_or_else(|_| Err(io::Error::other("reading was given up")));
    content.map_err(|error| Failure::unanswered(Reason::Credentials, format!("{}: {error}", path.display())))
}

/// Connects to each of the host's addresses in turn, until one answers.
async fn open(
    target: &Target,
    options: MySqlConnectOptions,
    permit: OwnedSemaphorePermit,
) -> Result<MySqlConnection, Failure> {
    let permit = Arc::new(permit);
    let addresses = match &target.address {
        Address::Tcp { host, port } if target.address.ip().is_none() => resolve(host, *port, &permit).await?,
        _ => Vec::new(),
    };
    // sqlx compares the certificate with the host it was given, so under verify_identity the name stays, and sqlx
    // resolves it once more: the answer is fresh in every resolver's cache.
    if addresses.is_empty() || target.tls.mode == TlsMode::VerifyIdentity {
        let connected = match options.connect().await {
            Err(error) if wants_whole_password(target, &error) => {
                options.ssl_mode(MySqlSslMode::Preferred).connect().await
            }
            other => other,
        };
        return connected.map_err(|error| connect_failure(&error));
    }
    let mut last = Failure::unanswered(Reason::Dns, "the host name has no address");
    for address in addresses {
        match options.clone().host(&address.ip().to_string()).connect().await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = connect_failure(&error),
        }
        if last.answered {
            break;
        }
    }
    Err(last)
}

/// Whether TLS may help although a socket needs none. MySQL asks for the whole password when it has not seen it for
/// a while (`caching_sha2_password`), and on a socket it takes it in plain text; sqlx gives it under TLS only, and what
/// it sends instead is refused as a wrong password. Once accepted, it is in the server's cache.
fn wants_whole_password(target: &Target, error: &sqlx::Error) -> bool {
    matches!(target.address, Address::Socket(_))
        && target.tls.mode == TlsMode::Disabled
        && target.password != Password::None
        && server_error(error).is_some_and(|(code, _)| code == 1045)
}

/// The host's addresses. The resolver's thread holds the permit until it ends, whoever still waits for it.
async fn resolve(
    host: &str,
    port: u16,
    permit: &Arc<OwnedSemaphorePermit>,
) -> Result<Vec<SocketAddr>, Failure> {
    let (name, permit) = (host.to_owned(), Arc::clone(permit));
    let resolving = spawn_blocking(move || {
        let addresses = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
        drop(permit);
        addresses
    });
    let addresses = resolving.await.unwrap_or_else(|_| Err(io::Error::other("resolving was given up")));
    addresses.map_err(|error| Failure::unanswered(Reason::Dns, format!("{host}: {error}")))
}

/// Why there is no session.
fn connect_failure(error: &sqlx::Error) -> Failure {
    if let Some((code, message)) = server_error(error) {
        return login_failure(code, &message);
    }
    match error {
        sqlx::Error::Configuration(source) if source.to_string().contains("RSA") => Failure::unanswered(
            Reason::Tls,
            "the server asks for the password in full, which goes out under TLS only",
        ),
        sqlx::Error::Configuration(source) => Failure::unanswered(Reason::Credentials, source.to_string()),
        sqlx::Error::Tls(source) => Failure::unanswered(Reason::Tls, format!("TLS: {source}")),
        sqlx::Error::Io(source) => io_failure(source, Reason::Unreachable),
        other => Failure::unanswered(Reason::Protocol, other.to_string()),
    }
}

/// What the server said instead of a session. Whatever it is, the target is down.
fn login_failure(code: u16, message: &str) -> Failure {
    let failure = match code {
        1040 | 1203 | 1226 => Failure::answered(Reason::TooManyConnections, message),
        1129 | 1130 => Failure::answered(Reason::Blocked, message),
        // Shutting down, or not ready yet.
        1053 | 1077 | 3168 => Failure::unanswered(Reason::Lost, message),
        // What it read of us was not whole, or not in time.
        1043 | 1153..=1161 => Failure::unanswered(Reason::Protocol, message),
        // It wants TLS.
        3159 => Failure::unanswered(Reason::Tls, message),
        // Anything else is about the account, or about the schema that the account asked for.
        _ => Failure::answered(Reason::Auth, message),
    };
    failure.with_code(code)
}

fn io_failure(error: &io::Error, otherwise: Reason) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Reason::Refused,
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Reason::Lost,
        // rustls reports what it does not accept as invalid data.
        io::ErrorKind::InvalidData => Reason::Tls,
        _ => otherwise,
    };
    match error.kind() {
        // Each layer words this in its own way, one of them with a link to its manual.
        io::ErrorKind::UnexpectedEof => Failure::unanswered(reason, "the server closed the connection"),
        _ => Failure::unanswered(reason, error.to_string()),
    }
}

/// Why a query failed, and what is left of its session.
fn query_error(error: &sqlx::Error, answered: bool) -> QueryError {
    if let Some((code, message)) = server_error(error) {
        let (reason, session) = server_reason(code);
        return QueryError { failure: Failure::answered(reason, message).with_code(code), session };
    }
    let (mut failure, session) = match error {
        sqlx::Error::Io(source) => {
            let failure = io_failure(source, Reason::Lost);
            let ended = failure.reason == Reason::Lost && !answered;
            (failure, if ended { SessionState::Ended } else { SessionState::Doubtful })
        }
        other => (Failure::unanswered(Reason::Protocol, other.to_string()), SessionState::Doubtful),
    };
    failure.answered = answered;
    QueryError { failure, session }
}

/// The server's error numbers that have a reason of their own, and whether the session goes on after them.
/// Source: the error references of MySQL 9 and MariaDB 11.
fn server_reason(code: u16) -> (Reason, SessionState) {
    use SessionState::{Ended, Intact};
    match code {
        // max_statement_time (MariaDB), max_execution_time (MySQL), lock_wait_timeout.
        1969 | 3024 | 1205 => (Reason::Timeout, Intact),
        1317 => (Reason::Killed, Intact),
        // The connection was killed; the session was killed.
        1927 | 3169 => (Reason::Killed, Ended),
        // Shutdown in progress; normal shutdown; disconnected for inactivity.
        1053 | 1077 | 4031 => (Reason::Lost, Ended),
        1064 | 1149 => (Reason::Syntax, Intact),
        1044 | 1142 | 1143 | 1227 | 1345 | 1370 => (Reason::Denied, Intact),
        _ => (Reason::ServerError, Intact),
    }
}

/// The number and text of an error that the server itself sent.
fn server_error(error: &sqlx::Error) -> Option<(u16, String)> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some((error.number(), format!("{} (error {})", error.message(), error.number())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_port_is_not_a_lost_connection() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(connect_failure(&sqlx::Error::Io(refused)).reason, Reason::Refused);
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(connect_failure(&sqlx::Error::Io(reset())).reason, Reason::Lost);
        assert_eq!(query_error(&sqlx::Error::Io(reset()), false).session, SessionState::Ended);
        assert_eq!(query_error(&sqlx::Error::Io(reset()), true).session, SessionState::Doubtful);
    }

    #[test]
    fn a_login_that_is_refused_is_down_and_for_its_own_reason() {
        use Reason::{Auth, Blocked, Lost, Protocol, Tls, TooManyConnections};
        for (code, reason) in [
            (1040, TooManyConnections),
            (1203, TooManyConnections),
            (1226, TooManyConnections),
            (1129, Blocked),
            (1130, Blocked),
            (1045, Auth),
            (1049, Auth),
            (3118, Auth),
            (1053, Lost),
            (1159, Protocol),
            (3159, Tls),
        ] {
            let failure = login_failure(code, "as it says");
            assert_eq!(
                (failure.reason, failure.code, failure.is_down()),
                (reason, Some(code), true),
                "{code}"
            );
        }
    }

    #[test]
    fn a_session_is_set_as_the_configuration_wants_it() {
        let wishes = SessionSettings {
            time_zone: Some("+00:00".to_owned()),
            sql_mode: Some("ANSI_QUOTES".to_owned()),
            isolation: Some(Isolation::ReadUncommitted),
            extra: vec!["set @a = 1".to_owned()],
        };
        let expected = [
            "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
            "SET SESSION time_zone = '+00:00'",
            "SET SESSION sql_mode = 'ANSI_QUOTES'",
            "set @a = 1",
        ];
        assert_eq!(wish_statements(&wishes), expected);
        assert!(wish_statements(&SessionSettings::default()).is_empty());
    }

    #[test]
    fn the_limit_of_the_server_is_a_timeout_that_leaves_the_session_intact() {
        for code in [1969, 3024, 1205] {
            assert_eq!(server_reason(code), (Reason::Timeout, SessionState::Intact));
        }
        assert_eq!(server_reason(1927), (Reason::Killed, SessionState::Ended));
    }
}
