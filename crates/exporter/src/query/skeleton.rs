//! A beginning of a configuration for a statement that was tried: which columns look like labels, and which like values.

use std::{collections::BTreeSet, fmt::Write as _};

use fleet_collector::{Rows, rows::Column};

use super::table::{is_number, shown};
use crate::config::is_label_name;

/// A query with a metric for each column of numbers. None where there is none, or no row has shown the columns.
pub(super) fn of(sql: &str, rows: &Rows) -> Option<String> {
    let fits = |column: &&Column| is_label_name(&column.name);
    let labels: Vec<_> =
        rows.columns().iter().filter(|c| is_text(c)).filter(fits).map(|c| toml(&c.name)).collect();
    // A family has no case of its own here, so two columns that differ by it alone make one.
    let mut families = BTreeSet::new();
    let values = rows.columns().iter().filter(|c| is_number(c)).filter(fits);
    let values: Vec<_> = values.filter(|c| families.insert(c.name.to_ascii_lowercase())).collect();
    if values.is_empty() {
        return None;
    }
    let mut text =
        format!("  [queries.NAME]\n  sql = {}\n  interval = \"1m\"\n  timeout = \"5s\"\n", toml(sql));
    for Column { name, .. } in rows.columns().iter().filter(|column| !fits(column)) {
        let _ = writeln!(text, "  # to use {}, give it a name with AS", shown(name));
    }
    for Column { name, .. } in values {
        let family = name.to_ascii_lowercase();
        let _ = write!(
            text,
            "\n  [queries.NAME.metrics.{family}]\n  type = \"gauge\"\n  help = {}\n",
            toml(&format!("{name} of NAME"))
        );
        if !labels.is_empty() {
            let _ = writeln!(text, "  labels = [{}]", labels.join(", "));
        }
        let _ = writeln!(text, "  value = {}", toml(name));
    }
    Some(text)
}

/// Short words make labels; documents and moments do not.
fn is_text(column: &Column) -> bool {
    matches!(
        column.type_name,
        "CHAR" | "VARCHAR" | "ENUM" | "SET" | "VARBINARY" | "BINARY" | "TINYTEXT" | "TEXT"
    )
}

fn toml(text: &str) -> String {
    toml::Value::from(text).to_string()
}
