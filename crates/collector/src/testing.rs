//! What the tests of this crate are made of: small queries, targets and answers.

use std::sync::Arc;

use crate::{
    Address, Family, FamilyText, Kind, Metric, OnNull, Password, Query, ResultLimits, Rows, Target, Tls,
    TlsMode, ValueSource,
    rows::{CellKind, Column},
    statement::Statement,
    target::SessionSettings,
};

/// A metric that takes its number from the column `value` and a label from each of the columns `labels`.
pub(crate) fn metric(family: &str, value: &str, labels: &[&str]) -> Metric {
    let family = Family { name: family.to_owned(), help: format!("help of {family}"), kind: Kind::Gauge };
    Metric {
        family: Arc::new(family),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        static_labels: Vec::new(),
        value: ValueSource::Column(value.to_owned()),
        on_null: OnNull::Skip,
    }
}

pub(crate) fn query(name: &str, metrics: Vec<Metric>) -> Query {
    let statement = Statement::check("select 1").unwrap();
    Query { name: name.into(), statement: Some(statement), variants: Vec::new(), metrics }
}

/// A target with the label `target`.
pub(crate) fn target(name: &str) -> Target {
    Target {
        name: name.into(),
        group: "g".into(),
        address: Address::Tcp { host: name.to_owned(), port: 3306 },
        user: Some("exporter".to_owned()),
        password: Password::None,
        database: None,
        tls: Tls { mode: TlsMode::Preferred, ca: None, identity: None },
        labels: vec![("target".to_owned(), name.to_owned())],
        max_connections: 3,
        kill: true,
        session: SessionSettings::default(),
    }
}

/// An answer: the columns' names, of which `n:bit` is a BIT, `n:binary` a BINARY, `t:time` a TIME, `t:date` a date and `t:utc` a date of a UTC
/// session; and for each row its cells, with `|` between them and `NULL` for what it says.
pub(crate) fn rows(limits: ResultLimits, columns: &str, table: &[&str]) -> Rows {
    let columns = columns.split('|').map(|column| {
        let (name, kind, type_name) = match column.split_once(':') {
            Some((name, "bit")) => (name, CellKind::Bit, "BIT"),
            Some((name, "utc")) => (name, CellKind::Utc, "DATETIME"),
            Some((name, "binary")) => (name, CellKind::Padded, "BINARY"),
            Some((name, "date")) => (name, CellKind::Temporal, "DATE"),
            Some((name, "time")) => (name, CellKind::Duration, "TIME"),
            _ => (column, CellKind::Text, "CHAR"),
        };
        Column { name: name.to_owned(), kind, type_name }
    });
    let mut rows = Rows::new(limits);
    rows.mark_answered();
    // As the driver does: what no row has shown, nobody knows.
    if !table.is_empty() {
        rows.set_columns(columns.collect());
    }
    for row in table {
        rows.push(row.split('|').map(|cell| (cell != "NULL").then_some(cell.as_bytes()))).unwrap();
    }
    rows
}

/// The sample lines of all families, one after the other.
pub(crate) fn text(families: &[FamilyText]) -> String {
    let lines = families.iter().flat_map(|family| &family.lines);
    lines.map(|bytes| std::str::from_utf8(bytes).unwrap()).collect()
}
