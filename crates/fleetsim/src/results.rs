//! An answer's packets: rows between their columns and their end, OK, errors, and what is no packet of a server.

use crate::{
    answer::{Answer, Outcome},
    preset::DEPRECATE_EOF,
    rows::{Row, Rows},
    send::{Sender, Stop},
    session::Session,
};

impl Session {
    /// Sends what is to be sent of an answer.
    pub(crate) async fn send(&mut self, answer: &Answer) -> Result<(), Stop> {
        let eof_is_ok = self.capabilities & DEPRECATE_EOF != 0;
        let Self { stream, frames, open, .. } = self;
        let mut sender = Sender::new(stream, frames, open, &answer.delivery, 1);
        for (n, outcome) in answer.results.iter().enumerate() {
            let status = Status { more: n + 1 < answer.results.len(), eof_is_ok };
            match outcome {
                Outcome::Rows(rows) => send_rows(&mut sender, rows, status).await?,
                Outcome::Ok => sender.packet(|bytes| status.write_ok(bytes, 0x00)).await?,
                Outcome::Error(error) => sender.packet(|bytes| error.write(bytes, true)).await?,
                Outcome::Packet(payload) => {
                    sender.packet(|bytes| bytes.extend_from_slice(payload)).await?;
                }
                Outcome::Bytes(bytes) => sender.bytes(bytes).await?,
            }
        }
        sender.finish().await
    }
}

/// What the end of a result says.
#[derive(Debug, Clone, Copy)]
struct Status {
    /// Another result follows.
    more: bool,
    /// It is an OK packet with the head of an EOF packet.
    eof_is_ok: bool,
}

impl Status {
    fn flags(self) -> [u8; 2] {
        // SERVER_STATUS_AUTOCOMMIT, SERVER_MORE_RESULTS_EXISTS
        let flags: u16 = 2 | if self.more { 8 } else { 0 };
        flags.to_le_bytes()
    }

    /// No rows affected, no id, no warnings.
    fn write_ok(self, bytes: &mut Vec<u8>, head: u8) {
        bytes.extend_from_slice(&[head, 0, 0]);
        bytes.extend_from_slice(&self.flags());
        bytes.extend_from_slice(&[0, 0]);
    }

    fn write_eof(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&[0xfe, 0, 0]);
        bytes.extend_from_slice(&self.flags());
    }
}

/// The payload of an OK packet.
pub(crate) fn ok(bytes: &mut Vec<u8>) {
    Status { more: false, eof_is_ok: false }.write_ok(bytes, 0x00);
}

async fn send_rows(sender: &mut Sender<'_>, rows: &Rows, status: Status) -> Result<(), Stop> {
    sender.packet(|bytes| rows.write_count(bytes)).await?;
    for column in &rows.columns {
        sender.packet(|bytes| bytes.extend_from_slice(column.definition())).await?;
    }
    if !status.eof_is_ok {
        sender.packet(|bytes| Status { more: false, ..status }.write_eof(bytes)).await?;
    }
    for row in &rows.held {
        sender.packet(|bytes| bytes.extend_from_slice(row)).await?;
    }
    if let Some((count, make)) = &rows.made {
        for n in 0..*count {
            sender.packet(|bytes| make(n, &mut Row(bytes))).await?;
        }
    }
    sender
        .packet(|bytes| if status.eof_is_ok { status.write_ok(bytes, 0xfe) } else { status.write_eof(bytes) })
        .await
}
