//! A restart is no hole: the last results are served again at their true age. And an interval that is changed in the
//! table is taken while the exporter runs.

use std::{fs, time::Duration};

use fleetsim::{Answer, Connect, Script, Sim};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON, check},
    note, on_both_servers,
    page::Page,
    quoted,
    servers::{Admin, Server},
    wait::{seen_if, wait_for},
};

on_both_servers!(an_interval_in_the_table_is_for_one_item_and_goes_back, a_reload_takes_the_history_along,);

/// A query `name` of one row for each target.
fn query(name: &str, more: &str) -> String {
    format!(
        "[queries.{name}]\nsql = \"select n from {name}\"\n{more}\n\
         [queries.{name}.metrics.{name}]\ntype = \"gauge\"\nhelp = \"{name}\"\nvalue = \"n\"\n"
    )
}

/// A simulated target, and a folder for the history beside it.
async fn simulated() -> (Sim, TempDir) {
    let script =
        Script::default().on("from fast", Answer::integer("n", 7)).on("from daily", Answer::integer("n", 8));
    (Sim::start(script).await.unwrap(), tempfile::tempdir().unwrap())
}

fn sqlite(folder: &TempDir) -> String {
    format!("[history]\nsqlite = {}\n", quoted(folder.path().join("history.db").to_str().unwrap()))
}

fn group(sim: &Sim) -> String {
    format!("[groups.g]\nuser = \"monitor\"\ntargets = {{ db = {} }}\n", quoted(&sim.address()))
}

fn value(page: &Page, query: &str) -> Option<f64> {
    page.value(&format!("query_exporter_{query}"), &[("target", "db")])
}

async fn item(exporter: &Exporter, target: &str, query: &str) -> Value {
    let answer = exporter.get(&format!("/status.json?target={target}")).await;
    let page: Value = serde_json::from_str(&answer.body).unwrap();
    let items = page["items"].as_array().unwrap();
    items.iter().find(|item| item["query"] == query).unwrap().clone()
}

#[tokio::test]
async fn after_a_restart_the_last_results_are_there_at_their_true_age_until_their_limit() {
    let (mut sim, folder) = simulated().await;
    let limit = Duration::from_secs(15);
    let config = sqlite(&folder)
        + &group(&sim)
        + &query("fast", "interval = \"1s\"\ntimeout = \"1s\"\nexpire_after = \"15s\"");
    let exporter = Exporter::start(&config).await;
    exporter.wait_for_runs("db", 2, SOON).await;
    let read_by = Instant::now();
    exporter.stop(&[]).await;

    sim.set(Script::default().connect(Connect::Refuse)).await.unwrap();
    let exporter = Exporter::start(&config).await;
    let listens = Instant::now();
    let page = exporter
        .wait_until("the last result", Duration::from_secs(10), |page| value(page, "fast").is_some())
        .await;
    note!("the last result was there {:?} after the address", listens.elapsed());
    assert_eq!(value(&page, "fast"), Some(7.0));
    assert!(!page.is_up("db"));
    assert_eq!(page.count("query_exporter_history_owner", &[]), 1);
    let success = page.value("query_exporter_query_oldest_success_timestamp_seconds", &[]).unwrap();
    let shown = item(&exporter, "db", "fast").await;
    let age = shown["result"]["age_seconds"].as_f64().unwrap();
    assert!(age >= read_by.elapsed().as_secs_f64() - 2.0, "{age} is too young");
    assert!(success > 0.0 && exporter.log().text().contains("restored=1"), "{}", exporter.log().text());
    let of_target = |page: &Page| page.value("query_exporter_target_last_success_timestamp_seconds", &[]);
    exporter.wait_until("its time", SOON, |page| of_target(page) == Some(success)).await;

    // The server stays away: what is shown gets no younger.
    exporter.wait_until("it leaves at its limit", limit + SOON, |page| value(page, "fast").is_none()).await;
    assert!(read_by.elapsed() < limit + Duration::from_secs(5), "{:?} old", read_by.elapsed());
    exporter.stop(&[]).await;
}

/// It was run by another process, at another interval. It does not run again before its tick of the day.
#[tokio::test]
async fn what_ran_lately_waits_for_its_tick_and_what_says_something_else_is_not_taken_over() {
    let (sim, folder) = simulated().await;
    let top = "[server]\nreload = true\n".to_owned() + &sqlite(&folder) + &group(&sim);
    let fast = query("fast", "interval = \"1s\"\ntimeout = \"1s\"");
    let soon = query("daily", "interval = \"1s\"\ntimeout = \"1s\"");
    let daily = query("daily", "interval = \"24h\"\ntimeout = \"1s\"\n");
    let exporter = Exporter::start(&(top.clone() + &fast + &soon)).await;
    exporter
        .wait_until("both ran", SOON, |page| value(page, "fast").is_some() && value(page, "daily").is_some())
        .await;
    exporter.take(&(top.clone() + &fast + &daily)).await;
    let due_in = |item: &Value| item["next_run_in_seconds"].as_f64().unwrap();
    let before = due_in(&item(&exporter, "db", "daily").await);
    exporter.stop(&[]).await;

    // The column's name is another, and so may be what it says.
    let fast = fast.replace("value = \"n\"", "value = \"N\"");
    let asked = sim.statements().iter().filter(|sql| sql.contains("from daily")).count();
    let exporter = Exporter::start(&(top + &fast + &daily)).await;
    let page = exporter
        .wait_until("both are there", SOON, |page| {
            value(page, "fast").is_some() && value(page, "daily").is_some()
        })
        .await;
    assert_eq!(value(&page, "daily"), Some(8.0));
    let shown = item(&exporter, "db", "daily").await;
    assert!(shown["state"] == "well" && due_in(&shown) <= before, "{shown:#}");
    assert!(due_in(&shown) > before - 60.0, "{before} and then {shown:#}");
    assert_eq!(
        sim.statements().iter().filter(|sql| sql.contains("from daily")).count(),
        asked,
        "it ran again"
    );
    let log = exporter.log().text();
    assert!(log.contains("restored=1") && log.contains("of_another_configuration=1"), "{log}");
    exporter.stop(&[]).await;
}

#[tokio::test]
async fn a_table_that_cannot_be_reached_holds_up_nothing_and_is_counted() {
    let (sim, folder) = simulated().await;
    // Nobody answers there.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let history = format!(
        "[history.mysql]\naddress = \"{}\"\nuser = \"u\"\ndatabase = \"d\"\n",
        mute.local_addr().unwrap()
    );
    let exporter =
        Exporter::start(&(history + &group(&sim) + &query("fast", "interval = \"1s\"\ntimeout = \"1s\"")))
            .await;
    let page = exporter.wait_for_runs("db", 3, SOON).await;
    let count = |page: &Page, name: &str| page.count(&format!("query_exporter_history_{name}"), &[]);
    assert_eq!((count(&page, "up"), count(&page, "owner"), count(&page, "pending_items")), (0, 0, 1));
    assert_eq!(page.missed("db"), 0);
    drop(mute);
    exporter
        .wait_until("it is told", SOON * 2, |page| {
            page.count("query_exporter_history_failures_total", &[("reason", "connection")]) > 0
        })
        .await;
    exporter.stop(&[]).await;
    drop(folder);
}

#[tokio::test]
async fn a_check_says_where_the_history_cannot_be() {
    let config = |history: &str| {
        format!(
            "{history}\n[groups.g]\nuser = \"u\"\ntargets = [\"10.0.0.1\"]\n{}",
            query("fast", "interval = \"10s\"")
        )
    };
    let (code, said, error) = check(&config("[history]\nsqlite = \"history.db\"")).await;
    assert_eq!((code, error.as_str()), (0, ""), "{said}");
    let (code, _, error) = check(&config("[history]\nsqlite = \"not/there/history.db\"")).await;
    assert_eq!(code, 2);
    assert!(
        error.contains("fleet.toml:2:10: error: there is no folder ")
            && error.contains("not/there for the history"),
        "{error}"
    );
    let secret =
        "[history.mysql]\naddress = \"10.0.0.5\"\nuser = \"u\"\ndatabase = \"d\"\npassword_file = \"gone\"";
    let (code, _, error) = check(&config(secret)).await;
    assert_eq!(code, 2);
    assert!(error.contains("gone cannot be read"), "{error}");

    // At the start it is a warning: everything else runs.
    let (sim, _folder) = simulated().await;
    let config = "[history]\nsqlite = \"not/there/history.db\"\n".to_owned()
        + &group(&sim)
        + &query("fast", "interval = \"1s\"\ntimeout = \"1s\"");
    let exporter = Exporter::start(&config).await;
    exporter.wait_for_runs("db", 1, SOON).await;
    assert!(exporter.log().text().contains("there is no folder"), "{}", exporter.log().text());
    // Made now, it is found.
    fs::create_dir_all(exporter.folder().join("not/there")).unwrap();
    exporter
        .wait_until("it is kept", SOON * 2, |page| page.count("query_exporter_history_owner", &[]) == 1)
        .await;
    exporter.stop(&[]).await;
}

/// Two targets on one server, and the history in the account's schema.
struct Kept<'a> {
    account: &'a Account,
    server: &'a Server,
    admin: Admin,
}

impl<'a> Kept<'a> {
    async fn new(server: &'a Server, account: &'a Account) -> Self {
        let mut admin = server.admin().await;
        let Account { user, schema, .. } = account;
        admin
            .run(&format!(
                "create table {schema}.q (n int); insert into {schema}.q values (1);
                 grant create, select, insert, update, delete on {schema}.* to '{user}'@'%'"
            ))
            .await;
        Self { account, server, admin }
    }

    fn config(&self, interval: &str, targets: &[&str]) -> String {
        let Account { user, password, schema, address } = self.account;
        format!(
            "[server]\nreload = true\n[history.mysql]\naddress = \"{address}\"\nuser = \"{user}\"\npassword = \"{password}\"\n\
             database = \"{schema}\"\ntls = {{ mode = \"preferred\" }}\n{}{}",
            self.account.group("g", targets),
            query("q", &format!("interval = \"{interval}\"\ntimeout = \"1s\""))
        )
    }

    /// What the rows say, once there is a table: the item and its interval.
    async fn rows(&mut self) -> Vec<(String, String)> {
        let tables = format!("show tables from {} like 'history'", self.account.schema);
        if self.admin.rows(&tables).await.is_empty() {
            return Vec::new();
        }
        let sql =
            format!("select item, execution_interval from {}.history order by item", self.account.schema);
        let rows = self.admin.rows(&sql).await.into_iter();
        rows.map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect()
    }

    async fn wait_for_rows(&mut self, expected: &[(&str, &str)]) {
        let expected: Vec<_> =
            expected.iter().map(|(item, n)| ((*item).to_owned(), (*n).to_owned())).collect();
        wait_for("the rows of the history", SOON, async || {
            let rows = self.rows().await;
            seen_if(rows == expected, rows)
        })
        .await;
    }

    async fn set(&mut self, item: &str, seconds: i64) {
        let table = format!("{}.history", self.account.schema);
        self.admin
            .run(&format!("update {table} set execution_interval = {seconds} where item = '{item}'"))
            .await;
    }

    async fn wait_for_interval(&self, exporter: &Exporter, target: &str, seconds: f64) -> Duration {
        let begun = Instant::now();
        wait_for("the interval", SOON * 2, async || {
            let item = item(exporter, target, "q").await;
            seen_if(item["interval_seconds"].as_f64() == Some(seconds), item)
        })
        .await;
        begun.elapsed()
    }
}

async fn an_interval_in_the_table_is_for_one_item_and_goes_back(server: &Server) {
    let account = Account::new(server, "interval").await;
    let mut kept = Kept::new(server, &account).await;
    let exporter = Exporter::start(&kept.config("5s", &["a", "b"])).await;
    kept.wait_for_rows(&[("q@a", "5"), ("q@b", "5")]).await;
    let page = exporter.page().await;
    assert_eq!(page.count("query_exporter_history_up", &[]), 1);

    kept.set("q@a", 1).await;
    let took = kept.wait_for_interval(&exporter, "a", 1.0).await;
    note!("{:?}: taken {took:?} after the UPDATE", server.kind);
    exporter.wait_for_runs("a", 4, SOON).await;
    let (a, b) = (item(&exporter, "a", "q").await, item(&exporter, "b", "q").await);
    assert_eq!((&a["configured_interval_seconds"], &b["interval_seconds"]), (&5.0.into(), &5.0.into()));
    let page = exporter.page().await;
    assert_eq!(page.count("query_exporter_history_interval_overrides", &[]), 1);
    assert_eq!(page.missed("b"), 0, "the other goes on untouched");
    let told = exporter.get("/-/config/items").await;
    assert!(
        told.body.contains("\"interval\":\"5s\"") && !told.body.contains("\"interval\":\"1s\""),
        "{}",
        told.body
    );

    // The same file is no change, and takes no interval back.
    let answer = exporter.take(&kept.config("5s", &["a", "b"])).await;
    assert!(answer.body.contains("untouched 2"), "{}", answer.body);

    kept.set("q@b", 200_000).await;
    exporter
        .wait_until("it is refused", SOON, |page| {
            page.count("query_exporter_history_refused_intervals_total", &[]) == 1
        })
        .await;
    assert_eq!(item(&exporter, "b", "q").await["interval_seconds"], 5.0);

    kept.set("q@a", 0).await;
    kept.wait_for_interval(&exporter, "a", 5.0).await;
    kept.wait_for_rows(&[("q@a", "5"), ("q@b", "200000")]).await;
    exporter.stop(&[(kept.server, &account)]).await;
}

async fn a_reload_takes_the_history_along(server: &Server) {
    let account = Account::new(server, "taken_along").await;
    let mut kept = Kept::new(server, &account).await;
    let exporter = Exporter::start(&kept.config("1s", &["a"])).await;
    kept.wait_for_rows(&[("q@a", "1")]).await;
    exporter.take(&kept.config("2s", &["a", "c"])).await;
    kept.wait_for_rows(&[("q@a", "2"), ("q@c", "2")]).await;
    exporter.take(&kept.config("2s", &["c"])).await;
    exporter
        .wait_until("what is no item any more is a row that is left alone", SOON, |page| {
            page.count("query_exporter_history_unknown_rows", &[]) == 1
        })
        .await;
    let answer = exporter
        .take(
            &kept
                .config("2s", &["c"])
                .replace("[history.mysql]", "[history]\nresults = false\n[history.mysql]"),
        )
        .await;
    assert!(answer.body.contains("`[history]` needs a restart"), "{}", answer.body);
    assert!(answer.body.contains("untouched 1"), "{}", answer.body);
    exporter.stop(&[(server, &account)]).await;
}
