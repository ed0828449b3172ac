//! TLS on the exporter's own port: from what the web file says to what a handshake needs, or to what is wrong with it.

use std::{fmt, net::IpAddr, sync::Arc};

use fleet_collector::certificates::{self, Unfit};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, NamedGroup, RootCertStore, ServerConfig,
    SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion,
    client::danger::HandshakeSignatureValid,
    crypto::{
        CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms, ring, verify_tls12_signature,
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

/// What a server with TLS needs to know. Texts of certificates and keys are PEM.
#[derive(Clone, PartialEq)]
pub struct TlsOptions {
    /// The certificate to show, and those between it and its authority.
    pub certificate: Vec<u8>,
    /// The key of that certificate.
    pub key: Vec<u8>,
    /// What clients have to show.
    pub clients: ClientAuth,
    /// Names of which a client's certificate must have one; any will do where there is no list.
    pub allowed_sans: Option<Vec<String>>,
    /// The oldest and the newest version of TLS.
    pub versions: (TlsVersion, TlsVersion),
    /// Suites of TLS 1.2, the preferred first; all where there are none. Those of TLS 1.3 are always all there.
    pub cipher_suites: Vec<CipherSuite>,
    /// Groups of the key exchange, the preferred first; all where there are none.
    pub curves: Vec<Curve>,
    /// Whether the server's order of suites counts, and not the client's.
    pub server_order: bool,
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key is a secret.
        f.debug_struct("TlsOptions").finish_non_exhaustive()
    }
}

/// What a client has to show. Authorities are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    None,
    /// A certificate, if it has one; nobody asks who made it.
    Request,
    /// A certificate; nobody asks who made it.
    Require,
    /// A certificate of one of these authorities, if it has one.
    VerifyIfGiven(Vec<u8>),
    /// A certificate of one of these authorities.
    RequireAndVerify(Vec<u8>),
}

/// A version of TLS that is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// A cipher suite that is offered here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CipherSuite(SupportedCipherSuite);

impl CipherSuite {
    /// The suite of this name, as IANA lists it.
    pub fn named(name: &str) -> Option<Self> {
        ring::ALL_CIPHER_SUITES.iter().copied().map(Self).find(|suite| suite.name() == name)
    }

    /// The names of all.
    pub fn names() -> impl Iterator<Item = String> {
        ring::ALL_CIPHER_SUITES.iter().map(|suite| Self(*suite).name())
    }

    /// rustls marks the suites of TLS 1.3 in the name, IANA does not.
    fn name(self) -> String {
        format!("{:?}", self.0.suite()).replace("TLS13_", "TLS_")
    }
}

/// A group of the key exchange that is offered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Curve(NamedGroup);

impl Curve {
    /// The names, as web files spell them.
    pub const NAMES: [&str; 3] = ["X25519", "CurveP256", "CurveP384"];

    /// The group of this name.
    pub fn named(name: &str) -> Option<Self> {
        let groups = [NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1];
        Self::NAMES.iter().zip(groups).find(|(known, _)| **known == name).map(|(_, group)| Self(group))
    }

    fn group(self) -> &'static dyn SupportedKxGroup {
        let mut all = ring::ALL_KX_GROUPS.iter().copied();
        all.find(|group| group.name() == self.0).expect("ring has all that have a name here")
    }
}

/// Why there is no TLS to be had of these options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsError {
    /// What is wrong with the certificate.
    Certificate(Unfit),
    /// What is wrong with the key.
    Key(Unfit),
    /// What is wrong with the authorities of clients.
    ClientCa(Unfit),
    /// No suite is left for the versions.
    NoSuite,
    /// Anything else, in the words of the library.
    Other(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(unfit) => write!(f, "the certificate's file {unfit}"),
            Self::Key(unfit) => write!(f, "the key's file {unfit}"),
            Self::ClientCa(unfit) => write!(f, "the file of authorities {unfit}"),
            Self::NoSuite => f.write_str("none of the cipher suites is one of these versions of TLS"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for TlsError {}

/// TLS that can be spoken: certificate and key belong together.
#[derive(Clone)]
pub struct Tls {
    options: TlsOptions,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// The same options, whenever they were read.
impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.options == other.options
    }
}

impl Tls {
    /// Checks what the options hold, and makes a server's side of it.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(options: TlsOptions) -> Result<Self, TlsError> {
        let TlsOptions {
            certificate,
            key,
            clients,
            allowed_sans,
            versions,
            cipher_suites,
            curves,
            server_order,
        } = &options;
        certificates::check_chain(certificate).map_err(TlsError::Certificate)?;
        certificates::check_key(key).map_err(TlsError::Key)?;
        certificates::check_pair(certificate, key).map_err(TlsError::Key)?;
        let provider = Arc::new(provider(cipher_suites, curves));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&between(*versions))
            .map_err(|_| TlsError::NoSuite)?;
        let builder = match verifier(clients, allowed_sans.as_deref(), &provider)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>();
        let (chain, key) = (chain.map_err(other)?, PrivateKeyDer::from_pem_slice(key).map_err(other)?);
        let mut config = builder.with_single_cert(chain, key).map_err(other)?;
        config.ignore_client_order = *server_order;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { options, config: Arc::new(config) })
    }

    /// The certificate that it shows, and those behind it, in PEM.
    pub fn certificate(&self) -> &[u8] {
        &self.options.certificate
    }

    pub(crate) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Whether each client has proved who it is.
    pub(crate) fn authenticates(&self) -> bool {
        matches!(self.options.clients, ClientAuth::RequireAndVerify(_))
    }
}

fn other(error: impl fmt::Display) -> TlsError {
    TlsError::Other(error.to_string())
}

fn between((oldest, newest): (TlsVersion, TlsVersion)) -> Vec<&'static SupportedProtocolVersion> {
    [(TlsVersion::Tls12, &TLS12), (TlsVersion::Tls13, &TLS13)]
        .into_iter()
        .filter(|(version, _)| (oldest..=newest).contains(version))
        .map(|(_, version)| version)
        .collect()
}

fn provider(suites: &[CipherSuite], curves: &[Curve]) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !suites.is_empty() {
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        provider
            .cipher_suites
            .extend(suites.iter().map(|suite| suite.0).filter(|suite| suite.tls13().is_none()));
    }
    if !curves.is_empty() {
        provider.kx_groups = curves.iter().map(|curve| curve.group()).collect();
    }
    provider
}

/// Who looks at what clients show, if anybody does.
fn verifier(
    clients: &ClientAuth,
    allowed: Option<&[String]>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let (mandatory, authorities) = match clients {
        ClientAuth::None => return Ok(None),
        ClientAuth::Request => (false, None),
        ClientAuth::Require => (true, None),
        ClientAuth::VerifyIfGiven(authorities) => (false, Some(authorities)),
        ClientAuth::RequireAndVerify(authorities) => (true, Some(authorities)),
    };
    Ok(Some(Arc::new(Verifier {
        mandatory,
        authorities: authorities.map(|authorities| trusted(authorities, provider)).transpose()?,
        allowed: allowed.map(<[_]>::to_vec),
        algorithms: provider.signature_verification_algorithms,
    })))
}

/// Who takes certificates of these authorities.
fn trusted(
    authorities: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    certificates::check_authorities(authorities).map_err(TlsError::ClientCa)?;
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities) {
        roots.add(authority.map_err(other)?).map_err(other)?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().map_err(other)
}

/// Takes a certificate whose key the client has: of these authorities, where it knows some, with one of these names, where
/// there is a list.
#[derive(Debug)]
struct Verifier {
    mandatory: bool,
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    allowed: Option<Vec<String>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.as_ref().map_or(&[], |authorities| authorities.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            authorities.verify_client_cert(certificate, intermediates, now)?;
        }
        match &self.allowed {
            Some(allowed) if !names(certificate).iter().any(|name| allowed.contains(name)) => {
                Err(Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The subject's alternative names: hosts, addresses of mail, IP addresses, URIs. None where they cannot be read.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => ip_address(bytes).map(|ip| ip.to_string()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(bytes.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn suites_and_curves_have_the_names_that_web_files_know() {
        for name in [
            "TLS_AES_128_GCM_SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ] {
            assert!(CipherSuite::named(name).is_some(), "{name}");
        }
        assert_eq!(CipherSuite::names().count(), 9);
        assert_eq!(CipherSuite::named("TLS_RSA_WITH_RC4_128_SHA"), None);
        for name in Curve::NAMES {
            Curve::named(name).unwrap().group();
        }
        assert_eq!(Curve::named("CurveP521"), None);
    }

    #[test]
    fn a_certificate_has_names_of_four_kinds() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["host.example.net".to_owned()]).unwrap();
        params.subject_alt_names.extend([
            SanType::IpAddress([10, 0, 0, 1].into()),
            SanType::IpAddress("fd00::1".parse().unwrap()),
            SanType::Rfc822Name("a@example.net".try_into().unwrap()),
            SanType::URI("spiffe://example.net/prometheus".try_into().unwrap()),
        ]);
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(
            names(certificate.der()),
            ["host.example.net", "10.0.0.1", "fd00::1", "a@example.net", "spiffe://example.net/prometheus"]
        );
        assert_eq!(names(&CertificateDer::from(vec![1, 2, 3])), [""; 0]);
    }
}
