//! `defaults_file`: what of a client's option file must be known when the configuration is read.
//!
//! User and password are read at each connect, by the collector. Where the server is, and what TLS asks of it, cannot
//! wait so long.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use fleet_collector::{
    defaults_file::Options,
    target::{Address, Tls, TlsMode},
};

use super::{field::Wrong, files::read_text};

/// One section of an option file, as far as it could be read.
#[derive(Debug, Clone)]
pub(super) enum Section {
    /// It is there.
    Read(Options),
    /// The file cannot be read now; perhaps it can when it is needed.
    Unreadable(String),
}

/// Option files that were read, so that a thousand targets read theirs once.
#[derive(Debug, Default)]
pub(super) struct OptionFiles(BTreeMap<(PathBuf, String), Result<Section, Wrong>>);

impl OptionFiles {
    /// A section of a file. What is there and no option file is wrong, now and later.
    pub(super) fn section(&mut self, path: &Path, section: &str) -> Result<Section, Wrong> {
        let key = (path.to_owned(), section.to_owned());
        self.0.entry(key).or_insert_with(|| read(path, section)).clone()
    }
}

fn read(path: &Path, section: &str) -> Result<Section, Wrong> {
    let shown = path.display();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Wrong::new(format!("names {shown}, of which {error}"), "save the file as UTF-8"));
        }
        Err(error) => return Ok(Section::Unreadable(error.to_string())),
    };
    match Options::read(&text, section) {
        Ok(Some(options)) => Ok(Section::Read(options)),
        Ok(None) => Err(Wrong::new(
            format!("names {shown}, which has no section [{section}]"),
            "write section = \"NAME\" as the file has it; it is \"client\" unless it is written",
        )),
        Err(error) => Err(Wrong::new(
            format!("names {shown}, of which {error}"),
            "the file is read as the MySQL client would read it",
        )),
    }
}

/// Where the server of a section is: its `socket`, or its `host` and `port`.
pub(super) fn address(options: &Options, folder: &Path) -> Option<Result<Address, Wrong>> {
    if let Some(socket) = options.get("socket")
        && options.get("host").is_none_or(|host| host == "localhost")
    {
        return Some(Ok(Address::Socket(folder.join(socket))));
    }
    let host = options.get("host")?;
    let port = options.get("port").map_or(Ok(3306), str::parse);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(match port {
        Ok(port @ 1..) if !host.is_empty() => Ok(Address::Tcp { host: host.to_owned(), port }),
        _ => Err(Wrong::new("has no valid host and port", "write host = db1.example.net and port = 3306")),
    })
}

/// What the `ssl-…` options of a section ask for, if there are any.
pub(super) fn tls(options: &Options, folder: &Path) -> Option<Result<Tls, Wrong>> {
    const OPTIONS: [&str; 7] =
        ["ssl", "ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "ssl-verify-server-cert", "skip-ssl"];
    if !OPTIONS.iter().any(|option| options.has(option)) {
        return None;
    }
    let on =
        |option| options.has(option) && !matches!(options.get(option), Some("0" | "OFF" | "off" | "FALSE"));
    let ca = options.get("ssl-ca").map(|ca| folder.join(ca));
    let cert = options.get("ssl-cert").map(|cert| folder.join(cert));
    let key = options.get("ssl-key").map(|key| folder.join(key));
    if cert.is_some() != key.is_some() {
        return Some(Err(Wrong::new(
            "has one of ssl-cert and ssl-key without the other",
            "a client certificate needs its key",
        )));
    }
    let mode = match options.get("ssl-mode").map(str::to_ascii_lowercase) {
        Some(mode) => match mode.as_str() {
            "disabled" => TlsMode::Disabled,
            "preferred" => TlsMode::Preferred,
            "required" => TlsMode::Required,
            "verify_ca" => TlsMode::VerifyCa,
            "verify_identity" => TlsMode::VerifyIdentity,
            _ => {
                let help = "it is DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY";
                return Some(Err(Wrong::new("has an ssl-mode that there is not", help)));
            }
        },
        None if on("skip-ssl") || (options.has("ssl") && !on("ssl")) => TlsMode::Disabled,
        None if on("ssl-verify-server-cert") => TlsMode::VerifyIdentity,
        // As the clients do: whoever names an authority wants its signature.
        None if ca.is_some() => TlsMode::VerifyCa,
        None => TlsMode::Required,
    };
    Some(Ok(Tls { mode, ca, identity: cert.zip(key) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        Options::read(&format!("[client]\n{text}\n"), "client").unwrap().unwrap()
    }

    #[test]
    fn an_address_is_a_socket_or_a_host_with_its_port() {
        let check = |text: &str, expected: &str| {
            let shown = match address(&options(text), Path::new("/etc")) {
                None => "none".to_owned(),
                Some(Ok(address)) => address.to_string(),
                Some(Err(wrong)) => wrong.message,
            };
            assert_eq!(shown, expected, "{text}");
        };
        check("user=u", "none");
        check("host=db1", "db1:3306");
        check("host=fd00::1\nport=3307", "[fd00::1]:3307");
        check("socket=mysqld.sock\nhost=localhost", "/etc/mysqld.sock");
        check("socket=/run/x\nhost=db1", "db1:3306");
        check("host=db1\nport=0", "has no valid host and port");
    }

    #[test]
    fn tls_is_asked_for_as_the_clients_do() {
        let mode = |text: &str| tls(&options(text), Path::new("/etc")).map(|tls| tls.map(|tls| tls.mode));
        assert_eq!(mode("user=u"), None);
        assert_eq!(mode("ssl-mode=VERIFY_IDENTITY"), Some(Ok(TlsMode::VerifyIdentity)));
        assert_eq!(mode("ssl_ca=ca.pem"), Some(Ok(TlsMode::VerifyCa)));
        assert_eq!(mode("ssl-ca=ca.pem\nssl-verify-server-cert"), Some(Ok(TlsMode::VerifyIdentity)));
        assert_eq!(mode("skip-ssl"), Some(Ok(TlsMode::Disabled)));
        assert_eq!(mode("ssl"), Some(Ok(TlsMode::Required)));
        assert!(mode("ssl-mode=SOME").unwrap().is_err());
        assert!(mode("ssl-cert=c.pem").unwrap().is_err());
    }
}
