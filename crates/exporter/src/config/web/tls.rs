//! The TLS of a web file: certificates, keys, whom clients have to be, and what may be spoken.

use std::io::Read as _;

use fleet_collector::certificates::{self, MAX_PEM_BYTES};
use fleet_http::tls::{CipherSuite, ClientAuth, Curve, Tls, TlsError, TlsOptions, TlsVersion};

use super::super::{field::nearest, report::Place};
use super::tables::{Entry, File, Table};

pub(super) const TLS_KEYS: &[&str] = &[
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

/// Text of certificates or of a key, and where the file says so.
struct Pem<'n> {
    entry: Entry<'n>,
    /// None where it cannot be read, which has been told.
    bytes: Option<Vec<u8>>,
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

impl File<'_> {
    pub(super) fn tls(&mut self, section: Entry<'_>) -> Option<Tls> {
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
            if let Some(entry) = table.first()
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
}
