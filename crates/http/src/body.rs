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
        let chunk = match &self.chunks {
            Chunks::One(chunk) => (self.next == 0).then_some(chunk),
            Chunks::Shared(built) => built.chunks().get(self.next),
        }?;
        let end = chunk.len().min(self.sent + FRAME);
        let frame = chunk.slice(self.sent..end);
        (self.next, self.sent) = if end == chunk.len() { (self.next + 1, 0) } else { (self.next, end) };
        self.remaining -= frame.len() as u64;
        Some(frame)
    }
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
    fn a_page_is_sent_whole_to_each_of_its_readers_and_each_gives_its_permit_back() {
        let permits = Arc::new(Semaphore::new(2));
        let built = Arc::new(Built::of(vec![Bytes::from_static(b"abc"), Bytes::from_static(b"de")]));
        for _ in 0..2 {
            let permit = Arc::clone(&permits).try_acquire_owned().unwrap();
            let page = Page::of_scrape(Arc::clone(&built), permit);
            assert_eq!(permits.available_permits(), 1);
            check(page, &[(Some(5), false), (Some(2), false), (Some(0), true)]);
            assert_eq!(permits.available_permits(), 2);
        }
    }
}
