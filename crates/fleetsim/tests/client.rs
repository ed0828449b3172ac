//! The simulator seen by a real client.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![expect(clippy::disallowed_methods, reason = "a test's own client, not one of the exporter's")]

use std::time::Duration;

use fleetsim::{Answer, Event, Kill, Plugin, Preset, Rows, Script, Sim, StatementEnd};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode},
};

fn options(sim: &Sim) -> MySqlConnectOptions {
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

async fn connect(sim: &Sim) -> MySqlConnection {
    options(sim).connect().await.unwrap()
}

async fn rows(connection: &mut MySqlConnection, sql: &str) -> sqlx::Result<Vec<Vec<Option<String>>>> {
    let rows = connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
    let cell = |row: &sqlx::mysql::MySqlRow, n| {
        let bytes = row.try_get_unchecked::<Option<&[u8]>, _>(n).unwrap();
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    Ok(rows.iter().map(|row| (0..row.len()).map(|n| cell(row, n)).collect()).collect())
}

/// The number of the server's error.
fn code(error: &sqlx::Error) -> u16 {
    let error = error.as_database_error().unwrap_or_else(|| panic!("{error}"));
    error.downcast_ref::<MySqlDatabaseError>().number()
}

async fn start(script: Script) -> Sim {
    Sim::start(script).await.unwrap()
}

#[tokio::test]
async fn each_preset_lets_in_and_answers() {
    for preset in Preset::ALL {
        for deprecate_eof in [true, false] {
            let script = Script::new(preset)
                .deprecate_eof(deprecate_eof)
                .account("monitor", "secret")
                .on("from t", Answer::text(["name", "n"], [["a", "1"], ["b", "2"]]));
            let sim = start(script).await;
            let mut client = connect(&sim).await;
            let who = "SELECT @@version, @@version_comment, CONNECTION_ID(), @@hostname, @@port, @@server_id";
            let seen = rows(&mut client, who).await.unwrap();
            let port = sim.port().to_string();
            assert_eq!(seen[0][2..], ["1", "simulated", port.as_str(), "1"].map(|cell| Some(cell.into())));
            rows(&mut client, "SET SESSION autocommit = 1, wait_timeout = 360").await.unwrap();
            let seen = client.fetch_all(sqlx::raw_sql("select * from t")).await.unwrap();
            assert_eq!(seen[0].columns().iter().map(sqlx::Column::name).collect::<Vec<_>>(), ["name", "n"]);
            assert_eq!(rows(&mut client, "select * from t").await.unwrap().len(), 2, "{preset:?}");
            assert_eq!(code(&rows(&mut client, "select 1 from nowhere").await.unwrap_err()), 1105);
            assert_eq!(code(&rows(&mut client, "select @@nothing").await.unwrap_err()), 1193);
            assert_eq!(sim.statements().len(), 6);
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_whatever_proves_it() {
    for plugin in [Plugin::Native, Plugin::CachingSha2] {
        for switched in [true, false] {
            let first = if switched { Plugin::Other("mysql_native_password".into()) } else { plugin.clone() };
            let script = Script::default().plugin(first).account_with("monitor", "secret", plugin.clone());
            let sim = start(script).await;
            connect(&sim).await;
            let error = options(&sim).password("other").connect().await.unwrap_err();
            assert_eq!(code(&error), 1045, "{plugin:?}");
            assert_eq!(sim.counts().refused, 1);
        }
    }
}

#[tokio::test]
async fn a_statement_that_hangs_is_ended_by_its_limit_or_by_kill_and_its_thread_stays_till_then() {
    let sim = start(Script::default().on("slow", Answer::hang())).await;
    let mut client = connect(&sim).await;
    let sql = "SET STATEMENT max_statement_time=0.050 FOR select slow";
    assert_eq!(code(&rows(&mut client, sql).await.unwrap_err()), 1969);
    assert_eq!(sim.counts().threads, 1);

    let hung = tokio::time::timeout(Duration::from_millis(100), rows(&mut client, "select slow")).await;
    hung.unwrap_err();
    drop(client);
    let counts = sim.wait_until("the client is gone", |counts| counts.open == 0).await;
    assert_eq!(counts.threads, 1, "the statement runs on");
    let mut other = connect(&sim).await;
    rows(&mut other, "KILL 1").await.unwrap();
    assert_eq!(sim.counts().threads, 1);
    let ended = |end| {
        move |record: &fleetsim::Record| record.event == Event::StatementEnded(end) && record.connection == 1
    };
    sim.wait_for("it was killed", ended(StatementEnd::Killed)).await;
    assert_eq!(code(&rows(&mut other, "KILL 1").await.unwrap_err()), 1094);
    let counts = sim.counts();
    assert_eq!((counts.most_threads, counts.kills), (2, 2));
}

#[tokio::test]
async fn a_server_that_ignores_kill_goes_on() {
    let sim = start(Script::default().on("slow", Answer::hang()).kill(Kill::Ignore)).await;
    let mut client = connect(&sim).await;
    let hung = tokio::time::timeout(Duration::from_millis(100), rows(&mut client, "select slow")).await;
    hung.unwrap_err();
    drop(client);
    let mut other = connect(&sim).await;
    rows(&mut other, "KILL 1").await.unwrap();
    drop(other);
    sim.wait_until("the clients are gone", |counts| (counts.open, counts.threads) == (0, 1)).await;
}

#[tokio::test]
async fn a_cell_beyond_sixteen_megabytes_and_many_rows_arrive_whole() {
    const LONG: usize = (17 << 20) + 3;
    let columns = || [fleetsim::Column::integer("n"), fleetsim::Column::text("t")];
    let long = Rows::new(columns()).made(1, |_, row| {
        row.cell(b"1").filled(LONG, b'x');
    });
    let many = Rows::new(columns()).made(100_000, |n, row| {
        row.cell(n.to_string().as_bytes()).null();
    });
    let sim = start(Script::default().on("long", long).on("many", many)).await;
    let mut client = connect(&sim).await;
    let seen = rows(&mut client, "select long").await.unwrap();
    assert_eq!(seen[0][1].as_ref().map(String::len), Some(LONG));
    let seen = rows(&mut client, "select many").await.unwrap();
    assert_eq!((seen.len(), seen[99_999][0].as_deref(), &seen[7][1]), (100_000, Some("99999"), &None));
}

#[tokio::test]
async fn a_restart_cuts_all_and_numbers_sessions_anew() {
    let mut sim = start(Script::default().first_connection_id(7)).await;
    let mut client = connect(&sim).await;
    assert_eq!(rows(&mut client, "SELECT CONNECTION_ID()").await.unwrap(), [[Some("7".to_owned())]]);
    sim.restart().await;
    assert_eq!((sim.counts().open, sim.counts().threads), (0, 0));
    rows(&mut client, "SELECT CONNECTION_ID()").await.unwrap_err();
    let mut client = connect(&sim).await;
    assert_eq!(rows(&mut client, "SELECT CONNECTION_ID()").await.unwrap(), [[Some("7".to_owned())]]);
}

#[tokio::test]
async fn a_port_is_closed_black_and_open_again() {
    let mut sim = start(Script::default()).await;
    sim.close_port().await.unwrap();
    let error = options(&sim).connect().await.unwrap_err();
    assert!(
        matches!(&error, sqlx::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused),
        "{error}"
    );
    sim.open_port().await.unwrap();
    connect(&sim).await;
    sim.set(sim.script().connect(fleetsim::Connect::BlackHole)).await.unwrap();
    for _ in 0..3 {
        tokio::time::timeout(Duration::from_millis(100), options(&sim).connect()).await.unwrap_err();
    }
    sim.set(sim.script().connect(fleetsim::Connect::Greet)).await.unwrap();
    connect(&sim).await;
}
