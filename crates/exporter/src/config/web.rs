//! The web file: TLS, logins and headers of the exporter's own port, in the form that Prometheus' exporters share.
//!
//! All mistakes are told at once, as those of the main file are. The certificates that it names are read with it, and
//! what comes out can be put in force as it is.

use std::{
    collections::BTreeMap,
    fmt,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use fleet_collector::certificates::{self, MAX_PEM_BYTES};
use fleet_http::{
    ExtraHeader, NoHash, PasswordHash, RateLimit, WebSettings,
    tls::{CipherSuite, ClientAuth, Curve, Tls, TlsError, TlsOptions, TlsVersion},
};

use super::{
    field::nearest,
    files,
    report::{Findings, Place, Report},
    yaml::{self, NoYaml, Node, Yaml},
};

/// A hash that is more costly than this holds up the first scrape after a start for seconds.
const COSTLY: u32 = 14;

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

const TLS_KEYS: &[&str] = &[
    "cert",
    "cert_file",
    "key",
    "key_file",
    "client_ca",
    "client_ca_file",
    "client_auth_type",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "curve_preferences",
];

/// What may be added to an answer, and the only values that some of it takes.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// A key and its value.
#[derive(Clone, Copy)]
struct Entry<'n> {
    name: &'static str,
    key: &'n Node,
    value: &'n Node,
}

/// The entries of a table whose keys are known.
struct Table<'n>(Vec<Entry<'n>>);

impl<'n> Table<'n> {
    fn get(&self, name: &str) -> Option<Entry<'n>> {
        self.0.iter().find(|entry| entry.name == name).copied()
    }
}

/// Text of certificates or of a key, and where the file says so.
struct Pem<'n> {
    entry: Entry<'n>,
    /// None where it cannot be read, which has been told.
    bytes: Option<Vec<u8>>,
}

struct File<'f> {
    found: &'f mut Findings,
}

impl File<'_> {
    /// The entries of a table, each of which is one of `keys` and stands once.
    fn table<'n>(&mut self, node: &'n Node, title: &str, keys: &'static [&'static str]) -> Table<'n> {
        let mut entries: Vec<Entry<'n>> = Vec::new();
        for (name, key, value) in self.entries(node, title) {
            match keys.iter().find(|known| **known == name) {
                Some(name) => entries.push(Entry { name, key, value }),
                None => self.unknown(key, &name, title, keys, node),
            }
        }
        Table(entries)
    }

    /// The entries of a table of any keys, each of which stands once.
    fn entries<'n>(&mut self, node: &'n Node, title: &str) -> Vec<(String, &'n Node, &'n Node)> {
        let pairs = match &node.value {
            Yaml::Map(pairs) => pairs.as_slice(),
            Yaml::Null => &[],
            _ => {
                let message = format!("{title} is a table, not {}", node.kind());
                self.found.error(&node.at, message).help("write `key: value` lines, indented below it");
                &[]
            }
        };
        let mut entries: Vec<(String, &'n Node, &'n Node)> = Vec::new();
        for (key, value) in pairs {
            let name = match &key.value {
                Yaml::Text(name) => name.clone(),
                Yaml::Null => String::new(),
                _ => {
                    self.found.error(&key.at, format!("a key is text, not {}", key.kind()));
                    continue;
                }
            };
            match entries.iter().find(|(other, ..)| *other == name) {
                Some((_, first, _)) => {
                    let first = first.at.clone();
                    self.found
                        .error(&key.at, format!("`{name}` is there twice"))
                        .note(&first, "the first is here")
                        .help("leave one of them");
                }
                None => entries.push((name, key, value)),
            }
        }
        entries
    }

    fn unknown(&mut self, key: &Node, name: &str, title: &str, keys: &[&'static str], table: &Node) {
        let home = [("the top level", SECTIONS), ("tls_server_config", TLS_KEYS)];
        let home = home.iter().find(|(_, keys)| keys.contains(&name));
        let meant = keys.iter().copied().find(|known| Some(*known) == nearest(name, keys.iter().copied()));
        if let Some(meant) = meant {
            // The similar key is not missing as well.
            self.found.meant(&table.at, meant);
        }
        let help = match (home, meant) {
            (Some((home, _)), _) => format!("`{name}` belongs in {home}"),
            (None, Some(meant)) => format!("did you mean `{meant}`?"),
            (None, None) => format!("the keys here are {}", keys.join(", ")),
        };
        self.found.error(&key.at, format!("`{name}` is not a key of {title}")).help(help);
    }

    /// Text that is there and not empty.
    fn text<'n>(&mut self, entry: Option<Entry<'n>>) -> Option<(&'n str, &'n Place)> {
        let Entry { name, value, .. } = entry?;
        match &value.value {
            Yaml::Text(text) if text.is_empty() => None,
            Yaml::Text(text) => Some((text, &value.at)),
            Yaml::Null => None,
            _ => {
                let message = format!("`{name}` takes text, not {}", value.kind());
                self.found.error(&value.at, message).help(format!("write {name}: value"));
                None
            }
        }
    }

    /// The texts of a list, if there is one.
    fn list<'n>(&mut self, entry: Option<Entry<'n>>) -> Option<Vec<(&'n str, &'n Place)>> {
        let Entry { name, value, .. } = entry?;
        let nodes = match &value.value {
            Yaml::List(nodes) => nodes.iter().collect(),
            // As the readers of other exporters take it.
            Yaml::Text(_) => vec![value],
            Yaml::Null => return None,
            Yaml::Map(_) => {
                let message = format!("`{name}` takes a list, not {}", value.kind());
                self.found.error(&value.at, message).help(format!("write {name}: [one, two]"));
                return None;
            }
        };
        let mut texts = Vec::new();
        for node in nodes {
            if let Yaml::Text(text) = &node.value {
                texts.push((text.as_str(), &node.at));
            } else {
                let message = format!("`{name}` lists texts, not {}", node.kind());
                self.found.error(&node.at, message).help(format!("write {name}: [one, two]"));
            }
        }
        Some(texts)
    }

    fn flag(&mut self, entry: Option<Entry<'_>>) -> Option<bool> {
        let Entry { name, value, .. } = entry?;
        let flag = match &value.value {
            Yaml::Null => return None,
            Yaml::Text(text) => match text.to_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => Some(true),
                "false" | "no" | "off" | "n" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if flag.is_none() {
            self.found
                .error(&value.at, format!("`{name}` is true or false"))
                .help(format!("write {name}: true"));
        }
        flag
    }

    /// The text of `NAME` or the content of `NAME_file`; both are one too many.
    fn pem<'n>(&mut self, table: &Table<'n>, name: &str) -> Option<Pem<'n>> {
        let (inline, file) = (table.get(name), table.get(&format!("{name}_file")));
        let (text, path) = (self.text(inline), self.text(file));
        match (inline.filter(|_| text.is_some()), file.filter(|_| path.is_some())) {
            (Some(inline), Some(file)) => {
                let (first, second) =
                    if inline.key.at.start < file.key.at.start { (inline, file) } else { (file, inline) };
                let first_at = first.key.at.clone();
                self.found
                    .error(
                        &second.key.at,
                        format!("`{}` and `{}` are the same thing", first.name, second.name),
                    )
                    .note(&first_at, "the first is here")
                    .help("leave one of them");
                Some(Pem { entry: file, bytes: None })
            }
            (Some(entry), None) => Some(Pem { entry, bytes: text.map(|(text, _)| text.as_bytes().to_vec()) }),
            (None, Some(entry)) => {
                let (path, at) = path?;
                Some(Pem { entry, bytes: self.read(entry.name, path, at) })
            }
            (None, None) => None,
        }
    }

    fn read(&mut self, name: &str, path: &str, at: &Place) -> Option<Vec<u8>> {
        let path = self.found.sources.path(at, path);
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_PEM_BYTES as u64 + 1).read_to_end(&mut bytes));
        let wrong = match read {
            Ok(_) if bytes.len() <= MAX_PEM_BYTES => return Some(bytes),
            Ok(_) => "it is larger than 1 MiB".to_owned(),
            Err(error) => error.to_string(),
        };
        self.found.error(at, format!("cannot read the `{name}` {}: {wrong}", path.display())).help(
            "the path is relative to the folder of the web file; the exporter's user must be able to read it",
        );
        None
    }

    fn tls(&mut self, section: Entry<'_>) -> Option<Tls> {
        let table = self.table(section.value, "tls_server_config", TLS_KEYS);
        let certificate = self.pem(&table, "cert");
        let key = self.pem(&table, "key");
        let client_ca = self.pem(&table, "client_ca");
        let client_auth_type = table.get("client_auth_type");
        let policy = self.text(client_auth_type).map(|(policy, at)| (self.policy(policy, at), at));
        let sans = self.sans(&table, policy.as_ref().and_then(|(policy, _)| *policy));
        let versions = self.versions(&table);
        let suites = self.list(table.get("cipher_suites")).unwrap_or_default();
        let cipher_suites = suites.iter().filter_map(|(name, at)| self.suite(name, at)).collect();
        let curves = self.list(table.get("curve_preferences")).unwrap_or_default();
        let curves = curves.iter().filter_map(|(name, at)| self.curve(name, at)).collect();
        let server_order = self.flag(table.get("prefer_server_cipher_suites")).unwrap_or(true);
        let clients = self.clients(client_ca.as_ref(), policy);

        if certificate.is_none() && key.is_none() && client_ca.is_none() && policy.is_none() {
            if let Some(entry) = table.0.first()
                && !self.found.has_errors()
            {
                let message = format!("`{}` does nothing without `cert_file` and `key_file`", entry.name);
                self.found.warn(&entry.key.at, message).help("the port speaks plain HTTP");
            }
            return None;
        }
        for (pem, what, name) in [(&certificate, "a certificate", "cert"), (&key, "a key", "key")] {
            let file = if name == "cert" { "cert_file" } else { "key_file" };
            if pem.is_none() && !self.found.was_meant(&section.value.at, &[file]) {
                self.found
                    .error(
                        &section.key.at,
                        format!("TLS needs {what}: there is neither `{name}_file` nor `{name}`"),
                    )
                    .help(format!(
                        "write {name}_file: exporter.{}",
                        if name == "cert" { "crt" } else { "key" }
                    ));
            }
        }
        if let (Some(certificate), Some(key)) = (&certificate, &key) {
            self.pair(certificate, key)?;
        }
        let (certificate, key) = (certificate?, key?);
        let options = TlsOptions {
            certificate: certificate.bytes?,
            key: key.bytes?,
            clients: clients?,
            allowed_sans: sans,
            versions: versions?,
            cipher_suites,
            curves,
            server_order,
        };
        let wrong = match Tls::new(options) {
            Ok(tls) => return Some(tls),
            Err(error @ TlsError::NoSuite) => {
                let entry = table.get("cipher_suites").unwrap_or(section);
                self.found.error(&entry.value.at, error.to_string()).help("add one, or leave the list away");
                return None;
            }
            Err(error) => error.to_string(),
        };
        self.unfit(certificate.entry, &format!("cannot be used: {wrong}"));
        None
    }

    /// Looks at a certificate and its key, each by itself and both together.
    fn pair(&mut self, certificate: &Pem<'_>, key: &Pem<'_>) -> Option<()> {
        let chain = certificate.bytes.as_deref().map(|bytes| (bytes, certificates::check_chain(bytes)));
        let own = key.bytes.as_deref().map(|bytes| (bytes, certificates::check_key(bytes)));
        if let Some((_, Err(unfit))) = &chain {
            self.unfit(certificate.entry, &unfit.to_string());
        }
        if let Some((_, Err(unfit))) = &own {
            self.unfit(key.entry, &unfit.to_string());
        }
        let (Some((chain, Ok(()))), Some((own, Ok(())))) = (chain, own) else { return None };
        let fits = certificates::check_pair(chain, own);
        fits.map_err(|unfit| self.unfit(key.entry, &unfit.to_string())).ok()
    }

    fn unfit(&mut self, entry: Entry<'_>, wrong: &str) {
        let help = match entry.name {
            "key" | "key_file" => "it takes the key of the certificate, in PEM, without a password",
            "client_ca" | "client_ca_file" => {
                "it takes the certificates of the authorities of clients, in PEM"
            }
            _ => "it takes the certificate and those between it and its authority, in PEM",
        };
        self.found.error(&entry.value.at, format!("`{}` {wrong}", entry.name)).help(help);
    }

    fn policy(&mut self, name: &str, at: &Place) -> Option<Policy> {
        let known = POLICIES.iter().find(|(known, _)| *known == name);
        if known.is_none() {
            let names: Vec<_> = POLICIES.iter().map(|(name, _)| *name).collect();
            let help = nearest(name, names.iter().copied()).map_or_else(
                || format!("it takes {}", names.join(", ")),
                |meant| format!("did you mean {meant}?"),
            );
            self.found.error(at, format!("there is no `client_auth_type` {name:?}")).help(help);
        }
        known.map(|(_, policy)| *policy)
    }

    /// What clients have to show; none if that cannot be said.
    fn clients(
        &mut self,
        ca: Option<&Pem<'_>>,
        policy: Option<(Option<Policy>, &Place)>,
    ) -> Option<ClientAuth> {
        if let Some(Pem { entry, bytes: Some(bytes) }) = ca
            && let Err(unfit) = certificates::check_authorities(bytes)
        {
            self.unfit(*entry, &unfit.to_string());
            return None;
        }
        let (policy, at) = match policy {
            None => (Policy::None, None),
            Some((policy, at)) => (policy?, Some(at)),
        };
        let authorities = match (policy, ca) {
            (Policy::None, Some(Pem { entry, .. })) => {
                let message = format!("`{}` is there, but clients need not show a certificate", entry.name);
                self.found.error(&entry.key.at, message).help(
                    "write client_auth_type: RequireAndVerifyClientCert, or leave the authorities away",
                );
                return None;
            }
            (Policy::VerifyIfGiven | Policy::RequireAndVerify, None) => {
                // Go would take the authorities of the system: whoever has a public certificate would get in.
                self.found
                    .error(
                        at?,
                        "certificates of clients are verified against `client_ca_file`, which is not there",
                    )
                    .help("write client_ca_file: clients.crt, with the authority that signs them");
                return None;
            }
            (_, ca) => ca.map(|pem| pem.bytes.clone()),
        };
        Some(match (policy, authorities) {
            (Policy::None, _) => ClientAuth::None,
            (Policy::Request, _) => ClientAuth::Request,
            (Policy::Require, _) => ClientAuth::Require,
            (Policy::VerifyIfGiven, authorities) => ClientAuth::VerifyIfGiven(authorities??),
            (Policy::RequireAndVerify, authorities) => ClientAuth::RequireAndVerify(authorities??),
        })
    }

    fn sans(&mut self, table: &Table<'_>, policy: Option<Policy>) -> Option<Vec<String>> {
        let entry = table.get("client_allowed_sans")?;
        let sans = self.list(Some(entry))?;
        if !matches!(policy, Some(Policy::Require | Policy::RequireAndVerify)) {
            self.found
                .error(&entry.key.at, "`client_allowed_sans` needs clients that must show a certificate")
                .help("write client_auth_type: RequireAndVerifyClientCert");
        } else if policy == Some(Policy::Require) {
            self.found
                .warn(&entry.key.at, "whoever makes a certificate gives it any name: nobody verifies it")
                .help("write client_auth_type: RequireAndVerifyClientCert, and client_ca_file");
        }
        Some(sans.into_iter().map(|(name, _)| name.to_owned()).collect())
    }

    fn versions(&mut self, table: &Table<'_>) -> Option<(TlsVersion, TlsVersion)> {
        let (min, max) = (table.get("min_version"), table.get("max_version"));
        let (oldest, newest) = (self.version(min, TlsVersion::Tls12), self.version(max, TlsVersion::Tls13));
        let (oldest, newest) = (oldest?, newest?);
        if oldest > newest {
            let at = &min.or(max)?.value.at;
            self.found
                .error(at, "`min_version` is above `max_version`")
                .help("leave one of them away: TLS12 and TLS13 are both good");
            return None;
        }
        Some((oldest, newest))
    }

    /// None where it is wrong.
    fn version(&mut self, entry: Option<Entry<'_>>, default: TlsVersion) -> Option<TlsVersion> {
        let Some((version, at)) = self.text(entry) else { return Some(default) };
        match version {
            "TLS12" => Some(TlsVersion::Tls12),
            "TLS13" => Some(TlsVersion::Tls13),
            "TLS10" | "TLS11" => {
                let message = format!("{version} is not spoken here: it has been broken for years");
                self.found.error(at, message).help("write TLS12 or TLS13");
                None
            }
            _ => {
                let message = format!("there is no version {version:?} of TLS");
                self.found.error(at, message).help("write TLS12 or TLS13");
                None
            }
        }
    }

    fn suite(&mut self, name: &str, at: &Place) -> Option<CipherSuite> {
        let suite = CipherSuite::named(name);
        if suite.is_none() {
            let message = if name.contains("_CBC_") {
                format!("{name} is not offered here: suites with CBC leak what they encrypt by its timing")
            } else if name.starts_with("TLS_RSA_WITH_AES_") {
                format!("{name} is not offered here: whoever gets the key later can read what was recorded")
            } else if name.contains("_RC4_") || name.contains("_3DES_") {
                format!("{name} is not offered here: it is broken")
            } else {
                format!("there is no cipher suite {name:?}")
            };
            let names: Vec<_> = CipherSuite::names().collect();
            let help = format!("the suites are {}", names.join(", "));
            self.found.error(at, message).help(help);
        }
        suite
    }

    fn curve(&mut self, name: &str, at: &Place) -> Option<Curve> {
        let curve = Curve::named(name);
        if curve.is_none() {
            let message = if name == "CurveP521" {
                "CurveP521 is not offered here: the TLS library leaves it out".to_owned()
            } else {
                format!("there is no curve {name:?}")
            };
            self.found.error(at, message).help(format!("the curves are {}", Curve::NAMES.join(", ")));
        }
        curve
    }

    fn http(&mut self, section: Entry<'_>) -> Vec<ExtraHeader> {
        let table = self.table(section.value, "http_server_config", &["http2", "headers"]);
        // HTTP/1.1 is what everybody speaks who speaks HTTP/2, so either value is right.
        self.flag(table.get("http2"));
        let Some(entry) = table.get("headers") else { return Vec::new() };
        let mut headers = Vec::new();
        for (name, key, value) in self.entries(entry.value, "headers") {
            let Some((known, values)) = HEADERS.iter().find(|(known, _)| *known == name) else {
                let names = HEADERS.map(|(name, _)| name);
                let help = nearest(&name, names.into_iter()).map_or_else(
                    || format!("the headers are {}", names.join(", ")),
                    |meant| format!("did you mean `{meant}`?"),
                );
                self.found.error(&key.at, format!("`{name}` cannot be added to answers")).help(help);
                continue;
            };
            let text = self.text(Some(Entry { name: known, key, value })).map_or("", |(text, _)| text);
            if !values.is_empty() && !values.contains(&text) {
                let message = format!("`{name}` takes {}", values.join(" or "));
                self.found.error(&value.at, message).help(format!("write {name}: {}", values[0]));
            } else if !text.is_empty() {
                let header = ExtraHeader::new(known, text);
                if header.is_none() {
                    self.found
                        .error(&value.at, format!("`{name}` has a character that no header may have"))
                        .help("write it on one line, in ASCII");
                }
                headers.extend(header);
            }
        }
        headers
    }

    fn users(&mut self, section: Entry<'_>) -> BTreeMap<String, PasswordHash> {
        let mut users = BTreeMap::new();
        for (name, key, value) in self.entries(section.value, "basic_auth_users") {
            let hash = match &value.value {
                Yaml::Text(hash) => PasswordHash::new(hash),
                _ => Err(NoHash::Other),
            };
            let hash = match hash {
                Ok(hash) => hash,
                Err(wrong) => {
                    let what = match wrong {
                        NoHash::Other => "is no hash of bcrypt",
                        NoHash::Cost => "is a hash of bcrypt with a cost that is not from 4 to 31",
                    };
                    self.found
                        .error(&value.at, format!("what stands for the password of {name:?} {what}"))
                        .help("`htpasswd -nBC 10 NAME` asks for the password and prints name:hash");
                    continue;
                }
            };
            if name.contains(':') {
                self.found
                    .warn(&key.at, format!("nobody can log in as {name:?}"))
                    .help("a name ends at its first colon: choose one without");
            }
            if hash.cost() > COSTLY {
                let message = format!("the cost of {name:?} is {}: a login takes seconds", hash.cost());
                self.found.warn(&value.at, message).help("10 to 12 is usual");
            }
            users.insert(name, hash);
        }
        users
    }

    fn rate_limit(&mut self, section: Entry<'_>) -> Option<RateLimit> {
        let table = self.table(section.value, "rate_limit", &["interval", "burst"]);
        let interval = self.text(table.get("interval")).map(|(text, at)| (duration(text), at));
        let burst = self.text(table.get("burst")).map(|(text, at)| (text.parse::<u32>(), at));
        if let Some((Err(_), at)) = &burst {
            self.found.error(at, "`burst` is a number of requests").help("write burst: 10");
        }
        let interval = match interval {
            None => {
                if let Some(entry) = table.0.first() {
                    self.found
                        .warn(&entry.key.at, "there is no limit without `interval`")
                        .help("write interval: 100ms for ten requests a second");
                }
                return None;
            }
            Some((None, at)) => {
                self.found
                    .error(at, "`interval` is the time between two requests")
                    .help("write a number and its unit, such as 100ms, 1s or 1m30s; 0 for no limit");
                return None;
            }
            Some((Some(interval), _)) => interval,
        };
        if interval.is_zero() {
            return None;
        }
        match burst {
            Some((Ok(burst), _)) if burst > 0 => Some(RateLimit { interval, burst }),
            Some((Err(_), _)) => None,
            None if self.found.was_meant(&section.value.at, &["burst"]) => None,
            burst => {
                let at = burst.map_or(&section.key.at, |(_, at)| at);
                self.found
                    .error(at, "a `burst` of 0 lets no request through")
                    .help("write burst: 10, or interval: 0 for no limit");
                None
            }
        }
    }
}

/// Who has to show a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    None,
    Request,
    Require,
    VerifyIfGiven,
    RequireAndVerify,
}

const POLICIES: [(&str, Policy); 6] = [
    ("NoClientCert", Policy::None),
    ("RequestClientCert", Policy::Request),
    ("RequireAnyClientCert", Policy::Require),
    ("RequireClientCert", Policy::Require),
    ("VerifyClientCertIfGiven", Policy::VerifyIfGiven),
    ("RequireAndVerifyClientCert", Policy::RequireAndVerify),
];

/// A time as the shared format has it: `0`, or numbers with their units and no spaces needed.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" { Some(Duration::ZERO) } else { humantime::parse_duration(text).ok() }
}

/// Masks keys and hashes, and whatever looks like one.
fn mask(node: &Node, is_secret: bool, base: usize, masked: &mut Vec<Place>) {
    match &node.value {
        Yaml::Null => {}
        Yaml::Text(text) => {
            if is_secret || text.contains("PRIVATE KEY") || text.starts_with("$2") {
                masked.push(node.at.start - base..node.at.end - base);
            }
        }
        Yaml::List(nodes) => nodes.iter().for_each(|node| mask(node, is_secret, base, masked)),
        Yaml::Map(pairs) => {
            for (key, value) in pairs {
                let names =
                    matches!(&key.value, Yaml::Text(key) if key == "key" || key == "basic_auth_users");
                mask(value, is_secret || names, base, masked);
            }
        }
    }
}

/// In a text that is no YAML: whatever follows a key that may have a secret, PEM, and hashes.
fn secret_lines(text: &str) -> Vec<Place> {
    let (mut masked, mut start) = (Vec::new(), 0);
    let (mut in_pem, mut in_users) = (false, false);
    for line in text.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        let is_top = !line.starts_with([' ', '\t', '#', '\n', '\r']);
        let after_colon = line.find(':').map_or(start, |colon| start + colon + 1).min(end);
        if is_top {
            in_users = line.starts_with("basic_auth");
        }
        in_pem |= line.contains("-----BEGIN");
        if in_pem {
            masked.push(start..end);
        } else if line.trim_start().starts_with("key:") || in_users {
            masked.push(after_colon..end);
        } else if let Some(hash) = line.find("$2") {
            masked.push(start + hash..end);
        }
        in_pem &= !line.contains("-----END");
        start += line.len();
    }
    masked
}
