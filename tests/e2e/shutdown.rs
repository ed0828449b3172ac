//! SIGTERM: the exporter leaves in time, and nothing of it stays at the servers.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    note, on_both_servers,
    servers::{self, Server},
    wait::{seen_if, wait_for},
};

on_both_servers!(a_sigterm_with_queries_in_flight_leaves_nothing_behind);

/// A query on the schema's table `t` that computes for hours, four levels deep.
const LONG: &str =
    "select sum(a.n * b.n * c.n * d.n) as n from t a, t b, t c, t d where a.n + b.n <> c.n + d.n";

/// How long the server lets it.
const LIMIT: Duration = Duration::from_secs(10);

fn queries(account: &Account) -> String {
    let query = |name: &str| {
        format!(
            "[queries.{name}]\nsql = \"{LONG}\"\ninterval = \"10s\"\ntimeout = \"10s\"\n\
             [queries.{name}.metrics.{name}]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n"
        )
    };
    account.group("g", &["one", "two"]) + &query("long") + &query("longer")
}

async fn fill(server: &Server, account: &Account) {
    let rows: Vec<_> = (1..=2000).map(|n| format!("({n})")).collect();
    let schema = &account.schema;
    let sql = format!("create table {schema}.t (n int); insert into {schema}.t values {}", rows.join(", "));
    server.admin().await.run(&sql).await;
}

async fn a_sigterm_with_queries_in_flight_leaves_nothing_behind(server: &Server) {
    let account = Account::new(server, "sigterm").await;
    fill(server, &account).await;
    let exporter = Exporter::start(&queries(&account)).await;

    let mut admin = server.admin().await;
    account.busy_with(&mut admin, "sum(a.n", SOON).await;
    let took = exporter.stop(&[(server, &account)]).await;
    note!("{:?}: left {took:?} after SIGTERM", server.kind);
}

#[tokio::test]
async fn a_sigterm_while_a_server_does_not_answer_is_obeyed_in_time_too() {
    let server = servers::own_mariadb();
    let account = Account::new(&server, "sigterm").await;
    fill(&server, &account).await;
    let exporter = Exporter::start(&queries(&account)).await;

    account.busy_with(&mut server.admin().await, "sum(a.n", SOON).await;
    server.signal(Signal::STOP);
    let took = exporter.stop(&[]).await;
    note!("left {took:?} after SIGTERM with a frozen server");
    server.signal(Signal::CONT);
    // Nobody could stop it there but the server itself, at the limit that came with the query.
    let mut admin = server.admin().await;
    wait_for("the server has ended the query", LIMIT + SOON, async || {
        let sessions = account.sessions(&mut admin).await;
        seen_if(sessions.is_empty(), sessions)
    })
    .await;
}

#[tokio::test]
async fn ctrl_c_ends_it_as_well() {
    let server = servers::mariadb();
    let account = Account::new(server, "ctrl_c").await;
    fill(server, &account).await;
    let exporter = Exporter::start(&queries(&account)).await;

    account.busy_with(&mut server.admin().await, "sum(a.n", SOON).await;
    exporter.stop_by(Signal::INT, &[(server, &account)]).await;
}
