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
    assert_eq!((changes.kept, changes.started, changes.stopped, changes.changed), (1, 2, 2, 1));
    assert_eq!(bench.scheduler.stats().runs_in_flight(), 0, "what hung has been dropped");
    sleep(65 * SECOND).await;
    let kept = bench.runs("kept");
    assert!(kept.windows(2).all(|w| w[1] - w[0] == 10 * SECOND), "no tick lost or moved: {kept:?}");
    assert!(bench.runs("new").len() >= 6);
    let again = bench.scheduler.sync(bench.items.clone()).await;
    assert_eq!((again.kept, again.started, again.stopped), (3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn of_several_items_of_one_name_the_last_counts() {
    let mut bench = Bench::new(256);
    for seconds in [10, 20, 5] {
        bench.item("q", "db", seconds, &[QUICK]);
    }
    for kept in [0, 1] {
        let changes = bench.scheduler.sync(bench.items.clone()).await;
        assert_eq!((changes.kept, changes.started, changes.stopped), (kept, 1 - kept, 0));
    }
    sleep(60 * SECOND).await;
    let runs = bench.runs("q");
    assert!(runs.len() >= 11 && runs.windows(2).all(|w| w[1] - w[0] == 5 * SECOND), "{runs:?}");
}

/// A run that is going, and the ticks that it has cost so far, are lost with it; between runs nothing is.
#[tokio::test(start_paused = true)]
async fn what_a_change_costs_is_counted() {
    let mut bench = Bench::new(256);
    for name in ["changed", "gone", "resumed"] {
        bench.item(name, "db", 10, &[Act::Hang]).lanes = 8;
    }
    bench.item("idle", "db", 10, &[QUICK]).lanes = 8;
    bench.run(35 * SECOND).await;
    let hung: Vec<_> = ["changed", "gone", "resumed"].map(|name| (name, bench.runs(name)[0])).into();
    bench.items.retain(|item| &*item.query != "gone");
    for item in bench.items.iter_mut().filter(|item| &*item.query != "resumed") {
        item.timeout = 4 * SECOND;
    }
    bench.scheduler.sync(bench.items.clone()).await;
    bench.scheduler.resumed(Duration::ZERO).await;
    for (name, begun) in hung {
        let over = u64::try_from((35 * SECOND - begun).as_millis() / 10_000).unwrap();
        assert!(over >= 2, "{begun:?}");
        assert_eq!(bench.missed(name), BTreeMap::from([("stopped", 1), ("running", over)]), "{name}");
    }
    assert!(bench.missed("idle").is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_item_with_a_long_interval_that_ran_before_waits_for_its_tick() {
    let mut bench = Bench::new(256);
    bench.item("hourly", "db", 3600, &[QUICK]);
    bench.run(2 * 3600 * SECOND).await;
    let before = bench.runs("hourly");
    let changed = bench.items.last_mut().unwrap();
    (changed.timeout, changed.ran_before) = (4 * SECOND, true);
    bench.run(2 * 3600 * SECOND).await;
    let runs = bench.runs("hourly");
    assert_eq!(runs[..before.len()], before);
    assert!(runs[1..].windows(2).all(|w| w[1] - w[0] == 3600 * SECOND), "{runs:?}");
}

/// What a target that is down is found to be after its items changed.
async fn runs_after_a_change(way: Way) -> usize {
    let mut bench = Bench::new(256);
    bench.item("q", "db", 1, &[Act::Down]);
    bench.run(3600 * SECOND).await;
    // Back-off is at its cap now: a run in 15 s on average, 30 s at most.
    let before = bench.runs("q").len();
    bench.items.clear();
    let item = bench.item("q", "db", 1, &[Act::Down, QUICK]);
    Arc::get_mut(&mut item.job).unwrap().way = way;
    bench.run(SECOND).await;
    bench.runs("q").len() - before
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_target_holds_while_the_way_to_it_is_the_same() {
    assert!(runs_after_a_change(Way::Changed).await > 0, "a new password is tried at once");
    assert!(runs_after_a_change(Way::OtherServer).await > 0);
    assert_eq!(runs_after_a_change(Way::Same).await, 0, "its back-off goes on");
}

#[tokio::test(start_paused = true)]
async fn a_target_gets_more_lanes_and_fewer_and_what_runs_there_counts() {
    let mut bench = Bench::new(256);
    bench.item("q", "db", 10, &[QUICK]);
    bench.run(SECOND).await;
    let lanes = Arc::clone(bench.scheduler.gates["db"].lanes.permits());
    // As a run does whose query the server still works for.
    let left = Arc::clone(&lanes).try_acquire_owned().unwrap();
    for (size, way, free) in [(4, Way::Changed, 3), (1, Way::Changed, 0), (3, Way::Changed, 2)] {
        bench.items[0].lanes = size;
        bench.items[0].job = Arc::new(Scripted {
            name: "q",
            script: vec![QUICK],
            log: bench.log.clone(),
            runs: Mutex::new(0),
            way,
        });
        bench.run(Duration::ZERO).await;
        assert!(Arc::ptr_eq(&lanes, bench.scheduler.gates["db"].lanes.permits()));
        assert_eq!(lanes.available_permits(), free, "{size} lanes");
    }
    drop(left);
    assert_eq!(lanes.available_permits(), 3);
    bench.items.clear();
    let item = bench.item("q", "db", 10, &[QUICK]);
    Arc::get_mut(&mut item.job).unwrap().way = Way::OtherServer;
    bench.run(Duration::ZERO).await;
    assert!(
        !Arc::ptr_eq(&lanes, bench.scheduler.gates["db"].lanes.permits()),
        "another server owes us nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_runs_changes_while_they_run() {
    let mut bench = Bench::new(16);
    for n in 0..20 {
        bench.item("q", &format!("t{n}"), 60, &[Act::Answer(1800 * SECOND)]);
    }
    bench.run(120 * SECOND).await;
    let stats = bench.scheduler.stats();
    assert_eq!((stats.runs_in_flight(), stats.runs_limit()), (16, 16));
    bench.scheduler.limit_runs(18, 4);
    sleep(120 * SECOND).await;
    assert_eq!((stats.runs_in_flight(), stats.runs_limit()), (18, 18));
    bench.scheduler.limit_runs(4, 4);
    sleep(120 * SECOND).await;
    assert_eq!((stats.runs_in_flight(), stats.runs_limit()), (18, 4), "nobody is cut off");
    sleep(2 * 1800 * SECOND).await;
    assert_eq!(stats.runs_in_flight(), 4);
}

#[tokio::test(start_paused = true)]
async fn two_thousand_items_miss_no_tick_while_one_target_comes_and_goes() {
    let mut bench = Bench::new(256);
    let targets: Vec<_> = (0..500).map(|n| format!("t{n}")).collect();
    for target in &targets {
        for query in ["a", "b", "c", "d"] {
            bench.item(query, target, 10, &[QUICK]);
        }
    }
    bench.run(20 * SECOND).await;
    for round in 0..20 {
        let items = match round % 2 {
            0 => bench.items[4..].to_vec(),
            _ => bench.items.clone(),
        };
        let changes = bench.scheduler.sync(items).await;
        assert_eq!((changes.kept, changes.started + changes.stopped), (499 * 4, 4));
        sleep(Duration::from_millis(9_990)).await;
    }
    for query in ["a", "b", "c", "d"] {
        assert!(bench.missed(query).is_empty());
        assert!(
            bench
                .events(query)
                .iter()
                .all(|(_, e)| matches!(e, Event::Run { lateness, .. } if lateness.is_zero()))
        );
        // 219.8 s at one run in 10 s, of 499 targets and of half of one.
        let runs = bench.runs(query).len();
        assert!((499 * 21..=500 * 22).contains(&runs), "{runs}");
    }
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
