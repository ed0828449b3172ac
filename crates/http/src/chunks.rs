//! Text on its way to a page: small pieces copied together, large ones shared with whoever has them.

use bytes::Bytes;

/// The size of the chunks that small pieces are copied into. Sending a page in pieces of 2 KB costs half as much
/// again as sending it in these.
const CHUNK: usize = 64 << 10;

/// A run of text in the form in which it is sent, and what is needed to join it with others.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    pub(crate) chunks: Vec<Bytes>,
    /// Of the text, where the form is compressed.
    pub(crate) crc: u32,
    /// Before compression.
    pub(crate) text_length: u64,
}

impl Joined {
    /// Bytes of its chunks.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }
}

/// Collects pieces into chunks.
#[derive(Debug)]
pub(crate) struct Chunks {
    /// Smaller pieces are copied, others become chunks of their own.
    copy_below: usize,
    closed: Vec<Bytes>,
    /// A small piece that has no neighbour yet: it may stay where it is.
    single: Option<Bytes>,
    open: Vec<u8>,
}

impl Chunks {
    pub(crate) fn new(copy_below: usize) -> Self {
        Self { copy_below, closed: Vec::new(), single: None, open: Vec::new() }
    }

    /// Takes the bytes in, by copy or by reference.
    pub(crate) fn push(&mut self, bytes: &Bytes) {
        if bytes.len() >= self.copy_below {
            self.close();
            self.closed.push(bytes.clone());
            return;
        }
        if self.open.is_empty() && self.single.is_none() {
            self.single = Some(bytes.clone());
            return;
        }
        if let Some(single) = self.single.take() {
            self.copy(&single);
        }
        self.copy(bytes);
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
        self.closed.extend(self.single.take());
        if !self.open.is_empty() {
            let mut chunk = std::mem::take(&mut self.open);
            // It may be kept.
            chunk.shrink_to_fit();
            self.closed.push(chunk.into());
        }
    }

    /// The chunks, in the order of their pieces.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.close();
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_are_copied_together_and_large_ones_are_shared() {
        const COPY_BELOW: usize = 16 << 10;
        let small = Bytes::from(vec![b's'; 1000]);
        let large = Bytes::from(vec![b'l'; COPY_BELOW]);
        let mut pieces = Chunks::new(COPY_BELOW);
        (0..100).for_each(|_| pieces.push(&small));
        pieces.push(&large);
        pieces.push(&small);
        let chunks = pieces.finish();

        let sizes: Vec<_> = chunks.iter().map(Bytes::len).collect();
        assert_eq!(sizes, [65_000, 35_000, COPY_BELOW, 1000]);
        assert_eq!(chunks[2].as_ptr(), large.as_ptr(), "shared, not copied");
    }
}
