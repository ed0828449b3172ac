//! What a database may answer, hold or lose: T20, T27 and T29 to T33. T28 is in `cells.rs`.

use crate::support::{
    account::Account,
    bystander::{assert_untroubled, bystander},
    exporter::{Exporter, SOON},
    forwarder::Forwarder,
    on_both_servers,
    page::Page,
    promtool, quoted,
    servers::{self, Admin, Server},
};

on_both_servers!(
    t20_of_a_statement_the_only_result_set_counts_and_several_are_refused,
    t27_a_column_that_is_missing_or_there_twice_is_named_once_beside_those_that_are_there,
    t29_a_label_of_any_bytes_is_valid_cut_at_its_limit_and_read_back_as_it_was,
    t29_each_byte_there_is_makes_a_valid_page,
    t30_of_equal_series_the_first_row_and_the_first_query_are_shown_and_the_rest_counted,
    t31_rows_that_vanish_are_gone_with_the_next_run_and_those_of_a_dropped_table_at_their_age_limit,
    t32_a_counter_that_goes_back_is_passed_through,
    t33_ever_more_series_are_refused_and_everything_else_stays,
);

/// A group with the target `db`, and one that stands beside it.
fn groups(account: &Account) -> String {
    account.group("g", &["db"]) + &bystander(account)
}

/// A query on the target `db`, each second. What else it has follows.
fn query(name: &str, sql: &str) -> String {
    format!(
        "[queries.{name}]\ngroups = [\"g\"]\nsql = {}\ninterval = \"1s\"\ntimeout = \"1s\"\n",
        quoted(sql)
    )
}

/// A gauge of this query that takes its number from the column `n`.
fn gauge(query: &str, family: &str, labels: &[&str]) -> String {
    format!(
        "[queries.{query}.metrics.{family}]\ntype = \"gauge\"\nhelp = \"n\"\nlabels = {labels:?}\nvalue = \"n\"\n"
    )
}

/// A query with a gauge of its own name.
fn simple(name: &str, sql: &str) -> String {
    query(name, sql) + &gauge(name, name, &[])
}

fn failures(page: &Page, reason: &str) -> u64 {
    page.count("query_exporter_failures_total", &[("group", "g"), ("reason", reason)])
}

fn has_succeeded(page: &Page, query: &str) -> bool {
    page.value("query_exporter_query_oldest_success_timestamp_seconds", &[("query", query)]) > Some(0.0)
}

/// The series of a family on the target `db`, each with the value of one of its labels.
fn with_label(page: &Page, family: &str, label: &str) -> Vec<(String, f64)> {
    let series = page.series(&format!("query_exporter_{family}"), &[("target", "db")]);
    series.iter().map(|(labels, value)| (labels[label].clone(), *value)).collect()
}

/// Asserts that nobody else noticed, and ends the exporter.
async fn end(exporter: Exporter, server: &Server, account: &Account) {
    // Some faults come and go between two of its runs.
    let page = exporter.wait_for_runs("well", 2, SOON).await;
    assert_untroubled(&page, "well");
    promtool::assert_valid(&page);
    exporter.stop(&[(server, account)]).await;
}

async fn t20_of_a_statement_the_only_result_set_counts_and_several_are_refused(server: &Server) {
    const EMPTY: &str = "select 1 as n from dual where 1 = 0;";
    const REFUSED: [&str; 3] = ["two", "empty_and_one", "one_and_empty"];
    let account = Account::new(server, "results").await;
    let mut admin = server.admin().await;
    let schema = &account.schema;
    admin.run(&format!("grant execute on {schema}.* to '{}'@'%'", account.user)).await;
    let procedures = [
        ("one", "select 5 as n;"),
        ("none", "set @a = 1;"),
        ("no_rows", EMPTY),
        ("two", "select 1 as n; select 2 as n;"),
        ("empty_and_one", &format!("{EMPTY} select 1 as n;")),
        ("one_and_empty", &format!("select 1 as n; {EMPTY}")),
    ];
    let mut config = groups(&account) + &simple("plainly_empty", EMPTY);
    for (name, body) in procedures {
        admin.run(&format!("create procedure {schema}.{name}() begin {body} end")).await;
        config += &(query(name, &format!("call {name}()")) + "allow_call = true\n" + &gauge(name, name, &[]));
    }
    let exporter = Exporter::start(&config).await;

    let fails = |name: &str| {
        exporter.log().with("item fails").into_iter().find(|l| l.contains(&format!("item={name}@db")))
    };
    let page = exporter
        .wait_until("each was called", SOON, |page| {
            ["one", "none", "no_rows", "plainly_empty"].iter().all(|name| has_succeeded(page, name))
                && REFUSED.iter().all(|name| fails(name).is_some())
        })
        .await;
    assert_eq!(page.value("query_exporter_one", &[("target", "db")]), Some(5.0));
    for name in REFUSED {
        let line = fails(name).unwrap();
        assert!(line.contains("reason=mapping") && line.contains("more than one result set"), "{line}");
    }
    for name in ["none", "no_rows", "plainly_empty"].iter().chain(&REFUSED) {
        assert_eq!(page.lines(&format!("query_exporter_{name}")), [""; 0]);
    }
    assert!(page.is_up("db"), "a server that answers is up");
    // What follows on the same connections is read right.
    let page = exporter.wait_for_runs("db", 8, SOON).await;
    assert_eq!(page.value("query_exporter_one", &[("target", "db")]), Some(5.0));
    assert_eq!(failures(&page, "mapping"), page.runs("db", "failure"));

    end(exporter, server, &account).await;
}

async fn t27_a_column_that_is_missing_or_there_twice_is_named_once_beside_those_that_are_there(
    server: &Server,
) {
    let account = Account::new(server, "columns").await;
    let mut admin = server.admin().await;
    let schema = &account.schema;
    admin.run(&format!("create table {schema}.t (n int, m int); insert into {schema}.t values (1, 2)")).await;
    let config = groups(&account)
        + &simple("renamed", "select * from t")
        + &simple("twice", "select n, 3 as n from t")
        + &simple("other_case", "select m as N from t");
    let exporter = Exporter::start(&config).await;

    exporter
        .wait_until("the first runs", SOON, |page| {
            has_succeeded(page, "renamed")
                && has_succeeded(page, "other_case")
                && failures(page, "mapping") > 0
        })
        .await;
    admin.run(&format!("alter table {schema}.t rename column n to size, add column `order` int")).await;
    let fails = |item: &str| exporter.log().with(&format!("item={item}@db"));
    exporter.wait_until("the renamed column is missed", SOON, |_| !fails("renamed").is_empty()).await;
    // It stays wrong, and the log stays silent.
    let goal = failures(&exporter.page().await, "mapping") + 2;
    let page = exporter.wait_until("and missed again", SOON, |page| failures(page, "mapping") >= goal).await;
    assert_eq!(page.value("query_exporter_other_case", &[("target", "db")]), Some(2.0));
    for (item, says) in [
        ("renamed", "reason=mapping error=\"there is no column n; the answer has size, m, order\""),
        (
            "twice",
            "reason=mapping error=\"column n is there more than once: give each a name of its own with AS; the answer has n, n\"",
        ),
    ] {
        let lines = fails(item);
        assert_eq!(lines.iter().filter(|line| line.contains(says)).count(), 1, "{lines:#?}");
    }

    end(exporter, server, &account).await;
}

async fn t29_a_label_of_any_bytes_is_valid_cut_at_its_limit_and_read_back_as_it_was(server: &Server) {
    // What is in the table, and what a reader finds.
    let labels: [(&[u8], &str); 11] = [
        (b"", ""),
        (b"a\xffb\xc3", "a\u{fffd}b\u{fffd}"),
        (b"a\0b", "a\0b"),
        (b"a\nb\n", "a\nb\n"),
        (b"\"a\"", "\"a\""),
        (b"\\n\\", "\\n\\"),
        (b"a\r\nb", "a\r\nb"),
        ("zürich 😀".as_bytes(), "zürich 😀"),
        (b"} 1 # {a=\"b\",", "} 1 # {a=\"b\","),
        (&"x".repeat(65_536).into_bytes(), &"x".repeat(1024)),
        // The limit lies within a character.
        (&format!("a{}", "😀".repeat(16_384)).into_bytes(), &format!("a{}", "😀".repeat(255))),
    ];
    let account = Account::new(server, "labels").await;
    let rows = labels.iter().zip(0..).map(|((bytes, _), n)| {
        let hex: String = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        format!("({n}, x'{hex}')")
    });
    let rows = rows.collect::<Vec<_>>().join(", ");
    let schema = &account.schema;
    let make =
        format!("create table {schema}.t (n int, label longblob); insert into {schema}.t values {rows}");
    server.admin().await.run(&make).await;
    let config =
        groups(&account) + &query("label", "select n, label from t") + &gauge("label", "label", &["label"]);
    let exporter = Exporter::start(&config).await;

    let page = exporter.wait_until("the labels are there", SOON, |page| has_succeeded(page, "label")).await;
    let lines = page.lines("query_exporter_label");
    assert_eq!(lines.len(), labels.len(), "{lines:#?}");
    for (line, (n, (_, expected))) in lines.iter().zip(labels.iter().enumerate()) {
        let label = line.strip_prefix("query_exporter_label{target=\"db\",label=\"");
        let label = label
            .and_then(|rest| rest.strip_suffix(&format!("\"}} {n}")))
            .unwrap_or_else(|| panic!("{line}"));
        assert_eq!(unescaped(label), *expected);
    }
    let cut = page.count("query_exporter_labels_cut_total", &[("query", "label")]);
    assert!(cut >= 2 && cut % 2 == 0, "two for each run: {cut}");

    end(exporter, server, &account).await;
}

/// A label's value, as the text format says that it is to be read.
fn unescaped(label: &str) -> String {
    let mut chars = label.chars();
    let mut value = String::new();
    while let Some(c) = chars.next() {
        value.push(match c {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some(c @ ('\\' | '"')) => c,
                other => panic!("{other:?} behind a backslash in {label:?}"),
            },
            '"' | '\n' => panic!("{c:?} stands in {label:?}"),
            c => c,
        });
    }
    value
}

async fn t29_each_byte_there_is_makes_a_valid_page(server: &Server) {
    let account = Account::new(server, "bytes").await;
    make_odd_rows(&mut server.admin().await, &account.schema).await;
    let metric = "[queries.q.metrics.odd]\ntype = \"gauge\"\nhelp = 'a \\ and \"quotes\"'\nlabels = [\"name\"]\nvalue = \"n\"\n";
    let exporter =
        Exporter::start(&(groups(&account) + &query("q", "select name, n from odd") + metric)).await;

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

    end(exporter, server, &account).await;
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

async fn t30_of_equal_series_the_first_row_and_the_first_query_are_shown_and_the_rest_counted(
    server: &Server,
) {
    let account = Account::new(server, "equal").await;
    let config = groups(&account)
        + &query("rows", "select 1 as n, 'a' as who union all select 2, 'b' union all select 3, 'a'")
        + &gauge("rows", "of_rows", &["who"])
        + &query("z_second", "select 6 as n, 'x' as who")
        + &gauge("z_second", "shared", &["who"])
        + &query("a_first", "select 5 as n, 'x' as who")
        + &gauge("a_first", "shared", &["who"]);
    let exporter = Exporter::start(&config).await;

    let dropped = |page: &Page, query: &str| {
        page.count("query_exporter_series_dropped_total", &[("query", query), ("reason", "duplicate")])
    };
    let page = exporter
        .wait_until("both kinds were counted", SOON, |page| {
            has_succeeded(page, "a_first") && dropped(page, "rows") > 0 && dropped(page, "z_second") > 0
        })
        .await;
    assert_eq!(with_label(&page, "of_rows", "who"), [("a".to_owned(), 1.0), ("b".to_owned(), 2.0)]);
    assert_eq!(with_label(&page, "shared", "who"), [("x".to_owned(), 5.0)]);
    assert_eq!(dropped(&page, "a_first"), 0);

    end(exporter, server, &account).await;
}

async fn t31_rows_that_vanish_are_gone_with_the_next_run_and_those_of_a_dropped_table_at_their_age_limit(
    server: &Server,
) {
    let account = Account::new(server, "vanish").await;
    let mut admin = server.admin().await;
    let schema = &account.schema;
    admin
        .run(&format!(
            "create table {schema}.n (name varchar(50) primary key, n int);
             insert into {schema}.n values ('stays', 1), ('goes', 2)"
        ))
        .await;
    let config = groups(&account)
        + &query("n", "select name, n from n")
        + "expire_after = \"5s\"\n"
        + &gauge("n", "n", &["name"]);
    let exporter = Exporter::start(&config).await;
    let names =
        |page: &Page| -> Vec<_> { with_label(page, "n", "name").into_iter().map(|(name, _)| name).collect() };
    exporter.wait_until("both rows are shown", SOON, |page| names(page).len() == 2).await;

    admin.run(&format!("delete from {schema}.n where name = 'goes'")).await;
    // The first of these may have begun before the row went.
    let page = exporter.wait_for_runs("db", 2, SOON).await;
    assert_eq!(names(&page), ["stays"]);
    admin.run(&format!("delete from {schema}.n")).await;
    let page = exporter.wait_for_runs("db", 2, SOON).await;
    assert_eq!(names(&page), [""; 0]);
    assert!(page.is_up("db"), "an empty answer is an answer");
    assert_eq!(page.runs("db", "failure"), 0);

    admin.run(&format!("insert into {schema}.n values ('last', 3)")).await;
    exporter.wait_until("the new row is shown", SOON, |page| names(page) == ["last"]).await;
    admin.run(&format!("drop table {schema}.n")).await;
    let page = exporter
        .wait_until("the table is missed", SOON, |page| page.reason("db") == Some("server_error"))
        .await;
    assert_eq!(names(&page), ["last"], "a failed run keeps the last good result");
    assert!(page.is_up("db"), "an error is an answer");
    assert_eq!(failures(&page, "server_error"), page.runs("db", "failure"));
    exporter.wait_until("the last result leaves", SOON, |page| names(page).is_empty()).await;
    let log = exporter.log().with("item=n@db");
    assert_eq!(log.len(), 1, "{log:#?}");
    assert!(log[0].contains("reason=server_error") && log[0].contains("error 1146"), "{log:#?}");

    end(exporter, server, &account).await;
}

async fn t32_a_counter_that_goes_back_is_passed_through(server: &Server) {
    let account = Account::new(server, "counter").await;
    let mut admin = server.admin().await;
    let schema = &account.schema;
    admin.run(&format!("create table {schema}.n (n bigint); insert into {schema}.n values (41)")).await;
    let exporter = Exporter::start(&(groups(&account) + &clicks())).await;

    let page = exporter.wait_until("the counter is 41", SOON, shows(41.0)).await;
    assert!(page.has_line("# TYPE query_exporter_clicks_total counter"));
    admin.run(&format!("update {schema}.n set n = n + 1")).await;
    exporter.wait_until("the counter is 42", SOON, shows(42.0)).await;
    admin.run(&format!("update {schema}.n set n = 7")).await;
    exporter.wait_until("a counter that was reset is shown as it is", SOON, shows(7.0)).await;

    end(exporter, server, &account).await;
}

fn clicks() -> String {
    query("q", "select n from n")
        + "[queries.q.metrics.clicks_total]\ntype = \"counter\"\nhelp = \"clicks\"\nvalue = \"n\"\n"
}

/// Whether the counter is this.
fn shows(n: f64) -> impl Fn(&Page) -> bool {
    move |page| page.value("query_exporter_clicks_total", &[("target", "db")]) == Some(n)
}

#[tokio::test]
async fn t32_after_a_failover_the_other_servers_counter_is_shown_and_target_info_names_that_server() {
    let mariadb = servers::mariadb();
    let Some(mysql) = servers::mysql() else { return };
    let account = Account::new(mariadb, "failover").await;
    account.make(&mut mysql.admin().await).await;
    for (server, n) in [(mariadb, 41), (mysql, 7)] {
        let make = format!("create table {0}.n (n bigint); insert into {0}.n values ({n})", account.schema);
        server.admin().await.run(&make).await;
    }
    let forwarder = Forwarder::to(mariadb.address()).await;
    let config = account.group_of("g", &format!("db = {}", quoted(&forwarder.address)))
        + &bystander(&account)
        + &clicks();
    let exporter = Exporter::start(&config).await;
    let flavour = |page: &Page| match page.series("query_exporter_target_info", &[("target", "db")])[..] {
        [(labels, _)] => labels["flavour"].clone(),
        ref other => panic!("{other:?}"),
    };
    let page = exporter.wait_until("the first server's counter", SOON, shows(41.0)).await;
    assert_eq!(flavour(&page), "mariadb");

    forwarder.move_to(mysql.address());
    let page = exporter.wait_until("the other server's counter", SOON, shows(7.0)).await;
    assert_eq!(flavour(&page), "mysql");
    assert!(page.is_up("db"));
    assert_untroubled(&page, "well");
    promtool::assert_valid(&page);

    exporter.stop(&[(mariadb, &account)]).await;
    account.assert_no_session_left(&mut mysql.admin().await).await;
}

async fn t33_ever_more_series_are_refused_and_everything_else_stays(server: &Server) {
    let account = Account::new(server, "explosion").await;
    let mut admin = server.admin().await;
    let schema = &account.schema;
    admin.run(&format!("create table {schema}.t (n int); insert into {schema}.t values (1), (2)")).await;
    let config = groups(&account)
        + &query("grows", "select n, n as id from t")
        + "max_series = 100\n"
        + &gauge("grows", "grows", &["id"])
        + &simple("beside_it", "select 1 as n");
    let exporter = Exporter::start(&config).await;
    let ids = |page: &Page| with_label(page, "grows", "id").len();
    exporter.wait_until("both rows are shown", SOON, |page| ids(page) == 2).await;

    let rows: Vec<_> = (3..=101).map(|n| format!("({n})")).collect();
    admin.run(&format!("insert into {schema}.t values {}", rows.join(", "))).await;
    let page = exporter.wait_until("the run is refused", SOON, |page| failures(page, "too_large") > 1).await;
    assert_eq!(ids(&page), 2, "the last good result is kept");
    assert_eq!(page.value("query_exporter_beside_it", &[("target", "db")]), Some(1.0));
    assert_eq!(page.runs("db", "failure"), failures(&page, "too_large"));
    assert!(page.is_up("db"));
    let log = exporter.log().with("item=grows@db");
    assert!(
        log.len() == 1 && log[0].contains("reason=too_large") && log[0].contains("max_series"),
        "{log:#?}"
    );
    admin.run(&format!("delete from {schema}.t where n = 101")).await;
    exporter.wait_until("what fits is shown", SOON, |page| ids(page) == 100).await;

    end(exporter, server, &account).await;
}
