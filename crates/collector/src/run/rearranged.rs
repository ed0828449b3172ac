//! A collector that is arranged anew while it works, under a paused clock: what stays, what ends, and that the server
//! is never asked for more than before.

use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{
    fake::{Act, Connect, Fake, Then, session},
    *,
};
use crate::{
    Address, Arranged, Collector, Password, Tls, TlsMode, rollup,
    testing::{self, metric, query, target},
};

const SECOND: Duration = Duration::from_secs(1);

fn spec(target: Target) -> ItemSpec {
    ItemSpec {
        query: Arc::new(query("q", vec![metric("f", "n", &[])])),
        target: Arc::new(target),
        timeout: 5 * SECOND,
        expire_after: 60 * SECOND,
        drop_on_failure: false,
        limits: ResultLimits::default(),
    }
}

fn collector(script: Vec<Connect>) -> (Fake, Collector) {
    let fake = Fake::new(script);
    let collector = Collector::new(Arc::new(fake.clone()), 32, Arc::default());
    (fake, collector)
}

async fn run(arranged: &Arranged, item: usize) -> Report {
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    arranged.items[item].run(permit, Instant::now() + SECOND).await.unwrap()
}

fn page(collector: &Collector) -> String {
    testing::text(&collector.snapshot().read(BootTime::now()))
}

fn changed(change: impl FnOnce(&mut ItemSpec)) -> ItemSpec {
    let mut spec = spec(target("db1"));
    change(&mut spec);
    spec
}

fn to(change: impl FnOnce(&mut Target)) -> ItemSpec {
    changed(|spec| change(Arc::make_mut(&mut spec.target)))
}

fn ask(change: impl FnOnce(&mut Query)) -> ItemSpec {
    changed(|spec| change(Arc::make_mut(&mut spec.query)))
}

/// What stays when an item that has run is arranged anew as `after`: the item itself, its target's connections, their
/// counters, its result.
async fn what_stays(after: ItemSpec) -> String {
    let (fake, collector) = collector(vec![]);
    let before = collector.arrange(vec![spec(target("db1"))]);
    run(&before, 0).await;
    let mut arranged = collector.arrange(vec![after]);
    arranged.take_leave();
    sleep(SECOND).await;
    let (old, new) = (&before.items[0], &arranged.items[0]);
    assert_eq!(old.shares_lanes(new), !fake.log().contains("goodbye"), "{}", fake.log());
    assert_eq!(new.result_age().is_some(), !page(&collector).is_empty());
    assert_eq!(collector.snapshot().series(), i64::from(new.result_age().is_some()));
    [
        (**old == **new, "item"),
        (old.shares_lanes(new), "connections"),
        (Arc::ptr_eq(&before.targets[0], &arranged.targets[0]), "counters"),
        (new.result_age().is_some(), "result"),
    ]
    .into_iter()
    .filter_map(|(stays, what)| stays.then_some(what))
    .collect::<Vec<_>>()
    .join(" ")
}

#[tokio::test(start_paused = true)]
async fn what_stays_follows_from_what_has_changed() {
    async fn check(after: ItemSpec, stays: &str) {
        let shown = format!("{after:?}");
        assert_eq!(what_stays(after).await, stays, "{shown}");
    }
    const ALL: &str = "item connections counters result";
    const DATA: &str = "connections counters result";
    const WAY: &str = "counters result";
    const NO_DATA: &str = "connections counters";
    check(changed(|_| {}), ALL).await;
    check(changed(|spec| spec.timeout = SECOND), DATA).await;
    check(changed(|spec| spec.expire_after = SECOND), DATA).await;
    check(changed(|spec| spec.drop_on_failure = true), DATA).await;
    check(changed(|spec| spec.limits.rows = 1), NO_DATA).await;
    check(
        ask(|query| {
            let family = &mut query.metrics[0].family;
            *family = Arc::new(crate::Family { help: "another".to_owned(), ..(**family).clone() });
        }),
        DATA,
    )
    .await;
    check(
        ask(|query| {
            let family = &mut query.metrics[0].family;
            *family = Arc::new(crate::Family { kind: crate::Kind::Counter, ..(**family).clone() });
        }),
        NO_DATA,
    )
    .await;
    check(ask(|query| query.metrics[0].on_null = crate::OnNull::Zero), NO_DATA).await;
    let other = crate::statement::Statement::check("select 2").unwrap();
    check(ask(|query| query.statement = Some(other)), NO_DATA).await;
    check(to(|target| target.labels.push(("z".to_owned(), "1".to_owned()))), NO_DATA).await;
    check(to(|target| target.group = "other".into()), DATA).await;
    check(to(|target| target.password = Password::Env("PASSWORD".to_owned())), WAY).await;
    check(to(|target| target.tls = Tls { mode: TlsMode::Disabled, ca: None, identity: None }), WAY).await;
    check(to(|target| target.max_connections = 2), WAY).await;
    check(to(|target| target.kill = false), WAY).await;
    check(to(|target| target.user = Some("other".to_owned())), "counters").await;
    check(to(|target| target.user = None), "counters").await;
    check(to(|target| target.database = Some("other".to_owned())), "counters").await;
    check(to(|target| target.session.time_zone = Some("+00:00".to_owned())), "counters").await;
    check(to(|target| target.address = Address::Socket("/run/db.sock".into())), "").await;
}

#[tokio::test(start_paused = true)]
async fn what_did_not_change_stays_when_others_come_and_go() {
    let (fake, collector) = collector(vec![]);
    let first = collector.arrange(vec![spec(target("db1")), spec(target("db2"))]);
    for item in [0, 1] {
        run(&first, item).await;
    }
    let mut second = collector.arrange(vec![spec(target("db2")), spec(target("db3"))]);
    assert_eq!(page(&collector), "f{target=\"db2\"} 1\n", "a target that is gone left the page");
    let about = testing::text(&collector.own_families());
    assert!(!about.contains("db1") && about.contains("query_exporter_up{target=\"db3\"} 0\n"), "{about}");
    second.take_leave();
    assert!(*first.items[1] == *second.items[0]);
    run(&second, 1).await;
    run(&first, 1).await;
    assert_eq!(page(&collector), "f{target=\"db2\"} 1\nf{target=\"db3\"} 1\n");
    sleep(SECOND).await;
    let log = fake.log();
    let connections: Vec<_> = log.lines().filter(|line| !line.contains("SET")).collect();
    assert_eq!(
        connections,
        ["0.000 connect 1", "0.000 connect 2", "0.000 connect 3", "0.000 1 says goodbye"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_result_that_stays_has_the_new_age_limit() {
    let (_, collector) = collector(vec![]);
    run(&collector.arrange(vec![spec(target("db1"))]), 0).await;
    let now = BootTime::now();
    let shown_after =
        |seconds| !testing::text(&collector.snapshot().read(now.plus(seconds * SECOND))).is_empty();
    collector.arrange(vec![changed(|spec| spec.expire_after = 10 * SECOND)]);
    assert_eq!((shown_after(9), shown_after(11)), (true, false));
    collector.arrange(vec![changed(|spec| spec.expire_after = 3600 * SECOND)]);
    assert_eq!((shown_after(3599), shown_after(3601)), (true, false));
}

#[tokio::test(start_paused = true)]
async fn labels_change_and_the_counters_go_on_under_the_new_ones() {
    let (_, collector) = collector(vec![]);
    run(&collector.arrange(vec![spec(target("db1"))]), 0).await;
    let labelled = to(|target| {
        target.labels.insert(0, ("env".to_owned(), "prod".to_owned()));
        target.group = "other".into();
    });
    run(&collector.arrange(vec![labelled]), 0).await;
    let text = testing::text(&collector.own_families());
    for line in [
        r#"query_exporter_up{env="prod",target="db1"} 1"#,
        r#"query_exporter_runs_total{env="prod",target="db1",outcome="success"} 2"#,
        r#"query_exporter_connections{env="prod",target="db1"} 1"#,
        r#"query_exporter_failures_total{group="other",reason="timeout"} 0"#,
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("{target=") && !text.contains("group=\"g\""), "{text}");
    assert_eq!(page(&collector), "f{env=\"prod\",target=\"db1\"} 1\n");
}

/// The way to a server changes while a query hangs on each lane: what the server sees stays within the cap.
#[tokio::test(start_paused = true)]
async fn old_and_new_connections_to_one_server_count_as_one_against_its_cap() {
    let silence = || session([Act::after(60 * SECOND, Then::Silence)]);
    let (fake, collector) = collector(vec![silence(), silence()]);
    let old = collector.arrange(vec![spec(target("db1"))]);
    // The target's permits, which outlive the arranging as long as the server is the same.
    let lanes = Arc::new(Semaphore::new(2));
    let start = |arranged: &Arranged, permit| {
        let item = Arc::clone(&arranged.items[0]);
        async move { item.run(permit, Instant::now() + SECOND).await.unwrap() }
    };
    let hang = || timeout(SECOND, start(&old, Arc::clone(&lanes).try_acquire_owned().unwrap()));
    let (first, second) = tokio::join!(hang(), hang());
    assert!(first.is_err() && second.is_err(), "both hang when they are dropped");
    let mut new = collector.arrange(vec![to(|target| {
        target.password = Password::Env("PATH".to_owned());
        target.max_connections = 2;
    })]);
    new.take_leave();
    drop(old);
    let permit = Arc::clone(&lanes).acquire_owned().await.unwrap();
    let report = start(&new, permit).await;
    assert!(report.outcome.is_ok(), "{report:?}");
    sleep(10 * SECOND).await;
    assert_eq!(new.targets[0].connections(), 1);
    assert!(fake.most() <= 3, "{}", fake.log());
    let log = fake.log();
    assert!(log.contains("KILL 1") && log.contains("KILL 2"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_after_its_item_was_replaced_shows_nothing() {
    let slow = session([Act::after(2 * SECOND, Then::Row)]);
    let (_, collector) = collector(vec![slow]);
    let old = collector.arrange(vec![spec(target("db1"))]);
    let (report, ()) = tokio::join!(run(&old, 0), async {
        sleep(SECOND).await;
        collector.arrange(vec![to(|target| target.labels.clear())]);
    });
    assert!(report.outcome.is_ok());
    assert_eq!(page(&collector), "");
    drop(old);
    assert_eq!((collector.snapshot().series(), collector.snapshot().bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_group_keeps_its_counters_while_a_target_is_in_it() {
    let (_, collector) = collector(vec![]);
    let first = collector.arrange(vec![spec(target("db1")), spec(target("db2"))]);
    let second = collector.arrange(vec![spec(target("db2"))]);
    assert!(Arc::ptr_eq(&first.groups[0], &second.groups[0]));
    let third = collector.arrange(vec![to(|target| target.group = "other".into())]);
    assert_eq!(third.groups.len(), 1);
    let families = rollup::families(&third.targets, &third.groups);
    assert!(!testing::text(&families).contains("group=\"g\""));
}
