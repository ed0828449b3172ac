//! Who gets in, how, and what is seen of the attempt.

use std::sync::Arc;

use fleetsim::{
    Event, LoginSeen, Plugin, Preset, Script, Sim,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use sqlx::{
    ConnectOptions as _,
    mysql::{MySqlConnectOptions, MySqlSslMode},
};

use crate::client::{ask, code, connect, options, row, start};

async fn last_login(sim: &Sim) -> LoginSeen {
    let is_login = |event: &Event| matches!(event, Event::Login(_));
    sim.wait_for("a login", |record| is_login(&record.event)).await;
    match sim.records().into_iter().rfind(|record| is_login(&record.event)).unwrap().event {
        Event::Login(login) => login,
        other => panic!("{other:?}"),
    }
}

fn tls() -> (Arc<ServerConfig>, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(cert.der().to_vec())], key)
        .unwrap();
    (Arc::new(config), cert.pem())
}

fn encrypted(sim: &Sim) -> MySqlConnectOptions {
    options(sim).ssl_mode(MySqlSslMode::Required)
}

#[tokio::test]
async fn each_preset_lets_in_and_says_who_it_is() {
    for preset in Preset::ALL {
        let sim = start(Script::new(preset).account("monitor", "secret")).await;
        let mut client = connect(&sim).await;
        let who = "SELECT CONNECTION_ID(), @@hostname, @@port, @@server_id, @@read_only";
        let port = sim.port().to_string();
        let seen = ask(&mut client, who).await.unwrap();
        assert_eq!(seen, [row(["1", "simulated", &port, "1", "0"])], "{preset:?}");
        let seen = ask(&mut client, "select @@version, @@version_comment").await.unwrap();
        let says_mariadb = seen[0].iter().flatten().any(|cell| cell.contains("MariaDB"));
        assert_eq!(says_mariadb, preset.is_mariadb());
        assert_eq!(code(ask(&mut client, "select @@nothing").await), 1193);
        assert_eq!(code(ask(&mut client, "select 1 from nowhere").await), 1105);
        assert_eq!(code(ask(&mut client, " ; ").await), 1065);
        let limit = if preset.is_mariadb() { "max_execution_time" } else { "max_statement_time" };
        ask(&mut client, "SET SESSION autocommit = 1, wait_timeout = 360").await.unwrap();
        assert_eq!(code(ask(&mut client, &format!("SET SESSION {limit} = 1")).await), 1193);
    }
}

#[tokio::test]
async fn a_server_says_of_itself_what_it_is_told_to() {
    for version in ["", "5.5.5-10.11.6-MariaDB", "99.0", "no version at all"] {
        let script = Script::default().version(version).hostname("db7").variable("server_id", "7");
        let sim = start(script.variable("read_only", "1")).await;
        let mut client = connect(&sim).await;
        let seen =
            ask(&mut client, "select @@version, @@hostname, @@server_id, @@global.read_only as r").await;
        assert_eq!(seen.unwrap(), [row([version, "db7", "7", "1"])]);
    }
}

#[tokio::test]
async fn a_password_is_checked_by_the_accounts_plugin_whatever_the_greeting_names() {
    let plugins = [Plugin::Native, Plugin::CachingSha2];
    for (greeted, own) in plugins.iter().flat_map(|greeted| plugins.iter().map(move |own| (greeted, own))) {
        let script = Script::default().plugin(greeted.clone()).account_with("monitor", "secret", own.clone());
        let sim = start(script).await;
        connect(&sim).await;
        assert_eq!(code(options(&sim).password("other").connect().await), 1045, "{greeted:?} {own:?}");
        assert_eq!(code(options(&sim).username("stranger").connect().await), 1045);
        assert_eq!(code(options(&sim).password("").connect().await), 1045);
        let counts = sim.counts();
        assert_eq!((counts.logins, counts.refused), (4, 3));
    }
}

#[tokio::test]
async fn a_login_is_refused_in_the_servers_words() {
    for error in [1045, 1130, 1203, 1226, 1862, 3118, 4151] {
        let sim = start(Script::default().login_error(error)).await;
        assert_eq!(code(options(&sim).connect().await), error);
        let login = last_login(&sim).await;
        assert_eq!((login.refused, login.user.as_str(), login.password), (Some(error), "monitor", None));
    }
}

#[tokio::test]
async fn a_password_that_is_sent_in_full_is_seen() {
    // As the greeting has it, this client sends it without a question.
    let sim = start(Script::default().plugin(Plugin::Clear)).await;
    connect(&sim).await;
    assert_eq!(last_login(&sim).await.password.as_deref(), Some("secret"));

    let sim = start(Script::default().switch_to(Plugin::Clear).account("monitor", "secret")).await;
    options(&sim).connect().await.unwrap_err();
    assert_eq!(sim.counts().logins, 0, "the client did not go on");
    options(&sim).enable_cleartext_plugin(true).connect().await.unwrap();
    let login = last_login(&sim).await;
    assert_eq!((login.plugin.as_str(), login.refused), ("mysql_clear_password", None));
    assert_eq!(login.password.as_deref(), Some("secret"));

    let sim = start(Script::default().plugin(Plugin::Other("client_ed25519".to_owned()))).await;
    options(&sim).connect().await.unwrap_err();
}

#[tokio::test]
async fn a_connection_is_encrypted_before_the_login() {
    let (config, ca) = tls();
    let script = Script::new(Preset::MySql84).account("monitor", "secret").tls(config);
    let sim = start(script.clone()).await;
    let mut client = encrypted(&sim).database("shop").connect().await.unwrap();
    assert_eq!(ask(&mut client, "select 1").await.unwrap(), [row(["1"])]);
    let login = last_login(&sim).await;
    assert_eq!((login.tls, login.database.as_deref(), login.password), (true, Some("shop"), None));
    connect(&sim).await;
    assert!(!last_login(&sim).await.tls);
    let verified = encrypted(&sim).ssl_mode(MySqlSslMode::VerifyIdentity).host("localhost");
    verified.clone().ssl_ca_from_pem(ca.into_bytes()).connect().await.unwrap();
    assert!(matches!(verified.connect().await, Err(sqlx::Error::Tls(_) | sqlx::Error::Io(_))));

    let sim = start(script.full_authentication()).await;
    encrypted(&sim).connect().await.unwrap();
    assert_eq!(last_login(&sim).await.password.as_deref(), Some("secret"));
    // Without TLS the client would have to trust a key that it does not know.
    let error = options(&sim).connect().await.unwrap_err();
    assert!(matches!(error, sqlx::Error::Configuration(_)), "{error}");
}

#[tokio::test]
async fn a_server_with_old_tls_or_none_is_known_as_such() {
    let sim = start(Script::default().tls_too_old()).await;
    let error = encrypted(&sim).connect().await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("protocolversion"), "{error}");
    let sim = start(Script::default()).await;
    let error = encrypted(&sim).connect().await.unwrap_err();
    assert!(matches!(error, sqlx::Error::Tls(_)), "{error}");
    assert_eq!(sim.counts().logins, 0);
}
