//! Runs under a paused clock, against a server that does what its script says. Each case is the script, and the log of
//! what the server saw and how the runs ended.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes its texts so")]

use std::path::PathBuf;

use expect_test::{Expect, expect};
use futures_util::FutureExt as _;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{
    fake::{Act, Connect, Fake, Then, closed, refused, server_error, session},
    *,
};
use crate::{
    Arranged, Collector, Password,
    driver::Flavour,
    record::Outcome,
    testing::{self, metric, query, target},
};

mod kills;

const SECOND: Duration = Duration::from_secs(1);

/// One item on one target (or more), and the server.
struct World {
    fake: Fake,
    collector: Collector,
    arranged: Arranged,
    /// The target's lanes, as the scheduler gives them.
    lanes: Arc<Semaphore>,
}

/// The item `q@db1` with a timeout of 5 s.
fn spec() -> ItemSpec {
    ItemSpec {
        query: Arc::new(query("q", vec![metric("f", "n", &[])])),
        target: Arc::new(target("db1")),
        timeout: 5 * SECOND,
        expire_after: 60 * SECOND,
        drop_on_failure: false,
        limits: crate::ResultLimits::default(),
    }
}

fn on(target: Target) -> ItemSpec {
    ItemSpec { target: Arc::new(target), ..spec() }
}

fn asking(sql: &str) -> ItemSpec {
    let statement = crate::statement::Statement::check(sql).unwrap();
    let query = Query { statement: Some(statement), ..query("q", vec![metric("f", "n", &[])]) };
    ItemSpec { query: Arc::new(query), ..spec() }
}

impl World {
    fn new(script: Vec<Connect>) -> Self {
        Self::of(vec![spec()], script)
    }

    fn of(specs: Vec<ItemSpec>, script: Vec<Connect>) -> Self {
        Self::with_connects(32, specs, script)
    }

    fn with_connects(max: usize, specs: Vec<ItemSpec>, script: Vec<Connect>) -> Self {
        let fake = Fake::new(script);
        let lanes = Arc::new(Semaphore::new(specs[0].target.lanes().into()));
        let collector = Collector::new(Arc::new(fake.clone()), max, Arc::default());
        let arranged = collector.arrange(specs);
        Self { fake, collector, arranged, lanes }
    }

    fn start(&self, item: usize) -> impl Future<Output = Report> + Send + 'static {
        let run = self.try_to_start(item);
        async move { run.await.unwrap() }
    }

    fn try_to_start(&self, item: usize) -> impl Future<Output = Result<Report, NotStarted>> + Send + 'static {
        let item = Arc::clone(&self.arranged.items[item]);
        // Other targets than the first have lanes of their own, which no test counts.
        let lanes = if *item.target().name == *self.arranged.items[0].target().name {
            Arc::clone(&self.lanes)
        } else {
            Arc::new(Semaphore::new(1))
        };
        let permit = lanes.try_acquire_owned().unwrap();
        let start_by = Instant::now() + item.spec.timeout;
        async move { item.run(permit, start_by).await }
    }

    /// One run of the first item, from beginning to end, into the log.
    async fn run(&self) -> Report {
        self.note(self.start(0).await)
    }

    fn note(&self, report: Report) -> Report {
        let outcome = match &report.outcome {
            Ok(Some(success)) => format!("{} series", success.series),
            Ok(None) => "not for this server".to_owned(),
            Err(failure) => failure.to_string(),
        };
        let up = if self.arranged.targets[0].is_up() { "up" } else { "down" };
        self.fake
            .note(&format!("=> {outcome}; {up}{}", if report.target_changed { ", changed" } else { "" }));
        report
    }

    fn page(&self) -> String {
        testing::text(&self.collector.snapshot().read(BootTime::now()))
    }

    fn free_lanes(&self) -> usize {
        self.lanes.available_permits()
    }

    /// The log. Also what must hold in every case: never more connections at the server than allowed.
    #[expect(clippy::needless_pass_by_value, reason = "a case reads as one expression")]
    #[track_caller]
    fn check(&self, expected: Expect) {
        expected.assert_eq(&self.fake.log());
        let target = self.arranged.items[0].target();
        if self.arranged.targets.len() == 1 {
            assert!(self.fake.most() <= usize::from(target.max_connections), "{} at once", self.fake.most());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_connects_asks_publishes_and_keeps_the_connection_for_the_next() {
    let world = World::new(vec![]);
    world.run().await;
    sleep(10 * SECOND).await;
    world.run().await;
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 => 1 series; up, changed
        10.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        10.000 => 1 series; up
    "#]]);
    assert_eq!(world.page(), "f{target=\"db1\"} 1\n");
    assert_eq!((world.free_lanes(), world.arranged.targets[0].connections()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_servers_own_timeout_keeps_the_connection() {
    let limit = Act::after(5 * SECOND, server_error(Reason::Timeout, 1969));
    let world = World::new(vec![session([limit])]);
    world.run().await;
    assert_eq!(world.free_lanes(), 2);
    world.run().await;
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        5.000 => timeout: as the script says (error 1969); up, changed
        5.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        5.000 => 1 series; up
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn after_our_own_timeout_the_query_is_killed_and_the_lane_free_when_that_is_answered() {
    let silence = Act::after(60 * SECOND, Then::Silence);
    let killed = Act::after(SECOND, Then::Row);
    let world = World::new(vec![session([silence]), session([killed])]);
    world.run().await;
    assert_eq!(world.free_lanes(), 1);
    sleep(SECOND / 2).await;
    assert_eq!((world.free_lanes(), world.arranged.targets[0].connections()), (1, 2));
    sleep(SECOND).await;
    assert_eq!((world.free_lanes(), world.arranged.targets[0].connections()), (2, 0));
    world.run().await;
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        5.500 1 is dropped
        5.500 => timeout: no answer within 5.5s; up, changed
        5.500 connect 2
        5.500 2: KILL 1
        6.510 2: KILL 1
        6.510 2 says goodbye
        7.000 connect 3
        7.000 3: SET STATEMENT max_statement_time=5.000 FOR select 1
        7.000 => 1 series; up
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_to_the_kill_the_lane_is_free_when_the_servers_own_limit_has_surely_passed() {
    let silence = Act::after(5 * SECOND, Then::Silence);
    let world = World::new(vec![session([silence.clone()]), session([silence])]);
    world.run().await;
    // Two seconds for the KILL are over at 7.5; the limit of 5 s and two more seconds were at 7.
    sleep(Duration::from_millis(1999)).await;
    assert_eq!(world.free_lanes(), 1);
    sleep(Duration::from_millis(2)).await;
    assert_eq!(world.free_lanes(), 2);
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        5.500 1 is dropped
        5.500 => timeout: no answer within 5.5s; up, changed
        5.500 connect 2
        5.500 2: KILL 1
        7.500 2 is dropped
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_run_dropped_early_keeps_its_lane_until_the_servers_limit_if_nobody_answers_the_kill() {
    let silence = Act::after(5 * SECOND, Then::Silence);
    let refusal = refused(Failure::answered(Reason::TooManyConnections, "too many"));
    let world = World::new(vec![session([silence]), refusal]);
    assert!(timeout(SECOND, world.start(0)).await.is_err());
    sleep(Duration::from_millis(5999)).await;
    assert_eq!(world.free_lanes(), 1, "at 6.999 the query of limit 5 s may still be there");
    sleep(Duration::from_millis(2)).await;
    assert_eq!(world.free_lanes(), 2);
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        1.000 1 is dropped
        1.000 connect 2
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_killed_where_the_side_connection_reaches_another_server() {
    let silence = Act::after(5 * SECOND, Then::Silence);
    let world = World::new(vec![session([silence]), Connect { hostname: "db2", ..session([]) }]);
    world.run().await;
    sleep(Duration::from_millis(1499)).await;
    assert_eq!(world.free_lanes(), 1);
    sleep(Duration::from_millis(2)).await;
    assert_eq!(world.free_lanes(), 2);
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        5.500 1 is dropped
        5.500 => timeout: no answer within 5.5s; up, changed
        5.500 connect 2
        5.500 2 says goodbye
    "#]]);
    let kills = crate::rollup::families(&world.arranged.targets, &world.arranged.groups);
    assert!(testing::text(&kills).contains(r#"{group="g",result="other_server"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_kill_whose_session_is_gone_or_that_is_refused_is_told_apart() {
    for (code, free_at_once) in [(1094, true), (1095, false)] {
        let silence = Act::after(5 * SECOND, Then::Silence);
        let kill = Act::now(server_error(Reason::ServerError, code));
        let world = World::new(vec![session([silence]), session([kill])]);
        world.run().await;
        sleep(SECOND / 10).await;
        assert_eq!(world.free_lanes() == 2, free_at_once, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_kill_or_with_one_connection_no_side_connection_is_opened() {
    let no_kill = Target { kill: false, ..target("db1") };
    let one = Target { max_connections: 1, ..target("db1") };
    for target in [no_kill, one] {
        let lanes = usize::from(target.lanes());
        let silence = Act::after(5 * SECOND, Then::Silence);
        let world = World::of(vec![on(target)], vec![session([silence])]);
        world.run().await;
        sleep(Duration::from_millis(1499)).await;
        assert_eq!(world.free_lanes(), lanes - 1);
        sleep(Duration::from_millis(2)).await;
        assert_eq!(world.free_lanes(), lanes);
        world.check(expect![[r#"
            0.000 connect 1
            0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
            5.500 1 is dropped
            5.500 => timeout: no answer within 5.5s; up, changed
        "#]]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_at_the_servers_limit_is_a_timeout_whatever_it_says_and_keeps_the_connection() {
    let late = Act::after(5 * SECOND, Then::Row);
    let in_time = Act::after(Duration::from_millis(4999), Then::Row);
    let world = World::new(vec![session([late, in_time])]);
    world.run().await;
    assert_eq!(world.page(), "");
    world.run().await;
    assert_eq!(world.page(), "f{target=\"db1\"} 1\n");
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        5.000 => timeout: answered only at the limit of 5s; up, changed
        5.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        9.999 => 1 series; up
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_reused_connection_that_had_been_closed_is_replaced_within_the_run_and_once() {
    let ok = Act::now(Then::Row);
    let world = World::new(vec![
        session([ok.clone(), Act::now(closed())]),
        session([ok, Act::now(closed())]),
        session([Act::now(closed())]),
    ]);
    world.run().await;
    world.run().await;
    // Now the fresh one ends as well.
    world.run().await;
    assert_eq!(world.free_lanes(), 2);
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 => 1 series; up, changed
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 1 is dropped
        0.000 connect 2
        0.000 2: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 => 1 series; up
        0.000 2: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 2 is dropped
        0.000 connect 3
        0.000 3: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 3 is dropped
        0.000 => lost: closed; up
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_query_that_somebody_ended_in_the_middle_is_not_sent_again_at_once() {
    let world = World::new(vec![
        session([Act::now(Then::Row), Act::after(2 * SECOND, closed())]),
        session([Act::after(SECOND / 2, Then::Row)]),
    ]);
    world.run().await;
    world.run().await;
    assert_eq!(world.free_lanes(), 1, "what cut it may have been a proxy, and the server still at work");
    tokio::time::sleep(SECOND).await;
    assert_eq!(world.free_lanes(), 2, "the server knows it no more");
    world.run().await;
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 => 1 series; up, changed
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        2.000 1 is dropped
        2.000 connect 2
        2.000 2: KILL 1
        2.000 => lost: closed; up
        2.510 2: KILL 1
        2.510 2 says goodbye
        3.000 connect 3
        3.000 3: SET STATEMENT max_statement_time=5.000 FOR select 1
        3.000 => 1 series; up
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_doubt_is_killed_and_never_used_again() {
    let failure = Failure::answered(Reason::TooLarge, "too large");
    let doubt = Then::Fail(QueryError { failure, session: SessionState::Doubtful });
    let world = World::new(vec![session([Act::now(doubt)])]);
    world.run().await;
    sleep(SECOND).await;
    world.run().await;
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 1 is dropped
        0.000 => too_large: too large; up, changed
        0.000 connect 2
        0.000 2: KILL 1
        0.000 2 says goodbye
        1.000 connect 3
        1.000 3: SET STATEMENT max_statement_time=5.000 FOR select 1
        1.000 => 1 series; up
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_run_dropped_in_the_middle_is_killed_at_the_server_and_gives_its_lane_back() {
    let world = World::new(vec![session([Act::after(60 * SECOND, Then::Silence)])]);
    assert!(timeout(SECOND, world.start(0)).await.is_err());
    assert_eq!(world.free_lanes(), 1);
    sleep(SECOND).await;
    assert_eq!((world.free_lanes(), world.arranged.targets[0].connections()), (2, 0));
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        1.000 1 is dropped
        1.000 connect 2
        1.000 2: KILL 1
        1.010 2: KILL 1
        1.010 2 says goodbye
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_run_dropped_while_it_connects_gives_its_lane_back_at_once() {
    let world = World::new(vec![Connect { after: 60 * SECOND, ..session([]) }]);
    assert!(timeout(SECOND, world.start(0)).await.is_err());
    assert_eq!((world.free_lanes(), world.collector.connects_in_flight()), (2, 0));
    assert_eq!(world.arranged.targets[0].connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_panics_is_killed_at_the_server_and_gives_its_lane_back() {
    let world = World::new(vec![session([Act::now(Then::Row), Act::now(Then::Panic)])]);
    world.run().await;
    let panicked = std::panic::AssertUnwindSafe(world.start(0)).catch_unwind().await;
    assert!(panicked.is_err());
    let failure = world.arranged.items[0].panicked("as the script says");
    assert_eq!((failure.reason, failure.is_down()), (Reason::Panic, false));
    let last = world.arranged.items[0].record().last_run().unwrap();
    assert_eq!(last.outcome, Outcome::Failure(failure.into()), "whoever looks sees it");
    assert_eq!(world.free_lanes(), 1);
    sleep(SECOND).await;
    assert_eq!((world.free_lanes(), world.arranged.targets[0].connections()), (2, 0));
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 => 1 series; up, changed
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 1 is dropped
        0.000 connect 2
        0.000 2: KILL 1
        0.010 2: KILL 1
        0.010 2 says goodbye
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn when_every_lane_hangs_the_server_sees_no_more_connections_than_allowed() {
    // Each KILL is answered late, its session gone later still, each goodbye takes its time, and lanes are used the
    // moment they are free.
    let hang = session([Act::after(60 * SECOND, Then::Silence)]);
    let killed = Act::after(SECOND / 2, Then::Lingers(SECOND / 5));
    let slow = Connect { goodbye: SECOND, ..session([killed]) };
    let world =
        World::new((0..8).flat_map(|_| [hang.clone(), hang.clone(), slow.clone(), slow.clone()]).collect());
    for _ in 0..4 {
        tokio::join!(world.start(0), world.start(0));
        while world.free_lanes() < 2 {
            sleep(SECOND / 10).await;
        }
    }
    assert_eq!(world.fake.most(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_target_gets_one_side_connection_at_a_time() {
    let wide = Target { max_connections: 6, ..target("db1") };
    let hang = || session([Act::after(60 * SECOND, Then::Silence)]);
    let killed = || session([Act::after(SECOND / 2, Then::Row)]);
    let world = World::of(vec![on(wide)], vec![hang(), hang(), killed(), killed()]);
    tokio::join!(world.start(0), world.start(0));
    sleep(2 * SECOND).await;
    assert_eq!(world.free_lanes(), 5);
    let log = world.fake.log();
    let kills: Vec<_> = log.lines().filter(|line| line.contains("KILL")).map(|line| &line[..8]).collect();
    // Each asks until the session is gone, then it is the other's turn.
    assert_eq!(kills, ["5.500 3:", "6.010 3:", "6.010 4:", "6.520 4:"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_just_being_closed_counts_until_it_is_gone() {
    let one = Target { max_connections: 1, ..target("db1") };
    let slow = Connect { goodbye: SECOND / 2, ..session([]) };
    let world = World::of(vec![on(one)], vec![slow]);
    world.run().await;
    sleep(Duration::from_mins(60)).await;
    world.run().await;
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 => 1 series; up, changed
        3600.000 1 says goodbye
        3600.500 connect 2
        3600.500 2: SET STATEMENT max_statement_time=5.000 FOR select 1
        3600.500 => 1 series; up
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_the_connect_is_given_up_at_the_timeout() {
    let world = World::new(vec![Connect { after: 60 * SECOND, ..session([]) }]);
    world.run().await;
    assert_eq!((world.free_lanes(), world.collector.connects_in_flight()), (2, 0));
    world.check(expect![[r#"
        0.000 connect 1
        5.000 => connect_timeout: no connection to db1:3306 in time: the server did not answer; down, changed
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_connect_is_taken_off_the_servers_limit() {
    let world =
        World::new(vec![Connect { after: 2 * SECOND, ..session([Act::after(3 * SECOND, Then::Row)]) }]);
    world.run().await;
    world.check(expect![[r#"
        0.000 connect 1
        2.000 1: SET STATEMENT max_statement_time=3.000 FOR select 1
        5.000 => timeout: answered only at the limit of 3s; up, changed
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_short_timeout_leaves_the_server_time_to_answer_before_ours_ends() {
    let ms = Duration::from_millis;
    for (connect, expected) in [(ms(10), "max_statement_time=0.300"), (ms(40), "max_statement_time=0.260")] {
        let short = ItemSpec { timeout: ms(300), ..spec() };
        let world = World::of(vec![short], vec![Connect { after: connect, ..session([]) }]);
        world.run().await;
        assert!(world.fake.log().contains(expected), "{}", world.fake.log());
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_does_not_wait_for_the_connects_of_others() {
    let slow = Connect { after: 60 * SECOND, ..session([]) };
    let script = vec![session([Act::after(60 * SECOND, Then::Silence)]), slow, session([])];
    let world = World::with_connects(1, vec![spec(), on(target("db2"))], script);
    tokio::join!(world.start(0), async {
        sleep(3 * SECOND).await;
        world.start(1).await;
    });
    let log = world.fake.log();
    assert!(log.contains("5.500 3: KILL 1"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn connects_over_the_fleet_are_bounded_and_who_only_waited_for_others_has_not_failed() {
    let slow = Connect { after: 60 * SECOND, ..session([]) };
    let script = vec![session([Act::now(Then::Row), Act::now(closed())]), slow];
    let patient = ItemSpec { timeout: 20 * SECOND, ..on(target("db2")) };
    let world = World::with_connects(1, vec![spec(), patient], script);
    world.run().await;
    // The idle connection turns out to be closed, and a new one has to wait behind the other target's.
    let (second, ()) = tokio::join!(world.start(1), async {
        assert_eq!(world.try_to_start(0).await.unwrap_err(), NotStarted::NoPermit);
        assert_eq!((world.collector.connects_in_flight(), world.collector.connects_limit()), (1, 1));
        assert!(world.arranged.targets[0].is_up());
    });
    assert_eq!(second.outcome.unwrap_err().reason, Reason::ConnectTimeout);
    assert_eq!(world.collector.connects_in_flight(), 0);
    world.run().await;
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 => 1 series; up, changed
        0.000 connect 2
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 1 is dropped
        20.000 connect 3
        20.000 3: SET STATEMENT max_statement_time=5.000 FOR select 1
        20.000 => 1 series; up
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_counts_from_the_turn_to_connect() {
    let slow = Connect { after: 4 * SECOND, ..session([]) };
    let answer = session([Act::after(4 * SECOND, Then::Row)]);
    let world = World::with_connects(1, vec![spec(), on(target("db2"))], vec![slow, answer]);
    let (_, second) = tokio::join!(world.start(0), world.start(1));
    assert!(second.outcome.is_ok(), "8 s after it began to wait, 4 s after its turn: {:?}", second.outcome);
    assert_eq!((second.waited, second.duration), (4 * SECOND, 4 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_not_up_gets_one_connect_at_a_time_and_who_waited_for_one_that_failed_has_not() {
    let hangs = Connect { after: 60 * SECOND, ..session([]) };
    let world = World::of(vec![spec()], vec![hangs, session([]), session([])]);
    let (first, second) = tokio::join!(world.start(0), async {
        sleep(SECOND).await;
        world.try_to_start(0).await
    });
    assert_eq!(first.outcome.unwrap_err().reason, Reason::ConnectTimeout);
    assert_eq!(second.unwrap_err(), NotStarted::TargetDown);
    assert_eq!((world.free_lanes(), world.collector.connects_in_flight()), (2, 0));
    let (first, second) = tokio::join!(world.start(0), world.start(0));
    assert!(first.outcome.is_ok() && second.outcome.is_ok(), "where it answers, the second is next");
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_read_anew_for_each_connect_without_its_trailing_line_end() {
    let file = SecretFile::new();
    let from_file = Target { password: Password::File(file.0.clone()), ..target("db1") };
    let goodbye = || Act::now(closed());
    let script = (0..3).map(|_| session([goodbye()])).collect();
    let world = World::of(vec![on(from_file)], script);
    for content in ["pa ss\n", "with\r\n", "two\n\n"] {
        std::fs::write(&file.0, content).unwrap();
        world.run().await;
    }
    assert_eq!(world.fake.passwords(), ["pa ss", "with", "two\n"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_read_fails_the_run_without_a_connect() {
    let file = SecretFile::new();
    let cases = [
        (Password::File(file.0.clone()), "No such file or directory"),
        (Password::File(std::env::temp_dir()), "Is a directory"),
        (Password::Env("FLEET_TEST_NO_SUCH_VARIABLE".into()), "is not set"),
    ];
    for (password, expected) in cases {
        let world = World::of(vec![on(Target { password, ..target("db1") })], vec![]);
        let failure = world.run().await.outcome.unwrap_err();
        assert_eq!((failure.reason, failure.is_down()), (Reason::Credentials, true));
        assert!(failure.message.contains(expected), "{failure}");
        assert!(!world.fake.log().contains("connect 1"), "{}", world.fake.log());
    }
    std::fs::write(&file.0, "x".repeat(100_000)).unwrap();
    let too_long = Target { password: Password::File(file.0.clone()), ..target("db1") };
    let world = World::of(vec![on(too_long)], vec![]);
    let failure = world.run().await.outcome.unwrap_err();
    assert!(failure.message.ends_with("larger than a secret can be"), "{failure}");
}

/// A path that is this test's own, and gone at its end.
struct SecretFile(PathBuf);

impl SecretFile {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("fleet-collector-{}-{n}", std::process::id())))
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_keeps_the_last_result_until_its_age_limit_or_drops_it_at_once_if_so_configured() {
    let syntax = || Act::now(server_error(Reason::Syntax, 1064));
    for (drop_on_failure, kept) in [(false, "f{target=\"db1\"} 1\n"), (true, "")] {
        let spec = ItemSpec { drop_on_failure, ..spec() };
        let world = World::of(vec![spec.clone()], vec![session([Act::now(Then::Row), syntax()])]);
        world.run().await;
        world.run().await;
        assert_eq!(world.page(), kept);

        let world = World::of(vec![spec], vec![]);
        world.run().await;
        world.arranged.items[0].panicked("a panic is a failure, too");
        assert_eq!(world.page(), kept);
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_is_shown_for_as_long_as_it_may_be_and_no_longer() {
    let world = World::new(vec![]);
    world.run().await;
    let at = |later| world.collector.snapshot().read(BootTime::now().plus(later));
    assert_ne!(testing::text(&at(59 * SECOND)), "");
    assert_eq!(testing::text(&at(60 * SECOND)), "");
}

#[tokio::test(start_paused = true)]
async fn mysql_gets_the_limit_in_a_hint_and_where_none_fits_in_a_set_when_it_differs() {
    let mysql = || Connect { flavour: Flavour::MySql, ..session([]) };
    let world = World::of(vec![asking("select 1 as n")], vec![mysql()]);
    world.run().await;
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: select /*+ MAX_EXECUTION_TIME(5000) */ 1 as n
        0.000 => 1 series; up, changed
    "#]]);

    let with = || asking("with a as (select 1 as n) select n from a");
    let other = ItemSpec { timeout: 2 * SECOND, ..with() };
    let mut other_query = Query::clone(&other.query);
    other_query.name = "r".into();
    let other = ItemSpec { query: Arc::new(other_query), ..other };
    let world = World::of(vec![with(), other], vec![mysql()]);
    for item in [0, 0, 1, 0] {
        let report = world.start(item).await;
        assert!(report.outcome.is_ok());
    }
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET SESSION max_execution_time = 5000
        0.000 1: with a as (select 1 as n) select n from a
        0.000 1: with a as (select 1 as n) select n from a
        0.000 1: SET SESSION max_execution_time = 2000
        0.000 1: /* fleet-query-exporter r@db1 */ with a as (select 1 as n) select n from a
        0.000 1: SET SESSION max_execution_time = 5000
        0.000 1: with a as (select 1 as n) select n from a
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_know_the_limit_is_asked_all_the_same() {
    let unknown = Act::now(server_error(Reason::ServerError, 1193));
    let old = Connect { flavour: Flavour::MySql, ..session([unknown]) };
    let world = World::of(vec![asking("(select 1 as n)")], vec![old]);
    world.run().await;
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET SESSION max_execution_time = 5000
        0.000 1: (select 1 as n)
        0.000 => 1 series; up, changed
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_five_minutes_with_a_goodbye() {
    let world = World::new(vec![]);
    world.run().await;
    for second in [299, 1] {
        sleep(second * SECOND).await;
        world.collector.sweep();
    }
    sleep(SECOND).await;
    assert_eq!(world.arranged.targets[0].connections(), 0);
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 => 1 series; up, changed
        300.000 1 says goodbye
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_lives_from_half_an_hour_to_an_hour_however_busy_it_is() {
    let world = World::new(vec![]);
    for _ in 0..3700 {
        world.start(0).await;
        sleep(SECOND).await;
    }
    let log = world.fake.log();
    let lived: Vec<_> = log.lines().filter(|line| line.contains("goodbye")).collect();
    assert_eq!(lived, ["2519.000 1 says goodbye"]);
}

#[tokio::test(start_paused = true)]
async fn the_connection_used_last_is_used_next_so_that_the_others_grow_old() {
    let slow = || session([Act::after(SECOND, Then::Row)]);
    let world = World::new(vec![slow(), slow()]);
    tokio::join!(world.start(0), async {
        sleep(SECOND / 2).await;
        world.start(0).await;
    });
    for _ in 0..4 {
        sleep(100 * SECOND).await;
        world.run().await;
        world.collector.sweep();
    }
    let log = world.fake.log();
    assert!(log.contains("301.500 1 says goodbye") && !log.contains("connect 3"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_takes_leave_and_waits_for_the_kills_under_way_but_not_for_ever() {
    let silence = Act::after(60 * SECOND, Then::Silence);
    for (answer, done) in [(SECOND, true), (60 * SECOND, false)] {
        let answers = [Act::after(SECOND / 2, Then::Row), silence.clone(), Act::after(answer, Then::Row)];
        let world = World::new(answers.map(|act| session([act])).into());
        let (first, _) = tokio::join!(world.start(0), timeout(SECOND, world.start(0)));
        assert!(first.outcome.is_ok());
        assert_eq!(world.collector.shutdown(3 * SECOND).await, done);
        let log = world.fake.log();
        assert!(log.contains("1 says goodbye") && log.contains("KILL 2"), "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_is_down_when_nothing_of_it_came_in_the_last_attempt_or_the_login_was_refused() {
    #[track_caller]
    fn check(world: &World, expected: &str) {
        let log = world.fake.log();
        assert!(log.ends_with(&format!("; {expected}\n")), "{expected} is not at the end of\n{log}");
    }
    let ok = Act::now(Then::Row);
    let row_and_silence = Act::after(5 * SECOND, Then::RowAndSilence);
    let silence = Act::after(5 * SECOND, Then::Silence);

    // No connection, an answer, and no connection again.
    let down = || refused(Failure::unanswered(Reason::Refused, "refused"));
    let dns = || refused(Failure::unanswered(Reason::Dns, "dns"));
    let world =
        World::new(vec![down(), down(), dns(), session([Act::now(server_error(Reason::Syntax, 1064))])]);
    assert!(!world.arranged.targets[0].is_up(), "nobody has answered yet");
    for expected in ["down, changed", "down", "down", "up, changed"] {
        world.run().await;
        check(&world, expected);
    }

    // An error packet is an answer, that of a limit too; the login's are not.
    for (reason, code) in [(Reason::Timeout, 1969), (Reason::Timeout, 1205), (Reason::Denied, 1142)] {
        let world = World::new(vec![session([ok.clone(), Act::now(server_error(reason, code))])]);
        world.run().await;
        world.run().await;
        check(&world, "up");
    }
    for reason in [Reason::Auth, Reason::TooManyConnections, Reason::Blocked] {
        let world = World::new(vec![refused(Failure::answered(reason, "no"))]);
        world.run().await;
        check(&world, "down, changed");
    }

    // A greeting is an answer, and so is a row; on a connection from before, silence is none, unless somebody else
    // has heard of the server meanwhile.
    let world = World::new(vec![session([silence.clone()]), session([])]);
    world.run().await;
    check(&world, "up, changed");
    let world = World::new(vec![session([ok.clone(), row_and_silence])]);
    world.run().await;
    world.run().await;
    check(&world, "up");
    let refused = || refused(Failure::unanswered(Reason::Refused, "refused"));
    let world = World::new(vec![session([ok, silence]), refused()]);
    world.run().await;
    world.run().await;
    check(&world, "down, changed");
}

#[tokio::test(start_paused = true)]
async fn two_targets_do_not_share_lanes_and_one_target_of_two_queries_does() {
    let other = query("r", vec![metric("g", "n", &[])]);
    let specs = vec![spec(), ItemSpec { query: Arc::new(other), ..spec() }, on(target("db2"))];
    let world = World::of(specs, vec![]);
    for item in [0, 1, 2] {
        world.start(item).await;
    }
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR /* fleet-query-exporter r@db1 */ select 1
        0.000 connect 2
        0.000 2: SET STATEMENT max_statement_time=5.000 FOR /* fleet-query-exporter q@db2 */ select 1
    "#]]);
    assert_eq!((world.arranged.targets.len(), world.arranged.groups.len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn no_debug_output_shows_a_password() {
    // With its percent-encoded and its base64 form.
    let planted = ["p\"4'#s@s%w:ö rd", "p%224%27%23s%40s%25w%3A%C3%B6%20rd", "cCI0JyNzQHMldzrDtiByZA"];
    let file = SecretFile::new();
    std::fs::write(&file.0, planted[0]).unwrap();
    for password in [Password::Inline(crate::Secret::new(planted[0])), Password::File(file.0.clone())] {
        let world = World::of(vec![on(Target { password: password.clone(), ..target("db1") })], vec![]);
        let report = world.run().await;
        // The tests' own driver remembers what it was given; the program's keeps nothing.
        assert_eq!(world.fake.passwords(), [planted[0]]);
        let collector = Collector::new(Arc::new(crate::mysql::MySql), 1, Arc::default());
        let arranged = collector.arrange(vec![on(Target { password: password.clone(), ..target("db1") })]);
        let item = &arranged.items[0];
        let shown = format!(
            "{password:?} {:?} {collector:?} {item:?} {arranged:?} {arranged:#?} {report:?} {:?}",
            item.target(),
            collector.snapshot()
        );
        for form in planted.iter().flat_map(|form| [(*form).to_owned(), format!("{form:?}").replace('"', "")])
        {
            assert!(!shown.contains(&form), "{form} is in {shown}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_without_a_variant_for_its_server_is_not_there_and_asks_nothing() {
    let statement = |sql| crate::statement::Statement::check(sql).unwrap();
    let only = |flavour| crate::query::Variant {
        when: crate::version::When { flavour: Some(flavour), version: None },
        statement: statement("select 'variant' as n"),
    };
    let asked_by = |flavour| {
        let query = query("q", vec![metric("f", "n", &[])]);
        let query = Query { statement: None, variants: vec![only(flavour)], ..query };
        World::of(vec![ItemSpec { query: Arc::new(query), ..spec() }], vec![])
    };
    let world = asked_by(crate::driver::Flavour::MySql);
    let report = world.run().await;
    assert!(report.outcome.unwrap().is_none() && report.target_changed);
    assert!(world.arranged.targets[0].is_up(), "the server let us in");
    assert!(!world.fake.log().contains("variant"), "{}", world.fake.log());
    assert_eq!(world.free_lanes(), 2);
    let items = testing::text(&world.collector.snapshot().query_families());
    assert!(items.contains("query_exporter_query_items{query=\"q\"} 0\n"), "{items}");
    assert!(items.contains("query_exporter_query_items_stale{query=\"q\"} 0\n"), "{items}");
    assert!(world.collector.snapshot().all_tried());

    let world = asked_by(crate::driver::Flavour::MariaDb);
    assert!(world.run().await.outcome.unwrap().is_some());
    assert!(world.fake.log().contains("select 'variant' as n"), "{}", world.fake.log());
}
