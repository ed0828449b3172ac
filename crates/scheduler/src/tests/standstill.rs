//! Time that nobody was awake for.

use super::*;
use crate::Schedule;

/// 300 targets with 10 queries each, every 10 s, and one more each hour.
fn fleet() -> Bench {
    let mut bench = Bench::new(600);
    for target in 0..300 {
        let target = format!("db{target}");
        for query in ["q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "q9"] {
            bench.item(query, &target, 10, &[QUICK]);
        }
        bench.item("hourly", &target, 3600, &[QUICK]);
    }
    bench
}

/// The most runs in any 100 ms from then on.
fn busiest(bench: &Bench, from: Duration) -> usize {
    let log = bench.log.lock().unwrap();
    let mut bins: BTreeMap<u128, usize> = BTreeMap::new();
    for (at, ..) in
        log.iter().filter(|(at, _, event)| *at >= bench.start + from && matches!(event, Event::Run { .. }))
    {
        *bins.entry((*at - bench.start).as_millis() / 100).or_default() += 1;
    }
    bins.into_values().max().unwrap()
}

/// T39: the process is stopped for ten minutes, as by SIGSTOP.
#[tokio::test(start_paused = true)]
async fn t39_after_a_standstill_nothing_is_caught_up_and_the_phases_are_the_old_ones() {
    let mut bench = fleet();
    bench.run(100 * SECOND).await;
    let (usual, before) = (busiest(&bench, Duration::ZERO), bench.runs("q0").len());
    // The clock goes on while no task is polled.
    tokio::time::advance(600 * SECOND).await;
    let woke = bench.start.elapsed();
    sleep(60 * SECOND).await;
    assert!(busiest(&bench, woke) <= usual, "no burst: {} instead of {usual}", busiest(&bench, woke));
    let runs = bench.runs("q0");
    assert_eq!(runs.len(), before + 6 * 300, "each tick since, and nothing for those before");
    assert_eq!(bench.missed("q0"), BTreeMap::from([("no_permit", 60 * 300)]));
    let phase = |at: &Duration| (EPOCH + *at).as_millis() % 10_000;
    for n in 0..300 {
        let offset = Schedule::new(&format!("db{n}"), "q0", 10 * SECOND).offset().as_millis();
        assert!(runs.iter().any(|at| *at > woke && phase(at) == offset), "db{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn t39_a_long_item_that_slept_through_its_tick_runs_within_the_start_up_spread() {
    let mut bench = Bench::new(256);
    bench.item("hourly", "db", 3600, &[QUICK]);
    bench.run(3600 * SECOND).await;
    let before = bench.runs("hourly");
    tokio::time::advance(2 * 3600 * SECOND).await;
    let woke = bench.start.elapsed();
    sleep(3600 * SECOND).await;
    let runs = bench.runs("hourly");
    assert!(runs[before.len()] - woke <= 60 * SECOND, "{runs:?}");
    assert_eq!((runs.last().unwrap().as_millis() - before.last().unwrap().as_millis()) % 3_600_000, 0);
    assert_eq!(bench.missed("hourly"), BTreeMap::from([("no_permit", 2)]));
}

/// A second or two is no standstill: the tick runs, late, and says so.
#[tokio::test(start_paused = true)]
async fn t42_a_process_that_gets_little_processor_time_is_late_and_says_so() {
    let mut bench = Bench::new(256);
    bench.item("q", "db", 10, &[QUICK]);
    bench.run(5 * SECOND).await;
    for _ in 0..20 {
        tokio::time::advance(1500 * Duration::from_millis(1)).await;
        sleep(Duration::from_millis(1)).await;
    }
    let late = bench.events("q").into_iter().map(|(_, event)| match event {
        Event::Run { lateness, .. } => lateness,
        other => panic!("{other:?}"),
    });
    let late: Vec<_> = late.collect();
    assert!(late.len() >= 3 && late.iter().any(|late| *late > SECOND / 10), "{late:?}");
}

/// Late by more than a standstill, each time anew: every second tick runs all the same.
#[tokio::test(start_paused = true)]
async fn t42_a_process_that_is_always_late_still_runs() {
    let mut bench = Bench::new(256);
    bench.item("q", "db", 10, &[QUICK]);
    bench.run(SECOND).await;
    for _ in 0..40 {
        tokio::time::advance(9 * SECOND).await;
        sleep(Duration::from_millis(1)).await;
    }
    let (runs, missed) = (bench.runs("q").len() as u64, bench.missed("q"));
    assert!(runs >= 9, "{runs} {missed:?}");
    let missed = missed.into_values().sum::<u64>();
    assert!((runs + missed).abs_diff(36) <= 1, "each tick is a run or a missed one: {runs} {missed}");
}

/// T39: a machine that sleeps stops tokio's clock as well, so the process cannot notice by itself.
#[tokio::test(start_paused = true)]
async fn t39_after_a_suspension_each_item_runs_once_on_its_offset_by_the_clock_outside() {
    let mut bench = fleet();
    bench.run(100 * SECOND).await;
    let usual = busiest(&bench, Duration::ZERO);
    let (woke, slept) = (bench.start.elapsed(), Duration::from_millis(3_601_234));
    bench.scheduler.resumed(slept).await;
    assert_eq!(bench.scheduler.stats().oldest_overdue(), Duration::ZERO);
    sleep(60 * SECOND).await;
    assert!(busiest(&bench, woke) <= usual + usual / 4, "no burst");
    let since = |name: &str| bench.runs(name).into_iter().filter(|at| *at > woke).collect::<Vec<_>>();
    assert!((299..=301).contains(&since("hourly").len()), "each once: {}", since("hourly").len());
    let phases: Vec<_> = since("q0").iter().map(|at| (EPOCH + slept + *at).as_millis() % 10_000).collect();
    assert_eq!(phases.len(), 6 * 300);
    for n in 0..300 {
        let offset = Schedule::new(&format!("db{n}"), "q0", 10 * SECOND).offset().as_millis();
        assert!(phases.contains(&offset), "db{n}");
    }
}
