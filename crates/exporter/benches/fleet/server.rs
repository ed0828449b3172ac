//! The MariaDB that both sides ask, run by tests/servers/keep: it ends with this process, however that ends.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    fleet::{PASSWORD, ROWS, USER},
    support::{Result, process::scratch},
};

#[derive(Debug)]
pub struct Server {
    pub port: u16,
    pub version: String,
    keep: Child,
    /// keep deletes the data folder itself; this is the folder around it.
    _scratch: TempDir,
}

impl Server {
    pub fn start() -> Result<Self> {
        let scratch = scratch()?;
        let mut keep = Command::new(servers().join("keep"))
            .args(["mariadb", "0"])
            .arg(scratch.path().join("data"))
            // Room for both sides at once, and no list of hosts to look up.
            .args(["--max-connections=2000", "--skip-name-resolve", "--table-open-cache=4000"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = keep.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let port = line.split_whitespace().nth(1).and_then(|port| port.parse().ok());
        let port = port.ok_or("no MariaDB: run tests/servers/install")?;
        let mut server = Self { port, version: String::new(), keep, _scratch: scratch };
        server.ask(&setup())?;
        server.ask("select @@version")?.trim().clone_into(&mut server.version);
        Ok(server)
    }

    /// Runs SQL as root.
    fn ask(&self, sql: &str) -> Result<String> {
        let mut client = Command::new(servers().join("mariadb-server"))
            .args(["client", &self.port.to_string(), "-NB"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = client.stdin.take() {
            stdin.write_all(sql.as_bytes())?;
        }
        let output = client.wait_with_output()?;
        if !output.status.success() {
            return Err("the server did not take the bench's tables".into());
        }
        Ok(String::from_utf8(output.stdout)?)
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

fn setup() -> String {
    let row = |n: usize| format!("('place-{n:02}', 'kind-{}', {})", n % 4, 1_000_003 * (n + 1));
    let rows: Vec<_> = (0..ROWS).map(row).collect();
    format!(
        "create database fleet_bench;
         create table fleet_bench.stock (place varchar(40), kind varchar(40), amount bigint);
         insert into fleet_bench.stock values {};
         create user '{USER}'@'%' identified by '{PASSWORD}';
         grant select on fleet_bench.* to '{USER}'@'%';",
        rows.join(", ")
    )
}

fn servers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/servers")
}
