//! How bytes reach the client: when, how fast, and where they stop.

use std::time::Duration;

/// How an answer, or a greeting, is delivered. By default at once and whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivery {
    pub(crate) latency: Duration,
    pub(crate) pace: Option<(usize, Duration)>,
    pub(crate) breaks: Vec<(At, Break)>,
}

/// A place in what is delivered, counted from its beginning, frames included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Before the byte of this number, the first being 0.
    Byte(u64),
    /// Before the packet of this number, the first being 0.
    Packet(u64),
    /// Before this byte of this packet, its frame included.
    In {
        /// The packet's number, the first being 0.
        packet: u64,
        /// The byte's, likewise; beyond the packet's end it lies in the next.
        byte: u64,
    },
}

/// What happens at a place in what is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    Pause(Duration),
    End(Then),
}

/// What becomes of a connection to which nothing more is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It stays open, and nothing more comes.
    Mute,
    /// It is closed.
    Close,
    /// It is closed with a reset.
    Reset,
}

impl Delivery {
    /// At once and whole.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is sent before this time has passed.
    #[must_use]
    pub fn latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// So many bytes at once, and the next after this time: at least one byte.
    #[must_use]
    pub fn trickle(self, bytes: usize, every: Duration) -> Self {
        Self { pace: Some((bytes.max(1), every)), ..self }
    }

    /// Stops at this place and goes on after `pause`. Several are given in their order.
    #[must_use]
    pub fn pause(self, at: At, pause: Duration) -> Self {
        self.with(at, Break::Pause(pause))
    }

    /// Stops at this place for good.
    #[must_use]
    pub fn cut(self, at: At, then: Then) -> Self {
        self.with(at, Break::End(then))
    }

    fn with(mut self, at: At, what: Break) -> Self {
        self.breaks.push((at, what));
        self
    }
}
