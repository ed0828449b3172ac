//! The fleet whose page is served: a simulated server in a process of its own, and the configuration that reads it.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader},
    process::{ChildStdin, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fleetsim::{Column, Preset, Rows, Script, Sim};
use tokio::runtime::Builder;

use crate::{
    Result,
    support::process::{Killed, guarded},
};

const SQL: &str = "select place, kind, amount from stock";

/// Targets that run the same queries on the same interval.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    pub targets: u32,
    pub queries: u32,
    /// Series of one result.
    pub rows: u32,
    pub interval: Duration,
}

impl Fleet {
    pub fn series(&self) -> u64 {
        u64::from(self.targets) * u64::from(self.queries) * u64::from(self.rows)
    }

    pub fn results_per_second(&self) -> f64 {
        f64::from(self.targets * self.queries) / self.interval.as_secs_f64()
    }

    pub fn describe(&self) -> String {
        let Self { targets, queries, rows, interval } = self;
        format!("{targets} targets x {queries} queries x {rows} series every {interval:?}")
    }

    /// The configuration file.
    pub fn config(&self, port: u16) -> String {
        let interval = self.interval.as_millis();
        // Whatever else the machine does.
        let timeout = interval.min(5000);
        let mut text = format!(
            "[defaults]\nnamespace = \"bench\"\ninterval = \"{interval}ms\"\ntimeout = \"{timeout}ms\"\n\n\
             [limits]\nmax_page_bytes = {}\n\n\
             [groups.bench]\nuser = \"bench\"\npassword = \"bench\"\ntls = {{ mode = \"disabled\" }}\n\
             max_connections = 2\n\n[groups.bench.targets]\n",
            1 << 30
        );
        for target in 0..self.targets {
            let _ = writeln!(text, "db{target:04} = \"127.0.0.1:{port}\"");
        }
        for query in 0..self.queries {
            let _ = write!(
                text,
                "\n[queries.query_{query}]\nsql = \"{SQL}\"\n[queries.query_{query}.metrics.stock_{query}_amount]\n\
                 type = \"gauge\"\nhelp = \"amount in stock\"\nlabels = [\"place\", \"kind\"]\nvalue = \"amount\"\n"
            );
        }
        text
    }
}

/// The simulated server.
#[derive(Debug)]
pub struct Servers {
    _process: Killed,
    /// It ends when this is closed.
    _stdin: Option<ChildStdin>,
    pub port: u16,
}

impl Servers {
    pub fn start(rows: u32) -> Result<Self> {
        let mut process = guarded(&std::env::current_exe()?)?
            .args(["servers", &rows.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take().ok_or("no pipe")?);
        let process = Killed(process);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Self { _process: process, _stdin: stdin, port: line.trim().parse()? })
    }
}

/// The process: answers each statement with so many rows, whose values differ from answer to answer.
pub fn main(rows: &str) -> Result<()> {
    let rows: u64 = rows.parse()?;
    Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(async {
        let sim = Sim::start(script(rows)).await?;
        println!("{}", sim.port());
        tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await?;
        Ok(())
    })
}

fn script(rows: u64) -> Script {
    let made = Arc::new(AtomicU64::new(0));
    let columns = [Column::text("place"), Column::text("kind"), Column::integer("amount")];
    let rows = Rows::new(columns).made(rows, move |n, row| {
        let amount = 1_000_003 * (n + 1) + made.fetch_add(1, Relaxed);
        row.cell(format!("place-{n:03}").as_bytes());
        row.cell(format!("kind-{}", n % 4).as_bytes());
        row.cell(amount.to_string().as_bytes());
    });
    Script::new(Preset::MariaDb1011).records(false).on("stock", rows)
}
