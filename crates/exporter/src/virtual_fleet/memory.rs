//! What a run costs while it goes. The figures are in docs/performance.md.

use std::mem::size_of_val;

use fleet_scheduler::{Job as _, Start};
use tokio::sync::Semaphore;

use super::*;

#[tokio::test(start_paused = true)]
async fn the_future_of_a_run_is_small_and_connecting_is_not_a_part_of_it() {
    let plan = Plan { targets: 1, queries: &[("q", 10 * SECOND, 5 * SECOND)], retry_after: None, kept: None };
    let fleet = Fleet::start(&plan, |_| Health::Well).await;
    let job = Job::new(Arc::clone(&fleet.arranged.items[0]), Arc::clone(&fleet.metrics), None);
    let now = Instant::now();
    let start = Start {
        due: now,
        lateness: Duration::ZERO,
        waited: Duration::ZERO,
        start_by: now,
        lane: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap(),
    };
    let size = size_of_val(&job.run(start));
    assert!(size <= 1280, "the future of a run is {size} bytes");
}
