//! What a query asks: `sql` or a file of it, and variants for certain servers.

use std::{ops::Range, path::Path};

use fleet_collector::{
    query::Variant,
    statement::{Calls, Refusal, Statement},
    version::{VersionRange, When},
};

use super::{
    field::{At, List, Table, Wrong, good, list, read, read_with, table},
    files::read_text,
    raw::{RawStatement, RawVariant, RawWhen},
    report::{Findings, Place, Report, Sources},
};

/// What a query asks of whom.
pub(super) struct Statements {
    pub(super) own: Option<Statement>,
    pub(super) variants: Vec<Variant>,
}

/// Checks the statements of a query. None if something in them is wrong.
pub(super) fn check(
    found: &mut Findings,
    query: &At<String>,
    table_at: &Place,
    raw: RawStatement,
    variants: Option<List<Table<RawVariant>>>,
    calls: Calls,
) -> Option<Statements> {
    let missing = raw.sql.is_none() && raw.sql_file.is_none();
    let own = statement(found, raw, calls);
    let Some(variants) = variants else {
        if missing && !found.was_meant(table_at, &["sql", "sql_file", "variants"]) {
            found
                .error(&query.at, format!("query `{}` has no `sql`", query.value))
                .help("write sql = \"select …\", or ''' … ''' around several lines");
        }
        return Some(Statements { own: Some(own?), variants: Vec::new() });
    };
    let help = format!("write [[queries.{}.variants]] with when and sql for each", query.value);
    let variants = list(found, "variants", Some(variants), &help)?;
    if variants.value.is_empty() {
        found.error(&variants.at, "`variants` is empty").help(help);
        return None;
    }
    let checked: Vec<_> = variants.value.into_iter().map(|node| variant(found, query, node, calls)).collect();
    let variants = checked.into_iter().collect::<Option<Vec<_>>>()?;
    if missing {
        Some(Statements { own: None, variants })
    } else {
        Some(Statements { own: Some(own?), variants })
    }
}

fn variant(
    found: &mut Findings,
    query: &At<String>,
    node: Table<RawVariant>,
    calls: Calls,
) -> Option<Variant> {
    let help = format!("write [[queries.{}.variants]] with when and sql for each", query.value);
    let At { at, value: RawVariant { statement: raw, when } } = table(found, "variants", Some(node), &help)?;
    if raw.sql.is_none() && raw.sql_file.is_none() && !found.was_meant(&at, &["sql", "sql_file"]) {
        found.error(&at, "a variant has no `sql`").help("write sql = \"select …\", or sql_file");
    }
    let help = "write when = { flavour = \"mariadb\", version = \">=10.5\" }, or one of the two";
    if when.is_none() && !found.was_meant(&at, &["when"]) {
        found.error(&at, "a variant has no `when`").help(help);
    }
    let statement = statement(found, raw, calls);
    let At { at, value: RawWhen { flavour, version } } = table(found, "when", when, help)?;
    if flavour.is_none() && version.is_none() && !found.was_meant(&at, &["flavour", "version"]) {
        found.error(&at, "`when` is empty").help("for all other servers write the query's own sql");
        return None;
    }
    let flavour = read(found, "flavour", flavour);
    let version = read_with(found, "version", version, |text| {
        text.parse::<VersionRange>().map_err(|_| {
            Wrong::new(
                format!("is {text:?}, which is no range of versions"),
                "write \">=10.5\", \"<8.0\", \"=5.7\", or two with a comma: \">=10.5, <11\"",
            )
        })
    });
    if [flavour.as_ref().map(|f| f.value.is_none()), version.as_ref().map(|v| v.value.is_none())]
        .contains(&Some(true))
    {
        return None;
    }
    let when = When { flavour: good(flavour).map(|at| at.value), version: good(version).map(|at| at.value) };
    Some(Variant { when, statement: statement? })
}

/// One statement, from the file itself or from one of its own.
fn statement(found: &mut Findings, raw: RawStatement, calls: Calls) -> Option<Statement> {
    let RawStatement { sql, sql_file } = raw;
    let sql = read(found, "sql", sql);
    let sql_file = read(found, "sql_file", sql_file);
    match (sql, sql_file) {
        (Some(sql), Some(sql_file)) => {
            found
                .error(&sql_file.at, "there is `sql` and `sql_file`")
                .note(&sql.at, "the sql is here")
                .help("keep one of the two");
            None
        }
        (None, Some(file)) => from_file(found, &good(Some(file))?, calls),
        (sql, None) => {
            let At { at, value } = good(sql)?;
            if value.trim().is_empty() {
                found.error(&at, "`sql` is empty").help("write a statement that reads, such as select …");
                return None;
            }
            Statement::check_with(&value, calls)
                .map_err(|refusal| {
                    let at = inside(&found.sources, &at, &value, &refusal.at);
                    found.error(&at, refusal.message).help(refusal.help);
                })
                .ok()
        }
    }
}

/// Checks a statement that stands in no configuration. Its mistakes are told with `name` as that of the file.
pub(crate) fn check_sql(name: &Path, sql: &str) -> Result<Statement, Report> {
    let mut found = Findings::default();
    found.sources.add(name, sql, Vec::new());
    if sql.trim().is_empty() {
        found.error_of_file("there is no statement").help("write a statement that reads, such as select …");
        return Err(found.into_report());
    }
    Statement::check(sql).map_err(|Refusal { at, message, help }| {
        found.error(&(at.start..at.end.min(sql.len())), message).help(help);
        found.into_report()
    })
}

fn from_file(found: &mut Findings, file: &At<String>, calls: Calls) -> Option<Statement> {
    let path = found.sources.path(&file.at, &file.value);
    match read_text(&path) {
        Err(error) => {
            found
                .error(&file.at, format!("cannot read {}: {error}", path.display()))
                .help("the file holds one statement; its path is relative to this file");
            None
        }
        Ok(text) if text.trim().is_empty() => {
            found
                .error(&file.at, format!("{} is empty", path.display()))
                .help("write a statement that reads, such as select …");
            None
        }
        Ok(text) => match Statement::check_with(&text, calls) {
            Ok(statement) => Some(statement),
            Err(Refusal { at, message, help }) => {
                let base = found.sources.next_base();
                found.sources.add(&path, &text, Vec::new());
                found.error(&(base + at.start..base + at.end.min(text.len())), message).help(help);
                None
            }
        },
    }
}

/// The place of a part of a string inside the literal that was written. Where escapes make it uncertain, the whole
/// literal.
pub(super) fn inside(sources: &Sources, literal: &Place, value: &str, part: &Range<usize>) -> Place {
    let written = sources.text(literal);
    // Without escapes the value stands in the literal as it is, after the quotes and, in a string of several lines,
    // one line end.
    let start = ["\"\"\"\r\n", "\"\"\"\n", "\"\"\"", "'''\r\n", "'''\n", "'''", "\"", "'"]
        .iter()
        .find(|open| written.starts_with(**open))
        .map_or(0, |open| open.len());
    if written.get(start..start + value.len()) == Some(value) && part.end <= value.len() {
        let offset = literal.start + start;
        offset + part.start..offset + part.end
    } else {
        literal.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks for WHERE in the SQL of a literal and shows the line and carets that a message would have.
    #[track_caller]
    fn check(literal: &str, expected: &str) {
        let text = format!("sql = {literal}\n");
        let table: toml::Table = toml::from_str(&text).unwrap();
        let value = table["sql"].as_str().unwrap();
        let at = value.find("WHERE").unwrap();
        let mut found = Findings::default();
        found.sources.add(Path::new("f.toml"), &text, Vec::new());
        let place = inside(&found.sources, &(6..6 + literal.len()), value, &(at..at + 5));
        found.error(&place, "here");
        let report = found.into_report().to_string();
        let lines: Vec<_> = report.lines().take(3).collect();
        assert_eq!(lines.join("\n"), expected);
    }

    #[test]
    fn a_part_of_the_sql_is_found_inside_its_literal() {
        check("\"a WHERE b\"", "f.toml:1:10: error: here\n    sql = \"a WHERE b\"\n             ^^^^^");
        check("'a WHERE b'", "f.toml:1:10: error: here\n    sql = 'a WHERE b'\n             ^^^^^");
        check("'''\na\n  WHERE b'''", "f.toml:3:3: error: here\n      WHERE b'''\n      ^^^^^");
        check("\"\"\"\r\na\r\n\tWHERE\"\"\"", "f.toml:3:2: error: here\n        WHERE\"\"\"\n        ^^^^^");
        check(
            "'''数 WHERE b'''",
            "f.toml:1:12: error: here\n    sql = '''数 WHERE b'''\n                ^^^^^",
        );
    }

    #[test]
    fn escapes_make_the_place_the_whole_literal() {
        check("\"\\ta WHERE\"", "f.toml:1:7: error: here\n    sql = \"\\ta WHERE\"\n          ^^^^^^^^^^^");
    }
}
