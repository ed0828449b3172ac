//! The publishing side alone: the collector and the server of the exporter in one process, with a driver that answers
//! at once in place of databases, so that results can come as fast as a thread makes them.
//!
//! From the answer on it is the exporter's own path: mapping, checks, snapshot, page, sockets.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Write as _},
    num::ParseIntError,
    process::{ChildStdin, ChildStdout, Stdio},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fleet_collector::{
    Address, Collector, Failure, Family, Item, ItemSpec, Kind, Metric, OnNull, Password, Query, ResultLimits,
    Rows, SessionSettings, Snapshot, Target, Tls, TlsMode, ValueSource,
    driver::{BoxFuture, Driver, QueryError, Server, Session},
    login::Login,
    rows::{CellKind, Column},
    statement::Statement,
};
use fleet_http::{HttpMetrics, Scope, Sources, State, status};
use prometheus_client::registry::Registry;
use tokio::{
    runtime::Builder,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    support::process::{Killed, guarded},
};

/// What the process runs: 100,000 items, one series each.
pub const TARGETS: usize = 1000;
pub const QUERIES: usize = 100;

/// The process, as the bench sees it.
#[derive(Debug)]
pub struct Publisher {
    _process: Killed,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
    pub port: u16,
}

/// How long publishing took, since the publisher was last asked.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    pub count: usize,
    pub p50: Duration,
    pub p99: Duration,
}

impl Publisher {
    /// Starts it; each item has a result.
    pub fn start() -> Result<Self> {
        let mut process = guarded(&std::env::current_exe()?)?
            .arg("publisher")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (ask, answer) = (process.stdin.take().ok_or("no pipe")?, process.stdout.take().ok_or("no pipe")?);
        let process = Killed(process);
        let mut publisher = Self { _process: process, ask, answer: BufReader::new(answer), port: 0 };
        publisher.port = publisher.line()?.trim().parse()?;
        Ok(publisher)
    }

    /// Publishes at this pace from now on.
    pub fn publish(&mut self, pace: Pace) -> Result<()> {
        self.tell(&pace.to_string())?;
        self.line().map(drop)
    }

    pub fn published(&mut self) -> Result<Published> {
        self.tell("times")?;
        let line = self.line()?;
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let mut next = || -> Result<u64> { Ok(numbers.next().ok_or("no number")??) };
        let count = usize::try_from(next()?)?;
        Ok(Published { count, p50: Duration::from_nanos(next()?), p99: Duration::from_nanos(next()?) })
    }

    fn tell(&mut self, what: &str) -> Result<()> {
        Ok(writeln!(self.ask, "{what}")?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answer.read_line(&mut line)?;
        if line.is_empty() {
            return Err("the publisher has ended".into());
        }
        Ok(line)
    }
}

/// What the publishing thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Waits.
    Rest,
    /// Publishes so many results a second.
    PerSecond(u32),
    /// Publishes as fast as it can.
    Unbounded,
    /// Does the same with results that no page shows: what it takes is the CPU alone.
    Elsewhere,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rest => write!(f, "rest"),
            Self::PerSecond(rate) => write!(f, "{rate}"),
            Self::Unbounded => write!(f, "unbounded"),
            Self::Elsewhere => write!(f, "elsewhere"),
        }
    }
}

impl FromStr for Pace {
    type Err = ParseIntError;

    fn from_str(word: &str) -> std::result::Result<Self, ParseIntError> {
        match word {
            "rest" => Ok(Self::Rest),
            "unbounded" => Ok(Self::Unbounded),
            "elsewhere" => Ok(Self::Elsewhere),
            rate => rate.parse().map(Self::PerSecond),
        }
    }
}

/// The process.
pub fn main() -> Result<()> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let (state, items) = fleet();
    // Its state goes, and with it who could read it.
    let (_, elsewhere) = fleet();
    runtime.block_on(async {
        for item in items.iter().chain(&elsewhere) {
            publish(item).await;
        }
    });
    let listener = runtime.block_on(fleet_http::bind("127.0.0.1:0"))?;
    println!("{}", listener.local_addr()?.port());
    runtime.spawn(fleet_http::serve(listener, state, CancellationToken::new()));

    let pace = Arc::new(Mutex::new(Pace::Rest));
    let times = Arc::new(Mutex::new(Vec::new()));
    let (wanted, measured) = (Arc::clone(&pace), Arc::clone(&times));
    let publishing = Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || publishing.block_on(keep_publishing(&items, &elsewhere, &wanted, &measured)));
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            "times" => {
                let mut times = std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner));
                times.sort_unstable();
                let at =
                    |percent: usize| times.get(times.len() * percent / 100).map_or(0, Duration::as_nanos);
                println!("{} {} {}", times.len(), at(50), at(99));
            }
            other => {
                *pace.lock().unwrap_or_else(PoisonError::into_inner) = other.parse()?;
                println!("publishing {other}");
            }
        }
    }
    std::process::exit(0)
}

async fn keep_publishing(
    items: &[Arc<Item>],
    elsewhere: &[Arc<Item>],
    pace: &Mutex<Pace>,
    times: &Mutex<Vec<Duration>>,
) {
    for (item, other) in items.iter().zip(elsewhere).cycle() {
        let (item, per_second) = loop {
            match *pace.lock().unwrap_or_else(PoisonError::into_inner) {
                Pace::Rest => std::thread::sleep(Duration::from_millis(1)),
                Pace::PerSecond(rate) => break (item, Some(rate)),
                Pace::Unbounded => break (item, None),
                Pace::Elsewhere => break (other, None),
            }
        };
        let began = Instant::now();
        publish(item).await;
        let took = began.elapsed();
        times.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        if let Some(per_second) = per_second {
            std::thread::sleep((Duration::from_secs(1) / per_second).saturating_sub(took));
        }
    }
}

/// A run of which nothing but the publishing takes time: a lane is free, and the answer is there.
async fn publish(item: &Item) {
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("it is new");
    let start_by = tokio::time::Instant::now() + Duration::from_secs(5);
    let report = item.run(permit, start_by).await.expect("no other run has the lane");
    report.outcome.expect("the answer has what is mapped");
}

fn fleet() -> (Arc<State>, Vec<Arc<Item>>) {
    let snapshot = Arc::new(Snapshot::default());
    let collector = Arc::new(Collector::new(Arc::new(Answering), TARGETS, Arc::clone(&snapshot)));
    let targets: Vec<_> = (0..TARGETS).map(|n| Arc::new(target(n))).collect();
    let specs = (0..QUERIES).map(|n| Arc::new(query(n))).flat_map(|query| {
        let of_query = |target: &Arc<Target>| item(&query, target);
        targets.iter().map(of_query).collect::<Vec<_>>()
    });
    let items = collector.arrange(specs.collect()).items;
    let mut registry = Registry::default();
    let metrics = HttpMetrics::register(&mut registry);
    let sources = Sources {
        snapshot,
        rollups: Box::new(move |scope| match scope {
            Scope::Whole => collector.own_families(),
            Scope::Cut(cut) => collector.families_of(cut),
            Scope::Own => collector.families_of_all(),
        }),
        registry: Arc::new(registry),
        status: Arc::new(|| -> Arc<dyn status::Fleet> { unreachable!("nobody asks for it here") }),
        reload: Box::new(|| None),
        items: Box::new(String::new),
    };
    (Arc::new(State::new(sources, metrics, "0", tokio::time::Instant::now())), items)
}

fn query(n: usize) -> Query {
    let family = Family { name: format!("bench_{n}"), help: "a number".to_owned(), kind: Kind::Gauge };
    let metric = Metric {
        family: Arc::new(family),
        labels: vec!["who".to_owned()],
        static_labels: Vec::new(),
        value: ValueSource::Column("n".to_owned()),
        on_null: OnNull::Skip,
    };
    let statement = Statement::check("select who, n from t").expect("it is a select");
    let name = format!("query_{n}").into();
    Query { name, statement: Some(statement), variants: Vec::new(), metrics: vec![metric] }
}

fn target(n: usize) -> Target {
    let name = format!("db{n:04}");
    Target {
        address: Address::Tcp { host: name.clone(), port: 3306 },
        labels: vec![("target".to_owned(), name.clone())],
        name: name.into(),
        group: "bench".into(),
        user: Some("bench".to_owned()),
        password: Password::None,
        database: None,
        tls: Tls { mode: TlsMode::Disabled, ca: None, identity: None },
        max_connections: 1,
        kill: false,
        session: SessionSettings::default(),
    }
}

fn item(query: &Arc<Query>, target: &Arc<Target>) -> ItemSpec {
    ItemSpec {
        query: Arc::clone(query),
        target: Arc::clone(target),
        timeout: Duration::from_secs(5),
        expire_after: Duration::from_secs(3600),
        drop_on_failure: false,
        limits: ResultLimits::default(),
    }
}

/// Lets everybody in, and answers any query with one row.
#[derive(Debug, Clone, Copy)]
struct Answering;

impl Driver for Answering {
    fn connect<'a>(
        &'a self,
        _: &'a Target,
        _: &'a Login,
        _: OwnedSemaphorePermit,
        _: tokio::time::Instant,
    ) -> BoxFuture<'a, std::result::Result<Box<dyn Session>, Failure>> {
        Box::pin(async { Ok(Box::new(Connection { server: Arc::default(), n: 0 }) as Box<dyn Session>) })
    }
}

#[derive(Debug)]
struct Connection {
    server: Arc<Server>,
    n: u64,
}

impl Session for Connection {
    fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn id(&self) -> u64 {
        1
    }

    fn query<'a>(
        &'a mut self,
        _: &'a Arc<str>,
        rows: &'a mut Rows,
    ) -> BoxFuture<'a, std::result::Result<(), QueryError>> {
        Box::pin(async move {
            let column =
                |name: &str| Column { name: name.to_owned(), kind: CellKind::Text, type_name: "CHAR" };
            rows.set_columns(vec![column("who"), column("n")]);
            self.n += 1;
            let n = (1_000_003 * self.n).to_string();
            rows.push([Some(&b"somebody"[..]), Some(n.as_bytes())].into_iter()).expect("within all limits");
            Ok(())
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
