//! Tables of text: columns as wide as they need to be, cells cut, and no line wider than the terminal.

use fleet_collector::{
    Rows,
    rows::{CellKind, Column, Row},
};
use unicode_width::UnicodeWidthStr as _;

use super::terminal::{Look, Mark, cut, visible};

/// The widest that a cell is shown.
const CELL: usize = 50;

/// What stands between two columns, and before the first.
const GAP: &str = "  ";

/// A table with a line of titles.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Each title, and whether the column stands to the right, as numbers do.
    heads: Vec<(String, bool)>,
    rows: Vec<(Vec<String>, Option<Mark>)>,
}

impl Table {
    /// A table with these titles; those that begin with `>` stand to the right.
    pub(super) fn new(heads: &[&str]) -> Self {
        let heads = heads.iter().map(|head| match head.strip_prefix('>') {
            Some(head) => (head.to_owned(), true),
            None => ((*head).to_owned(), false),
        });
        Self { heads: heads.collect(), rows: Vec::new() }
    }

    /// The first rows of an answer.
    pub(super) fn of_rows(rows: &Rows, most: usize) -> Self {
        let heads = rows.columns().iter().map(|column| (shown(&column.name), is_number(column)));
        let cells = |row: Row<'_>| {
            rows.columns().iter().enumerate().map(|(n, column)| cell(&row, n, column)).collect()
        };
        Self { heads: heads.collect(), rows: rows.iter().take(most).map(|row| (cells(row), None)).collect() }
    }

    /// Adds a row, marked as a whole.
    pub(super) fn push(&mut self, cells: Vec<String>, mark: Option<Mark>) {
        self.rows.push((cells, mark));
    }

    /// The text, each line ended.
    pub(super) fn text(&self, look: Look) -> String {
        let width = |n: usize| {
            let cells = self.rows.iter().filter_map(|(cells, _)| cells.get(n)).map(|cell| cell.width());
            cells.chain([self.heads[n].0.width()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.heads.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let columns = cells.zip(&self.heads).zip(&widths);
            let line: String = columns
                .map(|((cell, (_, right)), width)| {
                    let space = " ".repeat(width.saturating_sub(cell.width()));
                    if *right { format!("{GAP}{space}{cell}") } else { format!("{GAP}{cell}{space}") }
                })
                .collect();
            cut(line.trim_end(), look.width)
        };
        let mut text =
            look.mark(Mark::Title, &line(&mut self.heads.iter().map(|(head, _)| head.as_str()))) + "\n";
        for (cells, mark) in &self.rows {
            let line = line(&mut cells.iter().map(String::as_str));
            text += &mark.map_or_else(|| line.clone(), |mark| look.mark(mark, &line));
            text.push('\n');
        }
        text
    }
}

/// Whether the column's type is one of numbers.
pub(super) fn is_number(column: &Column) -> bool {
    let first = column.type_name.split(' ').next().unwrap_or_default();
    matches!(
        first,
        "TINYINT"
            | "SMALLINT"
            | "MEDIUMINT"
            | "INT"
            | "BIGINT"
            | "DECIMAL"
            | "FLOAT"
            | "DOUBLE"
            | "BIT"
            | "BOOLEAN"
            | "YEAR"
    )
}

/// Any text as a cell.
pub(super) fn shown(text: &str) -> String {
    cut(&visible(text), CELL)
}

fn cell(row: &Row<'_>, n: usize, column: &Column) -> String {
    let Some(mut bytes) = row.cell(n) else { return "NULL".to_owned() };
    if column.kind == CellKind::Padded {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes = &bytes[..end];
    }
    if column.kind == CellKind::Bit && bytes.len() <= 8 {
        return bytes.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)).to_string();
    }
    // Escaping a whole document to show its beginning would be slow.
    let most = bytes.len().min(8 * CELL);
    if let Ok(text) = std::str::from_utf8(bytes) {
        return shown(&text[..text.floor_char_boundary(most)]);
    }
    let hex = bytes[..most].iter().fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}"));
    cut(&hex, CELL)
}

#[cfg(test)]
mod tests {
    use fleet_collector::ResultLimits;

    use super::*;

    #[track_caller]
    fn check(columns: &[(&str, &'static str)], cells: &[&[Option<&[u8]>]], width: usize, expected: &str) {
        let mut rows = Rows::new(ResultLimits::default());
        let column = |(name, type_name): &(&str, &'static str)| Column {
            name: (*name).to_owned(),
            kind: if *type_name == "BIT" { CellKind::Bit } else { CellKind::Text },
            type_name,
        };
        rows.set_columns(columns.iter().map(column).collect());
        for row in cells {
            rows.push(row.iter().copied()).unwrap();
        }
        let look = Look { colours: false, width, rows: 20 };
        assert_eq!(Table::of_rows(&rows, 2).text(look), expected);
    }

    #[test]
    fn numbers_stand_to_the_right_and_the_rest_is_left_out() {
        check(
            &[("user", "VARCHAR"), ("n", "BIGINT")],
            &[&[Some(b"root"), Some(b"5")], &[None, Some(b"1234")], &[Some(b"x"), Some(b"1")]],
            80,
            "  user     n\n  root     5\n  NULL  1234\n",
        );
    }

    #[test]
    fn cells_are_cut_and_spelled_out() {
        let long = "x".repeat(100);
        check(
            &[("a", "BLOB"), ("b", "BIT"), ("c\n", "TEXT")],
            &[
                &[Some(b"\xff\x00a"), Some(b"\x01\x00"), Some(b"\x1b[2J")],
                &[Some(b""), None, Some(long.as_bytes())],
            ],
            40,
            "  a            b  c\\n\n  0xff0061   256  \\u{1b}[2J\n            NULL  xxxxxxxxxxxxxxxxxxxxx…\n",
        );
    }
}
