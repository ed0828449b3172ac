//! What is seen of clients.

use std::sync::{Arc, Mutex};

use fleetsim::{Answer, Event, Script, StatementEnd};
use sqlx::Connection as _;

use crate::client::{ask, connect, start};

#[tokio::test]
async fn each_step_of_a_session_is_recorded_in_its_order() {
    let sim = start(Script::default().on("q", Answer::ok())).await;
    let mut client = connect(&sim).await;
    client.ping().await.unwrap();
    ask(&mut client, "q").await.unwrap();
    ask(&mut client, "KILL 9").await.unwrap_err();
    client.close().await.unwrap();
    sim.wait_for("it is gone", |record| record.event == Event::Closed).await;
    let records = sim.records();
    assert!(records.iter().all(|record| record.connection == 1));
    assert!(records.is_sorted_by_key(|record| record.at));
    let events: Vec<_> = records.into_iter().map(|record| record.event).collect();
    let [connected, Event::Login(login), rest @ ..] = &events[..] else { panic!("{events:?}") };
    assert_eq!((connected, login.user.as_str(), login.refused), (&Event::Connected, "monitor", None));
    let expected = [
        Event::Statement("q".into()),
        Event::StatementEnded(StatementEnd::Answered),
        Event::Kill { session: 9, query_only: false, found: false },
        Event::Quit,
        Event::Closed,
    ];
    assert_eq!(rest, expected);
    assert_eq!(sim.statements(), ["q"]);
    sim.forget();
    assert_eq!(sim.records().len(), 0);
    let counts = sim.counts();
    assert_eq!((counts.connects, counts.logins, counts.statements, counts.kills), (1, 1, 1, 1));
}

#[tokio::test]
async fn without_records_it_still_counts() {
    let sim = start(Script::default().records(false)).await;
    let mut client = connect(&sim).await;
    for _ in 0..10 {
        ask(&mut client, "SELECT 1").await.unwrap();
    }
    drop(client);
    let counts = sim.wait_until("it is gone", |counts| counts.threads == 0).await;
    assert_eq!((counts.statements, counts.most_open, counts.most_threads), (10, 1, 1));
    assert_eq!(sim.records().len(), 0);
}

#[tokio::test]
async fn whoever_watches_is_told_each_step_though_none_is_kept() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let teller = Arc::clone(&told);
    let watch = move |session, event: &Event| teller.lock().unwrap().push((session, event.clone()));
    let sim = start(Script::default().on("q", Answer::ok()).records(false).watch(watch)).await;
    let mut client = connect(&sim).await;
    ask(&mut client, "q").await.unwrap();
    client.close().await.unwrap();
    let is_closed = || told.lock().unwrap().last().is_some_and(|(_, event)| *event == Event::Closed);
    sim.wait_until("it is gone", |_| is_closed()).await;
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert!(told.iter().all(|(session, _)| *session == 1));
    let told: Vec<_> = told.into_iter().map(|(_, event)| event).collect();
    let [Event::Connected, Event::Login(_), rest @ ..] = &told[..] else { panic!("{told:?}") };
    let expected = [
        Event::Statement("q".into()),
        Event::StatementEnded(StatementEnd::Answered),
        Event::Quit,
        Event::Closed,
    ];
    assert_eq!(*rest, expected);
    assert_eq!(sim.records().len(), 0);
}

#[tokio::test]
async fn connections_that_follow_each_other_are_not_taken_for_many_at_once() {
    let sim = start(Script::default().records(false)).await;
    for _ in 0..200 {
        drop(connect(&sim).await);
    }
    assert_eq!(sim.counts().most_threads, 1);
}

#[tokio::test]
async fn a_script_that_panics_fails_its_test() {
    let sim = start(Script::default().on_any(|statement| panic!("on {}", statement.text))).await;
    ask(&mut connect(&sim).await, "q").await.unwrap_err();
    sim.wait_until("it is gone", |counts| counts.threads == 0).await;
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(sim)));
    assert!(dropped.is_err());
}
