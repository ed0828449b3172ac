//! Ticks: on time, once each, whatever the runs do.

use super::*;

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
