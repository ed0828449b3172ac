//! The scraper of all sides: one socket, blocking reads, nothing done with the bytes.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::Result;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// In what form the page is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
}

/// One connection, kept from scrape to scrape.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    request: String,
}

/// An answer that was read to its end.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub status: u16,
    /// From the request to the last byte.
    pub time: Duration,
}

impl Client {
    pub fn connect(port: u16, encoding: Encoding) -> Result<Self> {
        Self::connect_to(port, "/metrics", encoding)
    }

    pub fn connect_to(port: u16, path: &str, encoding: Encoding) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        let accept = match encoding {
            Encoding::Identity => "identity",
            Encoding::Gzip => "gzip",
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: {accept}\r\n\r\n");
        Ok(Self { stream: BufReader::with_capacity(256 << 10, stream), request })
    }

    /// One scrape, whose bytes are thrown away.
    pub fn scrape(&mut self) -> Result<Answer> {
        self.read(|_| ())
    }

    /// One scrape, whose body is kept.
    pub fn page(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        let answer = self.read(|bytes| body.extend_from_slice(bytes))?;
        if answer.status != 200 {
            return Err(format!("the page answers {}", answer.status).into());
        }
        Ok(body)
    }

    fn read(&mut self, mut take: impl FnMut(&[u8])) -> Result<Answer> {
        let began = Instant::now();
        self.stream.get_mut().write_all(self.request.as_bytes())?;
        let (status, length) = self.head()?;
        let mut left = length;
        while left > 0 {
            let buffer = self.stream.fill_buf()?;
            let read = buffer.len().min(left);
            if read == 0 {
                return Err("the answer ends too early".into());
            }
            take(&buffer[..read]);
            self.stream.consume(read);
            left -= read;
        }
        Ok(Answer { status, time: began.elapsed() })
    }

    /// The status and the length of the body.
    fn head(&mut self) -> Result<(u16, usize)> {
        let (mut status, mut length) = (None, None);
        loop {
            let mut line = String::new();
            if self.stream.by_ref().take(4096).read_line(&mut line)? == 0 {
                return Err("the connection was closed before an answer".into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                return Ok((status.ok_or("no status")?, length.ok_or("no length")?));
            }
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest.get(..3).and_then(|code| code.parse().ok());
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
    }
}
