//! A small HTTP client, for the commands that ask a running exporter: one request, one connection.

use std::{io, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::{ClientConfig, pki_types::ServerName};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Bytes of an answer. More is not from an exporter.
const MAX_BYTES: u64 = 256 << 20;

/// Where an exporter serves: `http://HOST:PORT`, and what a proxy puts before its paths; and what it takes to be let in.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    authority: String,
    prefix: String,
    /// Whether TLS is spoken there.
    pub(crate) is_https: bool,
    tls: Option<Arc<ClientConfig>>,
    login: Option<SecretString>,
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
        Self { authority, prefix: String::new(), is_https: false, tls: None, login: None }
    }

    /// The same over TLS, with those whom this trusts.
    pub(crate) fn over_tls(self, tls: ClientConfig) -> Self {
        Self { is_https: true, tls: Some(Arc::new(tls)), ..self }
    }

    /// The same with `USER:PASSWORD`.
    pub(crate) fn with_login(self, login: SecretString) -> Self {
        Self { login: Some(login), ..self }
    }

    /// Of a URL. The error says what to write.
    pub(crate) fn of_url(url: &str) -> Result<Self, String> {
        let example = "write http://127.0.0.1:9104";
        let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("{url} is not a URL: {example}"))?;
        if !matches!(scheme, "http" | "https") {
            return Err(format!("{scheme} is not spoken here: {example}, the exporter's own address"));
        }
        let is_https = scheme == "https";
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains(['@', ' ']) || prefix.contains(['?', '#', ' ']) {
            return Err(format!("{url} is not the address of an exporter alone: {example}"));
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = match (has_port, is_https) {
            (true, _) => "",
            (false, false) => ":80",
            (false, true) => ":443",
        };
        let prefix = prefix.trim_end_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        let (authority, prefix) = (format!("{authority}{port}"), format!("{slash}{prefix}"));
        Ok(Self { authority, prefix, is_https, tls: None, login: None })
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
        let Self { authority, prefix, tls, login, .. } = self;
        let login = login.as_ref().map_or_else(String::new, |login| {
            format!("Authorization: Basic {}\r\n", STANDARD.encode(login.expose_secret()))
        });
        let head = format!(
            "{method} {prefix}{path} HTTP/1.1\r\nHost: {authority}\r\n{login}Connection: close\r\n\r\n"
        );
        let stream = TcpStream::connect(authority).await?;
        let Some(tls) = tls else { return talk(stream, &head).await };
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        talk(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?, &head).await
    }
}

/// Sends a request, and reads until the other side closes.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str) -> io::Result<Vec<u8>> {
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut bytes).await?;
    Ok(bytes)
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
        check("https://exporter", Ok(("exporter:443", "")));
        check("ftp://exporter", Err("ftp is not spoken"));
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
