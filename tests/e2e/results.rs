//! What the page shows of a table: its values and labels, as they are now.

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    on_both_servers,
    page::Page,
    promtool,
    servers::Server,
};

on_both_servers!(values_and_labels_equal_the_tables, what_the_server_says_of_itself_maps_whole);

/// A query on one target, each second.
fn config(account: &Account, sql: &str, metric: &str) -> String {
    format!(
        "{}[queries.q]\nsql = '''{sql}'''\ninterval = \"1s\"\ntimeout = \"1s\"\n{metric}",
        account.group("g", &["db"])
    )
}

async fn values_and_labels_equal_the_tables(server: &Server) {
    let account = Account::new(server, "values").await;
    let mut admin = server.admin().await;
    let schema = &account.schema;
    admin
        .run(&format!(
            "create table {schema}.n (name varchar(50) primary key, exact decimal(65, 30), big bigint unsigned, tiny double);
             insert into {schema}.n values
                 ('plain', 1, 2, 3), ('zürich', -0.5, 18446744073709551615, 1e300),
                 ('two words', 12345678901234567890123456789012345.123456789012345678901234567890, 0, -2.5e-10),
                 ('nothing', null, null, null)"
        ))
        .await;
    let sql = "select name, exact, big, tiny from n";
    let metrics = ["exact", "big", "tiny"].map(|column| {
        format!("[queries.q.metrics.{column}]\ntype = \"gauge\"\nhelp = \"{column}\"\nlabels = [\"name\"]\nvalue = \"{column}\"\n")
    });
    let exporter = Exporter::start(&config(&account, sql, &metrics.concat())).await;

    let page = exporter
        .wait_until("the query has run", SOON, |page| !page.lines("query_exporter_big").is_empty())
        .await;
    // Digits go out as they come in, so the text is compared, not a number.
    for column in ["exact", "big"] {
        let rows =
            admin.rows(&format!("select name, {column} from {schema}.n where {column} is not null")).await;
        let mut expected: Vec<_> = rows
            .into_iter()
            .map(|row| {
                let [name, value] = row.try_into().unwrap();
                format!(
                    "query_exporter_{column}{{target=\"db\",name=\"{}\"}} {}",
                    name.unwrap(),
                    value.unwrap()
                )
            })
            .collect();
        expected.sort();
        let mut lines = page.lines(&format!("query_exporter_{column}"));
        lines.sort_unstable();
        assert_eq!(lines, expected);
    }
    for (name, value) in [("plain", 3.0), ("zürich", 1e300), ("two words", -2.5e-10)] {
        assert_eq!(page.value("query_exporter_tiny", &[("name", name)]), Some(value));
    }
    assert_eq!(page.series("query_exporter_tiny", &[]).len(), 3, "NULL is no sample");
    promtool::assert_valid(&page);

    exporter.stop(&[(server, &account)]).await;
}

async fn what_the_server_says_of_itself_maps_whole(server: &Server) {
    let account = Account::new(server, "variables").await;
    let metric = "[queries.q.metrics.variable]\ntype = \"gauge\"\nhelp = \"variables\"\nlabels = [\"variable_name\"]\nvalue = \"value\"\n";
    let exporter = Exporter::start(&config(&account, "show global variables", metric)).await;

    let variable = |page: &Page, name| page.value("query_exporter_variable", &[("variable_name", name)]);
    let page = exporter
        .wait_until("the variables are there", SOON, |page| variable(page, "max_connections").is_some())
        .await;
    assert_eq!(variable(&page, "autocommit"), Some(1.0), "ON");
    assert_eq!(variable(&page, "skip_networking"), Some(0.0), "OFF");
    assert_eq!(variable(&page, "port"), Some(f64::from(server.port)));
    assert_eq!(variable(&page, "version_comment"), None, "a text");
    assert!(
        page.count("query_exporter_series_dropped_total", &[("query", "q"), ("reason", "not_a_number")]) > 10
    );
    assert_eq!(page.runs("db", "failure"), 0);
    promtool::assert_valid(&page);

    exporter.stop(&[(server, &account)]).await;
}
