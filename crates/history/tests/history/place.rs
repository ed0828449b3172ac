//! Where a test keeps its history, and the session of somebody else who looks at it and changes it.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use fleet_history::{
    Address, BoxFuture, History, Items, KeptResult, KnownItem, Limits, Loaded, Loading, Login, MySql,
    ReadLogin, Results, Run, Settings, State, Stats, Store, TableName, TlsMode,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, Row as _,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};
use tempfile::TempDir;

use crate::support::{
    servers::{Admin, Server},
    wait::{seen_if, wait_for},
};

/// How long a test waits for what takes moments.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A store of the test's own, and a session of somebody else's with it.
pub(crate) struct Place {
    pub(crate) store: Store,
    other: Other,
    /// Lives as long as the file in it.
    _folder: Option<TempDir>,
}

enum Other {
    Sqlite(SqliteConnection),
    Server(Admin),
}

impl Place {
    /// A file.
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self::file(folder.path().join("history.db")).await;
        Self { _folder: Some(folder), ..place }
    }

    /// A file at this path.
    pub(crate) async fn file(path: PathBuf) -> Self {
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let other = Other::Sqlite(options.disable_statement_logging().connect().await.unwrap());
        Self { store: Store::Sqlite(path), other, _folder: None }
    }

    /// A schema on a server, and root to keep the history in it.
    pub(crate) async fn server(server: &Server) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let schema = format!("history_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let mut admin = server.admin().await;
        admin.run(&format!("create database {schema} character set utf8mb4; use {schema}")).await;
        Self { store: on_server(server.port, &schema, "root"), other: Other::Server(admin), _folder: None }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.other, Other::Sqlite(_))
    }

    /// What somebody else does.
    pub(crate) async fn run(&mut self, sql: &str) {
        self.rows(sql).await;
    }

    /// What somebody else sees, as text.
    pub(crate) async fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        match &mut self.other {
            Other::Server(admin) => admin.rows(sql).await,
            Other::Sqlite(connection) => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a test's own session, not one of the exporter's"
                )]
                let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
                let rows = connection.fetch_all(query).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
                let cell = |row: &sqlx::sqlite::SqliteRow, n| {
                    let bytes: Option<Vec<u8>> = row.try_get_unchecked(n).unwrap();
                    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                };
                rows.iter().map(|row| (0..row.len()).map(|n| cell(row, n)).collect()).collect()
            }
        }
    }

    /// Waits until somebody else sees this.
    pub(crate) async fn shows(&mut self, sql: &str, expected: &[&[&str]]) {
        wait_for(&format!("{sql} shows {expected:?}"), SOON, async || {
            let rows = self.rows(sql).await;
            let rows: Vec<Vec<String>> = rows
                .into_iter()
                .map(|row| row.into_iter().map(|cell| cell.unwrap_or_else(|| "NULL".to_owned())).collect())
                .collect();
            seen_if(rows == expected, rows)
        })
        .await;
    }

    /// When an item last ran, as seconds, in SQL.
    pub(crate) fn seconds(&self) -> &'static str {
        if self.is_sqlite() {
            "CAST(strftime('%s', last_execution_time) AS INTEGER)"
        } else {
            "CAST(UNIX_TIMESTAMP(last_execution_time) AS SIGNED)"
        }
    }

    /// A moment in SQL.
    pub(crate) fn moment(&self, seconds: u64) -> String {
        if self.is_sqlite() {
            format!("datetime({seconds}, 'unixepoch')")
        } else {
            format!("FROM_UNIXTIME({seconds})")
        }
    }

    /// The history's settings here.
    pub(crate) fn settings(&self) -> Settings {
        settings(self.store.clone())
    }
}

/// Settings that hurry.
pub(crate) fn settings(store: Store) -> Settings {
    Settings {
        store,
        table: TableName::new("history").unwrap(),
        flush_interval: Duration::from_millis(50),
        results: true,
        migrate: false,
        owner: "first".to_owned(),
        limits: Limits {
            poll_interval: Duration::from_millis(100),
            max_back_off: Duration::from_millis(500),
            ..Limits::default()
        },
    }
}

pub(crate) fn on_server(port: u16, schema: &str, user: &str) -> Store {
    Store::MySql(MySql {
        address: Address::Tcp { host: "127.0.0.1".to_owned(), port },
        database: schema.to_owned(),
        tls: TlsMode::Disabled,
        login: Arc::new(Known(user.to_owned())),
    })
}

/// An account without a password.
#[derive(Debug)]
struct Known(String);

impl ReadLogin for Known {
    fn read(&self) -> BoxFuture<'_, Result<Login, String>> {
        let login = Login { user: self.0.clone(), password: String::new().into(), ca: None, identity: None };
        Box::pin(async { Ok(login) })
    }
}

/// The results of items, as a test sets them.
#[derive(Default)]
pub(crate) struct Shown(Mutex<HashMap<String, KeptResult>>);

impl Results for Shown {
    fn result(&self, item: &str) -> Option<KeptResult> {
        self.0.lock().unwrap().get(item).cloned()
    }
}

/// A history that runs, with what it shows.
pub(crate) struct Running {
    pub(crate) history: History,
    pub(crate) loading: Loading,
    shown: Arc<Shown>,
}

impl Running {
    pub(crate) fn start(settings: Settings, items: Items) -> Self {
        let shown = Arc::new(Shown::default());
        let (history, loading) = History::start(settings, items, Arc::<Shown>::clone(&shown));
        Self { history, loading, shown }
    }

    /// Starts, and waits for what was kept.
    pub(crate) async fn loaded(settings: Settings, items: Items) -> (Self, Loaded) {
        let mut running = Self::start(settings, items);
        let loaded = running.loading.wait(SOON).await;
        let loaded = loaded.unwrap_or_else(|| panic!("not loaded: {:?}", running.history.stats().state));
        (running, loaded)
    }

    /// An item ran, without a result.
    pub(crate) fn ran(&self, item: &str, at: SystemTime, value: Option<f64>) {
        self.history.ran(&item.into(), Run { at, value, has_result: false });
    }

    /// An item ran, and this is its result.
    pub(crate) fn ran_with(&self, item: &str, at: SystemTime, bytes: &[u8]) {
        let result = KeptResult { read_at: at, bytes: bytes.to_vec() };
        self.shown.0.lock().unwrap().insert(item.to_owned(), result);
        self.history.ran(&item.into(), Run { at, value: None, has_result: true });
    }

    /// Waits until its numbers are as wanted.
    pub(crate) async fn tells(&self, what: &str, wanted: impl Fn(&Stats) -> bool) -> Stats {
        wait_for(what, SOON, async || {
            let stats = self.history.stats();
            let ok = wanted(&stats);
            seen_if(ok, stats)
        })
        .await
    }

    /// Waits until these intervals hold, in seconds, and no others.
    pub(crate) async fn overrides(&self, expected: &[(&str, u64)]) {
        let intervals = self.history.intervals();
        wait_for(&format!("the intervals {expected:?} hold"), SOON, async || {
            let now = intervals.borrow().clone();
            let now: Vec<_> = now.iter().map(|(item, interval)| (&**item, interval.as_secs())).collect();
            seen_if(now == expected, format!("{now:?}"))
        })
        .await;
    }

    pub(crate) async fn close(&self) {
        assert!(self.history.close(SOON).await, "{:?}", self.history.stats());
    }
}

/// Items with an interval in seconds each, that may run between every 2 seconds and once in 100.
pub(crate) fn items(intervals: &[(&str, u64)]) -> Items {
    let item = |(name, seconds): &(&str, u64)| {
        let known = KnownItem {
            interval: Duration::from_secs(*seconds),
            shortest: Duration::from_secs(2),
            longest: Duration::from_secs(100),
        };
        ((*name).into(), known)
    };
    intervals.iter().map(item).collect()
}

/// A moment.
pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// How often the store has failed for this reason.
pub(crate) fn failures(stats: &Stats, reason: fleet_history::Reason) -> u64 {
    stats.failures.iter().find(|(other, _)| *other == reason).map_or(0, |(_, count)| *count)
}

pub(crate) fn is_owner(stats: &Stats) -> bool {
    stats.state == State::Owner
}

/// The same test on SQLite, on MariaDB and on MySQL: `check` takes the place.
macro_rules! on_all_stores {
    ($($check:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $check() {
                super::$check($crate::place::Place::sqlite().await).await;
            })*
        }
        mod on_mariadb {
            $(#[tokio::test]
            async fn $check() {
                let server = $crate::support::servers::mariadb();
                super::$check($crate::place::Place::server(server).await).await;
            })*
        }
        mod on_mysql {
            $(#[tokio::test]
            async fn $check() {
                if let Some(server) = $crate::support::servers::mysql() {
                    super::$check($crate::place::Place::server(server).await).await;
                }
            })*
        }
    };
}
pub(crate) use on_all_stores;
