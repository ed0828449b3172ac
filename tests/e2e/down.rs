//! Targets that are not there, refuse us, freeze or restart: what the page says of them, and that nobody else notices.

use std::{cell::Cell, fs, time::Duration};

use rustix::process::Signal;
use tokio::{
    select,
    time::{Instant, sleep},
};

use crate::support::{
    account::Account,
    bystander::assert_untroubled,
    exporter::{Exporter, SOON},
    note, on_both_servers,
    page::Page,
    promtool,
    servers::{self, Kind, Server},
};

on_both_servers!(
    a_dead_target_is_refused_and_others_are_unaffected,
    a_wrong_password_is_tried_ever_more_slowly
);

/// A port that nothing listens on.
const NOBODY: &str = "127.0.0.1:1";

/// Queries with a gauge each, each second on every target.
fn queries(names: &[&str]) -> String {
    let query = |name: &&str| {
        format!(
            "[queries.{name}]\nsql = \"select {} as n\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
             [queries.{name}.metrics.{name}]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n",
            name.len()
        )
    };
    names.iter().map(query).collect()
}

async fn a_dead_target_is_refused_and_others_are_unaffected(server: &Server) {
    let account = Account::new(server, "beside").await;
    let config = account.group("well", &["one", "two"])
        + &account.group_of("ill", &format!("dead = \"{NOBODY}\""))
        + &queries(&["a", "bb"]);
    let exporter = Exporter::start(&config).await;

    let tried = |page: &Page| page.runs("dead", "failure") > 0;
    exporter.wait_until("the dead target was tried", SOON, tried).await;
    exporter.wait_for_runs("one", 8, SOON).await;
    let page = exporter.wait_for_runs("two", 2, SOON).await;
    assert!(!page.is_up("dead"));
    assert_eq!(page.reason("dead"), Some("refused"));
    assert_eq!(page.series("query_exporter_a", &[("target", "dead")]).len(), 0);
    for target in ["one", "two"] {
        assert!(page.is_up(target));
        assert_eq!(page.reason(target), None);
        assert_eq!((page.runs(target, "failure"), page.missed(target)), (0, 0));
        assert_eq!(page.value("query_exporter_a", &[("target", target)]), Some(1.0));
        assert_eq!(page.value("query_exporter_bb", &[("target", target)]), Some(2.0));
    }
    promtool::assert_valid(&page);

    exporter.stop(&[(server, &account)]).await;
}

#[tokio::test]
async fn with_every_target_down_the_page_is_there_at_once() {
    let group = "[groups.g]\nuser = 'nobody'\ntargets = { 'db{10..59}' = '127.0.0.{10..59}:1' }\n";
    let config = group.to_owned() + &queries(&["a", "bb"]);
    let exporter = Exporter::start(&config).await;

    // From the first moment, and when each has been tried.
    let at_once = exporter.get("/metrics").await;
    assert_eq!(at_once.status, 200);
    exporter
        .wait_until("all were tried", SOON, |page| {
            (10..60).all(|n| page.runs(&format!("db{n}"), "failure") > 0)
        })
        .await;
    let later = exporter.get("/metrics").await;
    assert_eq!(later.status, 200);
    for answer in [at_once, later] {
        note!("a page with 50 targets down took {:?}", answer.took);
        assert!(answer.took < Duration::from_secs(1), "{:?}", answer.took);
        let page = Page::parse(answer.body);
        assert_eq!(page.series("query_exporter_up", &[]).len(), 50);
        assert!(page.series("query_exporter_up", &[]).iter().all(|(_, up)| *up <= 0.0));
        promtool::assert_valid(&page);
    }

    exporter.stop(&[]).await;
}

async fn a_wrong_password_is_tried_ever_more_slowly(server: &Server) {
    const SECONDS: u64 = 10;
    let account = Account::new(server, "locked").await;
    let mut admin = server.admin().await;
    let wrong = Account { password: "not this".to_owned(), ..account.clone() };
    let config = wrong.group("g", &["db"]) + &queries(&["a", "bb", "ccc", "dddd", "eeeee"]);
    let denied = async |admin: &mut servers::Admin| match server.kind {
        Kind::MariaDb => admin.status("Access_denied_errors").await,
        Kind::MySql => 0,
    };
    let before = denied(&mut admin).await;
    let exporter = Exporter::start(&config).await;

    let ticks = |page: &Page| page.runs("db", "failure") + page.missed("db");
    let page =
        exporter.wait_until("its ticks of some seconds", SOON * 2, |page| ticks(page) >= 5 * SECONDS).await;
    assert!(!page.is_up("db"));
    assert_eq!(page.reason("db"), Some("auth"));
    let connects = page.of("db", "query_exporter_connects_total");
    note!("{:?}: {connects} logins in {SECONDS} s with a wrong password", server.kind);
    // 50 without a back-off; it doubles with each, so that a ninth within ten seconds takes a rare dice.
    assert!((2..=10).contains(&connects), "{connects}");
    assert!(denied(&mut admin).await - before <= 11);
    let log = exporter.stop_and_read(&[(server, &account)]).await;
    assert_eq!(log.iter().filter(|line| line.contains("target is down")).count(), 1, "{log:#?}");
}

#[tokio::test]
async fn a_server_that_was_restarted_is_found_again() {
    let server = servers::own_mariadb();
    let account = Account::new(&server, "restart").await;
    let config = account.group("g", &["db"]) + &queries(&["a", "bb"]);
    let exporter = Exporter::start(&config).await;
    let answers = |page: &Page| {
        let value = |family| page.value(family, &[("target", "db")]);
        value("query_exporter_a").is_some() && value("query_exporter_bb").is_some()
    };
    exporter.wait_until("it is up", SOON, answers).await;

    let port = server.port;
    server.kill().await;
    let page = exporter.wait_until("it is down", SOON, |page| page.reason("db") == Some("refused")).await;
    assert!(!page.is_up("db"));
    assert_eq!(page.value("query_exporter_a", &[]), Some(1.0), "the last good result stays for a while");

    let server = servers::mariadb_on(port);
    account.make(&mut server.admin().await).await;
    let start = Instant::now();
    exporter.wait_until("it is up again", Duration::from_mins(1), |page| page.is_up("db")).await;
    note!("found {:?} after the restart", start.elapsed());
    exporter.wait_for_runs("db", 2, SOON).await;
    let log = exporter.stop_and_read(&[(&server, &account)]).await;
    assert_eq!(log.iter().filter(|line| line.contains("target is up again")).count(), 1, "{log:#?}");
}

#[tokio::test]
async fn t12_a_frozen_server_delays_nobody_and_is_not_flooded() {
    let (frozen, well) = (servers::own_mariadb(), servers::mariadb());
    let on_frozen = Account::new(&frozen, "frozen").await;
    let on_well = Account::new(well, "well").await;
    let config = on_frozen.group("frozen", &["frozen"])
        + &on_well.group("well", &["well"])
        + &queries(&["a", "bb", "ccc", "dddd", "eeeee"]);
    let exporter = Exporter::start(&config).await;
    exporter.wait_until("both are up", SOON, |page| page.is_up("frozen") && page.is_up("well")).await;

    // While it is frozen it lists no sessions, but the kernel lists our sockets.
    frozen.signal(Signal::STOP);
    let most = Cell::new(0);
    let timed_out = async {
        let page = exporter
            .wait_until("it is down", SOON, |page| !page.is_up("frozen") && page.missed("frozen") >= 25)
            .await;
        let reason = page.reason("frozen").map(str::to_owned);
        assert!(matches!(reason.as_deref(), Some("timeout" | "connect_timeout")), "{reason:?}");
        exporter.wait_for_runs("well", 10, SOON).await
    };
    let page = select! {
        page = timed_out => page,
        () = async { loop {
            most.set(most.get().max(sockets_to(frozen.port)));
            sleep(Duration::from_millis(20)).await;
        } } => unreachable!(),
    };
    note!("{} sockets to the frozen server at most", most.get());
    assert!((1..=3).contains(&most.get()), "{}", most.get());
    assert!(page.of("frozen", "query_exporter_connections") <= 3);
    assert_eq!((page.runs("well", "failure"), page.missed("well")), (0, 0));

    frozen.signal(Signal::CONT);
    let mut admin = frozen.admin().await;
    let recovered = async {
        exporter.wait_until("it is up again", Duration::from_mins(1), |page| page.is_up("frozen")).await;
        exporter.wait_for_runs("frozen", 10, SOON).await
    };
    let (page, watched) = on_frozen.watch(&mut admin, recovered).await;
    assert!(watched.most <= 3, "{watched:?}");
    assert_eq!((page.runs("well", "failure"), page.missed("well")), (0, 0));

    assert_untroubled(&exporter.page().await, "well");
    drop(admin);
    exporter.stop(&[(&frozen, &on_frozen), (well, &on_well)]).await;
    assert_eq!(sockets_to(frozen.port), 0);
}

/// Sockets of this machine that are connected, or connecting, to this port on the loopback.
fn sockets_to(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    const SYN_SENT: &str = "02";
    let to = format!("0100007F:{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words[2] == to && [ESTABLISHED, SYN_SENT].contains(&words[3]))
        .count()
}
