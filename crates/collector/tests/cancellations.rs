//! T10: whatever becomes of a run while its answer is under way, no run ever takes another's answer for its own.
//!
//! The real driver against simulated servers that stop in the middle of their answers. Runs end at their timeouts or are
//! dropped at random moments, and share their target's few connections with other queries. Each row says which query it
//! answers, and how often that query had been asked by then.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use fleet_collector::{
    Address, Arranged, BootTime, Collector, Family, Item, ItemSpec, Kind, Metric, OnNull, Password, Query,
    Reason, ResultLimits, Snapshot, Target, Tls, TlsMode, ValueSource, mysql::MySql, run::NotStarted,
    statement::Statement, target::SessionSettings,
};
use fleetsim::{Answer, At, Column, Delivery, Preset, Rows, Script, Sim};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};

/// Runs that end while their statement is under way.
const CANCELLATIONS: u64 = 10_000;

/// Servers of each kind: MariaDB and MySQL, with and without `DEPRECATE_EOF`.
const SERVERS_OF_A_KIND: usize = 8;

/// Queries of a target, which share its lanes. Half of them end at their timeout, the others are dropped.
const QUERIES: usize = 4;

/// Connections at a target: two lanes, and one for KILL.
const MAX_CONNECTIONS: u16 = 3;

/// The timeout of those that end by it, and the longest life of those that are dropped.
const SHORT: Duration = Duration::from_millis(25);

/// How long a server stops in the middle of an answer: longer than anybody waits for it.
const PAUSE: Duration = Duration::from_millis(400);

/// How long a run may take that nobody drops, KILL and all. Far more than it should.
const HANG: Duration = Duration::from_secs(20);

/// Rows of an answer.
const ROWS: u64 = 3;

/// Columns of an answer.
const COLUMNS: u64 = 3;

/// Where an answer stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    BeforeTheAnswer,
    InAColumn,
    BetweenPackets,
    InARow,
    /// In several places, at any byte.
    Split,
    Whole,
}

const STATES: [State; 6] = [
    State::BeforeTheAnswer,
    State::InAColumn,
    State::BetweenPackets,
    State::InARow,
    State::Split,
    State::Whole,
];

impl State {
    fn delivery(self, eof: bool, random: &mut fastrand::Rng) -> Delivery {
        let delivery = Delivery::new();
        let first_row = 1 + COLUMNS + u64::from(eof);
        let at = match self {
            Self::BeforeTheAnswer => At::Byte(0),
            Self::InAColumn => At::In { packet: random.u64(1..=COLUMNS), byte: random.u64(1..20) },
            Self::BetweenPackets => At::Packet(random.u64(1..=first_row + ROWS)),
            Self::InARow => {
                At::In { packet: random.u64(first_row..first_row + ROWS), byte: random.u64(1..10) }
            }
            Self::Split => {
                let mut places: Vec<_> = (0..random.usize(1..6)).map(|_| random.u64(0..160)).collect();
                places.sort_unstable();
                return places.into_iter().fold(delivery, |delivery, at| {
                    delivery.pause(At::Byte(at), Duration::from_millis(random.u64(1..20)))
                });
            }
            Self::Whole => return delivery,
        };
        delivery.pause(at, PAUSE)
    }
}

/// What a server knows of one query.
#[derive(Debug, Default)]
struct Asked {
    /// How often it has arrived.
    times: AtomicU64,
    /// Where the last answer stops.
    state: AtomicU8,
}

/// One target: its server, its items, and what the server knows of each.
struct Place {
    sim: Sim,
    snapshot: Arc<Snapshot>,
    collector: Collector,
    arranged: Arranged,
    lanes: Arc<Semaphore>,
    asked: Arc<[Asked; QUERIES]>,
    calm: Arc<AtomicBool>,
}

/// The end of a query's text.
fn which(query: usize) -> String {
    format!("from probes where query = {query}")
}

fn token(place: usize, query: usize) -> String {
    format!("place{place}/query{query}")
}

impl Place {
    async fn new(place: usize) -> Self {
        let preset = [Preset::MariaDb1011, Preset::MySql84][place % 2];
        let eof = (place / 2).is_multiple_of(2);
        let asked: Arc<[Asked; QUERIES]> = Arc::default();
        let calm = Arc::<AtomicBool>::default();
        let (seen, quiet) = (Arc::clone(&asked), Arc::clone(&calm));
        let script = Script::new(preset).deprecate_eof(!eof).records(false).on_any(move |statement| {
            let query = (0..QUERIES).find(|query| statement.text.ends_with(&which(*query)))?;
            let n = seen[query].times.fetch_add(1, Ordering::SeqCst) + 1;
            let mut random = fastrand::Rng::with_seed((place as u64) << 40 | (query as u64) << 32 | n);
            let state = if quiet.load(Ordering::SeqCst) { 5 } else { random.u8(0..6) };
            seen[query].state.store(state, Ordering::SeqCst);
            let delivery = STATES[usize::from(state)].delivery(eof, &mut random);
            Some(answer(&token(place, query), n).delivered(delivery))
        });
        let sim = Sim::start(script).await.unwrap();
        let snapshot = Arc::new(Snapshot::default());
        let collector = Collector::new(Arc::new(MySql), 64, Arc::clone(&snapshot));
        let target = Arc::new(target(place, sim.port()));
        let specs = (0..QUERIES).map(|query| ItemSpec {
            query: Arc::new(self::query(query)),
            target: Arc::clone(&target),
            timeout: if query % 2 == 0 { SHORT } else { HANG },
            expire_after: Duration::from_mins(10),
            drop_on_failure: false,
            limits: ResultLimits::default(),
        });
        let arranged = collector.arrange(specs.collect());
        let lanes = Arc::new(Semaphore::new(usize::from(target.lanes())));
        Self { sim, snapshot, collector, arranged, lanes, asked, calm }
    }
}

fn answer(token: &str, n: u64) -> Answer {
    let columns = ["token", "part", "n"].map(Column::text);
    let rows = (0..ROWS).fold(Rows::new(columns), |rows, part| {
        rows.row([token, &part.to_string(), &n.to_string()].map(Some))
    });
    rows.into()
}

fn target(place: usize, port: u16) -> Target {
    Target {
        name: format!("place{place}").into(),
        group: "g".into(),
        address: Address::Tcp { host: "127.0.0.1".to_owned(), port },
        user: Some("monitor".to_owned()),
        password: Password::None,
        database: None,
        tls: Tls { mode: TlsMode::Disabled, ca: None, identity: None },
        labels: Vec::new(),
        max_connections: MAX_CONNECTIONS,
        kill: true,
        session: SessionSettings::default(),
    }
}

/// A query with a family of its own, whose samples say what the rows said.
fn query(query: usize) -> Query {
    let family = Family { name: format!("family{query}"), help: "h".to_owned(), kind: Kind::Gauge };
    Query {
        name: format!("query{query}").into(),
        statement: Some(Statement::check(&format!("select token, part, n {}", which(query))).unwrap()),
        variants: Vec::new(),
        metrics: vec![Metric {
            family: Arc::new(family),
            labels: vec!["token".to_owned(), "part".to_owned()],
            static_labels: Vec::new(),
            value: ValueSource::Column("n".to_owned()),
            on_null: OnNull::Skip,
        }],
    }
}

/// How the runs of one query have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    succeeded: u64,
    /// Ended while the connection was being made.
    connecting: u64,
    /// Ended while the statement was under way, by where its answer stopped.
    cancelled: [u64; STATES.len()],
    /// Dropped, and not at their timeout.
    dropped: u64,
}

/// One query of one target, and what of it was published.
struct Prober {
    place: Arc<Place>,
    number: usize,
    query: usize,
    published: Option<u64>,
    random: fastrand::Rng,
    tally: Tally,
}

impl Prober {
    fn item(&self) -> Arc<Item> {
        Arc::clone(&self.place.arranged.items[self.query])
    }

    fn asked(&self) -> u64 {
        self.place.asked[self.query].times.load(Ordering::SeqCst)
    }

    /// One run, and a look at what came of it.
    async fn probe(&mut self) {
        let permit = timeout(HANG, Arc::clone(&self.place.lanes).acquire_owned()).await;
        let permit = permit.expect("a lane is free again").unwrap();
        let (item, before) = (self.item(), self.asked());
        let run = item.run(permit, Instant::now() + HANG);
        let is_dropped = self.query % 2 == 1;
        let patience = if is_dropped && !self.place.calm.load(Ordering::SeqCst) {
            // Often before anything has come, seldom after all of it.
            SHORT.mul_f64(self.random.f64())
        } else {
            HANG
        };
        let ended = timeout(patience, run).await;
        let succeeded = match &ended {
            Ok(Ok(report)) => match &report.outcome {
                Ok(success) => success.is_some(),
                Err(failure) => {
                    let reason = failure.reason;
                    assert!([Reason::Timeout, Reason::ConnectTimeout].contains(&reason), "{failure:?}");
                    false
                }
            },
            Ok(Err(NotStarted::NoPermit | NotStarted::TargetDown)) => false,
            Err(_) => {
                assert!(patience < HANG, "the run hangs");
                self.tally.dropped += 1;
                false
            }
        };
        let asked = self.asked();
        if succeeded {
            self.tally.succeeded += 1;
            self.published = Some(asked);
        } else if asked == before {
            self.tally.connecting += 1;
        } else {
            let state = self.place.asked[self.query].state.load(Ordering::SeqCst);
            self.tally.cancelled[usize::from(state)] += 1;
        }
        self.look();
    }

    /// What is shown of this query is its own last answer, whole.
    fn look(&self) {
        let families = self.place.snapshot.read(BootTime::now());
        let name = format!("family{}", self.query);
        let family = families.iter().find(|family| family.family.name == name);
        let lines: Vec<u8> =
            family.iter().flat_map(|family| family.lines.iter().flatten()).copied().collect();
        let mut expected = String::new();
        if let Some(n) = self.published {
            for part in 0..ROWS {
                let token = token(self.number, self.query);
                writeln!(expected, "{name}{{token=\"{token}\",part=\"{part}\"}} {n}").unwrap();
            }
        }
        assert_eq!(String::from_utf8(lines).unwrap(), expected);
    }
}

/// Runs until there were enough cancellations everywhere, and then until a run succeeds.
async fn probe_on(mut prober: Prober, cancelled: Arc<AtomicU64>) -> Tally {
    loop {
        let before: u64 = prober.tally.cancelled.iter().sum();
        prober.probe().await;
        let after: u64 = prober.tally.cancelled.iter().sum();
        if cancelled.fetch_add(after - before, Ordering::SeqCst) >= CANCELLATIONS {
            break;
        }
    }
    prober.place.calm.store(true, Ordering::SeqCst);
    let succeeded = prober.tally.succeeded;
    for _ in 0..100 {
        prober.probe().await;
        if prober.tally.succeeded > succeeded {
            return prober.tally;
        }
    }
    panic!("no run succeeds although the server is calm: {:?}", prober.tally)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t10_ten_thousand_cancellations_publish_nothing_foreign_and_hang_nowhere() {
    let (cancelled, mut probers) = (Arc::<AtomicU64>::default(), JoinSet::new());
    let mut places = Vec::new();
    for number in 0..4 * SERVERS_OF_A_KIND {
        let place = Arc::new(Place::new(number).await);
        for query in 0..QUERIES {
            let random = fastrand::Rng::with_seed((number * QUERIES + query) as u64);
            let place = Arc::clone(&place);
            let prober = Prober { place, number, query, published: None, random, tally: Tally::default() };
            probers.spawn(probe_on(prober, Arc::clone(&cancelled)));
        }
        places.push(place);
    }
    let mut all = Tally::default();
    while let Some(ended) = probers.join_next().await {
        let tally = ended.unwrap();
        all.succeeded += tally.succeeded;
        all.connecting += tally.connecting;
        all.dropped += tally.dropped;
        all.cancelled.iter_mut().zip(tally.cancelled).for_each(|(sum, n)| *sum += n);
    }
    for (state, n) in STATES.iter().zip(all.cancelled) {
        // One that comes at once is seldom still under way when its run ends.
        let enough = if *state == State::Whole { 0 } else { CANCELLATIONS / 20 };
        assert!(n >= enough, "{n} cancellations {state:?}: {all:?}");
    }
    assert!(all.cancelled.iter().sum::<u64>() >= CANCELLATIONS, "{all:?}");
    assert!(all.dropped >= CANCELLATIONS / 10 && all.succeeded >= CANCELLATIONS / 20, "{all:?}");
    for place in &places {
        assert!(place.collector.shutdown(HANG).await);
        let counts = place.sim.wait_until("all are gone", |counts| counts.threads == 0).await;
        let most = u64::from(MAX_CONNECTIONS);
        assert!(counts.most_threads <= most && counts.most_open <= most, "{counts:?}");
        assert!(counts.kills > 0, "{counts:?}");
    }
}
