//! The body of an answer: chunks of bytes whose total length is known before the first is sent.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A body of chunks. Each is one frame and is let go as soon as the connection took it.
#[derive(Debug, Default)]
pub struct Page {
    chunks: vec::IntoIter<Bytes>,
    remaining: u64,
}

impl Page {
    /// The body of these chunks, in this order.
    pub fn new(chunks: Vec<Bytes>) -> Self {
        let remaining = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self { chunks: chunks.into_iter(), remaining }
    }

    /// The bytes that were not sent yet.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl From<String> for Page {
    fn from(text: String) -> Self {
        Self::new(vec![text.into()])
    }
}

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunks.next();
        self.remaining -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
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

    use super::*;

    #[test]
    fn the_size_hint_is_exact_before_and_after_each_frame() {
        let mut page = Page::new(vec![Bytes::from_static(b"abc"), Bytes::from_static(b"de")]);
        let mut seen = Vec::new();
        loop {
            seen.push((page.size_hint().exact(), page.is_end_stream()));
            let mut context = Context::from_waker(Waker::noop());
            let Poll::Ready(Some(Ok(_))) = Pin::new(&mut page).poll_frame(&mut context) else { break };
        }
        assert_eq!(seen, [(Some(5), false), (Some(2), false), (Some(0), true)]);
    }
}
