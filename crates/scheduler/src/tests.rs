//! The scheduler under a paused clock, with jobs that do what their script says.

mod down;
mod memory;
mod outlook;
mod permits;
mod retry;
mod standstill;
mod sync;
mod ticks;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{BackOff, Item, Job, Limits, Missed, Scheduler, Start, Timeline, Verdict, Way};

const SECOND: Duration = Duration::from_secs(1);
const NO_ANSWER: BackOff = BackOff { first: SECOND, cap: Duration::from_secs(30) };
/// A moment after which all hashes of the tests' names have had their turn.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// What a scripted run does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Answer(Duration),
    Fail,
    Down,
    /// No answer, found out after this time.
    Mute(Duration),
    Hang,
    Panic,
}

/// A job that follows its script by the number of its run (the last act repeats) and writes down what happens.
#[derive(Debug)]
struct Scripted {
    name: &'static str,
    script: Vec<Act>,
    log: Log,
    runs: Mutex<usize>,
    /// Since whatever was before.
    way: Way,
}

impl PartialEq for Scripted {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.script == other.script && self.way == other.way
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Run { lateness: Duration, waited: Duration },
    Missed(Missed, u64),
    Panicked(String),
}

type Log = Arc<Mutex<Vec<(Instant, &'static str, Event)>>>;

impl Job for Scripted {
    async fn run(&self, start: Start) -> Verdict {
        let act = {
            let mut runs = self.runs.lock().unwrap();
            let act = *self.script.get(*runs).or(self.script.last()).unwrap();
            *runs += 1;
            act
        };
        self.note(Event::Run { lateness: start.lateness, waited: start.waited });
        match act {
            Act::Answer(after) => sleep(after).await,
            Act::Fail => return Verdict::Failed,
            Act::Down => return Verdict::Down(NO_ANSWER),
            Act::Mute(after) => {
                sleep(after).await;
                return Verdict::Down(NO_ANSWER);
            }
            Act::Hang => std::future::pending().await,
            Act::Panic => panic!("as the script says"),
        }
        Verdict::Answered
    }

    fn missed(&self, reason: Missed, ticks: u64) {
        self.note(Event::Missed(reason, ticks));
    }

    fn panicked(&self, message: &str) {
        self.note(Event::Panicked(message.to_owned()));
    }

    fn way_since(&self, _: &Self) -> Way {
        self.way
    }
}

impl Scripted {
    fn note(&self, event: Event) {
        self.log.lock().unwrap().push((Instant::now(), self.name, event));
    }
}

/// A scheduler, its items and what they wrote down.
struct Bench {
    scheduler: Scheduler<Scripted>,
    start: Instant,
    log: Log,
    items: Vec<Item<Scripted>>,
}

impl Bench {
    fn new(max_runs: usize) -> Self {
        Self::at(EPOCH, max_runs)
    }

    fn at(epoch: Duration, max_runs: usize) -> Self {
        let start = Instant::now();
        let limits = Limits { max_runs, max_tries: (max_runs / 8).max(1), startup_spread: 60 * SECOND };
        let scheduler = Scheduler::new(limits, Timeline::new(start, epoch), 42);
        Self { scheduler, start, log: Log::default(), items: Vec::new() }
    }

    fn item(
        &mut self,
        query: &'static str,
        target: &str,
        seconds: u32,
        script: &[Act],
    ) -> &mut Item<Scripted> {
        let job = Scripted {
            name: query,
            script: script.to_vec(),
            log: self.log.clone(),
            runs: Mutex::new(0),
            way: Way::Same,
        };
        self.items.push(Item {
            target: target.into(),
            query: query.into(),
            lanes: 2,
            interval: seconds * SECOND,
            timeout: (5 * SECOND).min(seconds * SECOND),
            retry_after: None,
            ran_before: false,
            job: Arc::new(job),
        });
        self.items.last_mut().unwrap()
    }

    async fn run(&mut self, time: Duration) {
        self.scheduler.sync(self.items.clone()).await;
        sleep(time).await;
    }

    fn events(&self, name: &str) -> Vec<(Duration, Event)> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|(_, n, _)| *n == name).map(|(at, _, e)| (*at - self.start, e.clone())).collect()
    }

    fn runs(&self, name: &str) -> Vec<Duration> {
        let runs = self.events(name).into_iter().filter(|(_, e)| matches!(e, Event::Run { .. }));
        runs.map(|(at, _)| at).collect()
    }

    fn missed(&self, name: &str) -> BTreeMap<&'static str, u64> {
        let mut missed = BTreeMap::new();
        for (_, event) in self.events(name) {
            if let Event::Missed(reason, ticks) = event {
                let reason = match reason {
                    Missed::Running => "running",
                    Missed::NoPermit => "no_permit",
                    Missed::TargetDown => "target_down",
                    Missed::Stopped => "stopped",
                };
                *missed.entry(reason).or_default() += ticks;
            }
        }
        missed
    }
}

const QUICK: Act = Act::Answer(Duration::from_millis(10));
