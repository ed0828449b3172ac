//! Sending an exchange's packets the way its delivery has it.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, select, time::sleep};

use crate::{
    delivery::{At, Break, Delivery, Then},
    session::Open,
    stream::Stream,
    wire::Frames,
};

/// How many bytes are gathered before they go out.
const CHUNK: usize = 64 << 10;

/// Why no more is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The script says so.
    Cut(Then),
    /// The client is gone.
    Lost,
}

/// The packets of one exchange on their way.
pub(crate) struct Sender<'a> {
    stream: &'a mut Stream,
    frames: &'a mut Frames,
    open: &'a mut Open,
    pace: Option<(usize, Duration)>,
    breaks: &'a [(At, Break)],
    /// Where the packet begins that the next break lies in, once that is known.
    packet_start: Option<u64>,
    sent: u64,
}

impl<'a> Sender<'a> {
    /// An exchange whose first packet has this number.
    pub(crate) fn new(
        stream: &'a mut Stream,
        frames: &'a mut Frames,
        open: &'a mut Open,
        delivery: &'a Delivery,
        sequence: u8,
    ) -> Self {
        frames.begin(sequence);
        Self {
            stream,
            frames,
            open,
            pace: delivery.pace,
            breaks: &delivery.breaks,
            packet_start: None,
            sent: 0,
        }
    }

    /// One packet, whose payload `write` makes.
    pub(crate) async fn packet(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Stop> {
        if matches!(self.breaks.first(), Some((At::Packet(n), _)) if *n <= self.frames.packets) {
            self.flush().await?;
        }
        self.find_packet();
        self.frames.packet(write);
        if self.frames.bytes.len() >= CHUNK { self.flush().await } else { Ok(()) }
    }

    /// Notes where the next packet begins, if the next break lies in it.
    fn find_packet(&mut self) {
        if let Some((At::In { packet, .. }, _)) = self.breaks.first()
            && *packet == self.frames.packets
        {
            self.packet_start = Some(self.sent + self.frames.bytes.len() as u64);
        }
    }

    /// Bytes that are no packet.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.frames.bytes.extend_from_slice(bytes);
        if self.frames.bytes.len() >= CHUNK { self.flush().await } else { Ok(()) }
    }

    /// Sends what is left.
    pub(crate) async fn finish(mut self) -> Result<(), Stop> {
        self.flush().await
    }

    /// Sends what was gathered, with the breaks that lie in it.
    async fn flush(&mut self) -> Result<(), Stop> {
        let mut from = 0;
        while let Some((at, what)) = self.breaks.first().copied() {
            let end = self.sent + (self.frames.bytes.len() - from) as u64;
            let place = match (at, self.packet_start) {
                (At::Byte(n), _) => n,
                (At::Packet(n), _) if n <= self.frames.packets => end,
                (At::In { byte, .. }, Some(start)) => start + byte,
                _ => break,
            };
            if place > end {
                break;
            }
            let place = place.max(self.sent);
            let to = from + usize::try_from(place - self.sent).unwrap_or(usize::MAX);
            self.write(from, to).await?;
            from = to;
            self.breaks = &self.breaks[1..];
            self.packet_start = None;
            match what {
                Break::Pause(pause) => self.open.sleep(self.stream, pause).await,
                Break::End(then) => return Err(Stop::Cut(then)),
            }
        }
        self.write(from, self.frames.bytes.len()).await?;
        self.frames.sent();
        Ok(())
    }

    async fn write(&mut self, mut from: usize, to: usize) -> Result<(), Stop> {
        self.sent += (to - from) as u64;
        while from < to {
            let (next, pause) = match self.pace {
                Some((bytes, every)) => ((from + bytes).min(to), Some(every)),
                None => (to, None),
            };
            let written = async {
                self.stream.write_all(&self.frames.bytes[from..next]).await?;
                self.stream.flush().await
            };
            written.await.map_err(|_| Stop::Lost)?;
            from = next;
            if let Some(pause) = pause {
                self.open.sleep(self.stream, pause).await;
            }
        }
        Ok(())
    }
}

impl Open {
    /// Sleeps, and notices if the client leaves meanwhile.
    pub(crate) async fn sleep(&mut self, stream: &Stream, time: Duration) {
        if time.is_zero() {
            return;
        }
        self.handle.set_waiting(true);
        let mut time = std::pin::pin!(sleep(time));
        if self.is_open() {
            select! {
                () = &mut time => {}
                () = stream.closed() => self.close(),
            }
        }
        if !time.is_elapsed() {
            time.await;
        }
        self.handle.set_waiting(false);
    }

    /// Waits for ever, and notices if the client leaves meanwhile.
    pub(crate) async fn wait<T>(&mut self, stream: &Stream) -> T {
        self.handle.set_waiting(true);
        if self.is_open() {
            stream.closed().await;
            self.close();
        }
        std::future::pending().await
    }
}
