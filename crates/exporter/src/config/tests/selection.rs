//! Which items a person means who wants to try a query.

use std::{fmt::Write as _, path::Path};

use super::super::{Wanted, check_sql, parse};

const FLEET: &str = r#"
[defaults]
timeout = "3s"

[groups.prod]
user = "u"
timeout = "2s"
targets = { orders-1 = "h1", orders-2 = { address = "h2", paused = true }, stock = { address = "h3", max_rows = 7 } }

[groups.test]
user = "u"
targets = { lab = { address = "h4", queries = { q = { enabled = false } } }, box = "h5" }

[queries.q]
sql = "select 1 as n"
groups = ["prod", "test"]
targets = ["orders-*", "stock", "lab"]
timeout = "1s"
metrics.n = { type = "gauge", help = "one", value = "n" }
"#;

/// The targets with their limits and notes, or what is said instead.
#[track_caller]
fn check(query: Option<&str>, targets: &[&str], groups: &[&str], expected: &str) {
    let config =
        parse(Path::new("fleet.toml"), FLEET, None).unwrap_or_else(|report| panic!("{report}")).config;
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let (targets, groups) = (owned(targets), owned(groups));
    let selected = config.select(Wanted { query, targets: &targets, groups: &groups });
    let selected = selected.map_or_else(
        |unknown| unknown.to_string(),
        |selection| {
            assert_eq!(selection.query.is_some(), query.is_some());
            let mut text = String::new();
            for candidate in &selection.candidates {
                let (name, timeout) = (&candidate.target.name, candidate.timeout);
                let note = candidate.note.map(|note| format!(" ({note})")).unwrap_or_default();
                write!(text, "{name} {timeout:?} {}{note}, ", candidate.limits.rows).unwrap();
            }
            write!(text, "{} paused", selection.n_paused).unwrap();
            text
        },
    );
    assert_eq!(selected, expected);
}

#[test]
fn a_query_is_tried_where_it_runs_unless_something_else_is_said() {
    check(Some("q"), &[], &[], "orders-1 1s 10000, stock 1s 7, 1 paused");
    check(
        Some("q"),
        &["box", "orders-?"],
        &[],
        "orders-1 1s 10000, orders-2 1s 10000 (this target is paused), \
         box 1s 10000 (the query does not reach this target), 0 paused",
    );
    check(
        Some("q"),
        &["stock"],
        &["test"],
        "stock 1s 7, lab 1s 10000 (the query is disabled on this target), \
         box 1s 10000 (the query does not reach this target), 0 paused",
    );
}

#[test]
fn a_statement_without_a_name_goes_where_it_is_sent_and_has_the_targets_limits() {
    check(None, &["stock", "lab"], &[], "stock 2s 7, lab 3s 10000, 0 paused");
    check(None, &[], &["prod"], "orders-1 2s 10000, stock 2s 7, 1 paused");
    check(None, &[], &[], "say where: --target NAME or --group NAME, each as often as needed");
}

#[test]
fn what_is_not_there_is_said_with_what_was_probably_meant() {
    check(Some("qq"), &[], &[], "there is no query `qq`; did you mean `q`?");
    check(Some("q"), &["order-1"], &[], "there is no target `order-1`; did you mean `orders-1`?");
    check(Some("q"), &["orders1*"], &[], "no target is called `orders1*`; did you mean `orders-1`?");
    check(Some("q"), &[], &["prd"], "there is no group `prd`; did you mean `prod`?");
}

#[test]
fn a_statement_is_refused_with_the_messages_of_the_configuration() {
    let refused = check_sql(Path::new("--sql"), "select 1\ninto @a").unwrap_err().to_string();
    let expected = "--sql:2:1: error: INTO writes a file or a variable\n    into @a\n    ^^^^\n\
                    help: take INTO out: the rows are the result\n\n1 error";
    assert_eq!(refused, expected);
    let empty = check_sql(Path::new("q.sql"), " \n").unwrap_err().to_string();
    assert!(empty.starts_with("q.sql: error: there is no statement\nhelp: "), "{empty}");
    assert!(check_sql(Path::new("--sql"), "select 1;").is_ok());
}
