//! What a fleet costs its servers when nothing happens: a statement a run, and next to no new connections.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    note,
    page::Page,
    servers::{self, Admin},
};

const TARGETS: usize = 20;
/// Of ten queries on each target five run each second, five each two.
const RUNS_EACH_SECOND: u64 = 20 * 5 + 20 * 5 / 2;
const SECONDS: u64 = 25;

/// Bar 8.
const STATEMENTS_A_RUN: f64 = 1.05;
const CONNECTIONS_PER_1000_RUNS: f64 = 5.0;

/// How far a server and its targets are.
#[derive(Debug, Clone, Copy)]
struct Mark {
    runs: u64,
    statements: u64,
    connections: u64,
}

impl Mark {
    async fn now(exporter: &Exporter, group: &str, admin: &mut Admin) -> Self {
        let sql =
            "show global status where variable_name in ('Com_admin_commands', 'Connections', 'Questions')";
        let rows = admin.rows(sql).await;
        let [pings, connections, questions] =
            [0, 1, 2].map(|n| rows[n][1].as_ref().unwrap().parse::<u64>().unwrap());
        let runs = runs(&exporter.page().await, group);
        // Pings and their like are not among the questions.
        Self { runs, connections, statements: questions + pings }
    }
}

/// All runs on the targets of a group.
fn runs(page: &Page, group: &str) -> u64 {
    (0..TARGETS)
        .map(|n| {
            page.runs(&format!("{group}-{n}"), "success") + page.runs(&format!("{group}-{n}"), "failure")
        })
        .sum()
}

fn queries() -> String {
    let query = |n: usize| {
        let interval = if n < 5 { "1s" } else { "2s" };
        format!(
            "[queries.q{n}]\nsql = \"select n, n * {n} as m from t\"\ninterval = \"{interval}\"\ntimeout = \"1s\"\n\
             [queries.q{n}.metrics.m{n}]\ntype = \"gauge\"\nhelp = \"m\"\nlabels = [\"n\"]\nvalue = \"m\"\n"
        )
    };
    (0..10).map(query).collect()
}

/// 200 items on MariaDB and, where it can be had, as many on MySQL, from one exporter.
#[tokio::test]
async fn a_run_is_one_statement_and_opens_no_connection() {
    let mut fleet = vec![("mariadb", servers::own_mariadb())];
    fleet.extend(servers::own_mysql().map(|server| ("mysql", server)));
    let mut config = queries();
    let mut accounts = Vec::new();
    for (group, server) in &fleet {
        let account = Account::new(server, group).await;
        let rows =
            format!("create table {0}.t (n int); insert into {0}.t values (1), (2), (3)", account.schema);
        server.admin().await.run(&rows).await;
        let names: Vec<_> = (0..TARGETS).map(|n| format!("{group}-{n}")).collect();
        config += &account.group(group, &names.iter().map(String::as_str).collect::<Vec<_>>());
        accounts.push(account);
    }
    let exporter = Exporter::start(&config).await;

    // Warm once each connection that the schedule needs was opened: each item has then run a few times.
    let warm = RUNS_EACH_SECOND * 8;
    exporter
        .wait_until("it is warm", SOON * 2, |page| fleet.iter().all(|(group, _)| runs(page, group) >= warm))
        .await;
    let start = Instant::now();
    let mut marks = Vec::new();
    for (group, server) in &fleet {
        let mut admin = server.admin().await;
        let mark = Mark::now(&exporter, group, &mut admin).await;
        marks.push((*group, admin, mark));
    }
    let enough = RUNS_EACH_SECOND * SECONDS;
    exporter
        .wait_until("25 seconds of runs", Duration::from_mins(2), |page| {
            marks.iter().all(|(group, _, before)| runs(page, group) - before.runs >= enough)
        })
        .await;
    let took = start.elapsed();
    for (group, admin, before) in &mut marks {
        let after = Mark::now(&exporter, group, admin).await;
        let runs = after.runs - before.runs;
        // The second look at the counters counts itself.
        let statements = (after.statements - before.statements - 1) as f64 / runs as f64;
        let connections = (after.connections - before.connections) as f64 * 1000.0 / runs as f64;
        note!(
            "{group}: {runs} runs in {took:?}, {statements:.4} statements a run, \
             {connections:.2} new connections per 1,000 runs"
        );
        assert!(statements <= STATEMENTS_A_RUN, "{statements} statements a run");
        assert!(statements >= 0.95, "{statements} statements a run: the count is wrong");
        assert!(connections <= CONNECTIONS_PER_1000_RUNS, "{connections} connections per 1,000 runs");
    }
    let page = exporter.page().await;
    for n in 0..TARGETS {
        for (group, _) in &fleet {
            assert_eq!(page.runs(&format!("{group}-{n}"), "failure"), 0);
        }
    }

    let servers: Vec<_> = fleet.iter().map(|(_, server)| server).zip(&accounts).collect();
    exporter.stop(&servers).await;
}
