//! One table, one owner: a second exporter says so and waits, and takes the first one's place when that is gone.

use std::time::Duration;

use fleet_history::{Limits, Settings, State};

use crate::place::{Place, Running, SOON, at, is_owner, items, on_all_stores};

on_all_stores!(
    a_second_exporter_says_so_and_takes_over_when_the_first_is_closed,
    a_second_exporter_takes_over_when_the_first_is_silent,
    a_restarted_exporter_takes_its_own_place_at_once,
);

fn as_owner(place: &Place, owner: &str, lock_timeout: Duration) -> Settings {
    let limits = Limits { lock_timeout, ..place.settings().limits };
    Settings { owner: owner.to_owned(), limits, ..place.settings() }
}

async fn a_second_exporter_says_so_and_takes_over_when_the_first_is_closed(mut place: Place) {
    let one = items(&[("a@t", 10)]);
    let (first, _) = Running::loaded(as_owner(&place, "first", SOON), one.clone()).await;
    first.ran("a@t", at(1_700_000_000), None);
    place.shows("SELECT execution_interval FROM history", &[&["10"]]).await;
    place.run("UPDATE history SET execution_interval = 3").await;
    first.overrides(&[("a@t", 3)]).await;

    let mut second = Running::start(as_owner(&place, "second", SOON), one);
    // Known at once, not when the wait for it is over.
    assert_eq!(second.loading.wait(SOON * 10).await, None);
    assert_eq!(second.history.stats().state, State::Standby { owner: "first".to_owned() });
    second.ran("a@t", at(1_700_000_099), None);
    second.overrides(&[]).await;

    let seconds = place.seconds();
    place.shows(&format!("SELECT {seconds} FROM history"), &[&["1700000000"]]).await;
    first.close().await;
    second.tells("the second is the owner", is_owner).await;
    place.shows(&format!("SELECT {seconds} FROM history"), &[&["1700000099"]]).await;
    second.overrides(&[("a@t", 3)]).await;
    // What was kept comes late.
    let loaded = second.loading.wait(SOON).await.unwrap();
    assert_eq!(loaded.items["a@t"].last_run, Some(at(1_700_000_000)));
}

async fn a_second_exporter_takes_over_when_the_first_is_silent(place: Place) {
    let one = items(&[("a@t", 10)]);
    let second = Duration::from_secs(1);
    let (first, _) = Running::loaded(as_owner(&place, "first", 2 * second), one.clone()).await;
    let other = Running::start(as_owner(&place, "second", 2 * second), one);
    other.tells("the second waits", |stats| matches!(stats.state, State::Standby { .. })).await;
    // Dropped as a killed process would be: nothing is released.
    drop(first);
    other.tells("the second is the owner", is_owner).await;
}

async fn a_restarted_exporter_takes_its_own_place_at_once(place: Place) {
    let one = items(&[("a@t", 10)]);
    // Nobody is silent for so long within this test; a tenth of it is the time between two heartbeats.
    let settings = as_owner(&place, "same", 2 * SOON);
    let (first, _) = Running::loaded(settings.clone(), one.clone()).await;
    let (second, _) = Running::loaded(settings, one).await;
    // Were the first still alive, it would step back and not fight for the place.
    first
        .tells("the first steps back", |stats| stats.state == State::Standby { owner: "same".to_owned() })
        .await;
    assert!(is_owner(&second.history.stats()));
}
