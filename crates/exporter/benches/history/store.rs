//! Where the history is kept: a file of SQLite, or a server that tests/servers/keep runs, which ends with this process.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Row as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode},
    sqlite::{SqliteConnectOptions, SqliteConnection},
};
use tempfile::TempDir;

use crate::{Result, support::process::scratch};

#[derive(Debug)]
pub struct File {
    pub path: PathBuf,
    _folder: Option<TempDir>,
}

impl File {
    pub fn new() -> Result<Self> {
        let folder = scratch()?;
        Ok(Self { path: folder.path().join("history.db"), _folder: Some(folder) })
    }

    pub fn at(path: PathBuf) -> Self {
        Self { path, _folder: None }
    }

    pub fn config(&self) -> String {
        format!("[history]\nsqlite = \"{}\"\n", self.path.display())
    }

    pub async fn open(&self) -> Result<SqliteConnection> {
        let options = SqliteConnectOptions::new().filename(&self.path).busy_timeout(Duration::from_secs(10));
        Ok(options.disable_statement_logging().connect().await?)
    }

    /// What the file itself says about its state: `ok`.
    pub async fn integrity(&self) -> Result<String> {
        let row = sqlx::query("pragma integrity_check").fetch_one(&mut self.open().await?).await?;
        Ok(row.get(0))
    }

    pub async fn results(&self) -> Result<HashMap<String, i64>> {
        let rows = sqlx::query("select item, cast(result as integer) from history where result is not null");
        let rows = rows.fetch_all(&mut self.open().await?).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

#[derive(Debug)]
pub struct Server {
    pub port: u16,
    pub pid: i32,
    keep: Child,
    _scratch: TempDir,
}

impl Server {
    /// `mariadb` or `mysql`.
    pub async fn start(kind: &str) -> Result<Self> {
        let scratch = scratch()?;
        let mut keep = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers/keep"))
            .args([kind, "0"])
            .arg(scratch.path().join("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = keep.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let ["ready", port, _, pid] = words[..] else {
            return Err(format!("no {kind}: run tests/servers/install").into());
        };
        let server = Self { port: port.parse()?, pid: pid.parse()?, keep, _scratch: scratch };
        let mut admin = server.open("mysql").await?;
        sqlx::query("create database bench").execute(&mut admin).await?;
        Ok(server)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The history at this address, which leads to it.
    pub fn config_at(address: &str) -> String {
        format!("[history.mysql]\naddress = \"{address}\"\nuser = \"root\"\ndatabase = \"bench\"\n")
    }

    pub fn config(&self) -> String {
        Self::config_at(&self.address())
    }

    async fn open(&self, database: &str) -> Result<MySqlConnection> {
        let options = MySqlConnectOptions::new()
            .host("127.0.0.1")
            .port(self.port)
            .username("root")
            .database(database)
            .ssl_mode(MySqlSslMode::Disabled);
        Ok(options.disable_statement_logging().connect().await?)
    }

    pub async fn results(&self) -> Result<HashMap<String, i64>> {
        let rows = sqlx::query("select item, cast(result as signed) from history where result is not null");
        let rows = rows.fetch_all(&mut self.open("bench").await?).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// One of its counters.
    pub async fn status(&self, name: &str) -> Result<u64> {
        let sql = format!("show global status like '{name}'");
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut self.open("bench").await?).await?;
        Ok(row.get::<String, _>(1).parse()?)
    }

    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid).ok_or("no process")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // keep stops the server when its standard input is closed, and is bounded itself.
        drop(self.keep.stdin.take());
        let until = Instant::now() + Duration::from_secs(30);
        while matches!(self.keep.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
