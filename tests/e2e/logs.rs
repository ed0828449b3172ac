//! What the exporter writes to its log: who it is, and changes of state, each once.

use serde_json::Value;

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON, write_private},
    page::Page,
    servers,
};

/// One query each second, on whatever targets there are.
const QUERY: &str = "[queries.q]\nsql = \"select 1 as n\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
    [queries.q.metrics.n]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n";

#[tokio::test]
async fn the_first_line_says_version_file_targets_items_and_address() {
    let server = servers::mariadb();
    let account = Account::new(server, "hello").await;
    let config = account.group("g", &["one", "two"]) + QUERY;
    let exporter = Exporter::start(&config).await;
    exporter.wait_until("it runs", SOON, |page| page.is_up("one") && page.is_up("two")).await;

    let (file, address) = (exporter.folder().join("fleet.toml"), exporter.address.clone());
    let log = exporter.stop_and_read(&[(server, &account)]).await;
    for part in [
        concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""),
        &format!("config={}", file.display()),
        "targets=2",
        "items=2",
        &format!("address={address}"),
    ] {
        assert!(log[0].contains(part), "no {part} in {}", log[0]);
    }
    // A fleet that is well is no news.
    assert_eq!(log.len(), 1, "{log:#?}");
}

#[tokio::test]
async fn a_target_that_stays_down_for_20_seconds_is_one_line() {
    const SECONDS: u64 = 20;
    let config = format!("[groups.g]\nuser = \"nobody\"\ntargets = {{ dead = \"127.0.0.1:1\" }}\n{QUERY}");
    let exporter = Exporter::start_with(&config, |command, _| {
        command.args(["--log-format", "json"]);
    })
    .await;

    let ticks = |page: &Page| page.runs("dead", "failure") + page.missed("dead");
    let page = exporter.wait_until("20 ticks", SOON * 3, |page| ticks(page) >= SECONDS).await;
    assert!(page.runs("dead", "failure") >= 2, "it was tried more than once");
    let address = exporter.address.clone();
    let log = exporter.stop_and_read(&[]).await;
    let lines: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert_eq!(lines[0]["message"], "fleet-query-exporter runs");
    assert_eq!(lines[0]["level"], "INFO");
    assert_eq!(lines[0]["address"], address.as_str());
    assert_eq!(lines[0]["targets"], 1);
    assert_eq!(lines[1]["message"], "target is down");
    assert_eq!(lines[1]["level"], "WARN");
    assert_eq!(lines[1]["target_name"], "dead");
    assert_eq!(lines[1]["reason"], "refused");
}

#[tokio::test]
async fn a_query_that_fails_is_told_once_and_its_recovery_too() {
    let server = servers::mariadb();
    let account = Account::new(server, "told").await;
    let mut admin = server.admin().await;
    let config = account.group("g", &["db"]) + &QUERY.replace("select 1 as n", "select n from t");
    let exporter = Exporter::start(&config).await;

    exporter.wait_until("it failed thrice", SOON, |page| page.runs("db", "failure") >= 3).await;
    let schema = &account.schema;
    admin.run(&format!("create table {schema}.t (n int); insert into {schema}.t values (1)")).await;
    exporter.wait_until("it succeeds", SOON, |page| page.runs("db", "success") >= 2).await;
    let log = exporter.stop_and_read(&[(server, &account)]).await;
    assert_eq!(log.len(), 3, "{log:#?}");
    assert!(log[1].contains("WARN item fails") && log[1].contains("item=q@db"), "{log:#?}");
    assert!(log[1].contains("error 1146"), "{log:#?}");
    assert!(log[2].contains("INFO item is well again"), "{log:#?}");
}

#[tokio::test]
async fn a_secret_that_is_missing_is_a_warning_and_takes_down_its_own_targets_alone() {
    let server = servers::mariadb();
    let account = Account::new(server, "missing").await;
    let without = format!(
        "[groups.without]\nuser = \"u\"\npassword_file = \"nowhere\"\ntargets = {{ ill = \"{}\" }}\n",
        account.address
    );
    let exporter = Exporter::start(&(account.group("g", &["well"]) + &without + QUERY)).await;
    let page = exporter
        .wait_until("both were tried", SOON, |page| page.is_up("well") && page.runs("ill", "failure") > 0)
        .await;
    assert_eq!(page.reason("ill"), Some("credentials"));

    // The file appears: no restart.
    write_private(&exporter.folder().join("nowhere"), b"wrong");
    exporter.wait_until("it is read", SOON, |page| page.reason("ill") == Some("auth")).await;

    let place = format!("WARN {}:8:17: ", exporter.folder().join("fleet.toml").display());
    let log = exporter.stop_and_read(&[(server, &account)]).await;
    assert_eq!(log.len(), 4, "{log:#?}");
    assert!(log[0].contains("INFO fleet-query-exporter runs"), "{log:#?}");
    assert!(log[1].contains(&place) && log[1].contains("nowhere"), "{log:#?}");
    for (line, reason) in [(&log[2], "reason=credentials"), (&log[3], "reason=auth")] {
        let parts = ["WARN target is down", "target_name=\"ill\"", reason];
        assert!(parts.iter().all(|part| line.contains(part)), "{log:#?}");
    }
}
