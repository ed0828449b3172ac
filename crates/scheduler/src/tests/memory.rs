//! What an item costs while it waits, which is most of the time. The figures are in docs/performance.md.

use std::mem::{size_of, size_of_val};

use super::*;
use crate::{facts::Facts, scheduler::Running};

/// A task keeps room for the largest future that it will ever hold. That of a run is on the heap while it runs, so what
/// stays is the loop. Tokio's cell around it is 104 bytes more and grows in steps of 128, so beyond 152 bytes it would take
/// the next step.
#[tokio::test(start_paused = true)]
async fn an_idle_item_is_small() {
    let mut bench = Bench::new(256);
    bench.item("q", "db", 10, &[QUICK]);
    bench.run(SECOND).await;
    let size = size_of_val(&bench.scheduler.item_loop(bench.items[0].clone()).run());
    assert!(size <= 152, "the loop of an item is {size} bytes");
}

#[test]
fn what_is_known_of_an_item_is_kept_once() {
    let (facts, running) = (size_of::<Facts>(), size_of::<Running<Scripted>>());
    assert!(facts <= 136, "the facts of an item are {facts} bytes");
    assert!(running <= 24, "its place among those that run is {running} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_down_target_is_as_small_as_one_that_is_up() {
    let mut bench = Bench::new(256);
    bench.item("q", "db", 10, &[QUICK]);
    bench.run(SECOND).await;
    let size = size_of_val(&**bench.scheduler.gates.values().next().unwrap());
    assert!(size <= 128, "the gate of a target is {size} bytes");
}
