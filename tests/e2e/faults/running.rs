//! T14 to T24 on simulated servers: a session is there, and what it says is wrong, late, too much, or nothing.

use std::time::Duration;

use fleetsim::{Answer, Column, ColumnType, Event, Kill, Malformed, Rows, ServerError};
use tokio::time::{Instant, sleep};

use super::{ASKED, N, SICK, Scene, Setting, healthy, query};
use crate::support::{
    account::Account,
    bystander::{assert_untroubled, bystander},
    exporter::{Exporter, SOON},
    note, on_both_servers,
    page::Page,
    servers::{self, Server},
};

on_both_servers!(t21_a_warning_is_no_failure);

/// KILLs of the sick group that ended so.
fn kills(page: &Page, result: &str) -> u64 {
    page.count("query_exporter_group_kills_total", &[("group", SICK), ("result", result)])
}

/// Whether the server was told to end a session.
fn is_kill(record: &fleetsim::Record) -> bool {
    matches!(record.event, Event::Kill { .. })
}

/// Whether the query has arrived.
fn is_asked(record: &fleetsim::Record) -> bool {
    matches!(&record.event, Event::Statement(sql) if sql.contains(ASKED))
}

/// A query that the server does not end by itself.
fn endless() -> fleetsim::Script {
    fleetsim::Script::default().on(ASKED, Answer::hang_beyond_limits())
}

#[tokio::test]
async fn t14_a_server_that_restarts_in_the_middle_of_a_query_is_connected_to_anew() {
    let queries = query("asks", &format!("select n {ASKED}"), "timeout = \"1s\"");
    let mut scene = Setting::new(endless()).queries(queries).start().await;
    let is_asked =
        |record: &fleetsim::Record| matches!(&record.event, Event::Statement(sql) if sql.contains(ASKED));
    scene.sim.wait_for("the query", is_asked).await;
    scene.sim.restart().await;
    scene.play(healthy()).await;
    let page = scene.succeeds().await;
    assert_eq!(page.value("query_exporter_asks", &[]), Some(N as f64));
    assert_eq!(page.series("query_exporter_target_failure_reason", &[("target", SICK)]).len(), 0);
    scene.end().await;
}

#[tokio::test]
async fn t15_an_idle_connection_that_was_closed_costs_nothing() {
    let mut scene = Scene::start(healthy()).await;
    for _ in 0..3 {
        scene.succeeds().await;
        scene.sim.restart().await;
    }
    let page = scene.succeeds().await;
    assert_eq!(page.runs(SICK, "failure"), 0, "{}", scene.exporter.log().text());
    assert!(page.of(SICK, "query_exporter_connects_total") >= 3);
    scene.end().await;
}

#[tokio::test]
async fn t15_an_idle_connection_that_a_firewall_forgot_costs_one_timeout() {
    // What the sessions up to now send is never answered, and no KILL reaches them.
    let mut scene = Scene::start(healthy()).await;
    scene.succeeds().await;
    let forgotten = scene.sim.records().iter().map(|record| record.connection).max().unwrap();
    let silent = move |statement: &fleetsim::Statement<'_>| {
        (statement.connection <= forgotten).then(Answer::hang_beyond_limits)
    };
    scene.play(healthy().first(silent)).await;
    let page = scene.fails_but_is_up("timeout").await;
    assert_eq!(page.value("query_exporter_asks", &[]), Some(N as f64), "the last good result stays");
    let page = scene.succeeds().await;
    assert_eq!(page.runs(SICK, "failure"), 1);
    scene.end().await;
}

#[tokio::test]
async fn t16_a_kill_that_comes_to_nothing_is_tried_once_and_counted() {
    for (what, kill, result) in [
        ("no such session", Kill::Refuse(1094.into()), "gone"),
        ("not our session", Kill::Refuse(1095.into()), "refused"),
    ] {
        let scene = Setting::new(endless().kill(kill)).start().await;
        scene.fails_but_is_up("timeout").await;
        let ended = |page: &Page| kills(page, result) >= 1;
        let page = scene.exporter.wait_until(what, SOON, ended).await;
        let tried = scene.sim.records().iter().filter(|record| is_kill(record)).count() as u64;
        assert!(tried <= page.runs(SICK, "failure") + 1, "{what}: {tried}");
        scene.end().await;
    }
}

#[tokio::test]
async fn t16_a_kill_that_cannot_connect_is_given_up_in_time() {
    let scene = Setting::new(endless().max_connections(1)).max_connections(2).start().await;
    let began = Instant::now();
    scene.fails("timeout", 1).await;
    let page =
        scene.exporter.wait_until("it is given up", SOON, |page| kills(page, "unreachable") >= 1).await;
    note!("a KILL without a connection was given up after {:?}", began.elapsed());
    assert_eq!(kills(&page, "killed"), 0);
    assert!(!scene.sim.records().iter().any(is_kill));
    scene.end().await;
}

#[tokio::test]
async fn t16_behind_a_proxy_nobody_elses_session_is_killed() {
    let mut scene = Setting::new(endless().hostname("one")).start().await;
    scene.sim.wait_for("the query", is_asked).await;
    // The side connection meets another server behind the same address.
    scene.play(endless().hostname("two")).await;
    scene.exporter.wait_until("it is noticed", SOON, |page| kills(page, "other_server") >= 1).await;
    let first = scene.sim.records().iter().map(|record| record.connection).min().unwrap();
    let of_first =
        |record: &fleetsim::Record| matches!(record.event, Event::Kill { session, .. } if session == first);
    assert!(!scene.sim.records().iter().any(of_first));
    scene.end().await;
}

#[tokio::test]
async fn t17_a_session_of_before_a_restart_is_never_killed_after_it() {
    let queries = query("asks", &format!("select n {ASKED}"), "timeout = \"1s\"\nexpire_after = \"5m\"");
    let script = || endless().first_connection_id(1000);
    let mut scene = Setting::new(script()).queries(queries).start().await;
    let is_asked =
        |record: &fleetsim::Record| matches!(&record.event, Event::Statement(sql) if sql.contains(ASKED));
    let asked = scene.sim.wait_for("the query", is_asked).await;
    // So late in the run that what cut the connection may have been anything; sessions are numbered anew from then on.
    sleep(Duration::from_millis(700).saturating_sub(asked.at.elapsed())).await;
    scene.play(healthy().first_connection_id(1)).await;
    scene.sim.restart().await;
    scene.exporter.wait_until("its number is not used", SOON, |page| kills(page, "gone") == 1).await;
    scene.succeeds().await;
    let old =
        |record: &fleetsim::Record| matches!(record.event, Event::Kill { session, .. } if session >= 1000);
    assert!(!scene.sim.records().iter().any(old), "{:#?}", scene.sim.records());
    scene.end().await;
}

#[tokio::test]
async fn t18_malformed_packets_end_their_run_and_nothing_else() {
    let mut scene = Scene::start(healthy()).await;
    scene.succeeds().await;
    for malformed in Malformed::ALL {
        if malformed == Malformed::Columns(1 << 40) {
            // See t18_a_count_of_columns_beyond_all_memory_ends_the_process.
            continue;
        }
        let before = scene.exporter.page().await.runs(SICK, "failure");
        scene
            .play(
                healthy()
                    .first(move |statement| statement.text.contains(ASKED).then(|| Answer::from(malformed))),
            )
            .await;
        let told = |page: &Page| {
            let reason = page.reason(SICK);
            page.runs(SICK, "failure") > before
                && matches!(reason, Some("protocol" | "panic" | "mapping" | "timeout" | "server_error"))
        };
        let page = scene.exporter.wait_until(&format!("{malformed:?}"), SOON, told).await;
        note!("{malformed:?}: {:?}", page.reason(SICK));
        scene.play(healthy()).await;
        let page = scene.succeeds().await;
        assert_eq!(page.value("query_exporter_asks", &[]), Some(N as f64), "{malformed:?}");
    }
    scene.end().await;
}

#[tokio::test]
async fn t18_a_count_of_columns_beyond_all_memory_ends_the_process() {
    // The driver (sqlx 0.9) asks for memory for as many columns as it is told of, and a request beyond all memory ends a
    // process. Only a hostile server sends that. The day the driver has a bound, this test fails, and the fault joins
    // those above.
    let script = healthy()
        .first(|statement| statement.text.contains(ASKED).then(|| Answer::from(Malformed::Columns(1 << 40))));
    let scene = Scene::start(script).await;
    assert!(!scene.exporter.ended_by_itself(SOON).await.success());
}

#[tokio::test]
async fn t19_answers_beyond_their_bounds_publish_nothing_and_leave_memory_bounded() {
    const MIB: u64 = 1 << 20;
    let text = |n: u64| n.to_string().into_bytes();
    let distinct = Rows::new([Column::integer("n"), Column::text("label")]).made(1_000_000, move |n, row| {
        row.cell(&text(n)).cell(&text(n));
    });
    let many = Rows::new([Column::integer("n")]).made(2_000_000, |_, row| {
        row.cell(b"1");
    });
    let huge = Rows::new([Column::integer("n"), Column::new("blob", ColumnType::BLOB)]).made(1, |_, row| {
        row.cell(b"1").filled(15 << 20, b'x');
    });
    let wide = (0..4000).map(|n| Column::integer(&format!("c{n}")));
    let wide = Rows::new(wide.chain([Column::integer("n")])).row(vec![Some("1"); 4001]);
    let mut scene = Scene::start(healthy()).await;
    let before = scene.succeeds().await;
    let idle = scene.exporter.peak_memory();
    for (what, rows) in [
        ("2,000,000 rows", many),
        ("a million distinct labels", distinct),
        ("4,001 columns", wide),
        ("a cell of 15 MiB", huge),
    ] {
        let answer = Answer::from(rows);
        scene
            .play(healthy().first(move |statement| statement.text.contains(ASKED).then(|| answer.clone())))
            .await;
        let page = scene.fails_but_is_up("too_large").await;
        assert_eq!(page.lines("query_exporter_asks"), before.lines("query_exporter_asks"), "{what}");
        note!("{what}: {} MiB at the most, {} MiB before", scene.exporter.peak_memory() / MIB, idle / MIB);
        scene.play(healthy()).await;
        let connects = scene.exporter.page().await.of(SICK, "query_exporter_connects_total");
        let page = scene.succeeds().await;
        assert!(
            page.of(SICK, "query_exporter_connects_total") > connects,
            "{what}: the connection is closed"
        );
        assert_eq!(page.value("query_exporter_asks", &[]), Some(N as f64));
    }
    // docs/operating.md: an answer takes its limit, and what the driver reads of one packet three times over.
    let peak = scene.exporter.peak_memory();
    assert!(peak <= idle + 8 * MIB + 3 * 16 * MIB, "{} MiB, {} MiB before", peak / MIB, idle / MIB);
    scene.end().await;
}

async fn t21_a_warning_is_no_failure(server: &Server) {
    let account = Account::new(server, "warned").await;
    let sql = "sql = \"select cast('42 and more' as unsigned) as n\"\ngroups = [\"g\"]\ninterval = \"1s\"\ntimeout = \"1s\"\n";
    let metric = "[queries.warns.metrics.warns]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n";
    let config =
        account.group("g", &["db"]) + &format!("[queries.warns]\n{sql}{metric}") + &bystander(&account);
    let exporter = Exporter::start(&config).await;
    let page = exporter.wait_for_runs("db", 2, SOON).await;
    assert_eq!(page.value("query_exporter_warns", &[]), Some(42.0));
    assert_eq!(page.runs("db", "failure"), 0);
    assert_untroubled(&page, "well");
    exporter.stop(&[(server, &account)]).await;
}

#[tokio::test]
async fn t22_an_error_of_any_text_is_one_short_line_and_its_number_says_why() {
    let long = "\u{1b}[31m\r\n".to_owned() + &"table ".repeat(11_000);
    let scene = Scene::start(healthy().first(move |statement| {
        let error = || ServerError::new(1142, long.clone());
        statement.text.contains(ASKED).then(|| Answer::error(error()))
    }))
    .await;
    scene.fails_but_is_up("denied").await;
    let line = scene.logged("item fails");
    assert!(line.len() < 600, "{}", line.len());
    assert!(!line.contains('\u{1b}') && line.contains("1142"), "{line}");
    scene.end().await;
}

#[tokio::test]
async fn t22_an_error_whose_text_is_no_utf8_loses_its_number_but_nothing_else() {
    // The driver refuses the whole packet, so that it is a fault of the protocol.
    let scene = Scene::start(healthy().first(|statement| {
        let error = || ServerError::new(1146, b"no table \xff\xfe".as_slice());
        statement.text.contains(ASKED).then(|| Answer::error(error()))
    }))
    .await;
    scene.fails("protocol", 1).await;
    scene.end().await;
}

#[tokio::test]
async fn t23_a_server_that_is_read_only_is_read() {
    let server = servers::own_mariadb();
    let account = Account::new(&server, "replica").await;
    server.admin().await.run("set global read_only = 1").await;
    let sql =
        "[queries.reads]\ngroups = [\"g\"]\nsql = \"select 42 as n\"\ninterval = \"1s\"\ntimeout = \"1s\"\n";
    let metric = "[queries.reads.metrics.reads]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n";
    let config = account.group("g", &["db"]) + sql + metric + &bystander(&account);
    let exporter = Exporter::start(&config).await;
    let page = exporter.wait_for_runs("db", 2, SOON).await;
    assert_eq!(page.value("query_exporter_reads", &[]), Some(42.0));
    assert_eq!(
        page.series("query_exporter_target_info", &[("target", "db"), ("role", "read_only")]).len(),
        1
    );
    assert_untroubled(&page, "well");
    exporter.stop(&[(&server, &account)]).await;
}

#[tokio::test]
async fn t24_a_driver_that_panics_fails_its_run_is_counted_and_goes_on() {
    let mut scene = Scene::start(
        healthy()
            .first(|statement| statement.text.contains(ASKED).then(|| Answer::from(Malformed::ShortRow))),
    )
    .await;
    let page = scene.fails("panic", 3).await;
    let panics = page.text.lines().find_map(|line| line.strip_prefix("query_exporter_run_panics_total "));
    assert!(panics.unwrap().parse::<u64>().unwrap() >= 3);
    assert_eq!(scene.exporter.log().with("a panic, caught").len(), 1, "{}", scene.exporter.log().text());
    scene.play(healthy()).await;
    let page = scene.succeeds().await;
    assert_eq!(page.value("query_exporter_asks", &[]), Some(N as f64));
    scene.end().await;
}
