//! The same under the settings of a web file: TLS, logins, limits, headers.

use std::{collections::BTreeMap, io::ErrorKind};

use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use tokio_rustls::{TlsConnector, client};

use super::*;
use crate::{
    ExtraHeader, PasswordHash, RateLimit, WebSettings,
    tls::{CipherSuite, ClientAuth, Curve, Tls, TlsError, TlsOptions, TlsVersion},
};

/// An authority, and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pair(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }
}

/// The plainest TLS with this certificate.
fn options(pair: &Pair) -> TlsOptions {
    TlsOptions {
        certificate: pair.certificate.clone().into_bytes(),
        key: pair.key.clone().into_bytes(),
        clients: ClientAuth::None,
        allowed_sans: None,
        versions: (TlsVersion::Tls12, TlsVersion::Tls13),
        cipher_suites: Vec::new(),
        curves: Vec::new(),
        server_order: true,
    }
}

fn with_tls(options: TlsOptions) -> WebSettings {
    WebSettings { tls: Some(Tls::new(options).unwrap()), ..WebSettings::default() }
}

/// A client's side of TLS.
#[derive(Clone)]
struct Peer {
    trusts: CertificateDer<'static>,
    shows: Option<Pair>,
    versions: Vec<&'static SupportedProtocolVersion>,
    suites: Vec<SupportedCipherSuite>,
}

impl Peer {
    fn new(authority: &Authority) -> Self {
        Self {
            trusts: CertificateDer::from_pem_slice(&authority.pem()).unwrap(),
            shows: None,
            versions: vec![&TLS12, &TLS13],
            suites: ring::ALL_CIPHER_SUITES.to_vec(),
        }
    }

    fn showing(&self, pair: &Pair) -> Self {
        Self { shows: Some(pair.clone()), ..self.clone() }
    }

    fn speaking(&self, version: &'static SupportedProtocolVersion) -> Self {
        Self { versions: vec![version], ..self.clone() }
    }

    fn config(&self) -> ClientConfig {
        let mut provider = ring::default_provider();
        provider.cipher_suites.clone_from(&self.suites);
        let mut roots = RootCertStore::empty();
        roots.add(self.trusts.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots);
        match &self.shows {
            None => builder.with_no_client_auth(),
            Some(Pair { certificate, key }) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<client::TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("exporter.example.net").unwrap();
        TlsConnector::from(Arc::new(self.config())).connect(name, stream).await
    }

    /// Asks for the health, and gives the head of the answer.
    async fn ask(&self, address: SocketAddr) -> io::Result<String> {
        let asked = timeout(SOON, async {
            let mut stream = self.connect(address).await?;
            exchange(&mut stream, "GET /-/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await
        });
        asked.await.expect("an answer or an error")
    }
}

/// One request; all that comes until the end.
async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    if bytes.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8(bytes).unwrap())
}

/// The answer to a request in plain HTTP.
async fn plain(server: &Server, request: &str) -> String {
    let mut client = server.connect().await;
    client.send(request).await;
    String::from_utf8(client.rest().await).unwrap()
}

fn refused(server: &Server, reason: Refused) -> u64 {
    server.state.metrics.refused(reason)
}

#[tokio::test]
async fn tls_is_spoken_in_the_versions_and_suites_that_were_asked_for() {
    let authority = Authority::new("one");
    let pair = authority.pair("exporter.example.net");
    let server = Server::start(LIMITS, 0).await;
    let (peer, suite) = (Peer::new(&authority), "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    let of = |versions| TlsOptions { versions, ..options(&pair) };
    let (old, new) = (TlsVersion::Tls12, TlsVersion::Tls13);
    for (options, takes_12, takes_13) in [
        (of((old, new)), true, true),
        (of((old, old)), true, false),
        (of((new, new)), false, true),
        (
            TlsOptions { cipher_suites: vec![CipherSuite::named(suite).unwrap()], ..of((old, new)) },
            true,
            true,
        ),
        // A suite that goes with another kind of key.
        (
            TlsOptions {
                cipher_suites: vec![CipherSuite::named("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256").unwrap()],
                ..of((old, new))
            },
            false,
            true,
        ),
        (TlsOptions { curves: vec![Curve::named("CurveP384").unwrap()], ..of((old, new)) }, true, true),
    ] {
        server.state.web().set(with_tls(options));
        for (version, takes) in [(&TLS12, takes_12), (&TLS13, takes_13)] {
            let asked = peer.speaking(version).ask(server.address).await;
            assert_eq!(asked.is_ok(), takes, "{version:?}: {asked:?}");
            if let Ok(answer) = asked {
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            }
        }
    }
    // One suite and one group, and no other.
    server.state.web().set(with_tls(TlsOptions {
        cipher_suites: vec![CipherSuite::named(suite).unwrap()],
        curves: vec![Curve::named("CurveP384").unwrap()],
        ..of((old, old))
    }));
    let stream = peer.connect(server.address).await.unwrap();
    let (_, connection) = stream.get_ref();
    assert_eq!(format!("{:?}", connection.negotiated_cipher_suite().unwrap().suite()), suite);
    assert_eq!(format!("{:?}", connection.negotiated_key_exchange_group().unwrap().name()), "secp384r1");
    let no_suite = TlsOptions {
        cipher_suites: vec![CipherSuite::named("TLS_AES_128_GCM_SHA256").unwrap()],
        ..of((old, old))
    };
    assert_eq!(Tls::new(no_suite).unwrap_err(), TlsError::NoSuite);
}

#[tokio::test]
async fn clients_show_what_is_asked_of_them() {
    let (authority, stranger) = (Authority::new("one"), Authority::new("two"));
    let pair = authority.pair("exporter.example.net");
    let server = Server::start(LIMITS, 0).await;
    let nobody = Peer::new(&authority);
    let member = nobody.showing(&authority.pair("prometheus.example.net"));
    let other = nobody.showing(&authority.pair("other.example.net"));
    let foreign = nobody.showing(&stranger.pair("prometheus.example.net"));
    let names = || Some(vec!["prometheus.example.net".to_owned()]);
    // Whether nobody, a member, another member and a stranger get in.
    for (clients, allowed_sans, expected) in [
        (ClientAuth::None, None, [true, true, true, true]),
        (ClientAuth::Request, None, [true, true, true, true]),
        (ClientAuth::Require, None, [false, true, true, true]),
        (ClientAuth::Require, names(), [false, true, false, true]),
        (ClientAuth::VerifyIfGiven(authority.pem()), None, [true, true, true, false]),
        (ClientAuth::RequireAndVerify(authority.pem()), None, [false, true, true, false]),
        (ClientAuth::RequireAndVerify(authority.pem()), names(), [false, true, false, false]),
        (ClientAuth::RequireAndVerify(authority.pem()), Some(Vec::new()), [false, false, false, false]),
    ] {
        let settings = with_tls(TlsOptions { clients: clients.clone(), allowed_sans, ..options(&pair) });
        assert_eq!(settings.authenticates(), matches!(clients, ClientAuth::RequireAndVerify(_)));
        server.state.web().set(settings);
        for version in [&TLS12, &TLS13] {
            let mut seen = Vec::new();
            for peer in [&nobody, &member, &other, &foreign] {
                seen.push(peer.speaking(version).ask(server.address).await.is_ok());
            }
            assert_eq!(seen, expected, "{clients:?} {version:?}");
        }
    }
    assert!(refused(&server, Refused::Handshake) > 0);
}

#[test]
fn a_pair_that_is_none_is_refused() {
    let authority = Authority::new("one");
    let (one, other) = (authority.pair("exporter.example.net"), authority.pair("exporter.example.net"));
    let error = |options| Tls::new(options).unwrap_err().to_string();
    let mixed = Pair { key: other.key, ..one.clone() };
    assert_eq!(error(options(&mixed)), "the key's file holds the key of another certificate");
    let none = Pair { certificate: String::new(), ..one.clone() };
    assert_eq!(error(options(&none)), "the certificate's file holds no certificate");
    let clients = ClientAuth::RequireAndVerify(b"nobody".to_vec());
    let untrusting = TlsOptions { clients, ..options(&one) };
    assert_eq!(error(untrusting), "the file of authorities holds no certificate");
}

#[tokio::test]
async fn who_speaks_plain_http_is_told_and_may_ask_for_the_health_on_this_machine() {
    let authority = Authority::new("one");
    let server = Server::start(LIMITS, 0).await;
    server.state.web().set(with_tls(options(&authority.pair("exporter.example.net"))));
    let answer = plain(&server, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nthis port speaks TLS: use https\n"), "{answer}");
    let answer = plain(&server, "GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("healthy\n"), "{answer}");
    assert_eq!(refused(&server, Refused::Handshake), 2);
}

#[tokio::test]
async fn a_handshake_has_its_time_and_a_shutdown_does_not_wait_for_it() {
    let authority = Authority::new("one");
    let settings = with_tls(options(&authority.pair("exporter.example.net")));
    let server = Server::start(Limits { handshake: Duration::from_millis(100), ..LIMITS }, 0).await;
    server.state.web().set(settings.clone());
    let (mut silent, mut halting) = (server.connect().await, server.connect().await);
    halting.0.write_all(&[HANDSHAKE, 3, 1]).await.unwrap();
    assert_eq!((silent.rest().await, halting.rest().await), (Vec::new(), Vec::new()));
    assert_eq!(refused(&server, Refused::Handshake), 2);

    let limits = Limits { handshake: SOON * 10, finish: SOON * 10, ..LIMITS };
    let mut server = Server::start(limits, 0).await;
    server.state.web().set(settings);
    let mut silent = server.connect().await;
    silent.0.write_all(&[HANDSHAKE]).await.unwrap();
    server.shutdown.cancel();
    server.ended().await;
    assert_eq!(silent.rest().await, b"");
}

#[tokio::test]
async fn a_reader_that_stops_loses_its_connection_under_tls_too() {
    let authority = Authority::new("one");
    let limits = Limits { write_stall: Duration::from_millis(100), ..LIMITS };
    let server = Server::start(limits, LARGE).await;
    server.state.web().set(with_tls(options(&authority.pair("exporter.example.net"))));
    let mut stream = Peer::new(&authority).connect(server.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let gone = async {
        while refused(&server, Refused::SlowReader) == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, gone).await.expect("the reader is counted");
    assert_eq!(server.state.scrapes.available_permits(), 64, "its page is gone");
    let mut rest = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut rest)).await.expect("the server closes");
    assert!(rest.len() < LARGE);
}

#[tokio::test]
async fn a_large_page_comes_whole_through_tls() {
    let authority = Authority::new("one");
    let server = Server::start(LIMITS, LARGE).await;
    server.state.web().set(with_tls(options(&authority.pair("exporter.example.net"))));
    let mut stream = Peer::new(&authority).connect(server.address).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = timeout(SOON, exchange(&mut stream, request)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(content_length(&head.replace('\r', "")), body.len());
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate_and_the_next_one_has_the_new_one() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let server = Server::start(LIMITS, 0).await;
    let web = server.state.web();
    assert!(web.set(with_tls(options(&old.pair("exporter.example.net")))));
    let mut stream = Peer::new(&old).connect(server.address).await.unwrap();
    let request = b"GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = [0; 8];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();

    let settings = with_tls(options(&new.pair("exporter.example.net")));
    assert!(web.set(settings.clone()));
    assert!(!web.set(settings), "the same again is no change");
    stream.write_all(request).await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(String::from_utf8(rest).unwrap().contains("connection: close"));
    assert!(Peer::new(&new).ask(server.address).await.is_ok());
    assert!(Peer::new(&old).ask(server.address).await.is_err());
    // And back to plain HTTP.
    web.set(WebSettings::default());
    assert!(Peer::new(&new).ask(server.address).await.is_err());
    let answer = plain(&server, "GET /-/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

fn with_users() -> WebSettings {
    let hash = bcrypt::hash_with_salt("pa:ss", 4, *b"salt of the test").unwrap().to_string();
    let users = BTreeMap::from([("ann".to_owned(), PasswordHash::new(&hash).unwrap())]);
    WebSettings { users, ..WebSettings::default() }
}

#[tokio::test]
async fn t57_nothing_but_the_local_health_is_told_without_a_login() {
    let server = Server::start(LIMITS, 0).await;
    server.state.web().set(with_users());
    let ask = async |method: &str, path: &str, login: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{login}\r\n");
        plain(&server, &head).await
    };
    let right = "authorization: Basic YW5uOnBhOnNz\r\n";
    for path in ["/", "/metrics", "/status", "/sd", "/-/ready", "/-/config/items", "/nothing"] {
        let answer = ask("GET", path, "").await;
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.ends_with("unauthorized\n"), "{answer}");
        assert!(answer.contains("www-authenticate: Basic\r\n"), "{answer}");
        assert!(ask("GET", path, "authorization: Basic YW5uOm5v\r\n").await.starts_with("HTTP/1.1 401 "));
        assert!(!ask("GET", path, right).await.starts_with("HTTP/1.1 401 "), "{path}");
    }
    assert!(ask("POST", "/-/reload", "").await.starts_with("HTTP/1.1 401 "));
    assert!(ask("POST", "/-/reload", right).await.starts_with("HTTP/1.1 403 "), "it is off");
    let head = ask("HEAD", "/metrics", "").await;
    assert!(head.starts_with("HTTP/1.1 401 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(ask("GET", "/-/healthy", "").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(refused(&server, Refused::Login), 16);
}

#[tokio::test]
async fn t57_a_known_user_scrapes_beside_a_hundred_wrong_tries() {
    let server = Server::start(LIMITS, 0).await;
    server.state.web().set(with_users());
    let ask = |login: &'static str| {
        let address = server.address;
        async move {
            let mut client = Client(TcpStream::connect(address).await.unwrap());
            let head = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{login}\r\n");
            client.send(&head).await;
            String::from_utf8(client.rest().await).unwrap()
        }
    };
    let right = "authorization: Basic YW5uOnBhOnNz\r\n";
    assert!(ask(right).await.starts_with("HTTP/1.1 200 "));
    let mut tries = JoinSet::new();
    for _ in 0..100 {
        tries.spawn(ask("authorization: Basic YW5uOm5v\r\n"));
    }
    for _ in 0..10 {
        assert!(ask(right).await.starts_with("HTTP/1.1 200 "));
    }
    while let Some(answer) = tries.join_next().await {
        let answer = answer.unwrap();
        assert!(["HTTP/1.1 401 ", "HTTP/1.1 503 "].iter().any(|start| answer.starts_with(start)), "{answer}");
    }
    assert_eq!(refused(&server, Refused::Login) + refused(&server, Refused::LoginsBusy), 100);
}

#[tokio::test]
async fn headers_go_with_each_answer_and_requests_beyond_the_limit_are_refused() {
    let server = Server::start(LIMITS, 0).await;
    let header = |name, value| ExtraHeader::new(name, value).unwrap();
    server.state.web().set(WebSettings {
        headers: vec![
            header("Strict-Transport-Security", "max-age=31536000"),
            header("Content-Security-Policy", "default-src 'none'"),
        ],
        rate_limit: Some(RateLimit { interval: Duration::from_hours(1), burst: 3 }),
        ..WebSettings::default()
    });
    let ask = async |path| {
        plain(&server, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    };
    for (path, status) in [("/metrics", 200), ("/nothing", 404), ("/status", 200), ("/metrics", 429)] {
        let answer = ask(path).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{answer}");
        // The page for people has one of its own, which lets its own style pass.
        assert_eq!(answer.contains("default-src 'none'\r\n"), path != "/status", "{answer}");
        assert_eq!(answer.matches("content-security-policy: ").count(), 1, "{answer}");
    }
    assert!(ask("/-/healthy").await.starts_with("HTTP/1.1 200 "), "whoever watches from here may go on");
    assert_eq!(refused(&server, Refused::RateLimit), 1);
    assert!(ExtraHeader::new("X-Frame-Options", "de\nny").is_none());
}
