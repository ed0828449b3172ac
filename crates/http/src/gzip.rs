//! The page as one gzip member, joined of runs that were compressed when they were last new.
//!
//! Large results carry their compressed form with them. Small ones are compressed together with their neighbours.

use bytes::Bytes;
use crc32fast::Hasher;
use fleet_collector::{
    deflate::{Deflated, Deflater},
    snapshot::Piece,
};

use crate::{
    chunks::{Chunks, Joined},
    form::{Form, Output},
};

/// Small texts are compressed together up to this much.
const GROUP: usize = 64 << 10;

/// Compressed pieces are small: nearly all are copied together.
const COPY_BELOW: usize = 16 << 10;

/// Method deflate, no name, no time, no system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// An empty final block, which ends the stream that the pieces have left open.
const END_OF_STREAM: [u8; 2] = [3, 0];

/// Compresses text.
#[derive(Debug)]
pub(crate) struct Gzip<'a> {
    deflater: &'a mut Deflater,
    /// The small texts that are not compressed yet.
    open: Vec<u8>,
    sum: Sum,
    chunks: Chunks,
}

/// What a gzip member says of its text at its end.
#[derive(Debug, Default)]
struct Sum {
    crc: Hasher,
    text_length: u64,
}

impl Sum {
    fn add(&mut self, crc: u32, text_length: u64) {
        self.crc.combine(&Hasher::new_with_initial_len(crc, text_length));
        self.text_length += text_length;
    }
}

impl<'a> Gzip<'a> {
    fn new(deflater: &'a mut Deflater) -> Self {
        let chunks = Chunks::new(COPY_BELOW);
        // As much as a segment has, and a part more.
        let open = Vec::with_capacity(16 << 10);
        Self { deflater, open, sum: Sum::default(), chunks }
    }

    fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let deflated = self.deflater.deflate(&self.open);
        self.join(&deflated);
        self.open.clear();
    }

    fn join(&mut self, Deflated { bytes, crc, text_length }: &Deflated) {
        self.sum.add(*crc, *text_length);
        self.chunks.push(bytes);
    }
}

impl Output for Gzip<'_> {
    fn text(&mut self, text: &Bytes) {
        self.open.extend_from_slice(text);
        if self.open.len() >= GROUP {
            self.close();
        }
    }

    fn piece(&mut self, piece: &Piece<'_>) {
        match piece.packed {
            Some(packed) => {
                self.close();
                let deflated = packed.get(piece.text, self.deflater).clone();
                self.join(&deflated);
            }
            None => self.text(piece.text),
        }
    }

    fn run(&mut self, run: &Joined) {
        self.close();
        self.sum.add(run.crc, run.text_length);
        for chunk in &run.chunks {
            self.chunks.push(chunk);
        }
    }

    fn text_length(&self) -> u64 {
        self.sum.text_length + self.open.len() as u64
    }

    fn finish(mut self) -> Joined {
        self.close();
        let Sum { crc, text_length } = self.sum;
        Joined { chunks: self.chunks.finish(), crc: crc.finalize(), text_length }
    }
}

impl Form for Deflater {
    type Output<'a> = Gzip<'a>;

    /// Twice as much would make the page 4 % smaller, and each result that changes twice as dear.
    const SEGMENT: u64 = 12 << 10;

    const OWN_SEGMENT: u64 = 4 << 10;

    const RUNS_ARE_COPIES: bool = true;

    fn begin(&mut self) -> Gzip<'_> {
        Gzip::new(self)
    }

    /// One member.
    fn page<'a>(&self, runs: impl Iterator<Item = &'a Joined>) -> Vec<Bytes> {
        let (mut page, mut sum) = (Chunks::new(COPY_BELOW), Sum::default());
        page.push(&Bytes::from_static(&HEADER));
        for Joined { chunks, crc, text_length } in runs {
            sum.add(*crc, *text_length);
            for chunk in chunks {
                page.push(chunk);
            }
        }
        let mut end = END_OF_STREAM.to_vec();
        end.extend(sum.crc.finalize().to_le_bytes());
        // Modulo 2^32, as the format has it.
        #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32")]
        end.extend((sum.text_length as u32).to_le_bytes());
        page.push(&end.into());
        page.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_page_is_a_member_too() {
        let chunks = Deflater::default().page(std::iter::empty());
        assert_eq!(chunks.concat(), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
