//! The least that the same client costs: the same statements on as many connections at the same due times, with
//! nothing around them. It runs as a process of its own.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fleet_scheduler::{Schedule, Timeline};
use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Either, Row as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode},
};
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    fleet::{Fleet, PASSWORD, USER},
    support::{
        Result,
        process::{Killed, guarded},
    },
};

/// The loop, as the bench sees it.
#[derive(Debug)]
pub struct Loop {
    process: Killed,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Loop {
    pub fn start(port: u16) -> Result<Self> {
        let mut process = guarded(&std::env::current_exe()?)?
            .args(["bare", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (ask, answer) = (process.stdin.take(), process.stdout.take());
        let process = Killed(process);
        let answer = BufReader::new(answer.ok_or("no pipe")?);
        Ok(Self { process, ask: ask.ok_or("no pipe")?, answer })
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Queries so far.
    pub fn count(&mut self) -> Result<u64> {
        self.ask.write_all(b"\n")?;
        let mut line = String::new();
        self.answer.read_line(&mut line)?;
        Ok(line.trim().parse().map_err(|_| "the bare loop has ended")?)
    }
}

/// What all connections add to.
#[derive(Debug, Default)]
struct Sums {
    queries: AtomicU64,
    bytes: AtomicU64,
}

/// The process: tells its count for each line of its standard input, and ends with it, or with the first error.
pub fn main(port: &str, fleet: &Fleet) -> Result<()> {
    let port = port.parse()?;
    let sums = Arc::new(Sums::default());
    let counted = Arc::clone(&sums);
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines() {
            println!("{}", counted.queries.load(Relaxed));
        }
        std::process::exit(0);
    });
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let timeline = Timeline::new(Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?);
        let mut lanes = JoinSet::new();
        for target in 0..fleet.targets {
            let items = (0..fleet.queries).map(|query| Item {
                schedule: fleet.schedule(target, query),
                sql: fleet.statement(target, query).into(),
                tick: 0,
            });
            let connection = connect(port).await?;
            lanes.spawn(lane(connection, items.collect(), timeline, Arc::clone(&sums)));
        }
        while let Some(ended) = lanes.join_next().await {
            ended??;
        }
        Ok(())
    })
}

/// The options and session settings of the exporter's own driver (crates/collector/src/mysql.rs).
async fn connect(port: u16) -> Result<MySqlConnection> {
    let options = MySqlConnectOptions::new()
        .host("127.0.0.1")
        .port(port)
        .username(USER)
        .password(PASSWORD)
        .statement_cache_capacity(0)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .ssl_mode(MySqlSslMode::Disabled)
        .disable_statement_logging();
    let mut connection = options.connect().await?;
    let settings = "SET SESSION tx_read_only = 1, autocommit = 1, lock_wait_timeout = 2, wait_timeout = 360";
    sqlx::raw_sql(settings).execute(&mut connection).await?;
    Ok(connection)
}

struct Item {
    schedule: Schedule,
    sql: Arc<str>,
    tick: u64,
}

/// One connection and the items that share it, each when it is due.
async fn lane(
    mut connection: MySqlConnection,
    mut items: Vec<Item>,
    timeline: Timeline,
    sums: Arc<Sums>,
) -> sqlx::Result<()> {
    let now = || timeline.since_epoch(Instant::now());
    for item in &mut items {
        item.tick = item.schedule.tick_from(now());
    }
    while let Some(item) = items.iter_mut().min_by_key(|item| item.schedule.due(item.tick)) {
        sleep_until(timeline.instant(item.schedule.due(item.tick))).await;
        let bytes = query(&mut connection, Arc::clone(&item.sql)).await?;
        sums.bytes.fetch_add(bytes, Relaxed);
        sums.queries.fetch_add(1, Relaxed);
        item.tick = item.schedule.tick_from(now() + Duration::from_nanos(1)).max(item.tick + 1);
    }
    Ok(())
}

/// Sends one statement and looks at each cell of its answer.
async fn query(connection: &mut MySqlConnection, sql: Arc<str>) -> sqlx::Result<u64> {
    let mut bytes = 0;
    let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_many(connection);
    while let Some(row) = rows.try_next().await? {
        let Either::Right(row) = row else { continue };
        for cell in 0..row.len() {
            let cell = row.try_get_unchecked::<Option<&[u8]>, _>(cell)?;
            bytes += cell.map_or(0, |cell| cell.len() as u64);
        }
    }
    Ok(bytes)
}
