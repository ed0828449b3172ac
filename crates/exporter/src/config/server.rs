//! `[server]`: where the exporter's own HTTP server listens, whom it lets in, and what it lets them do.

use std::{net::IpAddr, path::PathBuf};

use super::{
    Given, address,
    field::{At, Wrong, good, read, read_with},
    files,
    raw::RawServer,
    report::{Findings, Place},
    web::{self, Port, WebFile},
};

const DEFAULT_LISTEN: &str = "0.0.0.0:9104";

/// `[server]`, checked.
pub(super) struct Server {
    pub(super) listen: String,
    pub(super) reload: bool,
    pub(super) web: WebFile,
}

impl Server {
    /// What the command line says wins.
    pub(super) fn check(found: &mut Findings, raw: RawServer, given: Given<'_>) -> Option<Self> {
        let RawServer { listen, reload, web_config } = raw;
        let Given { bind, web_config: given_web } = given;
        let written = read_with(found, "listen", listen, |listen| {
            address::host_and_port(&listen, None).map(|_| listen).map_err(|wrong| Wrong {
                help:
                    "write \"0.0.0.0:9104\" for all addresses, or \"127.0.0.1:9104\" for this machine alone"
                        .to_owned(),
                ..wrong
            })
        });
        let reload = good(read(found, "reload", reload)).filter(|reload| reload.value);
        let web_config = read_with(found, "web_config", web_config, |path| {
            let help = "write web_config = \"web.yml\", or leave it away";
            if path.is_empty() { Err(Wrong::new("is empty", help)) } else { Ok(path) }
        });
        let listen = match &written {
            None => Some(DEFAULT_LISTEN.to_owned()),
            Some(listen) => listen.value.clone(),
        };
        // Where that is wrong, it is reported; the other mistakes are too.
        let serves_at = bind.or(listen.as_deref()).unwrap_or("127.0.0.1:9104");
        let port = Port { is_local: is_loopback(serves_at), reloads: reload.is_some() };
        let named = match (given_web, good(web_config)) {
            (Some(path), _) => Some((path.to_owned(), None)),
            (None, written) => written.map(|At { at, value }| (found.sources.path(&at, &value), Some(at))),
        };
        let web = match named {
            None => WebFile { port, ..WebFile::default() },
            Some((path, at)) => web_file(found, path, at.as_ref(), port)?,
        };
        if let Some(reload) = &reload
            && !port.is_local
            && !web.settings.authenticates()
        {
            let message =
                format!("anybody who reaches {serves_at} could ask for a reload: there is no login");
            let local = if bind.is_some() {
                "start with --bind 127.0.0.1:9104"
            } else {
                "write listen = \"127.0.0.1:9104\""
            };
            let help = "a web_config with basic_auth_users, or leave `reload` away and send SIGHUP";
            found.error(&reload.at, message).help(format!("{local}, or {help}"));
        }
        Some(Self { listen: listen?, reload: reload.is_some(), web })
    }
}

/// Reads the web file. `at` is where the configuration names it, if the command line does not.
fn web_file(found: &mut Findings, path: PathBuf, at: Option<&Place>, port: Port) -> Option<WebFile> {
    match files::read_text(&path) {
        Ok(text) => {
            let settings = web::check(found, &path, &text, port)?;
            Some(WebFile { path: Some(path), port, settings })
        }
        Err(error) => {
            let message = format!("cannot read the web configuration {}: {error}", path.display());
            match at {
                Some(at) => found.error(at, message).help("the path is relative to this file"),
                None => found.error_of_file(message).help("--web-config names a file that is there"),
            };
            None
        }
    }
}

/// Whether only this machine can reach it.
fn is_loopback(listen: &str) -> bool {
    let Ok((host, _)) = address::host_and_port(listen, None) else { return false };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_known_by_its_names() {
        for (listen, loopback) in [
            ("127.0.0.1:9104", true),
            ("127.3.0.1:0", true),
            ("[::1]:9104", true),
            ("LocalHost:9104", true),
            ("0.0.0.0:9104", false),
            ("[::]:9104", false),
            ("10.0.0.1:9104", false),
            // Whoever it is today.
            ("exporter.example.net:9104", false),
            ("127.0.0.1.example.net:9104", false),
        ] {
            assert_eq!(is_loopback(listen), loopback, "{listen}");
        }
    }
}
