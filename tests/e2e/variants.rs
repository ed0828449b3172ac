//! One query for a mixed fleet: each server is asked what it understands, and one that no variant is for is not asked.

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    promtool, servers,
};

const QUERIES: &str = r#"
[queries.which]
interval = "1s"
timeout = "1s"
[[queries.which.variants]]
when = { flavour = "mariadb", version = ">=10.5" }
sql = "select 'mariadb' as which, @@aria_pagecache_age_threshold as n"
[[queries.which.variants]]
when = { flavour = "mysql", version = ">=5.7, <99" }
sql = "select 'mysql' as which, @@innodb_dedicated_server as n"
[queries.which.metrics.which]
type = "gauge"
help = "something that only this flavour has"
labels = ["which"]
value = "n"

[queries.only_mysql]
interval = "1s"
timeout = "1s"
[[queries.only_mysql.variants]]
when = { flavour = "mysql" }
sql = "select 2 as n"
[queries.only_mysql.metrics.only_mysql]
type = "gauge"
help = "two"
value = "n"
"#;

#[tokio::test]
async fn a_mixed_fleet_feeds_one_family_and_a_server_without_a_variant_has_no_item() {
    let mariadb = servers::mariadb();
    let Some(mysql) = servers::mysql() else { return };
    let (on_mariadb, on_mysql) = (Account::new(mariadb, "mixed").await, Account::new(mysql, "mixed").await);
    let config = on_mariadb.group("a", &["maria"]) + &on_mysql.group("b", &["my"]) + QUERIES;
    let exporter = Exporter::start(&config).await;
    let page = exporter
        .wait_until("each server answered", SOON, |page| {
            page.runs("maria", "success") > 2 && page.runs("my", "success") > 4
        })
        .await;
    let which =
        |target, flavour| page.value("query_exporter_which", &[("target", target), ("which", flavour)]);
    assert!(which("maria", "mariadb").is_some() && which("my", "mysql").is_some(), "{}", page.text);
    assert_eq!(page.text.matches("# TYPE query_exporter_which gauge").count(), 1);
    assert_eq!(page.value("query_exporter_only_mysql", &[("target", "my")]), Some(2.0));
    assert_eq!(page.value("query_exporter_only_mysql", &[("target", "maria")]), None);
    assert_eq!(page.count("query_exporter_query_items", &[("query", "only_mysql")]), 1);
    assert_eq!(page.count("query_exporter_query_items", &[("query", "which")]), 2);
    assert_eq!((page.runs("maria", "failure"), page.runs("my", "failure")), (0, 0));
    promtool::assert_valid(&page);
    exporter.stop(&[(mariadb, &on_mariadb), (mysql, &on_mysql)]).await;
}
