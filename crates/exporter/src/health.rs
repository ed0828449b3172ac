//! `fleet-query-exporter health`: asks the exporter that runs here, as a container's health check does.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// An exporter that takes longer than this for a word from memory is not healthy.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks `listen` for `/-/healthy`. The error says what came instead.
pub(crate) async fn ask(listen: &str) -> Result<(), String> {
    let address = reachable(listen);
    let asked = timeout(TIMEOUT, status_line(&address)).await;
    let line = asked
        .map_err(|_| format!("{address} gave no answer within {TIMEOUT:?}"))?
        .map_err(|error| format!("{address}: {error}"))?;
    if line.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(format!("{address} answered {line:?}")) }
}

async fn status_line(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(
            format!("GET /-/healthy HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

/// Where a listener on all addresses is to be asked.
fn reachable(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("0.0.0.0" | "", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
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
            assert_eq!(reachable(listen), asked);
        }
    }
}
