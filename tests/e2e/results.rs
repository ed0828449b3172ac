//! What the page shows of a table: its values and labels, as they are now.

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    on_both_servers,
    page::Page,
    promtool,
    servers::{Admin, Server},
};

on_both_servers!(
    values_and_labels_equal_the_tables,
    a_counter_follows_its_table,
    a_row_that_vanishes_is_gone_with_the_next_run,
    a_page_with_any_bytes_in_its_labels_is_valid,
);

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

async fn a_counter_follows_its_table(server: &Server) {
    let account = Account::new(server, "counter").await;
    let mut admin = server.admin().await;
    let schema = &account.schema;
    admin.run(&format!("create table {schema}.n (n bigint); insert into {schema}.n values (41)")).await;
    let metric = "[queries.q.metrics.clicks_total]\ntype = \"counter\"\nhelp = \"clicks\"\nvalue = \"n\"\n";
    let exporter = Exporter::start(&config(&account, "select n from n", metric)).await;

    let shows =
        |n| move |page: &Page| page.value("query_exporter_clicks_total", &[("target", "db")]) == Some(n);
    let page = exporter.wait_until("the counter is 41", SOON, shows(41.0)).await;
    assert!(page.has_line("# TYPE query_exporter_clicks_total counter"));
    admin.run(&format!("update {schema}.n set n = n + 1")).await;
    exporter.wait_until("the counter is 42", SOON, shows(42.0)).await;
    admin.run(&format!("update {schema}.n set n = 7")).await;
    exporter.wait_until("a counter that was reset is shown as it is", SOON, shows(7.0)).await;

    exporter.stop(&[(server, &account)]).await;
}

async fn a_row_that_vanishes_is_gone_with_the_next_run(server: &Server) {
    let account = Account::new(server, "vanish").await;
    let mut admin = server.admin().await;
    let schema = &account.schema;
    admin
        .run(&format!(
            "create table {schema}.n (name varchar(50) primary key, n int);
             insert into {schema}.n values ('stays', 1), ('goes', 2)"
        ))
        .await;
    let metric =
        "[queries.q.metrics.n]\ntype = \"gauge\"\nhelp = \"n\"\nlabels = [\"name\"]\nvalue = \"n\"\n";
    let exporter = Exporter::start(&config(&account, "select name, n from n", metric)).await;
    let names = |page: &Page| -> Vec<_> {
        page.series("query_exporter_n", &[]).iter().map(|(labels, _)| labels["name"].clone()).collect()
    };
    exporter.wait_until("both rows are shown", SOON, |page| names(page).len() == 2).await;

    admin.run(&format!("delete from {schema}.n where name = 'goes'")).await;
    // The first of these may have begun before the row went.
    let page = exporter.wait_for_runs("db", 2, SOON).await;
    assert_eq!(names(&page), ["stays"]);
    admin.run(&format!("delete from {schema}.n")).await;
    let page = exporter.wait_for_runs("db", 2, SOON).await;
    assert_eq!(names(&page), [""; 0]);
    assert!(page.is_up("db"), "an empty answer is an answer");

    exporter.stop(&[(server, &account)]).await;
}

async fn a_page_with_any_bytes_in_its_labels_is_valid(server: &Server) {
    let account = Account::new(server, "bytes").await;
    let mut admin = server.admin().await;
    make_odd_rows(&mut admin, &account.schema).await;
    let metric = "[queries.q.metrics.odd]\ntype = \"gauge\"\nhelp = 'a \\ and \"quotes\"'\nlabels = [\"name\"]\nvalue = \"n\"\n";
    let exporter = Exporter::start(&config(&account, "select name, n from odd", metric)).await;

    let page = exporter
        .wait_until("the query has run", SOON, |page| !page.lines("query_exporter_odd").is_empty())
        .await;
    // Each byte alone is a label value; a hundred and more that are not UTF-8 become the same replacement character,
    // and of equal series the first is kept.
    assert_eq!(page.lines("query_exporter_odd").len(), 128 + 1, "{:#?}", page.lines("query_exporter_odd"));
    let dropped =
        page.value("query_exporter_series_dropped_total", &[("query", "q"), ("reason", "duplicate")]);
    assert!(dropped >= Some(127.0), "{dropped:?}");
    assert!(page.has_line(r#"query_exporter_odd{target="db",name="\\"} 92"#));
    assert!(page.has_line(r#"query_exporter_odd{target="db",name="\""} 34"#));
    assert!(page.has_line(r#"query_exporter_odd{target="db",name="\n"} 10"#));
    promtool::assert_valid(&page);

    exporter.stop(&[(server, &account)]).await;
}

/// A row for each byte there is.
async fn make_odd_rows(admin: &mut Admin, schema: &str) {
    let rows: Vec<_> = (0..=255).map(|n| format!("(x'{n:02x}', {n})")).collect();
    admin
        .run(&format!(
            "create table {schema}.odd (name varbinary(10), n int); insert into {schema}.odd values {}",
            rows.join(", ")
        ))
        .await;
}
