//! The page as it is.

use bytes::Bytes;
use fleet_collector::snapshot::Piece;

use crate::{
    chunks::{Chunks, Joined},
    exposition::{Form, Output},
};

/// Pieces below this size are copied together; a larger one stays where it is, shared with the snapshot.
const COPY_BELOW: usize = 16 << 10;

/// Of what is kept nothing is copied but crumbs.
const CRUMBS: usize = 4 << 10;

/// Writes text.
#[derive(Debug)]
pub(crate) struct Plain {
    chunks: Chunks,
    length: u64,
}

impl Default for Plain {
    fn default() -> Self {
        Self { chunks: Chunks::new(COPY_BELOW), length: 0 }
    }
}

impl Output for Plain {
    fn text(&mut self, text: &Bytes) {
        self.length += text.len() as u64;
        self.chunks.push(text);
    }

    fn piece(&mut self, piece: &Piece<'_>) {
        self.text(piece.text);
    }

    fn run(&mut self, run: &Joined) {
        self.length += run.text_length;
        for chunk in &run.chunks {
            self.chunks.push(chunk);
        }
    }

    fn text_length(&self) -> u64 {
        self.length
    }

    fn finish(self) -> Joined {
        Joined { chunks: self.chunks.finish(), crc: 0, text_length: self.length }
    }
}

/// The form as it is.
#[derive(Debug, Default)]
pub(crate) struct Identity;

impl Form for Identity {
    type Output<'a> = Plain;

    /// Larger ones would cost more copying for each result that changes, smaller ones more calls to send them.
    const SEGMENT: u64 = 32 << 10;

    const RUNS_ARE_COPIES: bool = false;

    fn begin(&mut self) -> Plain {
        Plain::default()
    }

    fn page<'a>(runs: impl Iterator<Item = &'a Joined>) -> Vec<Bytes> {
        let mut page = Chunks::new(CRUMBS);
        for chunk in runs.flat_map(|run| &run.chunks) {
            page.push(chunk);
        }
        page.finish()
    }
}
