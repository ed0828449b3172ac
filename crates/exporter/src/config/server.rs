//! `[server]`: where the exporter's own HTTP server listens, and what it lets others do.

use std::net::IpAddr;

use super::{
    address,
    field::{Wrong, good, read, read_with},
    raw::RawServer,
    report::Findings,
};

const DEFAULT_LISTEN: &str = "0.0.0.0:9104";

/// `[server]`, checked.
pub(super) struct Server {
    pub(super) listen: String,
    pub(super) reload: bool,
}

impl Server {
    /// `bind` is the address of the command line, which wins.
    pub(super) fn check(found: &mut Findings, raw: RawServer, bind: Option<&str>) -> Option<Self> {
        let RawServer { listen, reload } = raw;
        let written = read_with(found, "listen", listen, |listen| {
            address::host_and_port(&listen, None).map(|_| listen).map_err(|wrong| Wrong {
                help:
                    "write \"0.0.0.0:9104\" for all addresses, or \"127.0.0.1:9104\" for this machine alone"
                        .to_owned(),
                ..wrong
            })
        });
        let reload = good(read(found, "reload", reload)).filter(|reload| reload.value);
        let listen = match &written {
            None => DEFAULT_LISTEN.to_owned(),
            Some(listen) => listen.value.clone()?,
        };
        let serves_at = bind.unwrap_or(&listen);
        if let Some(reload) = &reload
            && !is_loopback(serves_at)
        {
            let message =
                format!("anybody who reaches {serves_at} could ask for a reload: there is no login yet");
            let problem = found.error(&reload.at, message);
            problem.help(if bind.is_some() {
                "start with --bind 127.0.0.1:9104, or leave `reload` away and send SIGHUP"
            } else {
                "write listen = \"127.0.0.1:9104\", or leave `reload` away and send SIGHUP"
            });
        }
        Some(Self { listen, reload: reload.is_some() })
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
