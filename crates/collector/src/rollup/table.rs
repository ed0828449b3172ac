//! Families made of rows, each of which has some lines in each of them: written anew where a row says something else.

use std::sync::Arc;

use bytes::Bytes;

use super::Lines;
use crate::{Family, FamilyText, Kind};

/// A family, and how the lines of a row are written in it.
pub(crate) struct Column<R: 'static> {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    /// Whether two rows that are of the same have the same lines.
    pub(crate) is_same: fn(&R, &R) -> bool,
    pub(crate) write: fn(&mut Lines, &R),
}

/// What a row must tell.
pub(crate) trait Row: Sized + 'static {
    /// Its families.
    const COLUMNS: &'static [Column<Self>];

    /// How many of them are a piece of a family: when one of them changes the lines of all are written anew.
    const OF_A_PIECE: usize;

    /// Whether it is of the same as another: its series have the same labels.
    fn is_of(&self, other: &Self) -> bool;
}

/// Rows, and what was last written of them, to be shown again where nothing has changed: the same text in the same place
/// in memory, by which a reader knows it.
#[derive(Debug)]
pub(crate) struct Table<R> {
    families: Vec<Arc<Family>>,
    pieces: Vec<Piece<R>>,
}

#[derive(Debug)]
struct Piece<R> {
    rows: Vec<R>,
    /// In the order of the columns.
    texts: Vec<Bytes>,
}

impl<R: Row> Default for Table<R> {
    fn default() -> Self {
        let family = |Column { name, help, kind, .. }: &Column<R>| {
            Arc::new(Family { name: (*name).to_owned(), help: (*help).to_owned(), kind: *kind })
        };
        Self { families: R::COLUMNS.iter().map(family).collect(), pieces: Vec::new() }
    }
}

impl<R: Row> Table<R> {
    /// The families of so many rows. `row` gives each of them, in their order; none where the last one still holds.
    pub(crate) fn families(
        &mut self,
        count: usize,
        mut row: impl FnMut(usize, Option<&R>) -> Option<R>,
    ) -> Vec<FamilyText> {
        let new = || Piece { rows: Vec::new(), texts: vec![Bytes::new(); R::COLUMNS.len()] };
        self.pieces.resize_with(count.div_ceil(R::OF_A_PIECE), new);
        for (nth, piece) in self.pieces.iter_mut().enumerate() {
            let first = nth * R::OF_A_PIECE;
            piece.update(R::OF_A_PIECE.min(count - first), |nth, last| row(first + nth, last));
        }
        let family = |(nth, family): (usize, &Arc<Family>)| {
            let mut lines = Vec::with_capacity(self.pieces.len());
            let texts = self.pieces.iter().map(|piece| &piece.texts[nth]);
            lines.extend(texts.filter(|text| !text.is_empty()).cloned());
            FamilyText { family: Arc::clone(family), lines }
        };
        self.families.iter().enumerate().map(family).collect()
    }
}

impl<R: Row> Piece<R> {
    /// Writes anew the families that say something else now.
    fn update(&mut self, count: usize, mut row: impl FnMut(usize, Option<&R>) -> Option<R>) {
        let mut changed = vec![self.rows.len() > count; R::COLUMNS.len()];
        self.rows.truncate(count);
        for nth in 0..count {
            let Some(now) = row(nth, self.rows.get(nth)) else { continue };
            let before = self.rows.get(nth).filter(|before| before.is_of(&now));
            for (changed, column) in changed.iter_mut().zip(R::COLUMNS) {
                *changed |= before.is_none_or(|before| !(column.is_same)(before, &now));
            }
            match self.rows.get_mut(nth) {
                Some(row) => *row = now,
                None => self.rows.push(now),
            }
        }
        for ((text, column), changed) in self.texts.iter_mut().zip(R::COLUMNS).zip(changed) {
            if changed {
                let mut lines = Lines::of_about(column.name, text.len());
                self.rows.iter().for_each(|row| (column.write)(&mut lines, row));
                *text = lines.text();
            }
        }
    }
}
