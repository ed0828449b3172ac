//! A limit on readers that stop or crawl: IO whose pending write fails once the other side took nothing for too long, or
//! the answer as a whole takes too long.
//!
//! hyper has no write timeout. Without one, a scraper that is frozen with its connection open keeps its page in
//! memory, and its place under the connection cap, for as long as it likes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// When the answer that is being sent on a connection has to be gone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deadline(Arc<Mutex<Option<Instant>>>);

impl Deadline {
    /// The next answer has until then.
    pub(crate) fn set(&self, deadline: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
    }

    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// IO that fails with [`io::ErrorKind::TimedOut`] when a write waits and no byte goes out for `limit`.
///
/// Each byte taken starts the time again, but for that of the whole answer, its [`Deadline`].
pub(crate) struct WriteProgress<S> {
    io: S,
    limit: Duration,
    deadline: Deadline,
    /// Ends at the limit of the present wait. Made once and set anew, so that a wait costs no allocation.
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<S> WriteProgress<S> {
    pub(crate) fn new(io: S, limit: Duration, deadline: Deadline) -> Self {
        Self { io, limit, deadline, timer: Box::pin(sleep(limit)), waiting: false }
    }

    /// What the IO said, or an error when it said "not yet" for too long.
    fn limited<T>(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.waiting = false;
            return poll;
        }
        if !self.waiting {
            self.waiting = true;
            let stalled = Instant::now() + self.limit;
            self.timer.as_mut().reset(self.deadline.get().map_or(stalled, |deadline| deadline.min(stalled)));
        }
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader took nothing for too long")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteProgress<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteProgress<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(context, bytes);
        self.limited(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.limited(context, poll)
    }

    /// Handed on: hyper sends chunks without copying them only to IO that says yes here.
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_flush(context);
        self.limited(context, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_shutdown(context);
        self.limited(context, poll)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::timeout,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_write_fails_when_nothing_is_read_for_the_limit() {
        let (writer, _reader) = duplex(4);
        let mut writer = WriteProgress::new(writer, LIMIT, Deadline::default());
        let start = Instant::now();
        let error = writer.write_all(b"more than four").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn each_byte_taken_starts_the_time_again() {
        let (writer, mut reader) = duplex(1);
        let mut writer = WriteProgress::new(writer, LIMIT, Deadline::default());
        let write = async {
            writer.write_all(b"slow").await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let read = async {
            let mut all = Vec::new();
            // Nothing comes within 29 s of a silence that the reader makes itself.
            while let Some(byte) = {
                tokio::time::sleep(Duration::from_secs(29)).await;
                reader.read_u8().await.ok()
            } {
                all.push(byte);
            }
            all
        };
        let ((), all) = timeout(Duration::from_mins(10), async { tokio::join!(write, read) }).await.unwrap();
        assert_eq!(all, b"slow");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_a_byte_now_and_then_has_until_the_deadline() {
        let (writer, mut reader) = duplex(1);
        let deadline = Deadline::default();
        let mut writer = WriteProgress::new(writer, LIMIT, deadline.clone());
        deadline.set(Instant::now() + Duration::from_secs(120));
        let start = Instant::now();
        let write = async { writer.write_all(&[b'x'; 100]).await.unwrap_err() };
        let read = async {
            loop {
                tokio::time::sleep(Duration::from_secs(29)).await;
                reader.read_u8().await.unwrap();
            }
        };
        let error = tokio::select! { error = write => error, () = read => unreachable!("it reads on") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 120);
    }
}
