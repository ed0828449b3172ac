//! Connections: when they are made and with which secret, how long they are kept, and what takes the place of a dead one.

use std::path::PathBuf;

use super::*;

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
