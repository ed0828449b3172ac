//! Runs that end before their answer does: at the timeout, dropped, by a panic. What becomes of the query at the server, and
//! when the lane is free again.

use super::*;

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
