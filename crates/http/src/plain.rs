//! The page as it is.

use bytes::Bytes;
use fleet_collector::snapshot::Piece;

use crate::{
    chunks::{Chunks, Joined},
    form::{Form, Output},
};

/// Of a page that is joined, pieces below this size are copied together; a larger one stays where it is, shared with
/// the snapshot.
const COPY_BELOW: usize = 16 << 10;

/// Of what is kept of it nothing is copied but crumbs.
const CRUMBS: usize = 4 << 10;

/// Up to so much text a page is joined once and kept so, beside the results. A larger one is joined piece by piece while
/// it is sent, which costs a scrape half as much again, and no second page in memory.
const JOINED: u64 = 16 << 20;

/// Smaller pieces are copied even then: knowing where they are takes a tenth of this.
const TINY: usize = 512;

/// Writes text.
#[derive(Debug)]
pub(crate) struct Plain {
    chunks: Chunks,
    length: u64,
}

impl Default for Plain {
    fn default() -> Self {
        Self::copying_below(COPY_BELOW)
    }
}

impl Plain {
    fn copying_below(size: usize) -> Self {
        Self { chunks: Chunks::new(size), length: 0 }
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
pub(crate) struct Identity {
    /// Whether there is too much text to have it twice.
    shares: bool,
}

impl Form for Identity {
    type Output<'a> = Plain;

    /// Larger ones would cost more copying for each result that changes, smaller ones more calls to send them.
    const SEGMENT: u64 = 32 << 10;

    const OWN_SEGMENT: u64 = Self::SEGMENT;

    const RUNS_ARE_COPIES: bool = false;

    fn expect(&mut self, text: u64) {
        self.shares = text > JOINED;
    }

    fn begin(&mut self) -> Plain {
        Plain::copying_below(if self.shares { TINY } else { COPY_BELOW })
    }

    fn page<'a>(&self, runs: impl Iterator<Item = &'a Joined>) -> Vec<Bytes> {
        let mut page = Chunks::new(if self.shares { TINY } else { CRUMBS });
        for chunk in runs.flat_map(|run| &run.chunks) {
            page.push(chunk);
        }
        page.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many chunks a page of these pieces has, and whether all of them lie where the pieces do.
    #[track_caller]
    fn check(text: u64, sizes: &[usize], expected: (usize, bool)) {
        let mut form = Identity::default();
        form.expect(text);
        let pieces: Vec<Bytes> = sizes.iter().map(|size| vec![b'x'; *size].into()).collect();
        let mut run = form.begin();
        for piece in &pieces {
            run.text(piece);
        }
        let page = form.page(std::iter::once(&run.finish()));
        assert_eq!(page.concat(), pieces.concat());
        let shared = page.iter().all(|chunk| pieces.iter().any(|piece| piece.as_ptr() == chunk.as_ptr()));
        assert_eq!((page.len(), shared), expected);
    }

    #[test]
    fn a_page_is_joined_unless_that_would_be_too_much_to_have_twice() {
        check(JOINED, &[1000, 2000, 3000], (1, false));
        check(JOINED + 1, &[1000, 2000, 3000], (3, true));
        check(JOINED, &[20_000, 20_000], (2, true));
        check(JOINED + 1, &[100, 100, 2000, 100], (3, false));
    }
}
