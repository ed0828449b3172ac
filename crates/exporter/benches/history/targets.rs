//! Simulated targets that answer with the time, and remember when they answered whom.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use fleetsim::{Answer, Fleet, Script};

use crate::Result;

/// What milliseconds are counted up to: the largest power of ten that a FLOAT holds without a gap.
pub const CYCLE: i64 = 10_000_000;

/// How many answers to an item are remembered.
const REMEMBERED: usize = 8;

/// The time in milliseconds, since the last cycle began.
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or_default() % CYCLE
}

/// How long after `earlier` a moment is, both in a cycle.
pub fn since(earlier: i64, later: i64) -> i64 {
    (later - earlier).rem_euclid(CYCLE)
}

/// When each item was answered, the last times.
pub type Answers = Arc<Mutex<HashMap<String, Vec<i64>>>>;

#[derive(Debug)]
pub struct Targets {
    pub answers: Answers,
    fleet: Fleet,
    queries: usize,
}

impl Targets {
    pub async fn start(targets: usize, queries: usize) -> Result<Self> {
        let answers = Answers::default();
        let noted = Arc::clone(&answers);
        let fleet = Fleet::start(targets, |_| {
            let noted = Arc::clone(&noted);
            Script::default().records(false).first(move |statement| {
                let item = statement.tag().strip_prefix("fleet-query-exporter ")?;
                let now = now_ms();
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                let times = noted.entry(item.to_owned()).or_default();
                if times.len() == REMEMBERED {
                    times.remove(0);
                }
                times.push(now);
                Some(Answer::integer("n", now))
            })
        });
        Ok(Self { answers, fleet: fleet.await?, queries })
    }

    pub fn items(&self) -> usize {
        self.fleet.sims().len() * self.queries
    }

    /// The configuration: every item each second, and this history.
    pub fn config(&self, history: &str) -> String {
        let mut text = format!(
            "{history}\n[defaults]\ninterval = \"1s\"\ntimeout = \"1s\"\nexpire_after = \"5m\"\n\n\
             [groups.bench]\nuser = \"bench\"\npassword = \"bench\"\ntls = {{ mode = \"disabled\" }}\n\
             max_connections = 2\n\n[groups.bench.targets]\n"
        );
        for (n, sim) in self.fleet.sims().iter().enumerate() {
            let _ = writeln!(text, "db{n:03} = \"{}\"", sim.address());
        }
        for query in 0..self.queries {
            let _ = write!(
                text,
                "\n[queries.query_{query}]\nsql = \"select n from clock_{query}\"\n\
                 [queries.query_{query}.metrics.clock_{query}]\ntype = \"gauge\"\nhelp = \"the time\"\nvalue = \"n\"\n"
            );
        }
        text
    }
}
