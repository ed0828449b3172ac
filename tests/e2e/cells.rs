//! Every type of cell on its way from a real server's table to the page, as a number and as a label.

mod table;

use std::{collections::BTreeMap, fmt::Write as _};

use expect_test::expect_file;
use serde_json::Value;

use crate::support::{
    account::Account,
    bystander::{assert_untroubled, bystander},
    exporter::{Exporter, SOON},
    on_both_servers,
    page::Page,
    promtool, quoted,
    servers::{Admin, Kind, Server},
    wait::wait_for,
};
use table::{Cells, table};

on_both_servers!(t28_each_cell_is_its_exact_number_and_label_or_is_left_out_with_a_reason);

async fn t28_each_cell_is_its_exact_number_and_label_or_is_left_out_with_a_reason(server: &Server) {
    let account = Account::new(server, "cells").await;
    let cells = table(server.kind);
    make(&mut server.admin().await, &account.schema, &cells).await;
    let exporter = Exporter::start(&config(&account, &cells)).await;

    let (page, reasons) = wait_for("each cell was read or refused", SOON * 2, async || {
        let (page, reasons) = (exporter.page().await, reasons(&exporter).await);
        let open = |query: &String| !reasons.contains_key(query) && !has_succeeded(&page, query);
        match queries(&cells).find(open) {
            None => Ok((page, reasons)),
            Some(query) => Err(query),
        }
    })
    .await;
    let shown = shown(&cells, &page, &reasons);
    match server.kind {
        Kind::MariaDb => expect_file!["cells/mariadb.txt"].assert_eq(&shown),
        Kind::MySql => expect_file!["cells/mysql.txt"].assert_eq(&shown),
    }
    promtool::assert_valid(&page);
    assert_untroubled(&page, "well");
    exporter.stop(&[(server, &account)]).await;
}

/// The query of the number of one cell.
fn value_query(n: usize, row: usize) -> String {
    format!("v_{n}_{row}")
}

/// The query of the label of a cell: one for all cells of a column, and one for each expression, whose types differ.
fn label_query(cells: &Cells, n: usize, row: usize) -> String {
    if cells.expressions { format!("l_{n}_{row}") } else { format!("l_{n}") }
}

/// All queries.
fn queries(cells: &[Cells]) -> impl Iterator<Item = String> {
    cells.iter().enumerate().flat_map(|(n, cells)| {
        (1..=cells.values.len()).flat_map(move |row| [value_query(n, row), label_query(cells, n, row)])
    })
}

fn has_succeeded(page: &Page, query: &str) -> bool {
    page.value("query_exporter_query_oldest_success_timestamp_seconds", &[("query", query)]) > Some(0.0)
}

/// A table for each column.
async fn make(admin: &mut Admin, schema: &str, cells: &[Cells]) {
    let mut sql = format!("use {schema}; set sql_mode = '', time_zone = '+00:00', names utf8mb4;");
    for (n, Cells { title, values, .. }) in cells.iter().enumerate().filter(|(_, cells)| !cells.expressions) {
        let rows: Vec<_> =
            values.iter().enumerate().map(|(row, value)| format!("({}, {value})", row + 1)).collect();
        write!(
            sql,
            "create table t{n} (id int primary key, cell {title}); insert into t{n} values {};",
            rows.join(", ")
        )
        .unwrap();
    }
    admin.run(sql.trim_end_matches(';')).await;
}

/// A query for the number of each cell, so that each has a reason of its own, and one for the labels of each column.
fn config(account: &Account, cells: &[Cells]) -> String {
    const LABELS: &str = "labels = [\"n\", \"text\"]\nstatic_value = 1";
    let mut config = account.group("utc", &["in_utc"])
        + "session = { time_zone = \"+00:00\" }\n"
        + &account.group("zone", &["in_a_zone"])
        + &bystander(account);
    let mut query = |utc: bool, name: &str, sql: &str, metric: &str| {
        write!(
            config,
            "[queries.{name}]\ngroups = [\"{}\"]\nsql = {}\ninterval = \"5s\"\ntimeout = \"2s\"\n\
             [queries.{name}.metrics.{name}]\ntype = \"gauge\"\nhelp = \"a cell\"\n{metric}\n",
            if utc { "utc" } else { "zone" },
            quoted(sql)
        )
        .unwrap();
    };
    for (n, cells) in cells.iter().enumerate() {
        for (row, value) in (1..).zip(&cells.values) {
            let (name, label) = (value_query(n, row), label_query(cells, n, row));
            if cells.expressions {
                query(cells.utc, &name, &format!("select {value} as v"), "value = \"v\"");
                query(cells.utc, &label, &format!("select {row} as n, {value} as text"), LABELS);
                continue;
            }
            query(cells.utc, &name, &format!("select cell as v from t{n} where id = {row}"), "value = \"v\"");
            if row == 1 {
                query(cells.utc, &label, &format!("select id as n, cell as text from t{n}"), LABELS);
            }
        }
    }
    config
}

/// Why items failed, by their queries. The log tells of a few, and that there are more.
async fn reasons(exporter: &Exporter) -> BTreeMap<String, String> {
    let mut reasons = BTreeMap::new();
    for target in ["in_utc", "in_a_zone"] {
        let status = exporter.get(&format!("/status.json?target={target}")).await.body;
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["items_more"], 0);
        for item in status["items"].as_array().unwrap() {
            let error = &item["last_error"];
            if let (Some(reason), Some(message)) = (error["reason"].as_str(), error["message"].as_str()) {
                reasons.insert(item["query"].as_str().unwrap().to_owned(), format!("{reason} {message}"));
            }
        }
    }
    reasons
}

/// For each cell what the page has of it.
fn shown(cells: &[Cells], page: &Page, reasons: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (n, cells) in cells.iter().enumerate() {
        let Cells { title, values, utc, .. } = cells;
        writeln!(text, "{title}{}", if *utc { "" } else { " (in the server's time zone)" }).unwrap();
        for (row, value) in (1..).zip(values) {
            let (name, label) = (value_query(n, row), label_query(cells, n, row));
            let left_out =
                |query| format!("left out: {}", reasons.get(query).map_or("it is NULL", String::as_str));
            let number = number(&name, page).unwrap_or_else(|| left_out(&name));
            let label = label_of(&label, row, page).unwrap_or_else(|| left_out(&label));
            writeln!(text, "    {value}\n        {number}\n        {label}").unwrap();
        }
    }
    text
}

/// The number of a cell, as it stands on the page.
fn number(query: &str, page: &Page) -> Option<String> {
    let line = page.lines(&format!("query_exporter_{query}")).first().copied()?;
    Some(line.rsplit_once(' ').unwrap().1.to_owned())
}

/// The label of a cell, as it stands on the page, in quotes.
fn label_of(query: &str, row: usize, page: &Page) -> Option<String> {
    let start = format!(",n=\"{row}\",text=");
    let lines = page.lines(&format!("query_exporter_{query}"));
    let label =
        lines.iter().find_map(|line| Some(line.split_once(&start)?.1.strip_suffix("} 1").unwrap()))?;
    // The file of what is expected is for people, too.
    let readable = |c: char| if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() };
    Some(label.chars().map(readable).collect())
}
