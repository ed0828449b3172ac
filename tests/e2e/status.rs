//! The status pages of real fleets: what they say of servers that answer, fail and are not there.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    note, on_both_servers, quoted,
    servers::Server,
    wait::wait_for,
};

on_both_servers!(each_target_and_item_says_how_it_does);

/// What a server's error quotes, and what a label says: markup, to a browser that takes it for that.
const MARKUP: &str = "<img src=x onerror=alert(1)>";

/// Queries with a gauge `n`, each second on every target.
fn queries(queries: &[(&str, &str)]) -> String {
    let query = |(name, sql): &(&str, &str)| {
        format!(
            "[queries.{name}]\nsql = {}\ninterval = \"1s\"\ntimeout = \"1s\"\n\
             [queries.{name}.metrics.{name}]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n",
            quoted(sql)
        )
    };
    queries.iter().map(query).collect()
}

/// Asks for a page of JSON until something holds of it.
async fn wait_for_json(exporter: &Exporter, path: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, SOON, async || {
        let answer = exporter.get(path).await;
        let page: Value = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
        if answer.status == 200 && holds(&page) { Ok(page) } else { Err(format!("{page:#}")) }
    })
    .await
}

/// The items of a target's page by their queries.
fn item<'a>(page: &'a Value, query: &str) -> &'a Value {
    let items = page["items"].as_array().unwrap();
    items.iter().find(|item| item["query"] == query).unwrap()
}

async fn each_target_and_item_says_how_it_does(server: &Server) {
    let account = Account::new(server, "status").await;
    let label = format!("labels = {{ note = {} }}", quoted(MARKUP));
    let at = |address: &str| format!("{{ address = {}, {label} }}", quoted(address));
    let targets = format!(
        "one = {}, dead = {}, resting = {{ address = {}, paused = true }}",
        at(&account.address),
        at("127.0.0.1:1"),
        quoted(&account.address)
    );
    let wrong = format!("select n from `{MARKUP}`");
    let config = account.group_of("g", &targets) + &queries(&[("well", "select 7 as n"), ("wrong", &wrong)]);
    let exporter = Exporter::start(&config).await;

    let page = wait_for_json(&exporter, "/status.json?target=one", "both items have run twice", |page| {
        let items = page["items"].as_array().unwrap();
        let ran = |item: &Value| item["last_run"] != Value::Null && item["running"] == false;
        items.iter().all(ran) && item(page, "wrong")["failures"].as_u64() >= Some(2)
    })
    .await;
    let target = &page["target"];
    assert_eq!((&target["state"], &target["reason"]), (&"up".into(), &Value::Null), "{page:#}");
    assert_eq!(target["items"]["failing"], 1);
    assert_eq!(target["trouble"]["query"], "wrong");
    assert_eq!(target["labels"]["note"], MARKUP);
    assert!(target["server"]["version"].as_str().unwrap().starts_with(|c: char| c.is_ascii_digit()));
    assert_eq!(target["connections"]["limit"], 3);
    let (well, wrong) = (item(&page, "well"), item(&page, "wrong"));
    assert_eq!((&well["state"], &wrong["state"]), (&"well".into(), &"failing".into()));
    assert_eq!((&well["result"]["rows"], &well["result"]["series"]), (&1.into(), &1.into()));
    assert!(well["result"]["age_seconds"].as_f64() < Some(60.0), "{well:#}");
    assert!(well["next_run_in_seconds"].as_f64() <= Some(1.0), "{well:#}");
    assert_eq!(wrong["last_error"]["code"], 1146, "{wrong:#}");
    assert!(wrong["last_error"]["message"].as_str().unwrap().contains(MARKUP));
    assert_eq!(wrong["result"], Value::Null);
    let ran =
        |list: &str| target["hour"][list].as_array().unwrap().iter().any(|value| value.as_f64() > Some(0.0));
    assert!(ran("run_seconds") && ran("failed_runs"), "{target:#}");

    let first = wait_for_json(&exporter, "/status.json", "the dead target was tried", |page| {
        page["fleet"]["down_reasons"]["refused"] == 1
    })
    .await;
    let names: Vec<_> = first["sick"].as_array().unwrap().iter().map(|target| &target["name"]).collect();
    assert_eq!(names, ["dead", "one"], "{first:#}");
    assert_eq!(first["fleet"]["targets"]["paused"], 1);
    assert_eq!(first["sick"][0]["last_error"]["reason"], "refused");
    assert!(first["sick"][0]["next_try"]["failures"].as_u64() >= Some(1));
    assert_eq!(first["exporter"]["version"], env!("CARGO_PKG_VERSION"));

    for path in
        ["/status", "/status?group=g", "/status?target=one", "/status?target=dead", "/status?target=%3Cb%3E"]
    {
        let answer = exporter.get(path).await;
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none';"));
        assert!(!answer.body.contains("<img") && !answer.body.contains("<b>"), "{path}: {}", answer.body);
        let head = exporter.request("HEAD", path).await;
        assert_eq!((head.status, head.body.as_str()), (answer.status, ""), "HEAD {path}");
    }
    let shown = exporter.get("/status?target=one").await.body;
    assert_eq!(
        shown.matches("&lt;img src=x onerror=alert(1)&gt;").count(),
        2,
        "the error and the label: {shown}"
    );
    assert_eq!(exporter.get("/status?target=two").await.status, 404);
    assert!(exporter.get("/").await.body.contains("href=\"status\""));

    exporter.stop(&[(server, &account)]).await;
}

#[tokio::test]
async fn a_fleet_of_300_sick_targets_is_told_in_one_short_page() {
    let group = |name: &str, from: u32| {
        let targets = format!("'{name}{{{from}..{}}}' = '127.0.0.{{{from}..{}}}:1'", from + 99, from + 99);
        format!("[groups.{name}]\nuser = 'nobody'\ntargets = {{ {targets} }}\n")
    };
    let config = ["a", "b", "c"].map(|name| group(name, 100)).concat() + &queries(&[("q", "select 1 as n")]);
    let exporter = Exporter::start(&config).await;

    let page = wait_for_json(&exporter, "/status.json", "all were tried", |page| {
        page["fleet"]["targets"]["down"] == 300
    })
    .await;
    assert_eq!(page["fleet"]["down_reasons"]["refused"], 300);
    assert_eq!((page["sick"].as_array().unwrap().len(), &page["sick_more"]), (50, &250.into()));
    assert_eq!(page["groups"].as_array().unwrap().len(), 3);
    let answer = exporter.get("/status").await;
    note!("the status page of 300 sick targets: {} bytes in {:?}", answer.body.len(), answer.took);
    assert!(answer.took < Duration::from_secs(1), "{:?}", answer.took);
    assert!(answer.body.len() < 200_000 && answer.body.contains("and 250 targets more"));
    let group = wait_for_json(&exporter, "/status.json?group=b", "a group", |_| true).await;
    assert_eq!(group["targets"].as_array().unwrap().len(), 100);
    assert_eq!(exporter.page().await.series("query_exporter_up", &[]).len(), 300);

    exporter.stop(&[]).await;
}
