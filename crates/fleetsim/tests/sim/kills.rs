//! Statements that do not end, and what ends them.

use fleetsim::{Answer, Counts, Event, Kill, Preset, Record, Script, Sim, StatementEnd};
use sqlx::ConnectOptions as _;

use crate::client::{ask, ask_and_leave, assert_pending, code, connect, options, row, start};

fn ended(connection: u64, how: StatementEnd) -> impl Fn(&Record) -> bool {
    move |record| record.connection == connection && record.event == Event::StatementEnded(how)
}

async fn all_gone(sim: &Sim) {
    sim.wait_until("all are gone", |counts| (counts.open, counts.threads) == (0, 0)).await;
}

#[tokio::test]
async fn the_thread_of_a_statement_outlives_its_client_until_it_is_killed() {
    for answer in [Answer::hang(), Answer::hang_beyond_limits()] {
        let sim = start(Script::default().on("slow", answer)).await;
        ask_and_leave(connect(&sim).await, &sim, "select slow").await;
        let counts = sim.wait_until("the client is gone", |counts| counts.open == 0).await;
        assert_eq!(counts.threads, 1, "the statement runs on");
        let mut other = connect(&sim).await;
        ask(&mut other, "KILL 1").await.unwrap();
        assert_eq!(sim.counts().threads, 1, "what is killed is gone when KILL is answered");
        sim.wait_for("it was killed", ended(1, StatementEnd::Killed)).await;
        assert_eq!(code(ask(&mut other, "KILL 1").await), 1094);
        let Counts { most_open, most_threads, kills, .. } = sim.counts();
        assert_eq!((most_open, most_threads, kills), (1, 2, 2));
        drop(other);
        all_gone(&sim).await;
    }
}

#[tokio::test]
async fn the_thread_of_a_statement_ends_by_its_own_limit_unless_it_goes_beyond() {
    let sql = "SET STATEMENT max_statement_time=0.050 FOR select slow";
    let sim = start(Script::default().on("slow", Answer::hang())).await;
    ask_and_leave(connect(&sim).await, &sim, sql).await;
    sim.wait_for("its limit", ended(1, StatementEnd::Limit)).await;
    all_gone(&sim).await;

    let sim = start(Script::default().on("slow", Answer::hang_beyond_limits())).await;
    let mut client = connect(&sim).await;
    assert_pending("a statement beyond limits", ask(&mut client, sql)).await;
}

#[tokio::test]
async fn a_client_that_waits_sees_its_session_end_and_its_query_be_interrupted() {
    for preset in [Preset::MariaDb1011, Preset::MySql97] {
        let sim = start(Script::new(preset).on("slow", Answer::hang())).await;
        let (mut victim, mut other) = (connect(&sim).await, connect(&sim).await);
        let kill = async |other: &mut _, n, kill: &str| {
            sim.wait_until("it runs", |counts| counts.statements == n).await;
            ask(other, kill).await.unwrap();
        };
        let (answer, ()) = tokio::join!(ask(&mut victim, "slow"), kill(&mut other, 1, "KILL QUERY 1"));
        assert_eq!(code(answer), 1317);
        assert_eq!(ask(&mut victim, "SELECT 1").await.unwrap(), [row(["1"])]);
        // It runs nothing now, so nothing is killed.
        ask(&mut other, "kill query 1").await.unwrap();
        assert_eq!(ask(&mut victim, "SELECT 1").await.unwrap(), [row(["1"])]);
        let (answer, ()) = tokio::join!(ask(&mut victim, "slow"), kill(&mut other, 4, "KILL CONNECTION 1"));
        assert!(matches!(answer, Err(sqlx::Error::Io(_))), "{answer:?}");
        let own = code(ask(&mut other, "KILL 2").await);
        assert_eq!(own, if preset.is_mariadb() { 1927 } else { 1317 });
        all_gone(&sim).await;
    }
}

#[tokio::test]
async fn kill_is_ignored_refused_slow_and_not_for_others_sessions() {
    let slow = std::time::Duration::from_millis(60);
    let cases = [
        (Kill::Ignore, "monitor", None, 1),
        (Kill::Refuse(1095.into()), "monitor", Some(1095), 1),
        (Kill::Slow(slow), "monitor", None, 0),
        (Kill::Obey, "somebody", Some(1095), 1),
    ];
    for (kill, user, error, left) in cases {
        let sim = start(Script::default().on("slow", Answer::hang()).kill(kill.clone())).await;
        ask_and_leave(connect(&sim).await, &sim, "slow").await;
        let mut other = options(&sim).username(user).connect().await.unwrap();
        let begun = tokio::time::Instant::now();
        let answer = ask(&mut other, "KILL 1").await;
        assert_eq!(answer.is_err().then(|| code(answer)), error, "{kill:?}");
        assert!(begun.elapsed() >= slow || !matches!(kill, Kill::Slow(_)));
        drop(other);
        sim.wait_until("what is left", |counts| (counts.open, counts.threads) == (0, left)).await;
    }
}

#[tokio::test]
async fn a_killed_session_may_linger() {
    let linger = std::time::Duration::from_millis(60);
    let sim = start(Script::default().on("slow", Answer::hang()).kill(Kill::Linger(linger))).await;
    ask_and_leave(connect(&sim).await, &sim, "slow").await;
    let mut other = connect(&sim).await;
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        ask(&mut other, "KILL 1").await.unwrap();
    }
    assert_eq!(sim.counts().threads, 2);
    sim.wait_until("it is gone", |counts| counts.threads == 1).await;
    assert!(begun.elapsed() >= linger);
    assert_eq!(code(ask(&mut other, "KILL 1").await), 1094);
}

#[tokio::test]
async fn a_restart_ends_all_and_numbers_sessions_anew() {
    let mut sim = start(Script::default().first_connection_id(7).on("slow", Answer::hang())).await;
    let mut client = connect(&sim).await;
    assert_eq!(ask(&mut client, "SELECT CONNECTION_ID()").await.unwrap(), [row(["7"])]);
    ask_and_leave(connect(&sim).await, &sim, "slow").await;
    sim.restart().await;
    let counts = sim.counts();
    assert_eq!((counts.open, counts.threads), (0, 0));
    ask(&mut client, "SELECT CONNECTION_ID()").await.unwrap_err();
    let mut client = connect(&sim).await;
    assert_eq!(ask(&mut client, "SELECT CONNECTION_ID()").await.unwrap(), [row(["7"])]);
}
