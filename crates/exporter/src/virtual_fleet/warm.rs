//! Who has a result of before the start waits for its tick; who has none, or one that is overdue, runs soon.

use fleet_collector::clock::wall_ms;
use fleet_scheduler::Schedule;

use super::*;

const HOUR: Duration = Duration::from_hours(1);
const HOURLY: [(&str, Duration, Duration); 1] = [("q", HOUR, Duration::from_secs(5))];

/// The result of an hourly item, as bytes.
async fn result() -> Vec<u8> {
    let plan = Plan { targets: 1, queries: &HOURLY, retry_after: None, kept: None };
    let fleet = Fleet::start(&plan, |_| Health::Well).await;
    fleet.run(90 * SECOND).await;
    fleet.arranged.items[0].result_bytes().unwrap().1
}

/// When an hourly item first runs, since the start, that has a result of this age.
async fn first_run(age: Duration) -> Duration {
    let read_ms = wall_ms() - u64::try_from(age.as_millis()).unwrap();
    let bytes = result().await;
    let plan = Plan { targets: 1, queries: &HOURLY, retry_after: None, kept: Some((read_ms, &bytes)) };
    let fleet = Fleet::start(&plan, |_| Health::Well).await;
    assert!(fleet.arranged.items[0].is_shown());
    fleet.run(HOUR + 90 * SECOND).await;
    fleet.servers.asked(&name(0), "q")[0] - fleet.start
}

#[tokio::test(start_paused = true)]
async fn an_hourly_item_that_ran_within_the_hour_waits_for_its_tick() {
    let schedule = Schedule::new(&name(0), "q", HOUR);
    let tick = schedule.due(schedule.tick_from(EPOCH)).saturating_sub(EPOCH);
    assert!(tick > 2 * STARTUP_SPREAD, "{tick:?} would show nothing");
    assert_eq!(first_run(Duration::from_mins(10)).await, tick);
}

#[tokio::test(start_paused = true)]
async fn an_overdue_item_runs_within_the_spread() {
    let overdue = first_run(Duration::from_mins(70)).await;
    assert!(overdue <= STARTUP_SPREAD, "{overdue:?}");
}
