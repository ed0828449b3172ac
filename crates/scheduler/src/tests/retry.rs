//! Retries: a long interval does not make a short trouble long.

use expect_test::{Expect, expect};

use super::*;
use crate::GRID;

/// When an item runs that is due each half hour and retried after 30 s, in seconds since its first run.
async fn check(script: &[Act], expected: Expect) {
    let mut bench = Bench::new(256);
    bench.item("seldom", "db", 1800, script).retry_after = Some(30 * SECOND);
    bench.run(2 * 1800 * SECOND).await;
    let runs = bench.runs("seldom");
    let lines = runs.iter().map(|at| format!("{:.3}\n", (*at - runs[0]).as_secs_f64()));
    let missed = bench.missed("seldom");
    expected.assert_eq(&format!("{}missed: {missed:?}\n", lines.collect::<String>()));
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_repeated_ever_more_slowly_and_the_tick_stays_where_it_was() {
    check(
        &[QUICK, Act::Fail],
        expect![[r#"
        0.000
        1740.000
        1770.000
        1830.000
        1950.000
        2190.000
        2670.000
        3540.000
        3570.000
        missed: {}
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_succeeds_is_the_last_one() {
    check(
        &[QUICK, Act::Fail, Act::Fail, QUICK],
        expect![[r#"
        0.000
        1740.000
        1770.000
        1830.000
        3540.000
        missed: {}
    "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_missed_its_tick_since_the_target_was_down_runs_soon_after_it_is_back() {
    let mut bench = Bench::new(256);
    let down_from_the_12th_minute = [vec![QUICK; 12], vec![Act::Down; 50], vec![QUICK]].concat();
    bench.item("often", "db", 60, &down_from_the_12th_minute);
    bench.item("seldom", "db", 1800, &[QUICK]).retry_after = Some(30 * SECOND);
    bench.run(2 * 1800 * SECOND).await;
    let back = bench.runs("often")[62];
    let runs = bench.runs("seldom");
    let tick = 1740 * SECOND;
    assert!(runs[0] + tick < back && back < runs[0] + tick + 1500 * SECOND, "{runs:?} {back:?}");
    assert!(runs[1] > back && runs[1] <= back + 30 * SECOND + GRID, "{runs:?} {back:?}");
    assert_eq!(runs[2], runs[0] + tick + 1800 * SECOND, "and the tick after it is where it was");
    assert_eq!(bench.missed("seldom"), BTreeMap::from([("target_down", 1)]), "waiting for it counts once");
}

#[tokio::test(start_paused = true)]
async fn a_retry_never_costs_the_next_tick() {
    for (retry_after, timeout, runs) in [(15, 5, 30), (20, 5, 20), (20, 40, 20), (20, 41, 10)] {
        let mut bench = Bench::new(256);
        let item = bench.item("q", "db", 60, &[Act::Fail]);
        (item.retry_after, item.timeout) = (Some(retry_after * SECOND), timeout * SECOND);
        bench.run(600 * SECOND).await;
        assert_eq!(bench.runs("q").len(), runs, "{retry_after} {timeout}");
        assert!(bench.missed("q").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn without_retry_after_an_item_waits_for_its_tick() {
    let mut bench = Bench::new(256);
    bench.item("q", "db", 1800, &[Act::Fail]);
    bench.run(3 * 1800 * SECOND).await;
    assert_eq!(bench.runs("q").len(), 4, "the first one after the start, and three ticks");
}
