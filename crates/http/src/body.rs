//! The body of an answer: chunks of bytes whose total length is known before the first is sent.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::builds::Built;

/// The largest frame. What was handed over as a frame counts as sent, so a larger one would end the scrape before the
/// reader has taken anything.
const FRAME: usize = 64 << 10;

/// Smaller chunks are joined to frames. Sending a page in pieces of 2 KB would cost half as much again.
const JOIN_BELOW: usize = 16 << 10;

/// A body of chunks, sent in frames.
#[derive(Debug, Default)]
pub struct Page {
    chunks: Chunks,
    /// The chunk that comes next, and how much of it was sent.
    next: usize,
    sent: usize,
    remaining: u64,
    /// Given back once the body is sent, or given up.
    _scrape: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Chunks {
    One(Bytes),
    /// Those of a page that others may be sent as well.
    Shared(Arc<Built>),
}

impl Default for Chunks {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

impl Page {
    /// The body of a scrape, which ends the scrape when it is dropped.
    pub(crate) fn of_scrape(built: Arc<Built>, scrape: OwnedSemaphorePermit) -> Self {
        let remaining = built.length();
        Self { chunks: Chunks::Shared(built), remaining, _scrape: Some(scrape), ..Self::default() }
    }

    /// The bytes that were not sent yet.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    fn next_frame(&mut self) -> Option<Bytes> {
        let chunks = match &self.chunks {
            Chunks::One(chunk) => std::slice::from_ref(chunk),
            Chunks::Shared(built) => built.chunks(),
        };
        let small = small_ones(&chunks[self.next..]);
        if small > 1 {
            let frame: Bytes = chunks[self.next..self.next + small].concat().into();
            self.next += small;
            self.remaining -= frame.len() as u64;
            return Some(frame);
        }
        let chunk = chunks.get(self.next)?;
        let end = chunk.len().min(self.sent + FRAME);
        let frame = chunk.slice(self.sent..end);
        (self.next, self.sent) = if end == chunk.len() { (self.next + 1, 0) } else { (self.next, end) };
        self.remaining -= frame.len() as u64;
        Some(frame)
    }
}

/// How many of the first chunks make one frame together.
fn small_ones(chunks: &[Bytes]) -> usize {
    let mut length = 0;
    let fits = |chunk: &&Bytes| {
        length += chunk.len();
        chunk.len() < JOIN_BELOW && length <= FRAME
    };
    chunks.iter().take_while(fits).count()
}

impl From<String> for Page {
    fn from(text: String) -> Self {
        Self { remaining: text.len() as u64, chunks: Chunks::One(text.into()), ..Self::default() }
    }
}

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.next_frame().filter(|frame| !frame.is_empty());
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
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

    #[test]
    fn small_chunks_are_joined_to_frames_and_a_frame_is_never_too_large() {
        let sizes = [
            3,
            5,
            JOIN_BELOW,
            JOIN_BELOW - 1,
            JOIN_BELOW - 2,
            JOIN_BELOW - 3,
            JOIN_BELOW - 4,
            9,
            7,
            FRAME + 1,
        ];
        let chunks: Vec<Bytes> =
            (b'a'..).zip(sizes).map(|(letter, size)| vec![letter; size].into()).collect();
        let text = chunks.concat();
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let mut page = Page::of_scrape(Arc::new(Built::of(chunks)), permit);
        let frames: Vec<Bytes> = std::iter::from_fn(|| page.next_frame()).collect();
        let lengths: Vec<_> = frames.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [8, JOIN_BELOW, 4 * JOIN_BELOW - 10 + 9, 7, FRAME, 1]);
        assert!(frames.concat() == text);
    }

    #[test]
    fn a_page_is_sent_whole_to_each_of_its_readers_and_each_gives_its_permit_back() {
        let permits = Arc::new(Semaphore::new(2));
        let built = Arc::new(Built::of(vec![vec![b'a'; JOIN_BELOW].into(), Bytes::from_static(b"de")]));
        for _ in 0..2 {
            let permit = Arc::clone(&permits).try_acquire_owned().unwrap();
            let page = Page::of_scrape(Arc::clone(&built), permit);
            assert_eq!(permits.available_permits(), 1);
            let length = JOIN_BELOW as u64 + 2;
            check(page, &[(Some(length), false), (Some(2), false), (Some(0), true)]);
            assert_eq!(permits.available_permits(), 2);
        }
    }
}
