//! The bytes of the protocol: numbers, strings, and packets in their frames.

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest payload of one packet; a longer one goes out in several, of which the last is shorter than this.
pub(crate) const MAX_PAYLOAD: usize = 0xff_ff_ff;

/// The longest packet a client may send.
pub(crate) const MAX_INCOMING: usize = 1 << 20;

/// Appends a length-encoded integer.
pub(crate) fn put_integer(bytes: &mut Vec<u8>, n: u64) {
    let le = n.to_le_bytes();
    match n {
        0..=250 => bytes.push(le[0]),
        251..=0xff_ff => {
            bytes.push(0xfc);
            bytes.extend_from_slice(&le[..2]);
        }
        0x1_00_00..=0xff_ff_ff => {
            bytes.push(0xfd);
            bytes.extend_from_slice(&le[..3]);
        }
        _ => {
            bytes.push(0xfe);
            bytes.extend_from_slice(&le);
        }
    }
}

/// Appends bytes with their length before them.
pub(crate) fn put_bytes(bytes: &mut Vec<u8>, content: &[u8]) {
    put_integer(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

/// Takes a length-encoded integer off the front.
pub(crate) fn take_integer(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    let width = match first {
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => 0,
    };
    if width == 0 {
        *bytes = rest;
        return Some(u64::from(first));
    }
    let (number, rest) = rest.split_at_checked(width)?;
    *bytes = rest;
    let mut le = [0; 8];
    le[..width].copy_from_slice(number);
    Some(u64::from_le_bytes(le))
}

/// Takes so many bytes off the front.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (content, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(content)
}

/// Takes what stands before the next NUL off the front, and the NUL; all of it where there is none.
pub(crate) fn take_until_nul<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let content = &bytes[..end];
    *bytes = bytes.get(end + 1..).unwrap_or_default();
    content
}

/// Packets on their way out, in their frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    pub(crate) bytes: Vec<u8>,
    /// The number of the next packet within its exchange.
    pub(crate) sequence: u8,
    /// How many packets were made since the exchange began.
    pub(crate) packets: u64,
}

impl Frames {
    /// An exchange begins: its first packet of ours has this number.
    pub(crate) fn begin(&mut self, sequence: u8) {
        self.bytes.clear();
        self.sequence = sequence;
        self.packets = 0;
    }

    /// Appends a packet whose payload `write` makes.
    pub(crate) fn packet(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut self.bytes);
        let length = self.bytes.len() - start - 4;
        if length < MAX_PAYLOAD {
            let header = self.header(length);
            self.bytes[start..start + 4].copy_from_slice(&header);
            return;
        }
        let payload = self.bytes.split_off(start + 4);
        self.bytes.truncate(start);
        let mut rest = &payload[..];
        loop {
            let (part, after) = rest.split_at(rest.len().min(MAX_PAYLOAD));
            let header = self.header(part.len());
            self.bytes.extend_from_slice(&header);
            self.bytes.extend_from_slice(part);
            if part.len() < MAX_PAYLOAD {
                return;
            }
            rest = after;
        }
    }

    fn header(&mut self, length: usize) -> [u8; 4] {
        let le = length.to_le_bytes();
        let header = [le[0], le[1], le[2], self.sequence];
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
        header
    }

    /// Forgets what was sent, and gives back the memory of something large.
    pub(crate) fn sent(&mut self) {
        const KEPT: usize = 4096;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
    }
}

/// Packets on their way in.
#[derive(Debug)]
pub(crate) struct Incoming {
    bytes: BytesMut,
}

impl Incoming {
    pub(crate) fn new() -> Self {
        Self { bytes: BytesMut::with_capacity(512) }
    }

    /// The next packet: its number and its payload. None at the end of the stream. May be dropped at any await.
    pub(crate) async fn packet(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Option<(u8, BytesMut)>> {
        loop {
            if let Some([a, b, c, sequence]) = self.bytes.first_chunk().copied() {
                let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
                if length > MAX_INCOMING {
                    return Err(io::Error::other("the client's packet is too large for the simulator"));
                }
                if self.bytes.len() >= 4 + length {
                    self.bytes.advance(4);
                    return Ok(Some((sequence, self.bytes.split_to(length))));
                }
                self.bytes.reserve(4 + length - self.bytes.len());
            }
            self.bytes.reserve(256);
            if stream.read_buf(&mut self.bytes).await? == 0 {
                return if self.bytes.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_read_as_it_was_written() {
        for n in [0, 250, 251, 0xff_ff, 0x1_00_00, 0xff_ff_ff, 1 << 24, 1 << 40, u64::MAX] {
            let mut bytes = Vec::new();
            put_integer(&mut bytes, n);
            let mut rest = &bytes[..];
            assert_eq!(take_integer(&mut rest), Some(n));
            assert!(rest.is_empty(), "{n}");
        }
        assert_eq!(take_integer(&mut &[0xfc, 1][..]), None);
    }

    #[test]
    fn a_long_payload_goes_out_in_several_packets_the_last_of_which_is_shorter() {
        for (length, parts) in [
            (0, vec![0]),
            (MAX_PAYLOAD - 1, vec![MAX_PAYLOAD - 1]),
            (MAX_PAYLOAD, vec![MAX_PAYLOAD, 0]),
            (MAX_PAYLOAD + 5, vec![MAX_PAYLOAD, 5]),
            (2 * MAX_PAYLOAD, vec![MAX_PAYLOAD, MAX_PAYLOAD, 0]),
        ] {
            let mut frames = Frames::default();
            frames.begin(255);
            frames.packet(|bytes| bytes.resize(bytes.len() + length, 7));
            let (mut rest, mut seen, mut sequence) = (&frames.bytes[..], Vec::new(), 255_u8);
            while let Some(header) = take(&mut rest, 4) {
                seen.push(
                    usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16,
                );
                assert_eq!(header[3], sequence);
                sequence = sequence.wrapping_add(1);
                take(&mut rest, seen[seen.len() - 1]).unwrap();
            }
            assert_eq!(seen, parts);
        }
    }
}
