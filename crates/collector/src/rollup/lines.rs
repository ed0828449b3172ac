//! The text of a family of our own, in pieces of some lines each.

use std::{fmt::Write as _, sync::Arc};

use bytes::Bytes;

use crate::{Family, FamilyText, Kind};

/// Lines of a piece. By their number, not their size: so a number that grows a digit moves no other piece, and those are
/// found unchanged that have not changed.
const PIECE_LINES: usize = 96;

/// Writes the lines of one family.
pub(crate) struct Lines {
    name: &'static str,
    pieces: Vec<Bytes>,
    text: String,
    /// Lines of the piece that is not closed.
    in_piece: usize,
    digits: itoa::Buffer,
}

impl Lines {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, pieces: Vec::new(), text: String::new(), in_piece: 0, digits: itoa::Buffer::new() }
    }

    /// Text likely of about this length.
    pub(super) fn of_about(name: &'static str, length: usize) -> Self {
        Self { text: String::with_capacity(length), ..Self::new(name) }
    }

    /// One sample; `labels` and `more` are encoded label pairs or empty.
    pub(super) fn add(&mut self, labels: &str, more: &str, value: impl itoa::Integer) {
        if self.in_piece == PIECE_LINES {
            self.close();
        }
        self.in_piece += 1;
        let value = self.digits.format(value);
        self.text.push_str(self.name);
        if !(labels.is_empty() && more.is_empty()) {
            let comma = if labels.is_empty() || more.is_empty() { "" } else { "," };
            self.text.extend(["{", labels, comma, more, "}"]);
        }
        self.text.extend([" ", value, "\n"]);
    }

    /// One sample whose value is a number of seconds, given in milliseconds.
    pub(crate) fn add_seconds(&mut self, labels: &str, ms: u64) {
        let value = ms / 1000;
        self.add(labels, "", value);
        if !ms.is_multiple_of(1000) {
            self.text.pop();
            let _ = writeln!(self.text, ".{:03}", ms % 1000);
        }
    }

    /// One sample.
    pub(crate) fn add_value(&mut self, labels: &str, value: impl itoa::Integer) {
        self.add(labels, "", value);
    }

    pub(crate) fn family(mut self, help: &str, kind: Kind) -> FamilyText {
        let family = Arc::new(Family { name: self.name.to_owned(), help: help.to_owned(), kind });
        self.close();
        FamilyText { family, lines: self.pieces }
    }

    /// All lines as one text.
    pub(super) fn text(mut self) -> Bytes {
        if self.pieces.is_empty() {
            return self.text.into();
        }
        self.close();
        self.pieces.concat().into()
    }

    fn close(&mut self) {
        if !self.text.is_empty() {
            let next = String::with_capacity(self.text.len());
            self.pieces.push(Bytes::from(std::mem::replace(&mut self.text, next)));
            self.in_piece = 0;
        }
    }
}
