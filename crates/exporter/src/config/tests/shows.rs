//! `config show`: what it says of where a setting comes from.

use std::path::Path;

use expect_test::{Expect, expect};

use super::super::parse;

const FLEET: &str = r#"[defaults]
interval = "20s"

[limits]
max_rows = 50

[groups.prod]
user = "exporter"
password = "hunter2"
labels = { env = "prod" }
session = { time_zone = "+00:00", extra = ["set max_statement_time = 5"] }

[groups.prod.targets]
orders-1 = { address = "10.0.0.1", kill = false, queries = { q = { interval = "60s" } } }
orders-2 = { address = "10.0.0.2", paused = true }

[groups.prod.queries.q]
timeout = "2s"

[queries.q]
sql = "select 1 as n"
where = { env = "prod" }
metrics.n = { type = "gauge", help = "one", value = "n" }

[queries.r]
sql = "select 1 as n"
targets = ["*-2"]
metrics.r = { type = "gauge", help = "one", value = "n" }
"#;

fn check(target: Option<&str>, query: Option<&str>, expected: &Expect) {
    let config =
        parse(Path::new("fleet.toml"), FLEET, None).unwrap_or_else(|report| panic!("{report}")).config;
    let shown = config.show(target, query).unwrap_or_else(|unknown| format!("{unknown}\n"));
    expected.assert_eq(&shown);
}

#[test]
fn a_target_shows_its_access_and_its_items() {
    check(
        Some("orders-1"),
        None,
        &expect![[r#"
            target orders-1  fleet.toml:14
              group             prod                            fleet.toml:7
              address           10.0.0.1:3306                   fleet.toml:14
              user              exporter                        fleet.toml:8
              password          *** (in the configuration)      fleet.toml:9
              database          none                            built in
              tls               preferred                       built in
              max_connections   3                               built in
              kill              false                           fleet.toml:14
              time_zone         +00:00                          fleet.toml:11
              session extra     set max_statement_time = 5      fleet.toml:11
              label             env = "prod"                    fleet.toml:10
              label             target = "orders-1"
              paused            false                           built in

            item q@orders-1
              enabled           true                            built in
              interval          1m                              fleet.toml:14
              timeout           2s                              fleet.toml:18
              expire_after      2m 2s                           built in
              on_failure        keep                            built in
              retry_after       not before the next run         built in
              max_rows          50                              fleet.toml:5
              max_series        10000                           built in
              max_label_bytes   1024                            built in
              max_result_bytes  8388608                         built in
        "#]],
    );
}

#[test]
fn a_query_shows_its_items() {
    check(
        None,
        Some("r"),
        &expect![[r"
            query r  fleet.toml:25
              groups            prod
              targets           *-2                             fleet.toml:27
              variants          0
              family            query_exporter_r

            item r@orders-2 (its target is paused)
              enabled           true                            built in
              interval          20s                             fleet.toml:2
              timeout           5s                              built in
              expire_after      1m                              built in
              on_failure        keep                            built in
              retry_after       not before the next run         built in
              max_rows          50                              fleet.toml:5
              max_series        10000                           built in
              max_label_bytes   1024                            built in
              max_result_bytes  8388608                         built in
        "]],
    );
}

#[test]
fn without_a_name_there_is_an_overview() {
    check(
        None,
        None,
        &expect![[r"
            the whole fleet
              listen            0.0.0.0:9104
              web_config        none: plain HTTP for everybody
              max_runs          256
              max_connects      32
              max_page_bytes    268435456
              history           none
              in all            2 targets, 2 queries, 1 item, 0.0167 runs a second in all, 0.0167 at the busiest target, at most 3 connections, at most 10000 series; paused: 1 of the targets, with 2 more items

            targets
              orders-1          10.0.0.1:3306                   fleet.toml:14
              orders-2          10.0.0.2:3306                   fleet.toml:15

            queries
              q                 2 targets                       fleet.toml:20
              r                 1 target                        fleet.toml:25
        "]],
    );
}

#[test]
fn what_is_not_there_has_a_near_match() {
    check(
        Some("order-1"),
        None,
        &expect![[r"
        there is no target `order-1`; did you mean `orders-1`?
    "]],
    );
    check(
        None,
        Some("processes"),
        &expect![[r"
        there is no query `processes`; there are q, r
    "]],
    );
    check(
        Some("orders-1"),
        Some("r"),
        &expect![[r"
        query `r` does not reach target `orders-1`
    "]],
    );
}
