//! How a sick target is approached, and a failed item repeated, class by class.

use expect_test::{Expect, expect};

use super::*;

/// The connects to a target of this health in some minutes, in seconds since the first one.
async fn check(health: Health, minutes: u32, expected: Expect) {
    let queries = [("q", 10 * SECOND, 5 * SECOND), ("r", 10 * SECOND, 5 * SECOND)];
    let plan = Plan { targets: 1, queries: &queries, retry_after: None, kept: None };
    let fleet = Fleet::start(&plan, |_| health).await;
    fleet.run(minutes * 60 * SECOND).await;
    let connects = fleet.servers.connects(&name(0));
    let times = connects.iter().map(|at| format!("{:.1}", (*at - connects[0]).as_secs_f64()));
    expected.assert_eq(&times.collect::<Vec<_>>().join(" "));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_connections() {
    check(Health::Refusing, 5, expect!["0.0 0.5 1.0 2.3 8.4 10.4 22.4 44.7 67.2 90.5 119.2 130.5 137.5 141.1 141.6 156.0 159.2 163.3 178.7 199.6 222.7 243.6 251.4 270.4 295.0"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_gives_no_answer() {
    check(Health::Mute, 5, expect!["0.0 5.5 11.0 17.3 28.4 35.4 52.4 79.7 107.2 135.5 169.2 185.5 197.5 206.1 211.6 231.0 239.2 248.3 268.7 294.6"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_the_account() {
    check(Health::LockedOut, 20, expect!["0.0 5.0 10.0 22.7 83.5 103.9 223.7 446.1 671.4 903.8 1191.5"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_target_without_a_free_connection() {
    check(Health::Crowded, 8, expect!["0.0 2.5 5.0 11.3 41.8 49.4 73.4 117.9 163.0 209.4 267.0 289.4 303.5 310.7 313.2 342.0 348.4 356.6 387.3 429.1 475.4"]).await;
}

/// It lets us in, so it is up: each item times out at its own ticks, and the one with a long interval before the next.
#[tokio::test(start_paused = true)]
async fn a_target_whose_queries_hang() {
    let queries = [("often", 20 * SECOND, 5 * SECOND), ("seldom", 600 * SECOND, 5 * SECOND)];
    let plan = Plan { targets: 1, queries: &queries, retry_after: Some(30 * SECOND), kept: None };
    let fleet = Fleet::start(&plan, |_| Health::Hanging).await;
    fleet.run(1300 * SECOND).await;
    assert!(fleet.is_up(0));
    let asked = fleet.servers.asked(&name(0), "seldom");
    let times = asked.iter().map(|at| format!("{:.3}", (*at - asked[0]).as_secs_f64()));
    expect!["0.000 35.500 60.000 95.500 161.000 286.500 532.000 660.000 695.500 761.000 886.500 1132.000"]
        .assert_eq(&times.collect::<Vec<_>>().join(" "));
}
