//! The client that the exporter has.

use std::time::Duration;

use fleetsim::{Script, Sim};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode},
};

pub(crate) async fn start(script: Script) -> Sim {
    Sim::start(script).await.unwrap()
}

pub(crate) fn options(sim: &Sim) -> MySqlConnectOptions {
    MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(sim.port())
        .username("monitor")
        .password("secret")
        .ssl_mode(MySqlSslMode::Disabled)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .disable_statement_logging()
}

pub(crate) async fn connect(sim: &Sim) -> MySqlConnection {
    options(sim).connect().await.unwrap()
}

pub(crate) type Cells = Vec<Vec<Option<String>>>;

/// The cells of all rows, as text.
pub(crate) async fn ask(connection: &mut MySqlConnection, sql: &str) -> sqlx::Result<Cells> {
    #[expect(clippy::disallowed_methods, reason = "a test's own client, not one of the exporter's")]
    let query = sqlx::raw_sql(AssertSqlSafe(sql));
    let rows = connection.fetch_all(query).await?;
    let cell = |row: &sqlx::mysql::MySqlRow, n| {
        let bytes = row.try_get_unchecked::<Option<&[u8]>, _>(n).unwrap();
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    Ok(rows.iter().map(|row| (0..row.len()).map(|n| cell(row, n)).collect()).collect())
}

/// Asks, and leaves without an answer.
pub(crate) async fn ask_and_leave(mut connection: MySqlConnection, sim: &Sim, sql: &str) {
    let before = sim.counts().statements;
    let asking = async {
        sim.wait_until("the statement has arrived", |counts| counts.statements > before).await;
    };
    tokio::select! {
        answer = ask(&mut connection, sql) => panic!("{sql} was answered: {answer:?}"),
        () = asking => {}
    }
}

/// What does not end within a moment.
pub(crate) async fn assert_pending<T>(what: &str, future: impl Future<Output = T>) {
    assert!(tokio::time::timeout(Duration::from_millis(100), future).await.is_err(), "{what} has ended");
}

/// The number of the server's error.
pub(crate) fn code<T>(result: sqlx::Result<T>) -> u16 {
    let error = result.err().unwrap();
    let error = error.as_database_error().unwrap_or_else(|| panic!("{error}"));
    error.downcast_ref::<MySqlDatabaseError>().number()
}

/// A row of text.
pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<Option<String>> {
    cells.map(|cell| Some(cell.to_owned())).into()
}
