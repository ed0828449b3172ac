//! The body of an answer: chunks of bytes whose total length is known before the first is sent.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::builds::Built;

/// The largest frame. Smaller ones would be more calls, with the socket idle in between: in quarters of this a compressed
/// page of as much costs twice the time to send.
const FRAME: usize = 1 << 20;

/// Smaller chunks are joined. Sending a page in pieces of 2 KB would cost half as much again.
const JOIN_BELOW: usize = 16 << 10;

/// As far as this.
const JOINED: usize = 64 << 10;

/// Chunks that are sent with one call.
#[derive(Debug, Default)]
pub struct Chain {
    chunks: VecDeque<Bytes>,
    remaining: usize,
    /// The scrape lasts until its last frame is sent or given up, whoever holds it.
    _scrape: Option<Arc<Scrape>>,
}

/// What a scrape holds as long as it is under way.
#[derive(Debug)]
struct Scrape {
    built: Arc<Built>,
    _permit: OwnedSemaphorePermit,
}

impl Chain {
    /// An empty one is left out: as long as something remains, the first must not be empty.
    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.remaining += chunk.len();
            self.chunks.push_back(chunk);
        }
    }
}

impl Buf for Chain {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.len().min(self.chunks.len());
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
        }
        filled
    }

    /// # Panics
    /// If there is not so much left.
    fn advance(&mut self, mut taken: usize) {
        self.remaining = self.remaining.checked_sub(taken).expect("nobody takes more than there is");
        while let Some(first) = self.chunks.front_mut() {
            if taken < first.len() {
                first.advance(taken);
                return;
            }
            taken -= first.len();
            self.chunks.pop_front();
        }
    }
}

/// A body of chunks, sent in frames.
#[derive(Debug, Default)]
pub struct Page {
    chunks: Chunks,
    /// The chunk that comes next, and how much of it was sent.
    next: usize,
    sent: usize,
    remaining: u64,
}

#[derive(Debug)]
enum Chunks {
    One(Bytes),
    /// Those of a page that others may be sent as well.
    Shared(Arc<Scrape>),
}

impl Default for Chunks {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

impl Page {
    /// The body of a scrape, which ends when this and all its frames are dropped.
    pub(crate) fn of_scrape(built: Arc<Built>, permit: OwnedSemaphorePermit) -> Self {
        let remaining = built.length();
        let scrape = Arc::new(Scrape { built, _permit: permit });
        Self { chunks: Chunks::Shared(scrape), remaining, ..Self::default() }
    }

    /// The bytes that were not sent yet.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    fn next_frame(&mut self) -> Option<Chain> {
        let scrape = match &self.chunks {
            Chunks::One(_) => None,
            Chunks::Shared(scrape) => Some(Arc::clone(scrape)),
        };
        let mut frame = Chain { _scrape: scrape, ..Chain::default() };
        while frame.remaining < FRAME
            && let Some(chunk) = self.next_chunk(FRAME - frame.remaining)
        {
            frame.push(chunk);
        }
        self.remaining -= frame.remaining as u64;
        (frame.remaining > 0).then_some(frame)
    }

    /// The next chunk, or as many bytes of it as there is room for; or small ones joined.
    fn next_chunk(&mut self, room: usize) -> Option<Bytes> {
        let chunks = match &self.chunks {
            Chunks::One(chunk) => std::slice::from_ref(chunk),
            Chunks::Shared(scrape) => scrape.built.chunks(),
        };
        let small = small_ones(&chunks[self.next..], room.min(JOINED));
        if small > 1 && self.sent == 0 {
            let joined = chunks[self.next..self.next + small].concat();
            self.next += small;
            return Some(joined.into());
        }
        let chunk = chunks.get(self.next)?;
        let end = chunk.len().min(self.sent + room);
        let part = chunk.slice(self.sent..end);
        (self.next, self.sent) = if end == chunk.len() { (self.next + 1, 0) } else { (self.next, end) };
        Some(part)
    }
}

/// How many of the first chunks are small, and no more than so many bytes together.
fn small_ones(chunks: &[Bytes], most: usize) -> usize {
    let mut length = 0;
    let fits = |chunk: &&Bytes| {
        length += chunk.len();
        chunk.len() < JOIN_BELOW && length <= most
    };
    chunks.iter().take_while(fits).count()
}

impl From<String> for Page {
    fn from(text: String) -> Self {
        Self { remaining: text.len() as u64, chunks: Chunks::One(text.into()), ..Self::default() }
    }
}

impl Body for Page {
    type Data = Chain;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chain>, Infallible>>> {
        Poll::Ready(self.next_frame().map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    /// Exact, so that hyper sends `Content-Length` instead of the chunked encoding.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::sync::Semaphore;

    use super::*;

    #[track_caller]
    fn check(mut page: Page, expected: &[(Option<u64>, bool)]) {
        let mut seen = Vec::new();
        loop {
            seen.push((page.size_hint().exact(), page.is_end_stream()));
            let mut context = Context::from_waker(Waker::noop());
            let Poll::Ready(Some(Ok(_))) = Pin::new(&mut page).poll_frame(&mut context) else { break };
        }
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_size_hint_is_exact_before_and_after_each_frame() {
        check(Page::default(), &[(Some(0), true)]);
        check("abc".to_owned().into(), &[(Some(3), false), (Some(0), true)]);
        let two_frames = FRAME as u64 + 1;
        check("x".repeat(FRAME + 1).into(), &[(Some(two_frames), false), (Some(1), false), (Some(0), true)]);
    }

    fn frames(chunks: Vec<Bytes>) -> Vec<Chain> {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut page = Page::of_scrape(Arc::new(Built::of(chunks)), permit);
        std::iter::from_fn(|| page.next_frame()).collect()
    }

    #[test]
    fn small_chunks_are_joined_and_a_frame_is_never_too_large() {
        let small = JOIN_BELOW - 1;
        let sizes = [3, 5, JOIN_BELOW, small, small, small, small, 4, 9, 7, FRAME, 1, 2];
        let chunks: Vec<Bytes> =
            (b'a'..).zip(sizes).map(|(letter, size)| vec![letter; size].into()).collect();
        let text = chunks.concat();
        let frames = frames(chunks);
        let lengths: Vec<Vec<_>> =
            frames.iter().map(|frame| frame.chunks.iter().map(Bytes::len).collect()).collect();
        let (before, most) = (8 + JOIN_BELOW + JOINED + 16, JOINED);
        assert_eq!(lengths, [vec![8, JOIN_BELOW, most, 16, FRAME - before], vec![before, 3]]);
        let sent: Vec<u8> = frames.iter().flat_map(|frame| frame.chunks.iter().flatten().copied()).collect();
        assert!(sent == text);
    }

    #[test]
    fn a_frame_is_taken_in_pieces_of_any_size() {
        for step in 1..8 {
            let large = vec![b'a'; JOIN_BELOW];
            let mut frame = frames(vec![large.clone().into(), Bytes::from_static(b"bcd")]).remove(0);
            let mut seen = Vec::new();
            while frame.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 2];
                let filled = frame.chunks_vectored(&mut slices);
                let all: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
                assert_eq!(all, frame.remaining(), "both chunks are shown at once");
                assert_eq!(&*slices[0], frame.chunk());
                let part: Vec<u8> =
                    slices.iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
                frame.advance(part.len());
                seen.extend(part);
                if seen.len() < 10 {
                    let most = JOIN_BELOW - 10;
                    frame.advance(most);
                    seen.extend(vec![b'a'; most]);
                }
            }
            assert!(seen == [large, b"bcd".to_vec()].concat(), "in steps of {step}");
        }
    }

    #[test]
    fn a_page_is_sent_whole_to_each_of_its_readers_and_each_gives_its_permit_back() {
        let permits = Arc::new(Semaphore::new(2));
        let length = FRAME as u64 + 2;
        let built = Arc::new(Built::of(vec![vec![b'a'; FRAME].into(), Bytes::from_static(b"de")]));
        for _ in 0..2 {
            let permit = Arc::clone(&permits).try_acquire_owned().unwrap();
            let page = Page::of_scrape(Arc::clone(&built), permit);
            assert_eq!(permits.available_permits(), 1);
            check(page, &[(Some(length), false), (Some(2), false), (Some(0), true)]);
            assert_eq!(permits.available_permits(), 2);
        }
    }

    #[test]
    fn a_scrape_lasts_until_its_last_frame_is_sent() {
        let permits = Arc::new(Semaphore::new(1));
        let built = Arc::new(Built::of(vec![vec![b'a'; FRAME].into(), Bytes::from_static(b"de")]));
        let mut page = Page::of_scrape(built, Arc::clone(&permits).try_acquire_owned().unwrap());
        let mut frames: Vec<_> = std::iter::from_fn(|| page.next_frame()).collect();
        assert!(page.is_end_stream());
        drop(page);
        frames.remove(0);
        assert_eq!((frames.len(), permits.available_permits()), (1, 0));
        drop(frames);
        assert_eq!(permits.available_permits(), 1);
    }
}
