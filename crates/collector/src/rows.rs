//! The rows of one answer as raw cells, within bounds.

use std::ops::Range;

use crate::query::ResultLimits;

/// What a cell's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellKind {
    /// Text, numbers included: the text protocol sends digits.
    Text,
    /// Text of a BINARY column, filled up with NUL bytes to the column's width.
    Padded,
    /// A BIT column: an unsigned big-endian integer of up to eight bytes.
    Bit,
    /// A TIME: a length of time, negative or longer than a day as it may be, whatever the time zone.
    Duration,
    /// A date, or a date and a time, which is no number until its time zone is known.
    Temporal,
    /// A date, or a date and a time, in a session whose time zone is `+00:00`.
    Utc,
}

/// One column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, as the server wrote it.
    pub name: String,
    /// What its cells are.
    pub kind: CellKind,
    /// Its type as SQL says it, such as `DECIMAL`, for a person.
    pub type_name: &'static str,
}

/// An answer beyond its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooLarge {
    /// More rows than `max_rows`.
    Rows(usize),
    /// More bytes than `max_result_bytes`.
    Bytes(usize),
    /// More columns than [`MAX_COLUMNS`].
    Columns,
}

/// The most columns of an answer; its driver looks. No table of `InnoDB` has more than 1,017.
pub const MAX_COLUMNS: usize = 1024;

/// The rows of one answer. The cells lie in one buffer, since most answers are small and frequent.
#[derive(Debug, Clone)]
pub struct Rows {
    limits: ResultLimits,
    columns: Vec<Column>,
    bytes: Vec<u8>,
    /// For each cell where it ends in `bytes`, or [`NULL`].
    ends: Vec<u32>,
    /// Whether the server sent anything at all.
    answered: bool,
}

/// Room made with the first row: most answers need no more.
const USUAL_ROWS: usize = 32;
const USUAL_BYTES: usize = 1000;

/// The end of a NULL, which has no bytes. No cell ends there: the bytes are bounded below it.
const NULL: u32 = u32::MAX;

impl Rows {
    /// No rows yet, and bounds for those to come.
    pub fn new(limits: ResultLimits) -> Self {
        Self { limits, columns: Vec::new(), bytes: Vec::new(), ends: Vec::new(), answered: false }
    }

    /// The server has sent something, be it only an error.
    pub fn mark_answered(&mut self) {
        self.answered = true;
    }

    /// Whether the server has sent anything.
    pub fn is_answered(&self) -> bool {
        self.answered
    }

    /// Sets the columns, before the first row.
    pub fn set_columns(&mut self, columns: Vec<Column>) {
        self.columns = columns;
    }

    /// Adds a row with as many cells as there are columns. The place of a cell counts as bytes too, so that a wide
    /// answer of NULLs has its bound.
    pub fn push<'c>(&mut self, cells: impl Iterator<Item = Option<&'c [u8]>>) -> Result<(), TooLarge> {
        self.answered = true;
        if self.ends.is_empty() {
            self.ends.reserve(USUAL_ROWS * self.columns.len());
            self.bytes.reserve(USUAL_BYTES);
        }
        if self.len() >= self.limits.rows {
            return Err(TooLarge::Rows(self.limits.rows));
        }
        let max_bytes = self.limits.result_bytes.min(NULL as usize - 1);
        for cell in cells {
            let places = (self.ends.len() + 1) * size_of::<u32>();
            if self.bytes.len() + cell.map_or(0, <[u8]>::len) + places > max_bytes {
                return Err(TooLarge::Bytes(max_bytes));
            }
            let Some(cell) = cell else {
                self.ends.push(NULL);
                continue;
            };
            self.bytes.extend_from_slice(cell);
            self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(NULL - 1));
        }
        Ok(())
    }

    /// The columns; none as long as no row has come, since an empty answer does not show them.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len().checked_div(self.columns.len()).unwrap_or(0)
    }

    /// Bytes of all cells together.
    pub(crate) fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        let mut start = 0;
        self.ends.chunks_exact(self.columns.len().max(1)).map(move |ends| {
            let row = Row { bytes: &self.bytes, start, ends };
            start = ends.iter().rev().find(|end| **end != NULL).map_or(start, |end| *end as usize);
            row
        })
    }
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    bytes: &'a [u8],
    start: usize,
    ends: &'a [u32],
}

impl<'a> Row<'a> {
    /// The cell of this column; `None` for NULL.
    pub fn cell(&self, column: usize) -> Option<&'a [u8]> {
        let end = *self.ends.get(column)?;
        (end != NULL).then(|| &self.bytes[self.range(column, end)])
    }

    fn range(&self, column: usize, end: u32) -> Range<usize> {
        let before = self.ends[..column].iter().rev().find(|end| **end != NULL);
        before.map_or(self.start, |end| *end as usize)..end as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(limits: ResultLimits, table: &[&[Option<&str>]]) -> Result<Rows, TooLarge> {
        let mut rows = Rows::new(limits);
        let columns = table[0].iter().enumerate();
        rows.set_columns(
            columns
                .map(|(n, _)| Column { name: format!("c{n}"), kind: CellKind::Text, type_name: "CHAR" })
                .collect(),
        );
        for row in table {
            rows.push(row.iter().map(|cell| cell.map(str::as_bytes)))?;
        }
        Ok(rows)
    }

    #[test]
    fn cells_come_back_as_they_went_in() {
        let table: &[&[Option<&str>]] =
            &[&[Some("a"), None, Some("")], &[None, None, None], &[None, Some("longer"), Some("z")]];
        let rows = rows(ResultLimits::default(), table).unwrap();
        let read: Vec<Vec<_>> = rows
            .iter()
            .map(|row| (0..3).map(|n| row.cell(n).map(|b| std::str::from_utf8(b).unwrap())).collect())
            .collect();
        assert_eq!(read, table.iter().map(|row| row.to_vec()).collect::<Vec<_>>());
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn an_answer_beyond_its_limits_is_refused() {
        let limits = ResultLimits { rows: 2, result_bytes: 10, ..ResultLimits::default() };
        let wide = Some("123456");
        assert_eq!(rows(limits, &[&[Some("a")], &[Some("b")], &[Some("c")]]).unwrap_err(), TooLarge::Rows(2));
        assert_eq!(rows(limits, &[&[wide], &[wide]]).unwrap_err(), TooLarge::Bytes(10));
    }
}
