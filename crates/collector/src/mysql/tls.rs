//! What TLS has against a server, or a server against our TLS, in words that say what to do.
//!
//! sqlx hands on what rustls says; rustls says it for those who write TLS, not for those who run databases.

use std::time::Duration;

use rustls::{
    AlertDescription, CertificateError, Error, PeerIncompatible,
    pki_types::{ServerName, UnixTime},
};
use time::OffsetDateTime;

use crate::{Address, Target};

/// Why there is no session, where the reason is TLS or the lack of it.
pub(super) fn words(error: &sqlx::Error, target: &Target) -> Option<String> {
    match error {
        sqlx::Error::Io(source) => {
            let error = source.get_ref()?.downcast_ref::<Error>()?;
            Some(of_rustls(error, target))
        }
        sqlx::Error::Tls(source) => Some(match source.downcast_ref::<Error>() {
            Some(error) => of_rustls(error, target),
            None if source.to_string().contains("does not support TLS") => {
                let mode = target.tls.mode.as_str();
                format!("the server offers no TLS, which tls.mode = \"{mode}\" asks for")
            }
            None => format!("TLS: {source}"),
        }),
        // Without TLS the driver would encrypt it with a key that anybody may have sent.
        sqlx::Error::Configuration(source) if source.to_string().contains("RSA") => {
            Some("the server asks for the password in full, which goes out under TLS only".to_owned())
        }
        sqlx::Error::Protocol(source) if source.contains("cleartext_plugin") => Some(
            "the server asks for the password in clear text, which goes only to one that proves who it is: \
             set tls.mode = \"verify_identity\""
                .to_owned(),
        ),
        _ => None,
    }
}

fn of_rustls(error: &Error, target: &Target) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error, target),
        Error::AlertReceived(AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "the server speaks no TLS 1.2 or newer: update it; an older TLS protects nothing".to_owned(),
        Error::AlertReceived(alert) => of_alert(*alert, target),
        Error::PeerIncompatible(_) => format!("the server and we have no TLS settings in common ({error})"),
        Error::InvalidMessage(_) => "what the server sent as TLS is none".to_owned(),
        _ => format!("TLS: {error}"),
    }
}

fn of_certificate(error: &CertificateError, target: &Target) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the server's certificate expired on {}: renew it there", date(*not_after))
        }
        CertificateError::Expired => "the server's certificate has expired: renew it there".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "the server's certificate is not valid before {}: is the clock right, there and here?",
            date(*not_before)
        ),
        CertificateError::UnknownIssuer => match target.tls.ca {
            Some(_) => "the server's certificate is not from an authority in the file of tls.ca: put the one that issued \
                        it there",
            None => "the server's certificate is from an authority that is not trusted here: set tls.ca to the file of the \
                     authority that issued it",
        }
        .to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("the server's certificate is not for {}{}", host(expected, target), others(presented))
        }
        CertificateError::BadSignature => {
            "the server's certificate is not signed by the authority that it names: is tls.ca that of an earlier one?".to_owned()
        }
        CertificateError::InvalidPurposeContext { .. } | CertificateError::InvalidPurpose => {
            "the server's certificate is not one for a server: issue it anew for that purpose".to_owned()
        }
        CertificateError::Other(other) => match other.to_string() {
            version if version.contains("UnsupportedCertVersion") => {
                "the server's certificate is of X.509 version 1, which has no names: issue it anew as version 3".to_owned()
            }
            authority if authority.contains("CaUsedAsEndEntity") => {
                "the server's certificate is that of an authority, used as a server's: issue one for the server, and set tls.ca to \
                 the authority's"
                    .to_owned()
            }
            other => format!("the server's certificate is not accepted ({other})"),
        },
        other => format!("the server's certificate is not accepted ({other})"),
    }
}

fn of_alert(alert: AlertDescription, target: &Target) -> String {
    use AlertDescription as Alert;
    let ours = target.tls.identity.is_some();
    match alert {
        Alert::CertificateRequired | Alert::NoCertificate => {
            "the server asks for a client certificate: set tls.cert and tls.key".to_owned()
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::DecryptError
            if ours =>
        {
            format!("the server does not accept our client certificate ({alert:?}): is it from the server's authority, and valid?")
        }
        Alert::HandshakeFailure if !ours => {
            "the server broke TLS off (HandshakeFailure): it asks for a client certificate, or for ciphers that are not known here"
                .to_owned()
        }
        _ => format!("the server broke TLS off ({alert:?})"),
    }
}

/// The host as the configuration says it, or as it was asked for.
fn host(expected: &ServerName<'_>, target: &Target) -> String {
    match &target.address {
        Address::Tcp { host, .. } => host.clone(),
        Address::Socket(_) => expected.to_str().into_owned(),
    }
}

/// Whom a certificate is for instead.
fn others(presented: &[String]) -> String {
    if presented.is_empty() {
        return ", and names no host at all: issue one that does, or set tls.mode = \"verify_ca\"".to_owned();
    }
    // rustls words them for its own debug output: DnsName("db1").
    let name = |name: &String| match name.split_once('(') {
        Some((_, inner)) => inner.trim_end_matches(')').trim_matches('"').to_owned(),
        None => name.clone(),
    };
    let names: Vec<_> = presented.iter().map(name).collect();
    format!(", but for {}: write that as the address, or issue it anew", names.join(", "))
}

/// The day of a moment, in UTC.
fn date(moment: UnixTime) -> String {
    let since = Duration::from_secs(moment.as_secs());
    let moment = OffsetDateTime::UNIX_EPOCH.checked_add(since.try_into().unwrap_or(time::Duration::MAX));
    moment.map_or_else(|| "a day beyond all calendars".to_owned(), |moment| moment.date().to_string())
}
