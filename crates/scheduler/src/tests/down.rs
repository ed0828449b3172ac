//! Down targets: tried by one item, ever more slowly, at nobody's cost, and back at once.

use super::*;
use crate::GRID;

#[tokio::test(start_paused = true)]
async fn a_down_target_is_tried_by_one_item_at_a_time_and_ever_more_slowly() {
    let mut bench = Bench::new(256);
    for query in ["a", "b", "c", "d", "e"] {
        bench.item(query, "dead", 1, &[Act::Down]);
    }
    bench.run(3600 * SECOND).await;
    let tries: usize = ["a", "b", "c", "d", "e"].iter().map(|q| bench.runs(q).len()).sum();
    // With full jitter under a cap of 30 s about one try in 15 s.
    assert!((120..500).contains(&tries), "{tries}");
    let missed: u64 = ["a", "b", "c", "d", "e"].iter().map(|q| bench.missed(q)["target_down"]).sum();
    assert!(
        (17_990 - tries as u64..=18_000).contains(&missed),
        "18,000 ticks, of which tries took some: {missed}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_brings_all_items_back() {
    let mut bench = Bench::new(256);
    bench.item("a", "db", 1, &[Act::Down, Act::Down, Act::Down, QUICK]);
    bench.item("b", "db", 1, &[QUICK]);
    bench.run(600 * SECOND).await;
    for query in ["a", "b"] {
        let runs = bench.runs(query);
        let recovered: Vec<_> = runs.iter().filter(|at| **at > 120 * SECOND).collect();
        assert_eq!(recovered.len(), 480, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_tries_of_down_targets_take_no_run_from_the_healthy() {
    let mut bench = Bench::new(8);
    for n in 0..20 {
        bench.item("sick", &format!("sick{n}"), 10, &[Act::Down, Act::Hang]);
    }
    for n in 0..20 {
        bench.item("healthy", &format!("db{n}"), 10, &[QUICK]);
    }
    bench.run(600 * SECOND).await;
    assert_eq!(bench.runs("healthy").len(), 20 * 60);
    assert!(bench.missed("healthy").is_empty());
}

/// The try comes when the back-off ends, not when the next tick of somebody does.
#[tokio::test(start_paused = true)]
async fn a_server_that_restarts_is_found_long_before_the_next_tick() {
    let mut bench = Bench::new(256);
    bench.item("a", "db", 3600, &[QUICK, Act::Down, Act::Down, QUICK]);
    bench.item("b", "db", 1800, &[QUICK]);
    bench.run(7300 * SECOND).await;
    let runs = bench.runs("a");
    assert!(runs[2] - runs[1] <= SECOND + GRID && runs[3] - runs[2] <= 2 * SECOND + GRID, "{runs:?}");
    assert!(runs[4] - runs[1] == 3600 * SECOND, "the tick is where it was: {runs:?}");
    assert_eq!((bench.missed("a"), bench.missed("b")), (BTreeMap::new(), BTreeMap::new()));
}

#[tokio::test(start_paused = true)]
async fn the_item_with_the_shortest_interval_tries() {
    let mut bench = Bench::new(256);
    bench.item("hourly", "dead", 3600, &[Act::Down]);
    bench.item("often", "dead", 10, &[Act::Down]);
    bench.item("seldom", "dead", 60, &[Act::Down]);
    bench.run(3600 * SECOND).await;
    let [hourly, often, seldom] = ["hourly", "often", "seldom"].map(|query| bench.runs(query).len());
    assert!(hourly + seldom <= 4 && often > 100, "{hourly} {often} {seldom}");
}

#[tokio::test(start_paused = true)]
async fn a_try_that_panics_leaves_the_next_ones_to_others() {
    let mut bench = Bench::new(256);
    bench.item("bad", "db", 10, &[Act::Down, Act::Panic]);
    bench.item("good", "db", 20, &[Act::Down, Act::Down, QUICK]);
    bench.run(600 * SECOND).await;
    assert!(bench.runs("good").len() > 20, "it brought the target back");
    assert!(bench.runs("bad").len() > 50, "which is not the fault of the other: it goes on at its own ticks");
}

/// Ten times as many hang as there are permits for tries: all are tried in turn, first come, first served.
#[tokio::test(start_paused = true)]
async fn tries_wait_for_their_turn_and_none_is_forgotten() {
    let mut bench = Bench::new(80);
    for n in 0..100 {
        let name: &str = format!("sick{n}").leak();
        bench.item(name, name, 10, &[Act::Mute(5 * SECOND)]);
    }
    bench.run(600 * SECOND).await;
    let stats = bench.scheduler.stats();
    assert_eq!((stats.tries_in_flight(), stats.tries_limit(), stats.runs_in_flight()), (10, 10, 0));
    assert!(stats.tries_waiting() > 50);
    assert_eq!(stats.oldest_overdue(), Duration::ZERO, "who waits for its turn to try is late for nothing");
    sleep(90 * SECOND).await;
    let lately = bench.start.elapsed() - 90 * SECOND;
    let tried =
        (0..100).map(|n| bench.runs(&format!("sick{n}")).into_iter().filter(|at| *at > lately).count());
    let tried: Vec<_> = tried.collect();
    assert_eq!(tried.iter().sum::<usize>(), 180, "two a second, as many as the permits allow");
    assert!(tried.iter().all(|tries| (1..=3).contains(tries)), "{tried:?}");
}
