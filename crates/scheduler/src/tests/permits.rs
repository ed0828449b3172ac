//! Permits: who waits for whom, and that all come back.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_hanging_target_takes_no_run_from_the_others_though_the_global_limit_is_small() {
    let mut bench = Bench::new(4);
    for query in ["h0", "h1", "h2", "h3", "h4", "h5"] {
        bench.item(query, "hung", 10, &[Act::Hang]);
    }
    for (query, target) in [("a", "db1"), ("b", "db2"), ("c", "db3")] {
        bench.item(query, target, 10, &[QUICK]);
    }
    bench.run(600 * SECOND).await;
    for query in ["a", "b", "c"] {
        assert_eq!(bench.runs(query).len(), 60, "{query}");
        assert!(bench.missed(query).is_empty(), "{query}");
    }
    let hung: usize = ["h0", "h1", "h2", "h3", "h4", "h5"].iter().map(|q| bench.runs(q).len()).sum();
    assert_eq!(hung, 2, "as many as it has lanes");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_finds_no_permit_in_time_is_missed_not_queued() {
    let mut bench = Bench::new(256);
    for query in ["h0", "h1"] {
        bench.item(query, "db", 10, &[Act::Hang]);
    }
    bench.item("late", "db", 10, &[QUICK]);
    bench.run(100 * SECOND).await;
    let stats = bench.scheduler.stats();
    assert_eq!(stats.runs_in_flight(), 2);
    let attempts =
        bench.runs("late").len() as u64 + bench.missed("late").get("no_permit").copied().unwrap_or(0);
    assert!((9..=10).contains(&attempts), "{attempts}");
    assert!(bench.missed("late")["no_permit"] >= 8);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_permit_is_told_apart_from_running() {
    let mut bench = Bench::new(1);
    bench.item("long", "db1", 60, &[Act::Answer(2 * SECOND)]);
    for n in 0..40 {
        bench.item("short", &format!("t{n}"), 60, &[Act::Answer(SECOND)]);
    }
    bench.run(120 * SECOND).await;
    let waited = bench.events("short").into_iter().filter_map(|(_, e)| match e {
        Event::Run { waited, .. } if waited > Duration::ZERO => Some(waited),
        _ => None,
    });
    let longest = waited.max().expect("with one permit somebody waits");
    assert!(longest <= 5 * SECOND, "nobody waits beyond its start-by: {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn permits_come_back_on_every_path() {
    let mut bench = Bench::new(3);
    bench.item("answers", "db", 10, &[QUICK]);
    bench.item("panics", "db", 10, &[Act::Panic]);
    bench.item("hangs", "db", 10, &[Act::Hang]);
    bench.item("down", "other", 10, &[Act::Down]);
    bench.run(300 * SECOND).await;
    let shared = Arc::clone(&bench.scheduler.shared);
    let lanes: Vec<_> = bench.scheduler.gates.values().map(|gate| Arc::clone(gate.lanes.permits())).collect();
    // Dropped in mid-run, by a wanted set without them.
    bench.scheduler.sync(Vec::new()).await;
    assert_eq!((shared.runs.in_flight(), shared.tries.in_flight()), (0, 0));
    assert!(lanes.iter().all(|lanes| lanes.available_permits() == 2));
    assert_eq!((shared.runs.waiting(), shared.tries.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_overdue_tick_shows_who_waits_for_a_permit() {
    let mut bench = Bench::new(1);
    bench.item("hangs", "db1", 60, &[Act::Hang]);
    bench.run(60 * SECOND).await;
    let stats = bench.scheduler.stats();
    assert_eq!(stats.oldest_overdue(), Duration::ZERO, "a run is not overdue, however long it takes");
    for n in 0..100 {
        bench.item("waits", &format!("t{n}"), 60, &[QUICK]);
    }
    bench.run(30 * SECOND).await;
    assert!(stats.oldest_overdue() > Duration::ZERO);
    assert!(stats.oldest_overdue() <= 5 * SECOND);
    assert!(stats.runs_waiting() > 0);
}

/// Waiting for permits ends at the next tick, and timers count in whole milliseconds while the process starts between
/// two of them: it wakes just after that tick.
#[tokio::test(start_paused = true)]
async fn a_tick_without_a_permit_does_not_cost_the_next_one_though_the_timeout_is_the_interval() {
    let mut bench = Bench::at(EPOCH + Duration::from_micros(300), 256);
    for query in ["h0", "h1"] {
        bench.item(query, "db", 5, &[Act::Hang]);
    }
    bench.item("late", "db", 5, &[QUICK]);
    bench.run(100 * SECOND).await;
    let missed = bench.missed("late");
    assert!(
        missed.get("no_permit").copied().unwrap_or(0) >= 17 && !missed.contains_key("running"),
        "{missed:?}"
    );
}
