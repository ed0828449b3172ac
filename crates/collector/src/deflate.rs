//! Text as pieces of one deflate stream, each compressed without knowing its neighbours, to be joined in any order.
//!
//! A piece starts from a fresh state and ends on a byte's border without ending the stream (a sync flush). So pieces are
//! compressed once and joined for many readers: `gzip` members one after another would do too, but several programs
//! (curl, browsers) read the first one only.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};

/// The level that a fleet's text is best served by. In pieces of 16 KiB it comes out 9 times smaller at level 1, 11 times
/// at level 2 in twice the time, 13 times at level 4 in three times the time.
const LEVEL: u32 = 2;

/// Room beyond which the output grows while it is made: text of a fleet shrinks to a tenth.
const LIKELY_RATIO: usize = 6;

/// A piece of a deflate stream, and what is needed to join it with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deflated {
    /// Whole bytes of the stream, without its end.
    pub bytes: Bytes,
    /// The CRC-32 of the text.
    pub crc: u32,
    /// The length of the text.
    pub text_length: u64,
}

/// Compresses piece after piece. Holds 300 KiB, so there are few.
pub struct Deflater(Compress);

impl Default for Deflater {
    fn default() -> Self {
        // Raw: no header, no checksum of its own.
        Self(Compress::new(Compression::new(LEVEL), false))
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

impl Deflater {
    /// Compresses a text as one piece.
    #[expect(clippy::missing_panics_doc, reason = "each says why it cannot")]
    pub fn deflate(&mut self, text: &[u8]) -> Deflated {
        self.0.reset();
        let mut bytes = Vec::with_capacity(text.len() / LIKELY_RATIO + 64);
        loop {
            let taken = usize::try_from(self.0.total_in()).expect("at most the text's length");
            self.0
                .compress_vec(&text[taken..], &mut bytes, FlushCompress::Sync)
                .expect("a stream that was reset takes whatever comes");
            // Room left over says that the flush is complete.
            if bytes.len() < bytes.capacity() {
                break;
            }
            bytes.reserve(bytes.len() / 2);
        }
        bytes.shrink_to_fit();
        Deflated { bytes: bytes.into(), crc: crc32fast::hash(text), text_length: text.len() as u64 }
    }
}

/// A few compressors to be taken and given back, as those who need one are many and seldom at work.
#[derive(Debug, Default)]
pub(crate) struct Deflaters(Mutex<Vec<Deflater>>);

/// Compressors that are kept while nobody needs them.
const KEPT: usize = 4;

impl Deflaters {
    pub(crate) fn take(&self) -> Deflater {
        self.free().pop().unwrap_or_default()
    }

    pub(crate) fn give_back(&self, deflater: Deflater) {
        let mut free = self.free();
        if free.len() < KEPT {
            free.push(deflater);
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Deflater>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The compressed form of a text that is large enough to be a piece of its own: made once, when first needed.
#[derive(Debug)]
pub struct Packed {
    cell: OnceLock<Deflated>,
    /// Whether a reader has used it.
    used: AtomicBool,
    /// The bytes that all of them hold.
    held: Arc<AtomicI64>,
}

impl Packed {
    pub(crate) fn new(held: Arc<AtomicI64>) -> Self {
        Self { cell: OnceLock::new(), used: AtomicBool::new(false), held }
    }

    /// The compressed form of `text`, which is always the same for one of these.
    pub fn get(&self, text: &[u8], deflater: &mut Deflater) -> &Deflated {
        self.used.store(true, Relaxed);
        self.fill(text, deflater)
    }

    /// Makes it before a reader comes.
    pub(crate) fn fill(&self, text: &[u8], deflater: &mut Deflater) -> &Deflated {
        self.cell.get_or_init(|| {
            let made = deflater.deflate(text);
            self.held.fetch_add(size(&made), Relaxed);
            made
        })
    }

    pub(crate) fn was_used(&self) -> bool {
        self.used.load(Relaxed)
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        if let Some(deflated) = self.cell.get() {
            self.held.fetch_sub(size(deflated), Relaxed);
        }
    }
}

fn size(deflated: &Deflated) -> i64 {
    i64::try_from(deflated.bytes.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(pieces: &[Deflated]) -> Vec<u8> {
        // The end of the stream: an empty final block.
        let stream: Vec<u8> = pieces.iter().flat_map(|piece| &*piece.bytes).copied().chain([3, 0]).collect();
        let mut text = Vec::with_capacity(1 << 20);
        let mut inflate = flate2::Decompress::new(false);
        let status = inflate.decompress_vec(&stream, &mut text, flate2::FlushDecompress::Finish).unwrap();
        assert_eq!(status, flate2::Status::StreamEnd);
        assert_eq!(inflate.total_in(), stream.len() as u64);
        text
    }

    #[test]
    fn pieces_of_any_size_join_in_any_order() {
        let mut deflater = Deflater::default();
        let mut noise = 42_u64;
        let mut random = |length: usize| -> Vec<u8> {
            let next = |_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                noise.to_be_bytes()[0]
            };
            (0..length).map(next).collect()
        };
        let texts: Vec<Vec<u8>> = vec![
            b"up 1\n".to_vec(),
            b"a{b=\"c\"} 1\n".repeat(10_000),
            Vec::new(),
            random(100_000),
            random(1),
            random(64 << 10),
        ];
        for order in [[0, 1, 2, 3, 4, 5], [5, 3, 1, 4, 2, 0]] {
            let pieces = order.map(|n: usize| deflater.deflate(&texts[n]));
            assert!(inflated(&pieces) == order.map(|n| texts[n].clone()).concat());
            for (piece, n) in pieces.iter().zip(order) {
                assert_eq!(piece.text_length, texts[n].len() as u64);
                assert_eq!(piece.crc, crc32fast::hash(&texts[n]));
                assert!(
                    piece.bytes.len() <= texts[n].len() + texts[n].len() / 1000 + 32,
                    "{}",
                    piece.bytes.len()
                );
            }
        }
    }

    #[test]
    fn a_text_is_compressed_once_and_counted_while_it_is_there() {
        let held = Arc::new(AtomicI64::new(0));
        let packed = Packed::new(Arc::clone(&held));
        let mut deflater = Deflater::default();
        let first = packed.fill(b"a 1\n", &mut deflater).clone();
        assert_eq!((held.load(Relaxed), packed.was_used()), (size(&first), false));
        let second = packed.get(b"a 1\n", &mut deflater);
        assert_eq!(second.bytes.as_ptr(), first.bytes.as_ptr());
        assert!(packed.was_used());
        drop(packed);
        assert_eq!(held.load(Relaxed), 0);
    }
}
