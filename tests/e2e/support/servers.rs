//! Real database servers: one MariaDB and one MySQL for all tests of a run, and further ones for tests that end theirs.
//!
//! `tests/servers/keep` runs each of them for as long as we hold its standard input: whatever ends this process
//! ends them, and their folders with them.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode},
};

use super::{not_tested, process::Lines, repository, wait::wait_for};

/// Set where MySQL cannot be had: its tests then say that they did not run.
const WITHOUT_MYSQL: &str = "FLEET_TESTS_WITHOUT_MYSQL";

/// The exit code of `keep` where a server is not installed.
const NOT_INSTALLED: i32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    MariaDb,
    MySql,
}

/// A running server, with root on the loopback and no password.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    pid: Pid,
    keeper: Child,
    /// The server runs for as long as this is open.
    _hold: ChildStdin,
}

/// Why a server does not run.
#[derive(Debug)]
enum Trouble {
    NotInstalled(String),
    Failed(String),
}

/// The MariaDB server that tests share.
pub(crate) fn mariadb() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(own_mariadb)
}

/// The MySQL server that tests share; none where the environment says that there is none to be had.
pub(crate) fn mysql() -> Option<&'static Server> {
    static SERVER: OnceLock<Result<Server, Trouble>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Server::start(Kind::MySql, 0));
    server.as_ref().map_err(without_mysql).ok()
}

/// A MySQL server that the test has for itself, likewise.
pub(crate) fn own_mysql() -> Option<Server> {
    Server::start(Kind::MySql, 0).map_err(|trouble| without_mysql(&trouble)).ok()
}

/// A test goes without MySQL only where it is not installed and the environment says so, and never in silence.
fn without_mysql(trouble: &Trouble) {
    match trouble {
        Trouble::NotInstalled(why) if env::var_os(WITHOUT_MYSQL).is_some() => not_tested(why),
        Trouble::NotInstalled(why) => {
            panic!("{why}\nWhere it cannot be had, {WITHOUT_MYSQL}=1 leaves its tests out.")
        }
        Trouble::Failed(why) => panic!("{why}"),
    }
}

/// A MariaDB server that the test has for itself.
pub(crate) fn own_mariadb() -> Server {
    mariadb_on(0)
}

/// The same on a port that another had before.
pub(crate) fn mariadb_on(port: u16) -> Server {
    Server::start(Kind::MariaDb, port).unwrap_or_else(|trouble| panic!("{trouble:?}"))
}

impl Server {
    fn start(kind: Kind, port: u16) -> Result<Self, Trouble> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = match kind {
            Kind::MariaDb => "mariadb",
            Kind::MySql => "mysql",
        };
        let folder = format!("fleet-e2e-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut keeper = Command::new(repository().join("tests/servers/keep"))
            .args([name, &port.to_string()])
            .arg(env::temp_dir().join(folder))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Trouble::Failed(format!("tests/servers/keep: {error}")))?;
        let said = Lines::collect(keeper.stderr.take().unwrap());
        let mut ready = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let hold = keeper.stdin.take().unwrap();
        let mut words = ready.split_whitespace().map(str::to_owned);
        if words.next().as_deref() != Some("ready") {
            let code = keeper.wait().unwrap().code();
            return Err(if code == Some(NOT_INSTALLED) {
                Trouble::NotInstalled(format!("{name} is not installed for tests: run tests/servers/install"))
            } else {
                Trouble::Failed(format!("the {name} server did not start (keep: {code:?}):\n{}", said.text()))
            });
        }
        let (port, pid) = (words.next().unwrap(), words.nth(1).unwrap());
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        Ok(Self { kind, port: port.parse().unwrap(), pid, keeper, _hold: hold })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A session as root.
    pub(crate) async fn admin(&self) -> Admin {
        let options = MySqlConnectOptions::new()
            .host("127.0.0.1")
            .port(self.port)
            .username("root")
            .ssl_mode(MySqlSslMode::Disabled)
            .statement_cache_capacity(0)
            .disable_statement_logging();
        Admin { connection: options.connect().await.unwrap() }
    }

    /// Sends its process a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Ends it as a power cut would, and waits until its port is free.
    pub(crate) async fn kill(mut self) {
        self.signal(Signal::KILL);
        let keeper = &mut self.keeper;
        wait_for("the killed server is cleared away", Duration::from_secs(30), async || {
            keeper.try_wait().unwrap().ok_or_else(|| "keep runs".to_owned())
        })
        .await;
    }
}

/// A session as root: makes what a test needs, and looks at what the exporter does there.
#[derive(Debug)]
pub(crate) struct Admin {
    connection: MySqlConnection,
}

impl Admin {
    /// Runs statements and gives all their rows, as text.
    pub(crate) async fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        #[expect(clippy::disallowed_methods, reason = "a test's own session, not one of the exporter's")]
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        let rows = self.connection.fetch_all(query).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let cell = |row: &sqlx::mysql::MySqlRow, n| {
            let bytes = row.try_get_unchecked::<Option<&[u8]>, _>(n).unwrap();
            bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        rows.iter().map(|row| (0..row.len()).map(|n| cell(row, n)).collect()).collect()
    }

    /// Runs statements.
    pub(crate) async fn run(&mut self, sql: &str) {
        self.rows(sql).await;
    }

    /// One of the server's counters.
    pub(crate) async fn status(&mut self, name: &str) -> u64 {
        let rows = self.rows(&format!("show global status like '{name}'")).await;
        rows[0][1].as_ref().unwrap().parse().unwrap()
    }
}
