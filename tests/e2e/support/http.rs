//! A small HTTP client: one request, one connection.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

/// Nothing that is asked here takes longer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// From the first byte sent to the last one received.
    pub(crate) took: Duration,
}

impl Answer {
    /// The value of a header, its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// Asks for a path with GET.
pub(crate) async fn get(address: &str, path: &str) -> io::Result<Answer> {
    request(address, "GET", path).await
}

/// Asks for a path with any method.
pub(crate) async fn request(address: &str, method: &str, path: &str) -> io::Result<Answer> {
    let start = Instant::now();
    let asked = timeout(TIMEOUT, async {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Ok::<_, io::Error>(bytes)
    });
    let bytes = asked.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let took = start.elapsed();
    let bad = |what: &str| {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]);
        io::Error::other(format!("{what}: {start}"))
    };
    let text = str::from_utf8(&bytes).map_err(|_| bad("the answer is not UTF-8"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| bad("the answer has no end of its head"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| bad("the answer has no status"))?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: body.to_owned(), took };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = joined(body).ok_or_else(|| bad("the chunks are wrong"))?;
    } else if method != "HEAD" && answer.header("content-length") != Some(&body.len().to_string()) {
        return Err(bad("the body is not as long as its Content-Length"));
    }
    Ok(answer)
}

/// The text of a body in chunks, if the last one is there.
fn joined(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n")?;
        let (chunk, rest) = rest.split_at_checked(usize::from_str_radix(size, 16).ok()?)?;
        chunks = rest.strip_prefix("\r\n")?;
        if chunk.is_empty() {
            return Some(body);
        }
        body += chunk;
    }
}
