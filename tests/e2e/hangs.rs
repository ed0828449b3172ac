//! Queries that do not come back: each ends in time, at the server too, and takes nothing else with it.

use std::time::Duration;

use tokio::{select, time::timeout};

use crate::support::{
    account::Account,
    bystander::Bystander,
    exporter::{Exporter, SOON},
    note, on_both_servers,
    page::Page,
    servers::{self, Admin, Kind, Server},
};

on_both_servers!(
    t11_a_query_that_hangs_is_gone_two_seconds_after_its_timeout,
    t13_a_query_behind_an_alter_table_gives_up_and_the_alter_proceeds,
    t14_an_idle_connection_that_was_killed_fails_no_run,
    t14_a_query_that_was_killed_succeeds_at_its_next_run,
    a_target_that_many_want_gets_no_more_connections_than_allowed,
);

const TIMEOUT: Duration = Duration::from_secs(1);

/// What bar 4 allows beyond the timeout.
const GONE_AFTER: Duration = Duration::from_secs(2);

/// Computes for hours without a table.
const CPU_BOUND_ON_MARIADB: &str = "select count(*) as n from seq_1_to_1000000 a, seq_1_to_1000000 b, seq_1_to_1000000 c where a.seq + b.seq <> c.seq";

/// The same, as a common table expression that recurs without an end.
const RECURSIVE: &str =
    "with recursive r (n) as (select 1 union all select n + 1 from r where n < 4000000000)";
const DEEPER: &str = "/*+ SET_VAR(cte_max_recursion_depth = 4294967295) */";

/// Waits so long for nothing: on `MariaDB` for a lock that its admin holds, since it ends sleepers of all sessions one after
/// the other, at times not for seconds.
async fn waits(server: &Server, admin: &mut Admin, lock: &str, seconds: u32) -> String {
    match server.kind {
        Kind::MariaDb => {
            admin.run(&format!("do get_lock('{lock}', 0)")).await;
            format!("get_lock('{lock}', {seconds})")
        }
        Kind::MySql => format!("sleep({seconds})"),
    }
}

/// A query with a gauge of its own name, which counts its rows.
fn query(name: &str, sql: &str, interval: &str) -> String {
    format!(
        "[queries.{name}]\ngroups = [\"g\"]\nsql = '''{sql}'''\ninterval = \"{interval}\"\ntimeout = \"1s\"\n\
         [queries.{name}.metrics.{name}]\ntype = \"gauge\"\nhelp = \"{name}\"\nstatic_value = 1\n"
    )
}

/// The groups of such a query.
const OF_ONE: &str = "groups = [\"g\"]";
const OF_ALL: &str = "groups = [\"g1\", \"g2\", \"g3\"]";

fn timeouts(page: &Page) -> u64 {
    page.count("query_exporter_failures_total", &[("group", "g"), ("reason", "timeout")])
}

/// How many kills in the group had this result.
fn kills(page: &Page, result: &str) -> u64 {
    page.count("query_exporter_group_kills_total", &[("group", "g"), ("result", result)])
}

async fn t11_a_query_that_hangs_is_gone_two_seconds_after_its_timeout(server: &Server) {
    let beside = Bystander::start().await;
    let account = Account::new(server, "hang").await;
    let mut admin = server.admin().await;
    let sql = match server.kind {
        Kind::MariaDb => {
            let waits = waits(server, &mut admin, &account.schema, 100).await;
            vec![format!("select {waits} as n"), CPU_BOUND_ON_MARIADB.to_owned()]
        }
        // The limit travels in the author's own hint of a leading SELECT, and in the session for any other word.
        Kind::MySql => vec![
            format!("select {DEEPER} n from ({RECURSIVE} select count(*) as n from r) t"),
            format!("{RECURSIVE} select {DEEPER} count(*) as n from r"),
        ],
    };
    let mut config = account.group("g", &["db"]) + &beside.config();
    for (n, sql) in sql.iter().enumerate() {
        config += &query(&format!("hangs_{n}"), sql, "4s");
    }
    config += &query("answers", "select 1 as n", "1s");
    let exporter = Exporter::start(&config).await;

    let hung = exporter.wait_until("each hung twice", SOON * 2, |page| timeouts(page) >= 4);
    let (page, watched) = account.watch(&mut server.admin().await, hung).await;
    note!("{:?}: gone {:?} after the start at the latest, timeout {TIMEOUT:?}", server.kind, watched.longest);
    assert!(watched.longest > TIMEOUT / 2, "none was seen: {watched:?}");
    assert!(watched.longest <= TIMEOUT + GONE_AFTER, "{watched:?}");
    assert!(watched.most <= 3, "{watched:?}");
    for n in 0..sql.len() {
        assert_eq!(page.lines(&format!("query_exporter_hangs_{n}")), [""; 0]);
    }
    assert!(page.is_up("db"));
    assert_eq!(page.value("query_exporter_answers", &[]), Some(1.0));

    beside.assert_untroubled(&exporter).await;
    exporter.stop(&[(server, &account)]).await;
}

#[tokio::test]
async fn t11_a_sleep_that_mysql_cuts_short_publishes_nothing() {
    let Some(server) = servers::mysql() else { return };
    let beside = Bystander::start().await;
    let account = Account::new(server, "sleep").await;
    let sql = "sql = \"select sleep(3) as s\"\ninterval = \"2s\"\ntimeout = \"1s\"\n";
    let metric = "[queries.s.metrics.s]\ntype = \"gauge\"\nhelp = \"s\"\nvalue = \"s\"\n";
    let config =
        format!("{}[queries.s]\n{OF_ONE}\n{sql}{metric}{}", account.group("g", &["db"]), beside.config());
    let exporter = Exporter::start(&config).await;

    // The server answers it at its limit with a row, and without an error.
    let page = exporter.wait_until("it ran twice", SOON, |page| timeouts(page) >= 2).await;
    assert_eq!(page.lines("query_exporter_s"), [""; 0]);
    assert_eq!(page.runs("db", "success"), 0);
    assert_eq!(page.reason("db"), Some("timeout"));

    beside.assert_untroubled(&exporter).await;
    exporter.stop(&[(server, &account)]).await;
}

async fn t13_a_query_behind_an_alter_table_gives_up_and_the_alter_proceeds(server: &Server) {
    let beside = Bystander::start().await;
    let account = Account::new(server, "behind").await;
    let schema = &account.schema;
    let (mut admin, mut reader, mut owner) =
        (server.admin().await, server.admin().await, server.admin().await);
    admin.run(&format!("create table {schema}.t (n int); insert into {schema}.t values (1)")).await;
    let config = account.group("g", &["db"]) + &beside.config() + &query("reads", "select n from t", "2s");
    let exporter = Exporter::start(&config).await;
    exporter.wait_until("it reads", SOON, |page| page.runs("db", "success") >= 1).await;

    // A reader that does not end its transaction, an ALTER that waits for it, and all others behind that.
    reader.run(&format!("begin; select * from {schema}.t")).await;
    let statement = format!("alter table {schema}.t add column c int");
    let mut alter = Box::pin(owner.run(&statement));
    let before = timeouts(&exporter.page().await);
    let blocked = exporter.wait_until("it gave up twice", SOON, |page| timeouts(page) >= before + 2);
    let (page, watched) = select! {
        () = &mut alter => panic!("the ALTER did not wait"),
        seen = account.watch(&mut admin, blocked) => seen,
    };
    note!("{:?}: waits {:?} behind an ALTER, timeout {TIMEOUT:?}", server.kind, watched.longest);
    assert!(watched.longest > TIMEOUT / 2, "none was seen: {watched:?}");
    assert!(watched.longest <= TIMEOUT + GONE_AFTER, "{watched:?}");
    assert!(watched.most <= 3, "{watched:?}");
    assert_eq!(page.value("query_exporter_reads", &[]), Some(1.0), "the last good result stays");

    reader.run("commit").await;
    timeout(SOON, alter).await.expect("nothing of ours is in the way of the ALTER");
    exporter.wait_for_runs("db", 1, SOON).await;

    beside.assert_untroubled(&exporter).await;
    exporter.stop(&[(server, &account)]).await;
}

/// MySQL limits SELECT alone.
#[tokio::test]
async fn t11_a_statement_that_the_server_does_not_limit_is_killed() {
    let Some(server) = servers::mysql() else { return };
    let beside = Bystander::start().await;
    let account = Account::new(server, "killed").await;
    let mut admin = server.admin().await;
    admin.run(&format!("create table {}.t (n int)", account.schema)).await;
    let config = account.group("g", &["db"])
        + &beside.config()
        + &query("shows", "show tables where sleep(60) = 0", "2s")
        + &query("answers", "select 1 as n", "1s");
    let exporter = Exporter::start(&config).await;

    let killed = exporter.wait_until("it was killed twice", SOON * 2, |page| kills(page, "killed") >= 2);
    let (page, watched) = account.watch(&mut admin, killed).await;
    note!("gone by KILL {:?} after the start at the latest, timeout {TIMEOUT:?}", watched.longest);
    assert!(watched.longest > TIMEOUT / 2, "none was seen: {watched:?}");
    assert!(watched.longest <= TIMEOUT + GONE_AFTER, "{watched:?}");
    assert!(watched.most <= 3, "{watched:?}");
    assert_eq!(page.lines("query_exporter_shows"), [""; 0]);
    // Each of its statements but the first ran on a connection from before. The server was well all the time.
    let missed =
        page.count("query_exporter_ticks_missed_total", &[("target", "db"), ("reason", "target_down")]);
    assert_eq!((page.is_up("db"), missed), (true, 0));

    beside.assert_untroubled(&exporter).await;
    let log = exporter.stop_and_read(&[(server, &account)]).await;
    assert!(!log.iter().any(|line| line.contains("target is down")), "{log:#?}");
}

async fn t14_an_idle_connection_that_was_killed_fails_no_run(server: &Server) {
    let beside = Bystander::start().await;
    let account = Account::new(server, "idle").await;
    let mut admin = server.admin().await;
    let config = account.group("g", &["db"]) + &beside.config() + &query("answers", "select 1 as n", "1s");
    let exporter = Exporter::start(&config).await;
    exporter.wait_until("it answers", SOON, |page| page.runs("db", "success") >= 1).await;

    for session in account.sessions(&mut admin).await {
        admin.run(&format!("kill {}", session.id)).await;
    }
    let page = exporter.wait_for_runs("db", 2, SOON).await;
    assert_eq!(page.runs("db", "failure"), 0, "{}", exporter.log().text());
    assert!(page.of("db", "query_exporter_connects_total") >= 2);

    beside.assert_untroubled(&exporter).await;
    exporter.stop(&[(server, &account)]).await;
}

async fn t14_a_query_that_was_killed_succeeds_at_its_next_run(server: &Server) {
    let beside = Bystander::start().await;
    let account = Account::new(server, "midway").await;
    let mut admin = server.admin().await;
    let schema = &account.schema;
    // Slow while it waits for the lock.
    admin.run(&format!("create table {schema}.t (n int); insert into {schema}.t values (1)")).await;
    let mut owner = server.admin().await;
    owner.run(&format!("lock tables {schema}.t write")).await;
    let config = account.group("g", &["db"]) + &beside.config() + &query("reads", "select n from t", "2s");
    let exporter = Exporter::start(&config).await;

    let session = account.busy_with(&mut admin, "select", SOON).await;
    admin.run(&format!("kill {}", session.id)).await;
    let killed = |page: &Page| {
        let reasons = ["killed", "lost"]
            .map(|reason| page.count("query_exporter_failures_total", &[("group", "g"), ("reason", reason)]));
        reasons.iter().sum::<u64>() >= 1
    };
    exporter.wait_until("the run says that it was killed", SOON, killed).await;
    owner.run("unlock tables").await;
    let page = exporter.wait_until("it succeeds", SOON, |page| page.runs("db", "success") >= 1).await;
    assert_eq!(page.value("query_exporter_reads", &[]), Some(1.0));

    beside.assert_untroubled(&exporter).await;
    exporter.stop(&[(server, &account)]).await;
}

async fn a_target_that_many_want_gets_no_more_connections_than_allowed(server: &Server) {
    let mut admin = server.admin().await;
    let mut accounts = Vec::new();
    let mut config = String::new();
    for allowed in 1..=3 {
        let account = Account::new(server, "cap").await;
        admin.run(&format!("create table {}.t (n int)", account.schema)).await;
        let group = format!("g{allowed}");
        config = config + &account.group(&group, &[&group]) + &format!("max_connections = {allowed}\n");
        accounts.push(account);
    }
    let waits = waits(server, &mut admin, &accounts[0].schema, 60).await;
    for n in 0..6 {
        let sql = format!("select {waits} as n");
        config += &query(&format!("waits_{n}"), &sql, "2s").replace(OF_ONE, OF_ALL);
    }
    // MySQL ends these by KILL only, and the side connection for that counts too.
    let on_two = "groups = [\"g2\", \"g3\"]";
    let sql = format!("show tables where {waits} = 0");
    config += &query("shows", &sql, "2s").replace(OF_ONE, on_two);
    let exporter = Exporter::start(&config).await;

    let busy = exporter.wait_until("each target failed many times", SOON * 2, |page| {
        ["g1", "g2", "g3"].iter().all(|target| page.runs(target, "failure") >= 8)
    });
    let mut admins = (server.admin().await, server.admin().await);
    let busy = accounts[0].watch(&mut admins.0, busy);
    let busy = accounts[1].watch(&mut admins.1, busy);
    let (((_, one), two), three) = accounts[2].watch(&mut admin, busy).await;
    for (allowed, watched) in [(1, one), (2, two), (3, three)] {
        note!("{:?}: {} sessions of {allowed} allowed", server.kind, watched.most);
        assert!((1..=allowed).contains(&watched.most), "{allowed} allowed: {watched:?}");
    }

    let left: Vec<_> = accounts.iter().map(|account| (server, account)).collect();
    exporter.stop(&left).await;
}
