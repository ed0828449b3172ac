//! What the scheduler says about what comes next.

use crate::NextTick;

use super::*;

#[tokio::test(start_paused = true)]
async fn the_next_tick_of_an_item_is_when_it_runs_next() {
    let mut bench = Bench::new(256);
    bench.item("q", "db1", 10, &[QUICK]);
    bench.item("q", "db2", 10, &[Act::Hang]);
    bench.run(25 * SECOND).await;
    let stats = bench.scheduler.stats();

    let Some(NextTick::Due(next)) = stats.next_tick("q", "db1") else { panic!("it waits") };
    sleep(10 * SECOND).await;
    assert!(bench.runs("q").contains(&(next - bench.start)), "{:?}", bench.runs("q"));
    assert_eq!(stats.next_tick("q", "db2"), Some(NextTick::Running));
    assert_eq!(stats.next_tick("q", "db3"), None);
    assert_eq!(stats.next_tick("p", "db1"), None);
}

#[tokio::test(start_paused = true)]
async fn a_down_target_says_when_it_is_tried_and_one_that_answers_does_not() {
    let mut bench = Bench::new(256);
    bench.item("down", "ill", 10, &[Act::Down]);
    bench.item("well", "well", 10, &[QUICK]);
    bench.run(125 * SECOND).await;
    let stats = bench.scheduler.stats();
    assert_eq!(stats.next_try("well"), None);
    assert_eq!(stats.next_try("nobody"), None);
    let next = stats.next_try("ill").expect("it is down");
    assert!(next.failures > 1 && !next.trying, "{next:?}");
    let tries = bench.runs("down").len();
    assert_eq!(next.failures as usize, tries);
    assert!(next.not_before - Instant::now() <= 30 * SECOND);

    bench.scheduler.sync(Vec::new()).await;
    assert_eq!(stats.next_try("ill"), None, "who is gone is not tried");
    assert_eq!(stats.next_tick("well", "well"), None);
}
