//! What an item costs while it waits, which is most of the time. The figures are in docs/performance.md.

use std::mem::size_of_val;

use super::*;

/// A task keeps room for the largest future that it will ever hold. That of a run is on the heap while it runs, so what
/// stays is the loop. Beyond 400 bytes tokio's cell around it, which grows in steps of 128, would take the next step.
#[tokio::test(start_paused = true)]
async fn an_idle_item_is_small() {
    let mut bench = Bench::new(256);
    bench.item("q", "db", 10, &[QUICK]);
    bench.run(SECOND).await;
    let size = size_of_val(&bench.scheduler.item_loop(&bench.items[0]).run());
    assert!(size <= 400, "the loop of an item is {size} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_down_target_is_as_small_as_one_that_is_up() {
    let mut bench = Bench::new(256);
    bench.item("q", "db", 10, &[QUICK]);
    bench.run(SECOND).await;
    let size = size_of_val(&**bench.scheduler.gates.values().next().unwrap());
    assert!(size <= 128, "the gate of a target is {size} bytes");
}
