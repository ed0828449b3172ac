//! Whom a command trusts that asks an exporter over TLS, an authority or the very certificate that it expects, and what it
//! shows of itself.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    sign::{CertifiedKey, SingleCertAndKey},
};
use secrecy::{ExposeSecret as _, SecretString};

/// A certificate, with those that lead to its authority, and its key, to be shown.
#[derive(Debug)]
pub(crate) struct Identity(Arc<SingleCertAndKey>);

impl Identity {
    /// Of certificates and a key in PEM.
    ///
    /// # Errors
    /// What is wrong with them, or that they are no pair, for a person.
    pub(crate) fn of(certificate: &[u8], key: &SecretString) -> Result<Self, String> {
        let certificates = certificates(certificate).map_err(|error| format!("the certificate: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes());
        let key = key.map_err(|error| format!("the key: {error}"))?;
        let pair = CertifiedKey::from_der(certificates, key, &ring::default_provider());
        Ok(Self(Arc::new(pair.map_err(|error| format!("certificate and key: {error}"))?.into())))
    }
}

/// A client that trusts these certificates, in PEM, and shows one of its own where it has any.
///
/// # Errors
/// What is wrong with them, for a person.
pub(crate) fn client(pem: &[u8], identity: Option<&Identity>) -> Result<ClientConfig, String> {
    let certificates = certificates(pem)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    let provider = Arc::new(ring::default_provider());
    let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let authorities = authorities.build().map_err(|_| "it holds no certificate".to_owned())?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let verifier = Arc::new(Verifier { certificates, authorities });
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    Ok(match identity {
        Some(Identity(shown)) => builder.with_client_cert_resolver(Arc::clone(shown) as _),
        None => builder.with_no_client_auth(),
    })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// Takes a certificate that is one of these, whatever names it has, and those that the authorities among them signed for
/// the host that was asked.
#[derive(Debug)]
struct Verifier {
    certificates: Vec<CertificateDer<'static>>,
    authorities: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Whoever has the key of just this certificate is whom we mean.
        if self.certificates.contains(certificate) {
            return Ok(ServerCertVerified::assertion());
        }
        self.authorities.verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
