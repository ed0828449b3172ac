//! A small HTTP client, for the commands that ask a running exporter: one request, one connection.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Bytes of an answer. More is not from an exporter.
const MAX_BYTES: u64 = 256 << 20;

/// Where an exporter serves: `http://HOST:PORT`, and what a proxy puts before its paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    authority: String,
    prefix: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status, such as 200.
    pub(crate) status: u16,
    /// The body.
    pub(crate) text: String,
}

impl Base {
    /// Of an address to listen at. A listener on all addresses is asked on the loopback.
    pub(crate) fn of_listener(listen: &str) -> Self {
        let authority = match listen.rsplit_once(':') {
            Some(("0.0.0.0" | "", port)) => format!("127.0.0.1:{port}"),
            Some(("[::]", port)) => format!("[::1]:{port}"),
            _ => listen.to_owned(),
        };
        Self { authority, prefix: String::new() }
    }

    /// Of a URL. The error says what to write.
    pub(crate) fn of_url(url: &str) -> Result<Self, String> {
        let example = "write http://127.0.0.1:9104";
        let rest = url.strip_prefix("http://").ok_or_else(|| match url.split_once("://") {
            Some((scheme, _)) => {
                format!("{scheme} is not spoken here: {example}, the exporter's own address")
            }
            None => format!("{url} is not a URL: {example}"),
        })?;
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains(['@', ' ']) || prefix.contains(['?', '#', ' ']) {
            return Err(format!("{url} is not the address of an exporter alone: {example}"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if has_port { "" } else { ":80" };
        let prefix = prefix.trim_end_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ok(Self { authority: format!("{authority}{port}"), prefix: format!("{slash}{prefix}") })
    }

    /// Asks for a path. All of it, from connecting to the last byte, takes `within` at most.
    ///
    /// # Errors
    /// For a person: that it cannot be reached, takes too long, or does not speak HTTP.
    pub(crate) async fn ask(&self, method: &str, path: &str, within: Duration) -> Result<Answer, String> {
        let address = &self.authority;
        let asked = timeout(within, self.exchange(method, path)).await;
        let bytes = asked
            .map_err(|_| format!("{address} gave no answer within {within:?}"))?
            .map_err(|error| format!("{address}: {error}"))?;
        let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        answer(bytes).ok_or_else(|| format!("{address} answered {line:?}"))
    }

    async fn exchange(&self, method: &str, path: &str) -> io::Result<Vec<u8>> {
        let Self { authority, prefix } = self;
        let mut stream = TcpStream::connect(authority).await?;
        let head =
            format!("{method} {prefix}{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(MAX_BYTES).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }
}

/// The status, and a body that is as long as was said.
fn answer(bytes: Vec<u8>) -> Option<Answer> {
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let status = words.next().filter(|version| version.starts_with("HTTP/1."))?;
    let status = words.next().filter(|_| !status.is_empty())?.parse().ok()?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let whole = length.is_none_or(|(_, length)| length.trim().parse() == Ok(body.len()));
    whole.then(|| Answer { status, text: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_the_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9104", "127.0.0.1:9104"),
            ("[::]:9104", "[::1]:9104"),
            (":9104", "127.0.0.1:9104"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            assert_eq!(Base::of_listener(listen).authority, asked);
        }
    }

    #[test]
    fn a_url_is_a_host_a_port_and_what_a_proxy_adds() {
        #[track_caller]
        fn check(url: &str, expected: Result<(&str, &str), &str>) {
            let base = Base::of_url(url);
            match (base, expected) {
                (Ok(base), Ok(parts)) => assert_eq!((&*base.authority, &*base.prefix), parts),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (base, _) => panic!("{base:?}"),
            }
        }
        check("http://127.0.0.1:9104", Ok(("127.0.0.1:9104", "")));
        check("http://exporter/", Ok(("exporter:80", "")));
        check("http://[::1]:9104/fleet/", Ok(("[::1]:9104", "/fleet")));
        check("http://[::1]/a/b", Ok(("[::1]:80", "/a/b")));
        check("https://exporter", Err("https is not spoken"));
        check("exporter:9104", Err("is not a URL"));
        check("http://u:p@exporter", Err("alone"));
        check("http://exporter/?x=1", Err("alone"));
        check("http://", Err("alone"));
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let answer =
            |text: &str| answer(text.as_bytes().to_vec()).map(|Answer { status, text }| (status, text));
        assert_eq!(answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), Some((200, "abc".to_owned())));
        assert_eq!(answer("HTTP/1.1 500 No\r\n\r\nabc"), Some((500, "abc".to_owned())));
        for wrong in
            ["", "HTTP/1.1 200 OK", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc"]
        {
            assert_eq!(answer(wrong), None, "{wrong}");
        }
    }
}
