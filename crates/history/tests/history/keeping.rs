//! What ran is written down, and comes back after a restart.

use std::time::{Duration, SystemTime};

use fleet_history::{KeptItem, KeptResult, Limits, Loaded, Run};

use crate::place::{Place, Running, at, items, on_all_stores};

on_all_stores!(
    what_ran_is_in_the_table_and_comes_back,
    a_value_that_a_float_cannot_hold_is_null,
    of_many_runs_the_last_is_written,
    a_close_writes_what_is_pending,
    rows_that_name_no_item_are_counted_and_stay,
    a_time_in_the_future_is_now,
    results_have_a_pause_and_bounds,
    ten_thousand_items_are_written_and_come_back,
);

async fn what_ran_is_in_the_table_and_comes_back(mut place: Place) {
    let both = items(&[("a@t", 10), ("b@t", 3600)]);
    let (running, loaded) = Running::loaded(place.settings(), both.clone()).await;
    assert_eq!(loaded, Loaded::default());
    running.ran("a@t", at(1_700_000_000), Some(1.5));
    running.ran_with("b@t", at(1_700_000_001), b"a \0 result \xff");
    let seconds = place.seconds();
    place
        .shows(
            &format!("SELECT item, {seconds}, execution_interval, result FROM history ORDER BY item"),
            &[&["a@t", "1700000000", "10", "1.5"], &["b@t", "1700000001", "3600", "NULL"]],
        )
        .await;
    running.close().await;

    let (_running, loaded) = Running::loaded(place.settings(), both).await;
    let a = KeptItem { last_run: Some(at(1_700_000_000)), result: None };
    let result = KeptResult { read_at: at(1_700_000_001), bytes: b"a \0 result \xff".to_vec() };
    let b = KeptItem { last_run: Some(at(1_700_000_001)), result: Some(result) };
    assert_eq!(loaded.items, [("a@t".into(), a), ("b@t".into(), b)].into());
}

async fn a_value_that_a_float_cannot_hold_is_null(mut place: Place) {
    let names = ["a", "b", "c", "d", "e"];
    let all = items(&names.map(|name| (name, 10)));
    let (running, _) = Running::loaded(place.settings(), all).await;
    for (name, value) in names.iter().zip([f64::NAN, f64::INFINITY, 1e39, -3e38, 0.25]) {
        running.ran(name, at(1_700_000_000), Some(value));
    }
    place
        .shows(
            "SELECT item, result IS NULL FROM history ORDER BY item",
            &[&["a", "1"], &["b", "1"], &["c", "1"], &["d", "0"], &["e", "0"]],
        )
        .await;
}

async fn of_many_runs_the_last_is_written(mut place: Place) {
    let (running, _) = Running::loaded(place.settings(), items(&[("a@t", 10)])).await;
    for n in 0..1000 {
        running.ran("a@t", at(1_700_000_000 + n), Some(n as f64 + 0.5));
    }
    running.ran("gone@t", at(1_700_000_000), None);
    let seconds = place.seconds();
    place.shows(&format!("SELECT {seconds}, result FROM history"), &[&["1700000999", "999.5"]]).await;
    let stats = running.tells("nothing is pending", |stats| stats.pending_items == 0).await;
    assert!(stats.items_written < 1000 && stats.oldest_pending == Duration::ZERO, "{stats:?}");
}

async fn a_close_writes_what_is_pending(mut place: Place) {
    let slow = fleet_history::Settings { flush_interval: Duration::from_secs(3600), ..place.settings() };
    let (running, _) = Running::loaded(slow, items(&[("a@t", 10)])).await;
    running.ran_with("a@t", at(1_700_000_000), b"one");
    running
        .tells("the first flush is over", |stats| stats.results_written == 1 || stats.pending_items == 1)
        .await;
    running.ran_with("a@t", at(1_700_000_007), b"two");
    running.close().await;
    place.shows("SELECT read_at, result FROM history_results", &[&["1700000007000", "two"]]).await;
    // What comes later does no harm.
    running.ran("a@t", at(1_700_000_009), None);
    running.close_again().await;
}

async fn rows_that_name_no_item_are_counted_and_stay(mut place: Place) {
    let (running, _) = Running::loaded(place.settings(), items(&[("a@t", 10)])).await;
    let insert = "INSERT INTO history (item, execution_interval, result) VALUES ('stranger@t', 7, 1.5)";
    place.run(insert).await;
    running.tells("the stranger is counted", |stats| stats.unknown_rows == 1).await;
    running.close().await;
    let (running, loaded) = Running::loaded(place.settings(), items(&[("a@t", 10)])).await;
    assert_eq!((loaded, running.history.stats().unknown_rows), (Loaded::default(), 1));
    running.overrides(&[]).await;
    // It becomes an item's by a reload, and its interval counts.
    running.history.set_items(items(&[("a@t", 10), ("stranger@t", 10)]));
    running.overrides(&[("stranger@t", 7)]).await;
    assert_eq!(running.history.stats().unknown_rows, 0);
    running.history.set_items(items(&[("a@t", 10)]));
    running.overrides(&[]).await;
    running.close().await;
    place.shows("SELECT item, execution_interval, result FROM history", &[&["stranger@t", "7", "1.5"]]).await;
}

async fn a_time_in_the_future_is_now(mut place: Place) {
    let one = items(&[("a@t", 10)]);
    let (running, _) = Running::loaded(place.settings(), one.clone()).await;
    running.ran_with("a@t", at(2_000_000_000), b"from the future");
    running.close().await;
    let before = SystemTime::now();
    let (running, loaded) = Running::loaded(place.settings(), one).await;
    let kept = &loaded.items["a@t"];
    let (last_run, read_at) = (kept.last_run.unwrap(), kept.result.as_ref().unwrap().read_at);
    assert!((before..=SystemTime::now()).contains(&last_run) && last_run == read_at, "{loaded:?}");
    assert_eq!(running.history.stats().clamped_times, 2);
    let seconds = place.seconds();
    place.shows(&format!("SELECT {seconds} FROM history"), &[&["2000000000"]]).await;
}

async fn results_have_a_pause_and_bounds(mut place: Place) {
    let limits = Limits {
        results_interval: Duration::from_secs(3600),
        max_result_bytes: 100,
        max_results_bytes: 150,
        ..place.settings().limits
    };
    let settings = fleet_history::Settings { limits, ..place.settings() };
    let all = items(&[("a", 10), ("b", 10), ("c", 10)]);
    let (running, _) = Running::loaded(settings.clone(), all.clone()).await;
    running.ran_with("a", at(1_700_000_000), &[b'a'; 100]);
    running.tells("a is written", |stats| stats.results_written == 1).await;
    running.ran_with("b", at(1_700_000_000), &[b'b'; 101]);
    running.ran_with("c", at(1_700_000_000), &[b'c'; 51]);
    running.tells("b and c do not fit", |stats| stats.dropped_results == 2).await;
    running.ran_with("a", at(1_700_000_010), b"later");
    let stats = running.tells("a waits", |stats| stats.pending_results == 1).await;
    assert_eq!((stats.results_written, stats.results_bytes), (1, 100));
    running.close().await;
    place.shows("SELECT item, result FROM history_results", &[&["a", "later"]]).await;
    let (running, loaded) = Running::loaded(settings, all).await;
    assert_eq!(loaded.items["a"].result.as_ref().unwrap().bytes, b"later");
    assert_eq!(running.history.stats().results_bytes, 5);
}

async fn ten_thousand_items_are_written_and_come_back(mut place: Place) {
    let names: Vec<String> =
        (0..10_000).map(|n| format!("query_{}@target-{n:05}.example.net", n % 20)).collect();
    let pairs: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 10)).collect();
    let (running, _) = Running::loaded(place.settings(), items(&pairs)).await;
    for (n, name) in (0..).zip(&names) {
        running.ran_with(name, at(1_700_000_000 + n), format!("the result of {name}").as_bytes());
    }
    running.close().await;
    place.shows("SELECT COUNT(*) FROM history", &[&["10000"]]).await;
    let (running, loaded) = Running::loaded(place.settings(), items(&pairs)).await;
    assert_eq!(loaded.items.len(), 10_000);
    for (n, name) in (0..).zip(&names) {
        let kept = &loaded.items[&**name];
        assert_eq!(kept.last_run, Some(at(1_700_000_000 + n)));
        assert_eq!(kept.result.as_ref().unwrap().bytes, format!("the result of {name}").as_bytes());
    }
    // One change among them is found, and only that.
    let changed = &names[4321];
    place.run(&format!("UPDATE history SET execution_interval = 3 WHERE item = '{changed}'")).await;
    running.overrides(&[(changed, 3)]).await;
    place.run("UPDATE history SET execution_interval = 10").await;
    running.overrides(&[]).await;
    place.run("UPDATE history SET execution_interval = 30").await;
    let mut intervals = running.history.intervals();
    intervals.wait_for(|all| all.len() == 10_000).await.unwrap();
}

impl Running {
    /// A second close has nothing to do.
    async fn close_again(&self) {
        self.history.close(Duration::ZERO).await;
        let run = Run { at: at(1), value: None, has_result: false };
        self.history.ran(&"a@t".into(), run);
    }
}
