//! The simulator beside the servers that it plays: the same client sees the same of both.

use std::time::Duration;

use fleetsim::{
    Answer, BINARY, Column, ColumnType, ENUM, Event, Plugin, Preset, Rows, SET, Script, ServerError, Sim,
    UNSIGNED,
};
use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Either, Executor as _, Row as _, TypeInfo as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode},
};
use tokio::{join, time::sleep};

use crate::support::{
    account::Account,
    exporter::SOON,
    on_both_servers,
    servers::{Kind, Server},
};

on_both_servers!(
    statements_are_answered_as_by_the_server,
    kill_does_what_it_does_at_the_server,
    a_statement_outlives_its_client_as_at_the_server,
);

const WHO: &str =
    "SELECT @@version, @@version_comment, CONNECTION_ID(), @@hostname, @@port, @@server_id, @@read_only";

/// More than one packet holds.
const LONG: usize = (17 << 20) + 3;

/// What a client sees of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// A row, with the names and types of its columns.
    Row(Vec<(String, String, Option<Vec<u8>>)>),
    /// The end of a result.
    Done,
    /// An error of the server: its number, its state, and its text with each number made `N`.
    Error(u16, String, String),
    /// The connection is gone.
    Lost,
}

async fn see(connection: &mut MySqlConnection, sql: &str) -> Vec<Seen> {
    #[expect(clippy::disallowed_methods, reason = "a test's own session, not one of the exporter's")]
    let mut stream = connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(sql)));
    let mut seen = Vec::new();
    loop {
        seen.push(match stream.try_next().await {
            Ok(None) => return seen,
            Ok(Some(Either::Left(_))) => Seen::Done,
            Ok(Some(Either::Right(row))) => Seen::Row(cells(&row)),
            Err(error) => {
                seen.push(failed(&error));
                return seen;
            }
        });
    }
}

fn cells(row: &sqlx::mysql::MySqlRow) -> Vec<(String, String, Option<Vec<u8>>)> {
    let cell = |column: &sqlx::mysql::MySqlColumn| {
        let bytes = row.try_get_unchecked::<Option<&[u8]>, _>(column.ordinal()).unwrap();
        (column.name().to_owned(), column.type_info().name().to_owned(), bytes.map(<[u8]>::to_vec))
    };
    row.columns().iter().map(cell).collect()
}

fn failed(error: &sqlx::Error) -> Seen {
    let sqlx::Error::Database(error) = error else { return Seen::Lost };
    let error = error.downcast_ref::<MySqlDatabaseError>();
    let mut message = String::new();
    for part in error.message().split_inclusive(|c: char| !c.is_ascii_digit()) {
        let text = part.trim_start_matches(|c: char| c.is_ascii_digit());
        message.push_str(if text.len() < part.len() { "N" } else { "" });
        message.push_str(text);
    }
    Seen::Error(error.number(), error.code().unwrap_or_default().to_owned(), message)
}

/// A server, or the simulator in its place.
enum Place<'a> {
    Server(&'a Server, &'a Account),
    Simulator(&'a Sim),
}

impl Place<'_> {
    /// A session of the given account.
    async fn connect(&self, account: &Account) -> sqlx::Result<MySqlConnection> {
        let port = match self {
            Self::Server(server, _) => server.port,
            Self::Simulator(sim) => sim.port(),
        };
        let options = MySqlConnectOptions::new()
            .host("127.0.0.1")
            .port(port)
            .username(&account.user)
            .password(&account.password)
            .database(&account.schema)
            // A password that MySQL sees for the first time goes out under TLS only.
            .ssl_mode(MySqlSslMode::Preferred)
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            .timezone(None)
            .set_names(false)
            .disable_statement_logging();
        options.connect().await
    }

    /// Waits until the server works for a statement with this text.
    async fn wait_until_it_runs(&self, text: &str) {
        match self {
            Self::Server(server, account) => {
                account.busy_with(&mut server.admin().await, text, SOON).await;
            }
            Self::Simulator(sim) => {
                let arrived = |event: &Event| matches!(event, Event::Statement(sql) if sql.contains(text));
                sim.wait_for("the statement", |record| arrived(&record.event)).await;
            }
        }
    }

    /// How many statements run for the account.
    async fn running(&self) -> usize {
        match self {
            Self::Server(server, account) => {
                let sessions = account.sessions(&mut server.admin().await).await;
                sessions.iter().filter(|session| session.is_busy()).count()
            }
            Self::Simulator(sim) => {
                let counts = sim.counts();
                usize::try_from(counts.threads - counts.open).unwrap()
            }
        }
    }
}

fn preset(kind: Kind) -> Preset {
    match kind {
        Kind::MariaDb => Preset::MariaDb1011,
        Kind::MySql => Preset::MySql97,
    }
}

/// Computes for hours, and can be told by the text `hung`. A SLEEP would not do: killed, MySQL makes a row of it.
fn hung(kind: Kind) -> &'static str {
    match kind {
        Kind::MariaDb => {
            "select count(*) as hung from seq_1_to_1000000 a, seq_1_to_1000000 b where a.seq + b.seq <> a.seq"
        }
        Kind::MySql => {
            "with recursive r (n) as (select 1 union all select n + 1 from r where n < 4000000000)
             select /*+ SET_VAR(cte_max_recursion_depth = 4294967295) */ count(*) as hung from r"
        }
    }
}

/// The same with a limit, in the dialect's way.
fn limited(kind: Kind) -> String {
    match kind {
        Kind::MariaDb => format!("SET STATEMENT max_statement_time=0.200 FOR {}", hung(kind)),
        Kind::MySql => hung(kind).replacen("/*+ ", "/*+ MAX_EXECUTION_TIME(200) ", 1),
    }
}

/// A table with a column of each type, on the server.
const CREATE: &str = "create table cells (tiny tinyint, yes tinyint(1), small smallint unsigned, \
     medium mediumint, whole int, big bigint unsigned, exact decimal(30,10), single float, twice double, \
     bits bit(10), day date, clock time(3), moment datetime(6), stamp timestamp null, in_year year, \
     letters char(4), word varchar(20), fixed binary(3), loose varbinary(5), prose text, bytes blob, \
     one enum('a','b'), some set('x','y'), none int)";
const INSERT: &str = "insert into cells values (-1, 1, 2, -3, 4, 18446744073709551615, -1.5, 1.1, 1e-320, \
     b'1000000001', '2024-02-29', '-800:59:59.5', '2024-02-29 12:34:56.789012', '2024-02-29 12:34:56', 2024, \
     'abc', 'wörd', 'a', x'00ff', 'a\\nb', x'fe00', 'b', 'x,y', null)";

/// The same, as the simulator is told it.
fn rows_of_cells() -> Rows {
    const UTF8MB4: u16 = 45;
    const NO_TEXT: u16 = 63;
    let number = |name, kind| Column::with(name, kind, BINARY, NO_TEXT);
    let unsigned = |name, kind| Column::with(name, kind, BINARY | UNSIGNED, NO_TEXT);
    let text = |name, kind, flags| Column::with(name, kind, flags, UTF8MB4);
    let columns = [
        (number("tiny", ColumnType::TINY), &b"-1"[..]),
        (number("yes", ColumnType::TINY).length(1), b"1"),
        (unsigned("small", ColumnType::SHORT), b"2"),
        (number("medium", ColumnType::INT24), b"-3"),
        (number("whole", ColumnType::LONG), b"4"),
        (unsigned("big", ColumnType::LONG_LONG), b"18446744073709551615"),
        (number("exact", ColumnType::NEW_DECIMAL), b"-1.5000000000"),
        (number("single", ColumnType::FLOAT), b"1.1"),
        (number("twice", ColumnType::DOUBLE), b"1e-320"),
        (unsigned("bits", ColumnType::BIT), b"\x02\x01"),
        (number("day", ColumnType::DATE), b"2024-02-29"),
        (number("clock", ColumnType::TIME), b"-800:59:59.500"),
        (number("moment", ColumnType::DATETIME), b"2024-02-29 12:34:56.789012"),
        (number("stamp", ColumnType::TIMESTAMP), b"2024-02-29 12:34:56"),
        (unsigned("in_year", ColumnType::YEAR), b"2024"),
        (text("letters", ColumnType::STRING, 0), b"abc"),
        (text("word", ColumnType::VAR_STRING, 0), "wörd".as_bytes()),
        (number("fixed", ColumnType::STRING), b"a\0\0"),
        (number("loose", ColumnType::VAR_STRING), b"\x00\xff"),
        (text("prose", ColumnType::BLOB, 0), b"a\nb"),
        (number("bytes", ColumnType::BLOB), b"\xfe\x00"),
        (text("one", ColumnType::STRING, ENUM), b"b"),
        (text("some", ColumnType::STRING, SET), b"x,y"),
    ];
    let (mut columns, cells): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    columns.push(number("none", ColumnType::LONG));
    let cells = cells.into_iter().map(Some).chain([None]);
    Rows::new(columns).row(cells)
}

async fn statements_are_answered_as_by_the_server(server: &Server) {
    let account = Account::new(server, "plays").await;
    let schema = &account.schema;
    let mut admin = server.admin().await;
    admin.run(&format!("use {schema}; {CREATE}; {INSERT}; set global max_allowed_packet = 67108864")).await;
    let who = admin.rows(WHO).await.remove(0);
    let who: Vec<_> = who.iter().flatten().map(String::as_str).collect();

    let unknown = |name| ServerError::new(1193, format!("Unknown system variable '{name}'"));
    let nowhere = format!("Table '{schema}.nowhere' doesn't exist");
    let long = Rows::new([Column::new("s", ColumnType::LONG_BLOB)]).made(1, |_, row| {
        row.filled(LONG, b'x');
    });
    let word = Rows::new([Column::text("b")]).row([Some("b")]);
    let one = Rows::new([number_as_literal(server.kind, "a")]).row([Some("1")]);
    let script = Script::new(preset(server.kind))
        .version(who[0])
        .variable("version_comment", who[1])
        .hostname(who[3])
        .variable("server_id", who[5])
        .account_with(&account.user, &account.password, plugin(server.kind))
        .on(".cells where false", Rows::new([Column::text("unseen")]))
        .on(".cells", rows_of_cells())
        .on(".nowhere", ServerError::new(1146, nowhere))
        .on("repeat(", long)
        .on("1 as a; select", Answer::from(one).and(word.into()))
        .on("hung", Answer::hang())
        .refuse_set("nonsense", unknown("nonsense"));
    let sim = Sim::start(script).await.unwrap();

    let statements = [
        WHO.replace("CONNECTION_ID(), ", "").replace("@@port, ", ""),
        "select 5".to_owned(),
        "select @@global.wait_timeout as w, @@autocommit, database()".to_owned(),
        "SELECT @@nonsense".to_owned(),
        format!("select * from {schema}.cells"),
        format!("select * from {schema}.cells where false"),
        format!("select * from {schema}.nowhere"),
        format!("select repeat('x', {LONG}) as s"),
        "select 1 as a; select 'b' as b".to_owned(),
        String::new(),
        "SET SESSION autocommit = 1, lock_wait_timeout = 2, wait_timeout = 360".to_owned(),
        "SET SESSION tx_read_only = 1".to_owned(),
        "SET SESSION transaction_read_only = 1".to_owned(),
        "SET SESSION max_statement_time = 1".to_owned(),
        "SET SESSION max_execution_time = 1000".to_owned(),
        "SET SESSION nonsense = 1".to_owned(),
        "KILL 4294967290".to_owned(),
        "KILL QUERY 4294967290".to_owned(),
        limited(server.kind),
        "select 6".to_owned(),
    ];
    let (real, simulated) = (Place::Server(server, &account), Place::Simulator(&sim));
    let mut real_session = real.connect(&account).await.unwrap();
    let mut simulated_session = simulated.connect(&account).await.unwrap();
    for sql in &statements {
        let (real, simulated) = join!(see(&mut real_session, sql), see(&mut simulated_session, sql));
        assert!(real == simulated, "{sql}\n{:?}: {real:?}\nsimulator: {simulated:?}", server.kind);
    }
    let types = async |place: &Place<'_>| {
        let seen = see(&mut place.connect(&account).await.unwrap(), WHO).await;
        let [Seen::Row(cells), Seen::Done] = &seen[..] else { panic!("{seen:?}") };
        cells.iter().map(|(name, kind, _)| (name.clone(), kind.clone())).collect::<Vec<_>>()
    };
    assert_eq!(types(&real).await, types(&simulated).await);

    let stranger = Account { password: "wrong".to_owned(), ..account.clone() };
    let (real, simulated) = (real.connect(&stranger).await, simulated.connect(&stranger).await);
    let number = |refused: sqlx::Result<_>| match failed(&refused.unwrap_err()) {
        Seen::Error(number, state, _) => (number, state),
        other => panic!("{other:?}"),
    };
    assert_eq!(number(real), number(simulated));
}

fn number_as_literal(kind: Kind, name: &str) -> Column {
    let kind = if kind == Kind::MariaDb { ColumnType::LONG } else { ColumnType::LONG_LONG };
    Column::with(name, kind, BINARY, 63)
}

fn plugin(kind: Kind) -> Plugin {
    match kind {
        Kind::MariaDb => Plugin::Native,
        Kind::MySql => Plugin::CachingSha2,
    }
}

async fn kill_does_what_it_does_at_the_server(server: &Server) {
    let [account, other] = [Account::new(server, "victim").await, Account::new(server, "other").await];
    let sim = Sim::start(Script::new(preset(server.kind)).on("hung", Answer::hang())).await.unwrap();
    let real = seen_of_kills(&Place::Server(server, &account), server.kind, &account, &other).await;
    let simulated = seen_of_kills(&Place::Simulator(&sim), server.kind, &account, &other).await;
    assert_eq!(real, simulated);
}

/// What victims and killers see.
async fn seen_of_kills(
    place: &Place<'_>,
    kind: Kind,
    account: &Account,
    other: &Account,
) -> Vec<(&'static str, Vec<Seen>)> {
    let number = async |session: &mut MySqlConnection| {
        let seen = see(session, "SELECT CONNECTION_ID()").await;
        let [Seen::Row(cells), Seen::Done] = &seen[..] else { panic!("{seen:?}") };
        String::from_utf8(cells[0].2.clone().unwrap()).unwrap()
    };
    let mut seen = Vec::new();
    let mut killer = place.connect(account).await.unwrap();
    for (what, then) in [("KILL QUERY", "the next after KILL QUERY"), ("KILL", "the next after KILL")] {
        let mut victim = place.connect(account).await.unwrap();
        let id = number(&mut victim).await;
        let kill = async {
            place.wait_until_it_runs("hung").await;
            see(&mut killer, &format!("{what} {id}")).await
        };
        // So that only this one can be found running.
        if let Place::Simulator(sim) = place {
            sim.forget();
        }
        let (of_victim, of_killer) = join!(see(&mut victim, hung(kind)), kill);
        seen.push((what, of_victim));
        seen.push((what, of_killer));
        seen.push((then, see(&mut victim, "select 7").await));
    }

    let mut idle = place.connect(account).await.unwrap();
    let id = number(&mut idle).await;
    seen.push(("KILL QUERY of an idle session", see(&mut killer, &format!("KILL QUERY {id}")).await));
    seen.push(("which goes on", see(&mut idle, "select 7").await));
    let mut stranger = place.connect(other).await.unwrap();
    seen.push(("KILL of somebody else's", see(&mut stranger, &format!("KILL {id}")).await));
    seen.push(("which goes on", see(&mut idle, "select 7").await));
    seen.push(("KILL of an idle session", see(&mut killer, &format!("KILL CONNECTION {id}")).await));
    seen.push(("which is gone", see(&mut idle, "select 7").await));
    let own = number(&mut killer).await;
    seen.push(("KILL QUERY of its own", see(&mut killer, &format!("KILL QUERY {own}")).await));
    seen.push(("which goes on", see(&mut killer, "select 7").await));
    seen.push(("KILL of its own", see(&mut killer, &format!("KILL {own}")).await));
    seen.push(("which is gone", see(&mut killer, "select 7").await));
    seen
}

async fn a_statement_outlives_its_client_as_at_the_server(server: &Server) {
    let account = Account::new(server, "outlived").await;
    let script = Script::new(preset(server.kind)).on("hung", Answer::hang());
    let sim = Sim::start(script).await.unwrap();
    for place in [Place::Server(server, &account), Place::Simulator(&sim)] {
        let mut client = place.connect(&account).await.unwrap();
        let asking = async {
            place.wait_until_it_runs("hung").await;
        };
        tokio::select! {
            seen = see(&mut client, hung(server.kind)) => panic!("{seen:?}"),
            () = asking => {}
        }
        drop(client);
        if let Place::Simulator(sim) = &place {
            sim.wait_until("the client is gone", |counts| counts.open == 0).await;
        }
        for _ in 0..10 {
            assert_eq!(place.running().await, 1);
            sleep(Duration::from_millis(50)).await;
        }
    }
    let mut admin = server.admin().await;
    for session in account.sessions(&mut admin).await {
        admin.run(&format!("kill {}", session.id)).await;
    }
    account.assert_no_session_left(&mut admin).await;
}
