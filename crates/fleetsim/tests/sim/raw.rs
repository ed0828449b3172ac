//! A client that looks at bytes.

use std::{io, time::Duration};

use fleetsim::Sim;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// What a connection did after its last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It is still open.
    Mute,
    Closed,
    Reset,
}

pub(crate) struct Raw(TcpStream);

/// No compression, no TLS; the 4.1 protocol, plugins, and whether results end with an OK packet.
fn capabilities(deprecate_eof: bool) -> u32 {
    1 << 9 | 1 << 15 | 1 << 19 | u32::from(deprecate_eof) << 24
}

impl Raw {
    pub(crate) async fn connect(sim: &Sim) -> Self {
        Self(TcpStream::connect(sim.address()).await.unwrap())
    }

    /// Logs in with an empty password.
    pub(crate) async fn log_in(sim: &Sim, deprecate_eof: bool) -> Self {
        let mut raw = Self::connect(sim).await;
        assert_eq!(raw.packet().await[0], 10);
        let mut response = capabilities(deprecate_eof).to_le_bytes().to_vec();
        response.resize(32, 0);
        response.extend_from_slice(b"raw\0\0mysql_native_password\0");
        raw.send(1, &response).await;
        assert_eq!(raw.packet().await[0], 0);
        raw
    }

    pub(crate) async fn send(&mut self, sequence: u8, payload: &[u8]) {
        let length = payload.len().to_le_bytes();
        self.0.write_all(&[length[0], length[1], length[2], sequence]).await.unwrap();
        self.0.write_all(payload).await.unwrap();
    }

    pub(crate) async fn ask(&mut self, sql: &str) {
        self.send(0, &[b"\x03", sql.as_bytes()].concat()).await;
    }

    pub(crate) async fn packet(&mut self) -> Vec<u8> {
        let mut header = [0; 4];
        self.0.read_exact(&mut header).await.unwrap();
        let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.unwrap();
        payload
    }

    /// Everything up to the end, or up to a silence of a moment.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, After) {
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            match timeout(Duration::from_millis(200), self.0.read(&mut chunk)).await {
                Err(_) => return (bytes, After::Mute),
                Ok(Ok(0)) => return (bytes, After::Closed),
                Ok(Ok(length)) => bytes.extend_from_slice(&chunk[..length]),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return (bytes, After::Reset);
                }
                Ok(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// One read: what has arrived by then.
    pub(crate) async fn some(&mut self) -> Vec<u8> {
        let mut chunk = vec![0; 4096];
        let length = self.0.read(&mut chunk).await.unwrap();
        chunk.truncate(length);
        chunk
    }
}
