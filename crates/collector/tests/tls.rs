//! Real handshakes with servers whose TLS is not what it should be: each ends with the reason `tls` and words that say
//! what to do, and none with a login in plain text.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{sync::Arc, time::Duration};

use fleet_collector::{
    Address, Failure, Password, Reason, Secret, SessionSettings, Target, Tls, TlsMode,
    certificates::Certificates,
    driver::{Driver, Session},
    login::Login,
    mysql::MySql,
};
use fleetsim::{Event, LoginSeen, Plugin, Preset, Script, Sim};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{sync::Semaphore, time::Instant};

const PASSWORD: &str = "geheim";

/// An authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
#[derive(Clone)]
struct Issued {
    certificate: CertificateDer<'static>,
    pem: String,
    key: Vec<u8>,
    key_pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// A certificate for this host, changed as wanted.
    fn issue(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key: key.serialize_der(),
            key_pem: key.serialize_pem(),
        }
    }
}

/// A server that shows this certificate, whatever is wrong with it.
fn serving(issued: &Issued) -> Script {
    let provider = ring::default_provider();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.key.clone()));
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![issued.certificate.clone()], key));
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    server().tls(Arc::new(config.with_no_client_auth().with_cert_resolver(Arc::new(shown))))
}

/// A server that lets anybody in.
fn server() -> Script {
    Script::new(Preset::MySql84)
}

async fn connect(sim: &Sim, mode: TlsMode, certificates: Certificates) -> Result<Box<dyn Session>, Failure> {
    // The driver's own words go by what is configured, not by where that came from.
    let tls = Tls {
        mode,
        ca: certificates.ca.as_ref().map(|_| "ca.pem".into()),
        identity: certificates.identity.as_ref().map(|_| ("client.pem".into(), "client.key".into())),
    };
    let target = Target {
        name: "db1".into(),
        group: "g".into(),
        address: Address::Tcp { host: "127.0.0.1".to_owned(), port: sim.port() },
        user: None,
        password: Password::Inline(Secret::new(PASSWORD)),
        database: None,
        tls,
        labels: Vec::new(),
        max_connections: 3,
        kill: true,
        session: SessionSettings::default(),
    };
    let login = Login { user: "monitor".to_owned(), password: Secret::new(PASSWORD), certificates };
    let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
    MySql.connect(&target, &login, permit, Instant::now() + Duration::from_secs(10)).await
}

fn trusting(authority: &Authority) -> Certificates {
    Certificates { ca: Some(authority.pem()), identity: None }
}

fn logins(sim: &Sim) -> Vec<LoginSeen> {
    let seen = sim.records().into_iter().filter_map(|record| match record.event {
        Event::Login(login) => Some(login),
        _ => None,
    });
    seen.collect()
}

/// The reason is `tls`, these are the words, and nobody tried to log in.
#[track_caller]
fn check(sim: &Sim, connected: Result<Box<dyn Session>, Failure>, words: &str) {
    let failure = connected.unwrap_err();
    assert_eq!((failure.reason, failure.answered), (Reason::Tls, false), "{failure}");
    assert_eq!(failure.message, words);
    assert_eq!(logins(sim), [], "nobody logs in");
}

#[tokio::test]
async fn t09_a_certificate_that_is_not_accepted_says_why_and_what_to_do() {
    use TlsMode::{VerifyCa, VerifyIdentity};
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let good = ours.issue("127.0.0.1", |_| {});
    let sim = Sim::start(serving(&good)).await.unwrap();
    for mode in [TlsMode::Preferred, TlsMode::Required, VerifyCa, VerifyIdentity] {
        connect(&sim, mode, trusting(&ours)).await.unwrap();
    }
    assert!(logins(&sim).iter().all(|login| login.tls) && logins(&sim).len() == 4);

    let expired = ours.issue("127.0.0.1", |params| params.not_after = date_time_ymd(2024, 2, 29));
    let early = ours.issue("127.0.0.1", |params| params.not_before = date_time_ymd(2999, 12, 31));
    let elsewhere = ours.issue("db1.example.net", |_| {});
    let nameless = ours.issue("127.0.0.1", |params| params.subject_alt_names.clear());
    let client = ours
        .issue("127.0.0.1", |params| params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth));
    let authority =
        ours.issue("127.0.0.1", |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    for (issued, mode, words) in [
        (&expired, VerifyCa, "the server's certificate expired on 2024-02-29: renew it there"),
        (
            &early,
            VerifyCa,
            "the server's certificate is not valid before 2999-12-31: is the clock right, there and here?",
        ),
        (
            &elsewhere,
            VerifyIdentity,
            "the server's certificate is not for 127.0.0.1, but for db1.example.net: write that as the address, or issue it anew",
        ),
        (
            &nameless,
            VerifyIdentity,
            "the server's certificate is not for 127.0.0.1, and names no host at all: issue one that does, or set \
             tls.mode = \"verify_ca\"",
        ),
        (
            &client,
            VerifyCa,
            "the server's certificate is not one for a server: issue it anew for that purpose",
        ),
        (
            &authority,
            VerifyCa,
            "the server's certificate is that of an authority, used as a server's: issue one for the server, and set \
             tls.ca to the authority's",
        ),
    ] {
        let sim = Sim::start(serving(issued)).await.unwrap();
        check(&sim, connect(&sim, mode, trusting(&ours)).await, words);
    }
    // An authority that was made anew keeps its name.
    let sim = Sim::start(serving(&good)).await.unwrap();
    let words = "the server's certificate is not signed by the authority that it names: is tls.ca that of an earlier one?";
    check(&sim, connect(&sim, VerifyCa, trusting(&Authority::new("ours"))).await, words);
    // Whoever asks less, gets in.
    for (issued, mode) in [(&elsewhere, VerifyCa), (&nameless, VerifyCa), (&expired, TlsMode::Required)] {
        let sim = Sim::start(serving(issued)).await.unwrap();
        connect(&sim, mode, trusting(&ours)).await.unwrap();
    }

    let sim = Sim::start(serving(&good)).await.unwrap();
    for mode in [VerifyCa, VerifyIdentity] {
        let words = "the server's certificate is not from an authority in the file of tls.ca: put the one that issued it there";
        check(&sim, connect(&sim, mode, trusting(&other)).await, words);
        let words = "the server's certificate is from an authority that is not trusted here: set tls.ca to the file of \
                     the authority that issued it";
        check(&sim, connect(&sim, mode, Certificates::default()).await, words);
    }
}

#[tokio::test]
async fn t09_an_old_certificate_or_an_old_protocol_or_none_is_refused_whatever_the_mode() {
    let ours = Authority::new("ours");
    let mut old = ours.issue("127.0.0.1", |_| {});
    // The number of the version, 2 for X.509 v3, becomes that of v1.
    let version = [0xa0, 0x03, 0x02, 0x01];
    let mut der = old.certificate.to_vec();
    let at = der.windows(4).position(|window| window == version).unwrap() + 4;
    assert_eq!(std::mem::replace(&mut der[at], 0), 2);
    old.certificate = der.into();
    let version_1 =
        "the server's certificate is of X.509 version 1, which has no names: issue it anew as version 3";
    let old_tls = "the server speaks no TLS 1.2 or newer: update it; an older TLS protects nothing";
    for mode in [TlsMode::Preferred, TlsMode::Required, TlsMode::VerifyCa, TlsMode::VerifyIdentity] {
        let sim = Sim::start(serving(&old)).await.unwrap();
        check(&sim, connect(&sim, mode, trusting(&ours)).await, version_1);
        let sim = Sim::start(server().tls_too_old()).await.unwrap();
        check(&sim, connect(&sim, mode, trusting(&ours)).await, old_tls);
    }
    for (mode, name) in [
        (TlsMode::Required, "required"),
        (TlsMode::VerifyCa, "verify_ca"),
        (TlsMode::VerifyIdentity, "verify_identity"),
    ] {
        let sim = Sim::start(server()).await.unwrap();
        let words = format!("the server offers no TLS, which tls.mode = \"{name}\" asks for");
        check(&sim, connect(&sim, mode, trusting(&ours)).await, &words);
    }
}

#[tokio::test]
async fn t09_a_client_certificate_that_is_asked_for_or_not_accepted_is_told() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let issued = ours.issue("127.0.0.1", |_| {});
    let mut roots = RootCertStore::empty();
    roots.add(ours.0.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(Arc::clone(&verifier) as _)
            .with_single_cert(
                vec![issued.certificate.clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.key.clone())),
            )
            .unwrap();
        let sim = Sim::start(server().tls(Arc::new(config))).await.unwrap();
        let with = |client: Option<Issued>| Certificates {
            identity: client.map(|client| (client.pem.into_bytes(), client.key_pem.into_bytes())),
            ..trusting(&ours)
        };
        let none = connect(&sim, TlsMode::VerifyIdentity, with(None)).await;
        check(&sim, none, "the server asks for a client certificate: set tls.cert and tls.key");
        for (client, alert) in [
            (other.issue("monitor", |_| {}), "UnknownCA"),
            (
                ours.issue("monitor", |params| params.not_after = date_time_ymd(2024, 2, 29)),
                "CertificateExpired",
            ),
        ] {
            let words = format!(
                "the server does not accept our client certificate ({alert}): is it from the server's authority, and valid?"
            );
            check(&sim, connect(&sim, TlsMode::VerifyIdentity, with(Some(client))).await, &words);
        }
        let client = ours.issue("monitor", |_| {});
        connect(&sim, TlsMode::VerifyIdentity, with(Some(client))).await.unwrap();
    }
}

#[tokio::test]
async fn a_password_goes_in_clear_text_only_to_who_has_proved_who_it_is() {
    let ours = Authority::new("ours");
    let issued = ours.issue("127.0.0.1", |_| {});
    let asking = |script: Script| script.switch_to(Plugin::Clear);
    let words = "the server asks for the password in clear text, which goes only to one that proves who it is: \
                 set tls.mode = \"verify_identity\"";
    for (mode, script) in [
        (TlsMode::Disabled, server()),
        (TlsMode::Preferred, server()),
        (TlsMode::Preferred, serving(&issued)),
        (TlsMode::Required, serving(&issued)),
    ] {
        let sim = Sim::start(asking(script)).await.unwrap();
        let failure = connect(&sim, mode, trusting(&ours)).await.unwrap_err();
        assert_eq!((failure.reason, &*failure.message), (Reason::Tls, words), "{mode:?}");
        assert!(logins(&sim).iter().all(|login| login.password.is_none()), "{:?}", logins(&sim));
    }
    for mode in [TlsMode::VerifyCa, TlsMode::VerifyIdentity] {
        let sim = Sim::start(asking(serving(&issued))).await.unwrap();
        connect(&sim, mode, trusting(&ours)).await.unwrap();
        let [login] = &logins(&sim)[..] else { panic!("{:?}", logins(&sim)) };
        assert_eq!((login.password.as_deref(), login.tls), (Some(PASSWORD), true));
    }
}

/// What docs/security.md says an unverified server can do. The day this fails, the driver has learned it, and the
/// page has a sentence less.
#[tokio::test]
async fn the_driver_gives_the_password_in_clear_text_to_who_names_that_plugin_in_its_greeting() {
    let ours = Authority::new("ours");
    let issued = ours.issue("127.0.0.1", |_| {});
    let greeting = |script: Script| script.plugin(Plugin::Clear).account("monitor", PASSWORD);
    for (mode, script) in
        [(TlsMode::Disabled, server()), (TlsMode::Preferred, server()), (TlsMode::Required, serving(&issued))]
    {
        let sim = Sim::start(greeting(script)).await.unwrap();
        connect(&sim, mode, Certificates::default()).await.unwrap();
        assert_eq!(logins(&sim)[0].password.as_deref(), Some(PASSWORD), "{mode:?}");
    }
    // Not where it has to prove who it is first.
    for mode in [TlsMode::VerifyCa, TlsMode::VerifyIdentity] {
        for script in [server(), serving(&issued)] {
            let sim = Sim::start(greeting(script)).await.unwrap();
            let failure = connect(&sim, mode, Certificates::default()).await.unwrap_err();
            assert_eq!((failure.reason, logins(&sim)), (Reason::Tls, Vec::new()));
        }
    }
}
