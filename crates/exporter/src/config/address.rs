//! `host:port`, as people write it.

use std::net::Ipv6Addr;

use super::field::Wrong;

/// Splits `host:port`. Never repeats the text: people write logins into addresses.
pub(super) fn host_and_port(text: &str, default_port: Option<u16>) -> Result<(String, u16), Wrong> {
    let example = "write \"db1.example.net:3306\", \"10.0.0.11:3306\" or \"[fd00::12]:3306\"";
    if text.contains('@') || text.contains("//") || text.contains('(') {
        return Err(Wrong::new(
            "is not a host and port alone",
            format!("{example}; user and password have their own keys"),
        ));
    }
    if text.starts_with('/') {
        return Err(Wrong::new("is a path", "write { socket = \"/run/mysqld/mysqld.sock\" }"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Wrong::new("is an IPv6 address without brackets", format!("write \"[{text}]:3306\"")));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) =
                rest.split_once(']').ok_or_else(|| Wrong::new("has a `[` without its `]`", example))?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(Wrong::new("has no IPv6 address between its brackets", example));
            }
            match port.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if port.is_empty() => (host, None),
                None => return Err(Wrong::new("has something after its brackets that is no port", example)),
            }
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if host.is_empty() || !host.chars().all(fits) {
        return Err(Wrong::new("has no valid host", example));
    }
    let port = match port {
        Some(port) => {
            port.parse().map_err(|_| Wrong::new("has no valid port", "a port is a number from 1 to 65535"))?
        }
        None => default_port.ok_or_else(|| Wrong::new("has no port", example))?,
    };
    if port == 0 && default_port.is_some() {
        return Err(Wrong::new("has port 0", "a port is a number from 1 to 65535"));
    }
    Ok((host.to_owned(), port))
}
