//! Intervals that somebody writes into the table, and those of a configuration that changes.

use crate::place::{Place, Running, at, items, on_all_stores};

on_all_stores!(
    a_changed_row_holds_until_it_is_put_back,
    what_is_out_of_bounds_is_refused_once,
    a_changed_configuration_takes_its_rows_along,
    a_change_outlives_a_restart_and_our_own_writes,
);

async fn a_changed_row_holds_until_it_is_put_back(mut place: Place) {
    let both = items(&[("a@t", 10), ("b@t", 10)]);
    let (running, _) = Running::loaded(place.settings(), both).await;
    running.ran("a@t", at(1_700_000_000), None);
    running.ran("b@t", at(1_700_000_000), None);
    place
        .shows(
            "SELECT item, execution_interval FROM history ORDER BY item",
            &[&["a@t", "10"], &["b@t", "10"]],
        )
        .await;
    for back in [
        "UPDATE history SET execution_interval = 0 WHERE item = 'a@t'",
        "UPDATE history SET execution_interval = 10 WHERE item = 'a@t'",
        "DELETE FROM history WHERE item = 'a@t'",
    ] {
        place.run("UPDATE history SET execution_interval = 3 WHERE item = 'a@t'").await;
        running.overrides(&[("a@t", 3)]).await;
        assert_eq!(running.history.stats().overrides, 1);
        place.run(back).await;
        running.overrides(&[]).await;
        // The row says again what holds, and goes on as any other.
        running.ran("a@t", at(1_700_000_000), None);
        place.shows("SELECT execution_interval FROM history WHERE item = 'a@t'", &[&["10"]]).await;
    }
}

async fn what_is_out_of_bounds_is_refused_once(mut place: Place) {
    let (running, _) = Running::loaded(place.settings(), items(&[("a@t", 10), ("b@t", 10)])).await;
    running.ran("a@t", at(1_700_000_000), None);
    running.ran("b@t", at(1_700_000_000), None);
    place.shows("SELECT COUNT(*) FROM history", &[&["2"]]).await;
    for (value, refused) in [("1", 1), ("101", 2), ("-5", 3)] {
        place.run(&format!("UPDATE history SET execution_interval = {value} WHERE item = 'a@t'")).await;
        running.tells("it is refused", |stats| stats.refused_intervals == refused).await;
    }
    running.overrides(&[]).await;
    // Another change makes the table be read again; the refusal is no news.
    place.run("UPDATE history SET execution_interval = 3 WHERE item = 'b@t'").await;
    running.overrides(&[("b@t", 3)]).await;
    assert_eq!(running.history.stats().refused_intervals, 3);
    place.shows("SELECT execution_interval FROM history WHERE item = 'a@t'", &[&["-5"]]).await;
}

async fn a_changed_configuration_takes_its_rows_along(mut place: Place) {
    let both = |seconds| items(&[("ours@t", seconds), ("theirs@t", seconds)]);
    let rows = "SELECT item, execution_interval FROM history ORDER BY item";
    let (running, _) = Running::loaded(place.settings(), both(10)).await;
    running.ran("ours@t", at(1_700_000_000), None);
    running.ran("theirs@t", at(1_700_000_000), None);
    place.shows(rows, &[&["ours@t", "10"], &["theirs@t", "10"]]).await;
    place.run("UPDATE history SET execution_interval = 3 WHERE item = 'theirs@t'").await;
    running.overrides(&[("theirs@t", 3)]).await;
    // While it runs.
    running.history.set_items(both(20));
    place.shows(rows, &[&["ours@t", "20"], &["theirs@t", "3"]]).await;
    running.overrides(&[("theirs@t", 3)]).await;
    running.close().await;
    // While it does not.
    let (running, _) = Running::loaded(place.settings(), both(30)).await;
    place.shows(rows, &[&["ours@t", "30"], &["theirs@t", "3"]]).await;
    running.overrides(&[("theirs@t", 3)]).await;
    // Put back to what the configuration says now.
    place.run("UPDATE history SET execution_interval = 0 WHERE item = 'theirs@t'").await;
    running.overrides(&[]).await;
    place.shows(rows, &[&["ours@t", "30"], &["theirs@t", "30"]]).await;
}

async fn a_change_outlives_a_restart_and_our_own_writes(mut place: Place) {
    let one = items(&[("a@t", 10)]);
    let (running, _) = Running::loaded(place.settings(), one.clone()).await;
    running.ran("a@t", at(1_700_000_000), None);
    place.shows("SELECT execution_interval FROM history", &[&["10"]]).await;
    place.run("UPDATE history SET execution_interval = 3").await;
    running.overrides(&[("a@t", 3)]).await;
    let seconds = place.seconds();
    let rows = format!("SELECT {seconds}, execution_interval FROM history");
    running.ran("a@t", at(1_700_000_005), None);
    place.shows(&rows, &[&["1700000005", "3"]]).await;
    running.close().await;
    // Changed once more while nobody looks.
    place.run("UPDATE history SET execution_interval = 4").await;
    let (running, _) = Running::loaded(place.settings(), one).await;
    // Known when the rest is.
    assert_eq!(running.history.stats().overrides, 1);
    running.overrides(&[("a@t", 4)]).await;
    running.ran("a@t", at(1_700_000_009), None);
    place.shows(&rows, &[&["1700000009", "4"]]).await;
}
