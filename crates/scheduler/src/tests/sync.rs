//! The wanted set, and the end.

use super::*;

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
