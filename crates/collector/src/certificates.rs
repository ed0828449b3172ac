//! The PEM files of TLS: what they must hold, before anybody connects with them.
//!
//! The driver takes a file of authorities without any certificate in silence, and then trusts nobody it names; and it
//! quotes what it cannot read. So the files are looked at here, at each connect and when the configuration is checked.

use std::fmt;

use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::ParsedCertificate,
    sign::CertifiedKey,
};

/// The largest file of certificates; public authorities and those of a cloud's regions are a fifth of it.
pub const MAX_PEM_BYTES: usize = 1 << 20;

/// What the PEM files of a target hold now.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Certificates {
    /// The authorities to trust besides the public ones.
    pub ca: Option<Vec<u8>>,
    /// The client's certificate chain and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key is a secret.
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

/// Why a file is not what it should be, as it follows the file's name. It quotes nothing of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit(&'static str);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Unfit {}

/// Whether the file holds certificates of authorities.
pub fn check_authorities(pem: &[u8]) -> Result<(), Unfit> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate).map_err(|_| Unfit("holds a certificate that cannot be an authority's"))?;
    }
    Ok(())
}

/// Whether the file holds a certificate to show.
pub fn check_chain(pem: &[u8]) -> Result<(), Unfit> {
    let chain = certificates(pem)?;
    let first = chain.first().map(ParsedCertificate::try_from);
    let parsed = first.is_some_and(|parsed| parsed.is_ok());
    if parsed { Ok(()) } else { Err(Unfit("holds a certificate that is not one of X.509 version 3")) }
}

/// Whether the file holds a private key.
pub fn check_key(pem: &[u8]) -> Result<(), Unfit> {
    let provider = ring::default_provider();
    let key = provider.key_provider.load_private_key(key(pem)?);
    key.map(drop).map_err(|_| Unfit("holds a private key of a kind that is not known here"))
}

/// Whether the key is that of the certificate; the message is about the key's file.
pub fn check_pair(certificate: &[u8], key_pem: &[u8]) -> Result<(), Unfit> {
    let chain = certificates(certificate)?;
    match CertifiedKey::from_der(chain, key(key_pem)?, &ring::default_provider()) {
        // What else it has against them, the server will have too, and say so.
        Err(rustls::Error::InconsistentKeys(_)) => Err(Unfit("holds the key of another certificate")),
        _ => Ok(()),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(Unfit("holds no certificate")),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(Unfit("holds something that begins like PEM and is none")),
    }
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Unfit> {
    // An encrypted key is no item that anybody here reads.
    PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| Unfit("holds no private key that can be read without a password"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn made() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["db1".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[track_caller]
    fn check(checked: Result<(), Unfit>, expected: &str) {
        assert_eq!(checked.err().map(|unfit| unfit.to_string()).unwrap_or_default(), expected);
    }

    #[test]
    fn a_file_holds_what_it_is_for() {
        let (certificate, key) = made();
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        let both = [key, certificate, b"a note\n", certificate].concat();
        for pem in [certificate, &both] {
            check(check_authorities(pem), "");
            check(check_chain(pem), "");
            check(check_pair(pem, key), "");
        }
        for pem in [key, &both] {
            check(check_key(pem), "");
        }
        let none = "holds no certificate";
        for pem in [key, b"", b"no certificate\n"] {
            check(check_authorities(pem), none);
            check(check_chain(pem), none);
        }
        let no_key = "holds no private key that can be read without a password";
        for pem in [
            certificate,
            b"",
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        ] {
            check(check_key(pem), no_key);
        }
        let odd = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        check(check_key(odd), "holds a private key of a kind that is not known here");
        let (other, _) = made();
        check(check_pair(other.as_bytes(), key), "holds the key of another certificate");
    }

    #[test]
    fn what_is_wrong_is_not_quoted() {
        let (certificate, key) = made();
        let broken = |pem: &str| pem.replacen('\n', "\n!!", 2);
        check(
            check_authorities(broken(&certificate).as_bytes()),
            "holds something that begins like PEM and is none",
        );
        let cut = &certificate[..certificate.len() / 2];
        check(check_chain(cut.as_bytes()), "holds something that begins like PEM and is none");
        let rubbish = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        check(check_chain(rubbish.as_bytes()), "holds a certificate that is not one of X.509 version 3");
        check(check_authorities(rubbish.as_bytes()), "holds a certificate that cannot be an authority's");
        check(check_key(broken(&key).as_bytes()), "holds no private key that can be read without a password");
        let shown =
            format!("{:?}", Certificates { ca: None, identity: Some((Vec::new(), key.into_bytes())) });
        assert_eq!(shown, "Certificates { .. }");
    }
}
