//! The scheduler under a paused clock, with jobs that do what their script says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{Item, Job, Limits, Missed, Scheduler, Start, Timeline, Verdict};

const SECOND: Duration = Duration::from_secs(1);
/// A moment after which all hashes of the tests' names have had their turn.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// What a scripted run does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Answer(Duration),
    Down,
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
}

impl PartialEq for Scripted {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.script == other.script
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
            Act::Down => return Verdict::Down { cap: 30 * SECOND },
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
        let limits = Limits { max_runs, startup_spread: 60 * SECOND };
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
        let job =
            Scripted { name: query, script: script.to_vec(), log: self.log.clone(), runs: Mutex::new(0) };
        self.items.push(Item {
            target: target.into(),
            query: query.into(),
            lanes: 2,
            interval: seconds * SECOND,
            timeout: (5 * SECOND).min(seconds * SECOND),
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
                };
                *missed.entry(reason).or_default() += ticks;
            }
        }
        missed
    }
}

const QUICK: Act = Act::Answer(Duration::from_millis(10));

#[tokio::test(start_paused = true)]
async fn an_item_runs_on_every_tick_without_drift() {
    let mut bench = Bench::new(256);
    bench.item("q", "db", 10, &[QUICK]);
    bench.run(3600 * SECOND).await;
    let runs = bench.runs("q");
    assert_eq!(runs.len(), 360);
    assert!(runs.windows(2).all(|w| w[1] - w[0] == 10 * SECOND));
    assert!(bench.missed("q").is_empty());
    assert!(
        bench
            .events("q")
            .iter()
            .all(|(_, e)| *e == Event::Run { lateness: Duration::ZERO, waited: Duration::ZERO })
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_longer_than_its_interval_misses_ticks_keeps_its_phase_and_never_overlaps() {
    let mut bench = Bench::new(256);
    bench.item("q", "db", 10, &[QUICK, Act::Answer(25 * SECOND), QUICK]);
    bench.run(100 * SECOND).await;
    let runs = bench.runs("q");
    assert_eq!(runs[2] - runs[1], 30 * SECOND, "the tick after the long run is on the old phase");
    assert_eq!(bench.missed("q"), BTreeMap::from([("running", 2)]));
}

#[tokio::test(start_paused = true)]
async fn an_item_with_a_long_interval_runs_once_within_the_start_up_spread_and_then_on_its_offset() {
    let mut bench = Bench::new(256);
    bench.item("hourly", "db", 3600, &[QUICK]);
    bench.run(3 * 3600 * SECOND).await;
    let runs = bench.runs("hourly");
    assert!(runs[0] <= 60 * SECOND, "{runs:?}");
    assert!(runs[1] - runs[0] <= 3600 * SECOND);
    assert!(runs[1..].windows(2).all(|w| w[1] - w[0] == 3600 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_counted_and_stays_with_its_item() {
    let mut bench = Bench::new(256);
    bench.item("bad", "db", 10, &[Act::Panic, QUICK]);
    bench.item("good", "db", 10, &[QUICK]);
    bench.run(100 * SECOND).await;
    assert_eq!(bench.runs("bad").len(), 10);
    assert_eq!(bench.runs("good").len(), 10);
    let panics = bench.events("bad").into_iter().filter(|(_, e)| matches!(e, Event::Panicked(_)));
    assert_eq!(panics.map(|(_, e)| e).collect::<Vec<_>>(), [Event::Panicked("as the script says".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_target_takes_no_run_from_the_others_though_the_global_limit_is_small() {
    let mut bench = Bench::new(4);
    for query in ["h0", "h1", "h2", "h3", "h4", "h5"] {
        bench.item(query, "hung", 10, &[Act::Hang]);
    }
    for (query, target) in [("a", "db1"), ("b", "db2"), ("c", "db3")] {
        bench.item(query, target, 10, &[QUICK]);
    }
    bench.run(600 * SECOND).await;
    for query in ["a", "b", "c"] {
        assert_eq!(bench.runs(query).len(), 60, "{query}");
        assert!(bench.missed(query).is_empty(), "{query}");
    }
    let hung: usize = ["h0", "h1", "h2", "h3", "h4", "h5"].iter().map(|q| bench.runs(q).len()).sum();
    assert_eq!(hung, 2, "as many as it has lanes");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_finds_no_permit_in_time_is_missed_not_queued() {
    let mut bench = Bench::new(256);
    for query in ["h0", "h1"] {
        bench.item(query, "db", 10, &[Act::Hang]);
    }
    bench.item("late", "db", 10, &[QUICK]);
    bench.run(100 * SECOND).await;
    let stats = bench.scheduler.stats();
    assert_eq!(stats.runs_in_flight(), 2);
    let attempts =
        bench.runs("late").len() as u64 + bench.missed("late").get("no_permit").copied().unwrap_or(0);
    assert!((9..=10).contains(&attempts), "{attempts}");
    assert!(bench.missed("late")["no_permit"] >= 8);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_permit_is_told_apart_from_running() {
    let mut bench = Bench::new(1);
    bench.item("long", "db1", 60, &[Act::Answer(2 * SECOND)]);
    for n in 0..40 {
        bench.item("short", &format!("t{n}"), 60, &[Act::Answer(SECOND)]);
    }
    bench.run(120 * SECOND).await;
    let waited = bench.events("short").into_iter().filter_map(|(_, e)| match e {
        Event::Run { waited, .. } if waited > Duration::ZERO => Some(waited),
        _ => None,
    });
    let longest = waited.max().expect("with one permit somebody waits");
    assert!(longest <= 5 * SECOND, "nobody waits beyond its start-by: {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn permits_come_back_on_every_path() {
    let mut bench = Bench::new(3);
    bench.item("answers", "db", 10, &[QUICK]);
    bench.item("panics", "db", 10, &[Act::Panic]);
    bench.item("hangs", "db", 10, &[Act::Hang]);
    bench.item("down", "other", 10, &[Act::Down]);
    bench.run(300 * SECOND).await;
    let shared = Arc::clone(&bench.scheduler.shared);
    let lanes: Vec<_> = bench.scheduler.gates.values().map(|gate| Arc::clone(&gate.lanes)).collect();
    // Dropped in mid-run, by a wanted set without them.
    bench.scheduler.sync(Vec::new()).await;
    assert_eq!(shared.runs.available_permits(), 3);
    assert_eq!(shared.tries.available_permits(), 1);
    assert!(lanes.iter().all(|lanes| lanes.available_permits() == 2));
    assert_eq!((bench.scheduler.stats().runs_in_flight(), bench.scheduler.stats().runs_waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_down_target_is_tried_by_one_item_at_a_time_and_ever_more_slowly() {
    let mut bench = Bench::new(256);
    for query in ["a", "b", "c", "d", "e"] {
        bench.item(query, "dead", 1, &[Act::Down]);
    }
    bench.run(3600 * SECOND).await;
    let tries: usize = ["a", "b", "c", "d", "e"].iter().map(|q| bench.runs(q).len()).sum();
    // 18,000 ticks; with full jitter under a cap of 30 s about one try in 15 s.
    assert!((120..500).contains(&tries), "{tries}");
    let missed: u64 = ["a", "b", "c", "d", "e"].iter().map(|q| bench.missed(q)["target_down"]).sum();
    assert!((tries as u64 + missed).abs_diff(18_000) <= 5, "every tick is a run or a missed one");
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_brings_all_items_back() {
    let mut bench = Bench::new(256);
    bench.item("a", "db", 1, &[Act::Down, Act::Down, Act::Down, QUICK]);
    bench.item("b", "db", 1, &[QUICK]);
    bench.run(600 * SECOND).await;
    for query in ["a", "b"] {
        let runs = bench.runs(query);
        let recovered: Vec<_> = runs.iter().filter(|at| **at > 120 * SECOND).collect();
        assert_eq!(recovered.len(), 480, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_tries_of_down_targets_take_no_run_from_the_healthy() {
    let mut bench = Bench::new(8);
    for n in 0..20 {
        bench.item("sick", &format!("sick{n}"), 10, &[Act::Down, Act::Hang]);
    }
    for n in 0..20 {
        bench.item("healthy", &format!("db{n}"), 10, &[QUICK]);
    }
    bench.run(600 * SECOND).await;
    assert_eq!(bench.runs("healthy").len(), 20 * 60);
    assert!(bench.missed("healthy").is_empty());
}

#[tokio::test(start_paused = true)]
async fn sync_leaves_equal_items_alone_and_drops_the_others_at_once() {
    let mut bench = Bench::new(256);
    bench.item("kept", "db", 10, &[QUICK]);
    bench.item("gone", "db", 10, &[Act::Hang]);
    bench.item("changed", "db", 10, &[QUICK]);
    bench.run(35 * SECOND).await;
    let kept = bench.items.remove(0);
    bench.items.clear();
    bench.item("changed", "db", 5, &[QUICK]);
    bench.item("new", "db", 10, &[QUICK]);
    bench.items.push(kept);
    let changes = bench.scheduler.sync(bench.items.clone()).await;
    assert_eq!((changes.kept, changes.started, changes.stopped), (1, 2, 2));
    assert_eq!(bench.scheduler.stats().runs_in_flight(), 0, "what hung has been dropped");
    sleep(65 * SECOND).await;
    let kept = bench.runs("kept");
    assert!(kept.windows(2).all(|w| w[1] - w[0] == 10 * SECOND), "no tick lost or moved: {kept:?}");
    assert!(bench.runs("new").len() >= 6);
    let again = bench.scheduler.sync(bench.items.clone()).await;
    assert_eq!((again.kept, again.started, again.stopped), (3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn after_a_standstill_each_item_runs_once_and_the_rest_is_counted() {
    let mut bench = Bench::new(256);
    bench.item("q", "db", 10, &[QUICK]);
    bench.run(25 * SECOND).await;
    let before = bench.runs("q").len() as u64;
    // The clock goes on while no task is polled, as after SIGSTOP and SIGCONT.
    tokio::time::advance(600 * SECOND).await;
    sleep(Duration::from_millis(1)).await;
    let after = bench.runs("q");
    assert_eq!(after.len() as u64, before + 1);
    assert_eq!(bench.missed("q"), BTreeMap::from([("no_permit", 59)]));
    sleep(10 * SECOND).await;
    let runs = bench.runs("q");
    let phase = |at: &Duration| at.as_millis() % 10_000;
    assert_eq!(phase(runs.last().unwrap()), phase(&runs[0]), "the phase is the old one");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_every_task_whatever_it_does() {
    let mut bench = Bench::new(256);
    bench.item("hangs", "db", 10, &[Act::Hang]);
    bench.item("runs", "db", 10, &[QUICK]);
    bench.run(35 * SECOND).await;
    let stats = bench.scheduler.stats();
    assert_eq!(stats.runs_in_flight(), 1);
    bench.scheduler.shutdown().await;
    assert_eq!(stats.runs_in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_overdue_tick_shows_who_waits_for_a_permit() {
    let mut bench = Bench::new(1);
    bench.item("hangs", "db1", 60, &[Act::Hang]);
    bench.run(60 * SECOND).await;
    let stats = bench.scheduler.stats();
    assert_eq!(stats.oldest_overdue(), Duration::ZERO, "a run is not overdue, however long it takes");
    for n in 0..100 {
        bench.item("waits", &format!("t{n}"), 60, &[QUICK]);
    }
    bench.run(30 * SECOND).await;
    assert!(stats.oldest_overdue() > Duration::ZERO);
    assert!(stats.oldest_overdue() <= 5 * SECOND);
    assert!(stats.runs_waiting() > 0);
}

/// Waiting for permits ends at the next tick, and timers count in whole milliseconds while the process starts between
/// two of them: it wakes just after that tick.
#[tokio::test(start_paused = true)]
async fn a_tick_without_a_permit_does_not_cost_the_next_one_though_the_timeout_is_the_interval() {
    let mut bench = Bench::at(EPOCH + Duration::from_micros(300), 256);
    for query in ["h0", "h1"] {
        bench.item(query, "db", 5, &[Act::Hang]);
    }
    bench.item("late", "db", 5, &[QUICK]);
    bench.run(100 * SECOND).await;
    let missed = bench.missed("late");
    assert!(
        missed.get("no_permit").copied().unwrap_or(0) >= 17 && !missed.contains_key("running"),
        "{missed:?}"
    );
}
