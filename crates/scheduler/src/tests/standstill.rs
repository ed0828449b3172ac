//! Time that nobody was awake for.

use super::*;

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
