//! What becomes of a session that was left in the middle of a statement: the side connection, whom it may kill, what is
//! counted, and what the target is taken for meanwhile.

use super::*;
use crate::driver::RefusedGuard;

/// A session whose statement gets no answer, and which the server works for so long.
fn hangs(busy: Duration) -> Connect {
    session([Act::after(busy, Then::Silence)])
}

/// A side connection whose KILL gets this error of the server.
fn error(code: u16) -> Connect {
    session([Act::now(server_error(Reason::ServerError, code))])
}

fn nobody() -> Connect {
    refused(Failure::unanswered(Reason::Refused, "refused"))
}

/// The group's KILLs by result, those that there were.
fn counted(world: &World) -> String {
    let families = crate::rollup::families(&world.arranged.targets, &world.arranged.groups);
    let text = testing::text(&families);
    let kills = text
        .lines()
        .filter_map(|line| line.strip_prefix("query_exporter_group_kills_total{group=\"g\",result="));
    kills.filter(|line| !line.ends_with(" 0")).collect()
}

/// What is counted after a statement of limit 5 s that hangs, with this side connection, and when the lane was free again.
async fn check(side: Connect, expected: &str, free_at: Duration) {
    let world = World::new(vec![hangs(60 * SECOND), side]);
    let begun = Instant::now();
    world.run().await;
    while world.free_lanes() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(counted(&world), expected, "{}", world.fake.log());
    let free = begun.elapsed();
    assert!(free >= free_at && free <= free_at + Duration::from_millis(30), "{expected}: {free:?}");
    assert!(world.fake.most() <= 3);
}

#[tokio::test(start_paused = true)]
async fn t16_each_result_of_a_kill_is_counted_and_frees_the_lane_in_its_own_time() {
    let at = Duration::from_millis;
    let lingers = |after| session([Act::now(Then::Lingers(after))]);
    let mute = || Act::after(60 * SECOND, Then::Silence);
    // Gone: at once, after a while, and it had ended by itself.
    check(session([]), "\"killed\"} 1", at(5510)).await;
    check(lingers(at(1000)), "\"killed\"} 1", at(6770)).await;
    check(error(1094), "\"gone\"} 1", at(5500)).await;
    // Not known to be gone: when the server's limit of 5 s has passed by two seconds.
    check(error(1095), "\"refused\"} 1", at(7000)).await;
    check(Connect { hostname: "db2", ..session([]) }, "\"other_server\"} 1", at(7000)).await;
    check(nobody(), "\"unreachable\"} 1", at(7000)).await;
    check(refused(Failure::answered(Reason::TooManyConnections, "full")), "\"unreachable\"} 1", at(7000))
        .await;
    // The same, but our own two seconds for it end later than that.
    check(Connect { after: 60 * SECOND, ..session([]) }, "\"unreachable\"} 1", at(7500)).await;
    check(session([mute()]), "\"unreachable\"} 1", at(7500)).await;
    // Told, and still there: the server stalls, and its limit of 5 s is not trusted before ten more have passed.
    check(lingers(60 * SECOND), "\"killed\"} 1", at(15_000)).await;
}

#[tokio::test(start_paused = true)]
async fn t17_nothing_is_sent_to_a_server_that_was_restarted_where_the_number_is_somebody_elses() {
    let restarted = Connect { restarted: true, ..session([]) };
    let world = World::new(vec![hangs(5 * SECOND), restarted]);
    world.run().await;
    sleep(SECOND / 10).await;
    assert_eq!((world.free_lanes(), &*counted(&world)), (2, "\"gone\"} 1"));
    world.check(expect![[r#"
        0.000 connect 1
        0.000 1: SET STATEMENT max_statement_time=5.000 FOR select 1
        5.500 1 is dropped
        5.500 => timeout: no answer within 5.5s; up, changed
        5.500 connect 1
        5.500 1 says goodbye
    "#]]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_say_who_it_is_is_not_asked_to_kill() {
    for unknown in
        [Connect { hostname: "", ..hangs(5 * SECOND) }, Connect { numbered: false, ..hangs(5 * SECOND) }]
    {
        let world = World::new(vec![unknown]);
        world.run().await;
        sleep(Duration::from_millis(1499)).await;
        assert_eq!(world.free_lanes(), 1);
        sleep(Duration::from_millis(2)).await;
        assert_eq!((world.free_lanes(), &*counted(&world)), (2, ""));
        assert!(!world.fake.log().contains("connect 2"), "{}", world.fake.log());
    }
}

#[tokio::test(start_paused = true)]
async fn over_the_fleet_eight_kills_are_under_way_and_who_waits_too_long_gives_up() {
    let names: Vec<_> = (0..16).map(|n| format!("db{n}")).collect();
    let specs = names.iter().map(|name| on(target(name))).collect();
    let slow = || Connect { after: SECOND * 3 / 2, ..session([]) };
    let script = (0..16).map(|_| hangs(60 * SECOND)).chain((0..16).map(|_| slow())).collect();
    let world = World::of(specs, script);
    futures_util::future::join_all((0..16).map(|n| world.start(n))).await;
    sleep(Duration::from_mins(2)).await;
    let log = world.fake.log();
    let began: Vec<_> =
        log.lines().filter(|line| line.contains("connect")).skip(16).map(|line| &line[..5]).collect();
    // The second eight begin when the first have ended, and their two seconds are over before they are let in.
    assert_eq!(began, [["5.500"; 8], ["7.010"; 8]].concat(), "{log}");
    assert_eq!(counted(&world), "\"killed\"} 8\"unreachable\"} 8");
}

#[tokio::test(start_paused = true)]
async fn the_slots_hold_whatever_happens_and_whenever_a_run_is_dropped() {
    // Each connect takes a while, each session hangs and lingers, each goodbye takes its time, and runs are dropped at
    // any moment: while they wait, connect, ask, or are being killed.
    for max_connections in 1..=4 {
        let lingers = Act::after(SECOND / 7, Then::Lingers(SECOND / 3));
        let script = (0..400).map(|n| {
            let act = if n % 3 == 0 { lingers.clone() } else { Act::after((n % 5) * SECOND / 2, Then::Row) };
            Connect { after: SECOND / 4 * (n % 2), goodbye: SECOND / 3, ..session([act]) }
        });
        let world = World::of(vec![on(Target { max_connections, ..target("db1") })], script.collect());
        let mut runs = tokio::task::JoinSet::new();
        for n in 0..200_u32 {
            let item = Arc::clone(&world.arranged.items[0]);
            let lanes = Arc::clone(&world.lanes);
            let patience = SECOND * (n * 7 % 40) / 10;
            runs.spawn(async move {
                let permit = lanes.acquire_owned().await.unwrap();
                let start_by = Instant::now() + patience;
                let _ = timeout(patience, item.run(permit, start_by)).await;
            });
            sleep(SECOND / 9).await;
            world.collector.sweep();
        }
        runs.join_all().await;
        assert!(world.collector.shutdown(Duration::from_mins(1)).await);
        assert!(
            world.fake.most() <= usize::from(max_connections),
            "{} of {max_connections}",
            world.fake.most()
        );
        assert!(world.fake.most() == usize::from(max_connections), "the test does not reach the bound");
        assert_eq!(
            (world.arranged.targets[0].connections(), world.free_lanes()),
            (0, world.arranged.items[0].target().lanes().into())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn guards_that_are_refused_end_no_run() {
    let guard = RefusedGuard { guard: "read_only", error: "unknown variable".to_owned() };
    let world = World::new(vec![Connect { refused: vec![guard], ..session([]) }]);
    assert!(world.run().await.outcome.is_ok());
    let info = testing::text(&crate::rollup::families(&world.arranged.targets, &[]));
    assert!(info.contains("guards_refused=\"read_only\""), "{info}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_statement_is_no_dead_server_where_the_side_connection_of_its_kill_is_answered() {
    /// What became of a run on a connection from before whose statement gets no answer, with this side connection.
    async fn run(target: Target, side: Connect) -> (World, Report) {
        let silence = Act::after(60 * SECOND, Then::Silence);
        let world = World::of(vec![on(target)], vec![session([Act::now(Then::Row), silence]), side]);
        world.run().await;
        let report = world.run().await;
        (world, report)
    }
    let mute = Act::after(60 * SECOND, Then::Silence);
    let error = |code| session([Act::now(server_error(Reason::ServerError, code))]);
    // Killed, gone, refused, another server, and one that lets us in and then says no more.
    let other = Connect { hostname: "db2", ..session([]) };
    for side in [session([]), error(1094), error(1095), other, session([mute])] {
        let (world, report) = run(target("db1"), side).await;
        let failure = report.outcome.unwrap_err();
        assert_eq!((failure.reason, failure.is_down()), (Reason::Timeout, false), "{}", world.fake.log());
        assert_eq!(report.duration, SECOND * 11 / 2, "heard of at once");
        assert!(world.arranged.targets[0].is_up() && !report.target_changed);
    }
    // Nobody there, nobody who lets us in, nobody who says anything, and nobody asked.
    let refusal = refused(Failure::unanswered(Reason::Refused, "refused"));
    let full = refused(Failure::answered(Reason::TooManyConnections, "full"));
    let mute = Connect { after: 60 * SECOND, ..session([]) };
    let one = Target { max_connections: 1, ..target("db1") };
    let no_kill = Target { kill: false, ..target("db1") };
    let alone = SECOND * 11 / 2;
    for (target, side, took) in [
        (target("db1"), refusal, alone),
        (target("db1"), full, alone),
        (target("db1"), mute, alone + 2 * SECOND),
        (one, session([]), alone),
        (no_kill, session([]), alone),
    ] {
        let (world, report) = run(target, side).await;
        assert!(report.outcome.unwrap_err().is_down(), "{}", world.fake.log());
        assert_eq!(report.duration, took);
        assert!(!world.arranged.targets[0].is_up() && report.target_changed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_statement_is_no_dead_server_where_another_lane_had_an_answer_meanwhile() {
    for (beside, up, took) in [(true, true, SECOND * 11 / 2), (false, false, SECOND * 15 / 2)] {
        let silence = Act::after(60 * SECOND, Then::Silence);
        let answers = session([Act::after(SECOND, Then::Row)]);
        let hangs = session([Act::after(2 * SECOND, Then::Row), silence]);
        let mute = Connect { after: 60 * SECOND, ..session([]) };
        let world = World::new(vec![answers, hangs, mute]);
        tokio::join!(world.start(0), world.start(0));
        // The connection that was given back last is taken first, and its statement hangs.
        let (report, ()) = tokio::join!(world.start(0), async {
            sleep(SECOND).await;
            if beside {
                assert!(world.start(0).await.outcome.is_ok());
            }
        });
        assert_eq!((report.duration, world.arranged.targets[0].is_up()), (took, up));
        assert_eq!(report.outcome.unwrap_err().reason, Reason::Timeout);
    }
}
