//! Runs under a paused clock, against a server that does what its script says. Each case is the script, and the log of
//! what the server saw and how the runs ended.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes its texts so")]

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

mod connections;
mod early_ends;
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
        let start_by = Instant::now() + item.timeout();
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
    let items = testing::text(&crate::rollup::query_families(world.collector.snapshot().queries()));
    assert!(items.contains("query_exporter_query_items{query=\"q\"} 0\n"), "{items}");
    assert!(items.contains("query_exporter_query_items_stale{query=\"q\"} 0\n"), "{items}");
    assert!(world.collector.snapshot().all_tried());

    let world = asked_by(crate::driver::Flavour::MariaDb);
    assert!(world.run().await.outcome.unwrap().is_some());
    assert!(world.fake.log().contains("select 'variant' as n"), "{}", world.fake.log());
}
