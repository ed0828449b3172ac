//! The page as it is: small pieces copied together, large ones shared with the snapshot.

use bytes::{Bytes, BytesMut};
use fleet_collector::snapshot::Piece;

use crate::exposition::Output;

/// Pieces below this size are copied together; a larger one becomes a chunk of its own, shared with the snapshot.
const COPY_BELOW: usize = 16 << 10;

/// The size of the chunks that small pieces are copied into. Sending a page in pieces of 2 KB costs half as much
/// again as sending it in these.
const CHUNK: usize = 64 << 10;

/// Collects small pieces in `open` and closes it when it is full or a large piece follows.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    closed: Vec<Bytes>,
    open: BytesMut,
}

impl Plain {
    /// Takes the bytes in, by copy or by reference.
    pub(crate) fn push(&mut self, bytes: &Bytes) {
        if bytes.len() < COPY_BELOW {
            self.copy(bytes);
        } else {
            self.close();
            self.closed.push(bytes.clone());
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.open.len() + bytes.len() > CHUNK {
            self.close();
        }
        if self.open.is_empty() {
            self.open.reserve(CHUNK);
        }
        self.open.extend_from_slice(bytes);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed.push(std::mem::take(&mut self.open).freeze());
        }
    }

    /// The chunks, to be sent in this order.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.close();
        self.closed
    }
}

impl Output for Plain {
    fn text(&mut self, text: Bytes) {
        self.push(&text);
    }

    fn piece(&mut self, piece: &Piece<'_>) {
        self.push(piece.text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_copied_together_and_large_ones_are_shared() {
        let small = Bytes::from(vec![b's'; 1000]);
        let large = Bytes::from(vec![b'l'; COPY_BELOW]);
        let mut plain = Plain::default();
        (0..100).for_each(|_| plain.push(&small));
        plain.push(&large);
        plain.push(&small);
        let chunks = plain.finish();

        let sizes: Vec<_> = chunks.iter().map(Bytes::len).collect();
        assert_eq!(sizes, [65_000, 35_000, COPY_BELOW, 1000]);
        assert_eq!(chunks[2].as_ptr(), large.as_ptr(), "shared, not copied");
    }
}
