//! What `target_info` says of a server, and what is told of one that refuses the session's guards.

use fleetsim::{Answer, Preset, Script, Sim};

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    on_both_servers,
    page::Page,
    servers::{Kind, Server},
};

on_both_servers!(a_server_takes_every_guard_and_says_its_role);

const QUERY: &str = "[queries.q]\nsql = \"select 42 as n\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
    [queries.q.metrics.n]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n";

/// Whether `target_info` has these labels.
fn says(page: &Page, labels: &[(&str, &str)]) -> bool {
    page.value("query_exporter_target_info", labels) == Some(1.0)
}

async fn a_server_takes_every_guard_and_says_its_role(server: &Server) {
    let account = Account::new(server, "guards").await;
    let exporter = Exporter::start(&(account.group("g", &["db"]) + QUERY)).await;
    let page = exporter.wait_for_runs("db", 1, SOON).await;
    let flavour = if server.kind == Kind::MariaDb { "mariadb" } else { "mysql" };
    let labels = [("flavour", flavour), ("role", "writable"), ("guards_refused", "")];
    assert!(says(&page, &labels), "{}", page.text);
    let log = exporter.stop_and_read(&[(server, &account)]).await;
    assert!(!log.iter().any(|line| line.contains("guards")), "{log:#?}");
}

#[tokio::test]
async fn t26_refused_guards_are_one_line_until_they_change() {
    let script =
        || Script::new(Preset::ProxySql).variable("read_only", "1").on(" 42 as n", Answer::integer("n", 42));
    let refusing = || {
        script()
            .refuse_set("read_only", 1193)
            .refuse_set("TRANSACTION", 1064)
            .refuse_set(" wait_timeout", 1193)
    };
    let mut sim = Sim::start(refusing()).await.unwrap();
    let group = format!("[groups.g]\nuser = \"monitor\"\ntargets = {{ db = \"{}\" }}\n", sim.address());
    let exporter = Exporter::start(&(group + QUERY)).await;

    let refused = [("role", "read_only"), ("guards_refused", "read_only wait_timeout")];
    exporter.wait_until("it shows them", SOON, |page| says(page, &refused)).await;
    // Other connections to the same server are no news.
    for connects in [2, 3] {
        sim.restart().await;
        let again =
            |page: &Page| page.of("db", "query_exporter_connects_total") >= connects && page.is_up("db");
        exporter.wait_until("it has connected again", SOON, again).await;
    }
    let warned = || exporter.log().with("refused guards");
    assert_eq!(warned().len(), 1, "{}", exporter.log().text());
    for part in ["WARN", "target_name=\"db\"", "group=\"g\"", "read_only: ", "wait_timeout: ", "(error 1193)"]
    {
        assert!(warned()[0].contains(part), "{part} is not in {:?}", warned()[0]);
    }

    // Another set is told again, and that there is none.
    for (script, refused) in [(script().refuse_set("autocommit", 1193), "autocommit"), (script(), "")] {
        sim.set(script).await.unwrap();
        sim.restart().await;
        let changed = |page: &Page| says(page, &[("guards_refused", refused)]);
        exporter.wait_until("it shows the change", SOON, changed).await;
    }
    let page = exporter.wait_for_runs("db", 1, SOON).await;
    assert_eq!(page.value("query_exporter_n", &[]), Some(42.0));
    let log = exporter.stop_and_read(&[]).await;
    let told = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!((told("refused guards"), told("now sets every guard")), (2, 1), "{log:#?}");
}
