//! A part of the fleet is sick, and nobody else notices.

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(5);
const NAMES: [&str; 10] = ["q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "q9"];

/// The longest back-off of targets that give no answer.
const CAP: Duration = Duration::from_secs(30);

/// 300 targets with 10 queries each every 10 s.
fn plan() -> Plan<'static> {
    const QUERIES: [(&str, Duration, Duration); 10] = {
        let mut queries = [("", INTERVAL, TIMEOUT); 10];
        let mut n = 0;
        while n < 10 {
            queries[n].0 = NAMES[n];
            n += 1;
        }
        queries
    };
    Plan { targets: 300, queries: &QUERIES, retry_after: None, kept: None }
}

/// Of twenty targets nine are sick: six refuse, two are mute, one hangs.
fn mixed(n: usize) -> Health {
    match n % 20 {
        0..6 => Health::Refusing,
        6 | 7 => Health::Mute,
        8 => Health::Hanging,
        _ => Health::Well,
    }
}

fn of(health: Health) -> impl Iterator<Item = usize> {
    (0..300).filter(move |n| mixed(*n) == health)
}

fn sick() -> impl Iterator<Item = usize> {
    (0..300).filter(|n| mixed(*n) != Health::Well)
}

/// Bar 1: sick from the start, for ten minutes, and then all well.
#[tokio::test(start_paused = true)]
async fn a_healthy_target_keeps_each_tick_though_nearly_half_of_the_fleet_is_sick() {
    let fleet = Fleet::start(&plan(), mixed).await;
    fleet.run(600 * SECOND).await;
    // At the start nobody is known to be well, and a first connect may have to wait behind those to black holes.
    let settled = 20 * SECOND;
    for n in of(Health::Well) {
        assert_eq!(fleet.missed(n), BTreeMap::new(), "t{n}");
        for query in NAMES {
            fleet.assert_on_time(n, query, INTERVAL, settled, 599 * SECOND);
        }
    }
    assert!(of(Health::Refusing).chain(of(Health::Mute)).all(|n| !fleet.is_up(n)));
    for n in sick() {
        fleet.servers.set(&name(n), Health::Well);
    }
    let recovered = fleet.start.elapsed();
    // The last back-off, a turn in the queue of tries behind some that are still mute, and the next tick.
    fleet.run(CAP + TIMEOUT + INTERVAL + 5 * SECOND).await;
    let from = fleet.start.elapsed();
    fleet.run(60 * SECOND).await;
    for n in 0..300 {
        assert!(fleet.is_up(n), "t{n} {recovered:?}");
        for query in NAMES {
            fleet.assert_on_time(n, query, INTERVAL, from, from + 59 * SECOND);
        }
    }
}

/// T35.
#[tokio::test(start_paused = true)]
async fn t35_at_the_start_of_a_large_fleet_connects_stay_below_their_limit_and_runs_near_their_mean() {
    let names: Vec<_> = (0..20).map(|n| format!("q{n}")).collect();
    let interval = |n: usize| [10, 15, 30, 60][n % 4] * SECOND;
    let queries: Vec<_> =
        names.iter().enumerate().map(|(n, name)| (name.as_str(), interval(n), TIMEOUT)).collect();
    let fleet =
        Fleet::start(&Plan { targets: 500, queries: &queries, retry_after: None, kept: None }, |_| {
            Health::Well
        })
        .await;
    fleet.run(180 * SECOND).await;
    let in_minute = |n: u32| {
        let (from, to) = (fleet.start + 60 * SECOND * n, fleet.start + 60 * SECOND * (n + 1));
        fleet.servers.all_asked().into_iter().filter(|at| (from..to).contains(at)).count()
    };
    let (first, steady) = (in_minute(0), in_minute(2));
    assert!(first * 10 <= steady * 12, "{first} in the first minute, {steady} in the third");
    assert!((0..500).all(|n| fleet.missed(n).is_empty()));
}

/// T36: from one moment to the next.
#[tokio::test(start_paused = true)]
async fn t36_a_part_of_the_fleet_falls_silent_at_once_and_the_rest_keeps_each_tick() {
    for (share, silence) in
        [(20, Health::Hanging), (2, Health::Mute), (2, Health::Hanging), (1, Health::Mute)]
    {
        let fleet = Fleet::start(&plan(), |_| Health::Well).await;
        fleet.run(60 * SECOND).await;
        for n in (0..300).filter(|n| n % share == 0) {
            fleet.servers.set(&name(n), silence);
        }
        let from = fleet.start.elapsed();
        fleet.run(180 * SECOND).await;
        for n in (0..300).filter(|n| n % share != 0) {
            assert_eq!(fleet.missed(n), BTreeMap::new(), "t{n} of 1/{share} {silence:?}");
            for query in NAMES {
                fleet.assert_on_time(n, query, INTERVAL, from, from + 179 * SECOND);
            }
        }
        let stats = fleet.stats();
        assert!(stats.runs_in_flight() <= 600 && stats.tries_in_flight() <= stats.tries_limit());
        assert!(stats.oldest_overdue() <= TIMEOUT, "who waits for a lane of its own target gives up in time");
    }
}

/// T37: black holes come back together.
#[tokio::test(start_paused = true)]
async fn t37_targets_that_recover_together_reconnect_spread_over_their_back_off() {
    let fleet = Fleet::start(&plan(), |n| if n % 3 == 0 { Health::Refusing } else { Health::Well }).await;
    fleet.run(300 * SECOND).await;
    for n in (0..300).step_by(3) {
        fleet.servers.set(&name(n), Health::Well);
    }
    let back = Instant::now();
    fleet.run(CAP + 5 * SECOND).await;
    let mut first: Vec<_> = (0..300)
        .step_by(3)
        .map(|n| {
            let connects = fleet.servers.connects(&name(n));
            connects.into_iter().find(|at| *at >= back).expect("tried within the cap") - back
        })
        .collect();
    first.sort();
    let busiest =
        first.iter().map(|at| first.iter().filter(|other| (*at..*at + SECOND).contains(*other)).count());
    assert!(busiest.max().unwrap() <= 20, "100 over 30 s: {first:?}");
    assert!((0..300).all(|n| fleet.is_up(n)));
}

/// Bar 5: a third of a large fleet is a black hole, and holds each connect for as long as it may.
#[tokio::test(start_paused = true)]
async fn a_recovered_target_is_noticed_within_twice_its_cap_though_1500_others_hang() {
    let names: Vec<_> = (0..10).map(|n| format!("q{n}")).collect();
    let queries: Vec<_> = names.iter().map(|name| (name.as_str(), 60 * SECOND, TIMEOUT)).collect();
    let mute = |n: usize| n % 10 < 3;
    let plan = Plan { targets: 5000, queries: &queries, retry_after: None, kept: None };
    let fleet = Fleet::start(&plan, |n| if mute(n) { Health::Mute } else { Health::Well }).await;
    fleet.run(120 * SECOND).await;
    assert!(
        (0..5000).all(|n| fleet.is_up(n) != mute(n)),
        "all that are well were found within twice the spread"
    );
    fleet.run(120 * SECOND).await;
    let back = Instant::now();
    // One of a hundred.
    for n in (0..5000).step_by(100) {
        fleet.servers.set(&name(n), Health::Well);
    }
    // The back-off's cap is the larger of 30 s and the shortest interval. The longest wait is one back-off and a turn in
    // the queue of tries, which is over all of those that hang: 1500 by 156, each for 5 s.
    let cap = CAP.max(60 * SECOND);
    fleet.run(2 * cap).await;
    let noticed =
        |n: usize| fleet.servers.asked(&name(n), "q0").into_iter().chain(fleet.servers.connects(&name(n)));
    for n in (0..5000).step_by(100) {
        assert!(fleet.is_up(n), "t{n}: {:?}", noticed(n).map(|at| at.saturating_duration_since(back)).max());
    }
    let lost = (0..5000)
        .filter(|n| !mute(*n))
        .step_by(50)
        .map(|n| fleet.missed(n))
        .filter(|missed| !missed.is_empty());
    assert_eq!(lost.collect::<Vec<_>>(), [], "ticks of those that were well all the time");
}
