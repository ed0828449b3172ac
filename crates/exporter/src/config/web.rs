//! The web file: TLS, logins and headers of the exporter's own port, in the form that Prometheus' exporters share.
//!
//! All mistakes are told at once, as those of the main file are. The certificates that it names are read with it, and
//! what comes out can be put in force as it is.

mod http;
mod secrets;
mod tables;
mod tls;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use fleet_http::WebSettings;

use super::{
    files,
    report::{Findings, Report},
    yaml::{self, NoYaml},
};
use secrets::{mask, secret_lines};
use tables::File;

/// A web file, and what it comes to.
#[derive(Debug, Clone, Default)]
pub(crate) struct WebFile {
    /// Where it is, if there is one.
    pub(crate) path: Option<PathBuf>,
    /// What the port is for.
    pub(crate) port: Port,
    /// What it says.
    pub(crate) settings: WebSettings,
}

/// Where it is, and what it comes to in short.
impl fmt::Display for WebFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(path) = &self.path else { return f.write_str("none: plain HTTP for everybody") };
        let scheme = if self.settings.tls.is_some() { "HTTPS" } else { "plain HTTP" };
        let whom = match self.settings.users.len() {
            0 if self.settings.authenticates() => "who shows a certificate".to_owned(),
            0 => "everybody".to_owned(),
            1 => "1 user".to_owned(),
            n => format!("{n} users"),
        };
        write!(f, "{}: {scheme} for {whom}", path.display())
    }
}

/// What a web file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Port {
    /// Whether only this machine reaches it.
    pub(crate) is_local: bool,
    /// Whether it takes requests to reload.
    pub(crate) reloads: bool,
}

/// Reads a web file by itself, as when it may have changed. With a mistake there is nothing but the report.
pub(crate) fn read_web(path: &Path, port: Port) -> Result<(WebSettings, Report), Report> {
    let mut found = Findings::default();
    let settings = match files::read_text(path) {
        Ok(text) => check(&mut found, path, &text, port),
        Err(error) => {
            found.sources.add(path, "", Vec::new());
            found.error_of_file(format!("cannot read the web file: {error}"));
            None
        }
    };
    if let Some(settings) = &settings
        && port.reloads
        && !port.is_local
        && !settings.authenticates()
    {
        found
            .error_of_file("anybody could ask for a reload, which this exporter takes over HTTP")
            .help("leave a user in basic_auth_users, or RequireAndVerifyClientCert");
    }
    match settings {
        Some(settings) if !found.has_errors() => Ok((settings, found.into_report())),
        _ => Err(found.into_report()),
    }
}

/// Checks the text of a web file, whose places follow those of all files before it.
pub(super) fn check(found: &mut Findings, path: &Path, text: &str, port: Port) -> Option<WebSettings> {
    let base = found.sources.next_base();
    let tree = match yaml::parse(text, base) {
        Ok(tree) => tree,
        Err(NoYaml { at, message }) => {
            // There is no tree to find the secrets by.
            found.sources.add(path, text, secret_lines(text));
            let help = "the file is YAML: `key: value` lines, what belongs to a key indented by spaces";
            found.error(&at, format!("this is no YAML: {message}")).help(help);
            return None;
        }
    };
    let mut masked = Vec::new();
    if let Some(tree) = &tree {
        mask(tree, false, base, &mut masked);
    }
    found.sources.add(path, text, masked);
    let mut file = File { found };
    let Some(tree) = tree else { return Some(WebSettings::default()) };
    let root = file.table(&tree, "the web file", SECTIONS);
    let settings = WebSettings {
        tls: root.get("tls_server_config").and_then(|node| file.tls(node)),
        users: root.get("basic_auth_users").map(|node| file.users(node)).unwrap_or_default(),
        headers: root.get("http_server_config").map(|node| file.http(node)).unwrap_or_default(),
        rate_limit: root.get("rate_limit").and_then(|node| file.rate_limit(node)),
    };
    if let Some(users) = root.get("basic_auth_users")
        && !settings.users.is_empty()
        && settings.tls.is_none()
        && !port.is_local
        && !file.found.has_errors()
    {
        file.found
            .warn(&users.key.at, "passwords come over the network in clear text")
            .help("add tls_server_config with cert_file and key_file, or let nothing but a proxy with TLS reach the port");
    }
    Some(settings)
}

const SECTIONS: &[&str] = &["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"];
