//! A fleet of simulated servers in this process, the file by which the exporter asks it, and what arrives there.

use std::{
    collections::HashSet,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fleet_scheduler::{Schedule, Timeline};
use fleetsim::{Answer, Connect, Delivery, Event, Fleet, Preset, Script, Sickness};
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

use super::{
    Result,
    arrivals::{Arrival, Ticks},
};

/// What each statement of an item has before its SQL, and no other.
const MARK: &str = "/* fleet-query-exporter query_";

/// So many targets, each with as many items, each of which gives so many series.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub targets: usize,
    pub queries: usize,
    pub interval: Duration,
    pub timeout: Duration,
    pub rows: usize,
}

impl Shape {
    pub fn items(&self) -> usize {
        self.targets * self.queries
    }

    pub fn describe(&self) -> String {
        let Self { targets, queries, interval, rows, .. } = self;
        let runs = self.items() as f64 / interval.as_secs_f64();
        format!("{targets} targets x {queries} items x {rows} rows every {interval:?}: {runs:.0} runs/s")
    }

    /// The ticks of an item, as the exporter finds them.
    pub fn schedule(&self, target: usize, query: usize) -> Schedule {
        Schedule::new(&target_name(target), &format!("query_{query}"), self.interval)
    }

    fn config(&self, ports: impl Iterator<Item = u16>) -> String {
        let (interval, timeout) = (self.interval.as_secs(), self.timeout.as_secs());
        let mut text = format!(
            "[defaults]\nnamespace = \"bench\"\ninterval = \"{interval}s\"\ntimeout = \"{timeout}s\"\n\n\
             [groups.bench]\nuser = \"bench\"\npassword = \"bench\"\ntls = {{ mode = \"disabled\" }}\n\n\
             [groups.bench.targets]\n"
        );
        for (target, port) in ports.enumerate() {
            let _ = writeln!(text, "{} = \"127.0.0.1:{port}\"", target_name(target));
        }
        for query in 0..self.queries {
            let _ = write!(
                text,
                "\n[queries.query_{query}]\nsql = \"select place, kind, amount from stock\"\n\
                 [queries.query_{query}.metrics.amount_{query}]\ntype = \"gauge\"\nhelp = \"amount in stock\"\n\
                 labels = [\"place\", \"kind\"]\nvalue = \"amount\"\n"
            );
        }
        text
    }

    fn answer(&self) -> Answer {
        let row = |n: usize| {
            [format!("place-{n:02}"), format!("kind-{}", n % 4), (1_000_003 * (n + 1)).to_string()]
        };
        Answer::text(["place", "kind", "amount"], (0..self.rows).map(row))
    }
}

fn target_name(target: usize) -> String {
    format!("db{target:04}")
}

/// The servers, in threads of their own, so that fleets beside each other do not wait for each other. All calls block.
#[derive(Debug)]
pub struct Simulated {
    pub shape: Shape,
    timeline: Timeline,
    fleet: Fleet,
    seen: Arc<Mutex<Seen>>,
    runtime: Runtime,
}

/// What arrives at all of them together.
#[derive(Debug, Default)]
struct Seen {
    arrivals: Vec<Arrival>,
    connects: Vec<Instant>,
    /// Connections between their first moment and their login.
    connecting: HashSet<(usize, u64)>,
    most_connecting: usize,
}

impl Seen {
    fn note(&mut self, target: usize, session: u64, event: &Event) {
        match event {
            Event::Connected => {
                self.connects.push(Instant::now());
                self.connecting.insert((target, session));
                self.most_connecting = self.most_connecting.max(self.connecting.len());
            }
            Event::Login(_) | Event::Closed => {
                self.connecting.remove(&(target, session));
            }
            Event::Statement(text) => {
                if let Some(query) = query(text) {
                    self.arrivals.push(Arrival { at: Instant::now(), target, query });
                }
            }
            _ => {}
        }
    }
}

/// The number of the query whose statement this is.
fn query(statement: &str) -> Option<usize> {
    statement.split_once(MARK)?.1.split_once('@')?.0.parse().ok()
}

impl Simulated {
    /// Starts them, all well. A login takes as long as `login`, so that those at once are seen.
    pub fn start(shape: Shape, login: Duration, timeline: Timeline) -> Result<Self> {
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let answer = shape.answer();
        let script = |target| {
            let seen = Arc::clone(&seen);
            Script::new(Preset::MariaDb1011)
                .hostname(&target_name(target))
                .greeting_delivered(Delivery::new().latency(login))
                .on("from stock", answer.clone())
                .records(false)
                .watch(move |session, event| lock(&seen).note(target, session, event))
        };
        let fleet = runtime.block_on(Fleet::start(shape.targets, script))?;
        Ok(Self { shape, timeline, fleet, seen, runtime })
    }

    pub fn config(&self) -> String {
        self.shape.config(self.fleet.sims().iter().map(fleetsim::Sim::port))
    }

    /// Makes a part of them sick, and ends the connections of those. Gives the numbers of those that stay well.
    pub fn fall_sick(&mut self, sickness: Sickness) -> Result<Vec<usize>> {
        self.runtime.block_on(async {
            let well = self.fleet.fall_sick(sickness, 5).await?;
            for target in (0..self.shape.targets).filter(|target| !well.contains(target)) {
                self.fleet.sim_mut(target).restart().await;
            }
            Ok(well)
        })
    }

    pub fn recover(&mut self) -> Result<()> {
        Ok(self.runtime.block_on(self.fleet.recover())?)
    }

    /// What happens from now on to who connects to this one.
    pub fn connect(&mut self, target: usize, connect: Connect) -> Result<()> {
        let sim = self.fleet.sim_mut(target);
        let script = sim.script().connect(connect);
        Ok(self.runtime.block_on(sim.set(script))?)
    }

    /// Connections open now, of all.
    pub fn open(&self) -> u64 {
        self.fleet.sims().iter().map(|sim| sim.counts().open).sum()
    }

    /// The most connections that any one of them had at once, statements of clients that are gone included.
    pub fn most_at_one(&self) -> u64 {
        let most = self.fleet.sims().iter().map(|sim| {
            let counts = sim.counts();
            counts.most_open.max(counts.most_threads)
        });
        most.max().unwrap_or_default()
    }

    /// The most logins under way at once since this was last asked.
    pub fn most_connecting(&self) -> usize {
        let mut seen = lock(&self.seen);
        let now = seen.connecting.len();
        std::mem::replace(&mut seen.most_connecting, now)
    }

    pub fn connects_since(&self, from: Instant) -> Vec<Instant> {
        lock(&self.seen).connects.iter().copied().filter(|at| *at >= from).collect()
    }

    /// Statements of items within this span, in their order.
    pub fn arrivals(&self, from: Instant, to: Instant) -> Vec<Arrival> {
        let seen = lock(&self.seen);
        seen.arrivals.iter().copied().filter(|arrival| (from..to).contains(&arrival.at)).collect()
    }

    /// How many items have sent their statement at least once.
    pub fn items_seen(&self) -> usize {
        // The servers wait for the lock, so it is held for no more than copying.
        let arrivals = lock(&self.seen).arrivals.clone();
        let items: HashSet<_> = arrivals.iter().map(|arrival| (arrival.target, arrival.query)).collect();
        items.len()
    }

    /// What became of the ticks of these targets' items within a span; arrivals count until an interval after it.
    pub fn ticks(&self, targets: &[usize], from: Instant, to: Instant) -> Ticks {
        let mut of_items = vec![Vec::new(); self.shape.items()];
        for arrival in self.arrivals(from, to + self.shape.interval) {
            of_items[arrival.target * self.shape.queries + arrival.query].push(arrival.at);
        }
        let mut ticks = Ticks::default();
        for target in targets {
            for query in 0..self.shape.queries {
                let at = &of_items[target * self.shape.queries + query];
                ticks.add(self.shape.schedule(*target, query), self.timeline, (from, to), at);
            }
        }
        ticks.finish()
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
