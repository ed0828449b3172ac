//! Sessions as servers of all kinds let them begin: who they say they are, and which guards they take.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{sync::Arc, time::Duration};

use fleet_collector::{
    Address, Failure, Password, Reason, Secret, SessionSettings, Target, Tls, TlsMode,
    certificates::Certificates,
    driver::{Driver, Flavour, Session},
    login::Login,
    mysql::MySql,
};
use fleetsim::{Answer, Preset, Script, ServerError, Sim};
use tokio::{sync::Semaphore, time::Instant};

const UNKNOWN_VARIABLE: u16 = 1193;
const SYNTAX: u16 = 1064;
/// A password that has expired: the login is let in, and then refused everything.
const MUST_CHANGE_PASSWORD: u16 = 1820;

async fn connect(sim: &Sim) -> Result<Box<dyn Session>, Failure> {
    let target = Target {
        name: "db1".into(),
        group: "g".into(),
        address: Address::Tcp { host: "127.0.0.1".to_owned(), port: sim.port() },
        user: None,
        password: Password::None,
        database: None,
        tls: Tls { mode: TlsMode::Disabled, ca: None, identity: None },
        labels: Vec::new(),
        max_connections: 3,
        kill: true,
        session: SessionSettings::default(),
    };
    let login = Login {
        user: "monitor".to_owned(),
        password: Secret::new(""),
        certificates: Certificates::default(),
    };
    let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
    MySql.connect(&target, &login, permit, Instant::now() + Duration::from_secs(10)).await
}

/// Refuses any question that has one of these names in it.
fn ignorant_of(script: Script, names: &'static [&str]) -> Script {
    script.first(|statement| {
        let asks = |name: &&str| statement.text.starts_with("SELECT") && statement.text.contains(*name);
        names.iter().any(asks).then(|| Answer::error(UNKNOWN_VARIABLE))
    })
}

#[tokio::test]
async fn each_known_server_lets_a_session_begin_with_two_statements_and_every_guard() {
    for preset in Preset::ALL {
        let sim = Sim::start(Script::new(preset).variable("read_only", "1")).await.unwrap();
        let session = connect(&sim).await.unwrap();
        let server = session.server();
        let flavour = if preset.is_mariadb() { Flavour::MariaDb } else { Flavour::MySql };
        assert_eq!((server.flavour, server.role()), (flavour, "read_only"), "{preset:?}");
        assert_eq!(server.guards_refused(), "", "{preset:?}");
        assert!(server.is_known() && session.id() > 0, "{preset:?}: {server:?}");
        let statements = sim.statements();
        assert!(
            matches!(&*statements, [who, set] if who.contains("CONNECTION_ID()") && set.starts_with("SET SESSION ")),
            "{statements:#?}"
        );
    }
}

#[tokio::test]
async fn t25_odd_version_texts_fail_nothing() {
    let long = "9".repeat(300);
    for (version, comment, flavour) in [
        ("5.5.5-10.11.6-MariaDB", "", Flavour::MariaDb),
        ("10.11.6", "mariadb.org binary distribution", Flavour::MariaDb),
        ("", "", Flavour::MySql),
        ("99.0", "Whoever", Flavour::MySql),
        ("2.5.5 (ProxySQL)", "(ProxySQL)", Flavour::MySql),
        ("8.0.11-TiDB-v7.5.0", "TiDB Server (Apache License 2.0)", Flavour::MySql),
        ("\u{1b}[31mred\n", "\"", Flavour::MySql),
        (&long, &long, Flavour::MySql),
    ] {
        let script = Script::new(Preset::MySql84).version(version).variable("version_comment", comment);
        let sim = Sim::start(script).await.unwrap();
        let session = connect(&sim).await.unwrap();
        assert_eq!((session.server().flavour, &*session.server().version), (flavour, version));
    }
}

#[tokio::test]
async fn t26_a_guard_that_is_refused_is_left_out_and_the_others_are_set() {
    async fn check(script: Script, refused: &str, set: &[&str]) {
        let sim = Sim::start(script).await.unwrap();
        let session = connect(&sim).await.unwrap();
        assert_eq!(session.server().guards_refused(), refused);
        let statements = sim.statements();
        for statement in set {
            assert!(statements.iter().any(|sent| sent == statement), "{statement} is not in {statements:#?}");
        }
        for refused in &session.server().refused {
            assert!(refused.error.contains("(error 1"), "{refused:?}");
        }
    }
    let each =
        ["SET SESSION autocommit = 1", "SET SESSION lock_wait_timeout = 2", "SET SESSION wait_timeout = 360"];
    let mysql = || Script::new(Preset::MySql84);
    check(mysql().refuse_set("innodb_lock_wait", UNKNOWN_VARIABLE), "innodb_lock_wait_timeout", &each).await;
    let two = mysql().refuse_set(" wait_timeout", UNKNOWN_VARIABLE).refuse_set("autocommit", SYNTAX);
    check(two, "autocommit wait_timeout", &["SET SESSION innodb_lock_wait_timeout = 2"]).await;
    // All of it: a proxy that takes no SET at all.
    let none = mysql().refuse_set("set", SYNTAX);
    check(none, "read_only autocommit lock_wait_timeout innodb_lock_wait_timeout wait_timeout", &[]).await;
    // The name of before 8.0, and that of the standard.
    let old = || mysql().refuse_set("transaction_read_only", UNKNOWN_VARIABLE);
    check(old(), "", &["SET SESSION tx_read_only = 1"]).await;
    let neither = old().refuse_set("tx_read_only", UNKNOWN_VARIABLE);
    check(neither, "", &["SET SESSION TRANSACTION READ ONLY"]).await;
    let mariadb = Script::new(Preset::MariaDb118).refuse_set("tx_read_only", UNKNOWN_VARIABLE);
    check(mariadb, "", &["SET SESSION transaction_read_only = 1"]).await;
}

#[tokio::test]
async fn a_server_that_knows_no_such_variable_says_the_rest() {
    let proxy = || Script::new(Preset::ProxySql);
    let sim = Sim::start(ignorant_of(proxy(), &["@@hostname", "@@read_only"])).await.unwrap();
    let session = connect(&sim).await.unwrap();
    let server = session.server();
    assert_eq!(
        (&*server.version, &*server.hostname, &*server.server_id, server.role()),
        ("8.0.41", "", "1", "")
    );
    assert!(session.id() > 0 && !server.is_known());

    // Nothing but the session's number, or nothing but the version.
    let sim = Sim::start(ignorant_of(proxy(), &["@@"])).await.unwrap();
    let session = connect(&sim).await.unwrap();
    assert_eq!((&*session.server().version, session.server().flavour), ("", Flavour::MySql));
    assert!(session.id() > 0 && !session.server().is_known());
    let sim = Sim::start(ignorant_of(proxy(), &["CONNECTION_ID"])).await.unwrap();
    let session = connect(&sim).await.unwrap();
    assert_eq!((&*session.server().version, session.id()), ("8.0.41", 0));
}

#[tokio::test]
async fn a_server_that_answers_nothing_is_no_session_and_for_its_own_reason() {
    for (code, reason) in [(MUST_CHANGE_PASSWORD, Reason::Auth), (1105, Reason::ServerError)] {
        let error = ServerError::new(code, "not to you");
        let sim = Sim::start(Script::new(Preset::MySql84).on("", error)).await.unwrap();
        let failure = connect(&sim).await.unwrap_err();
        assert_eq!((failure.reason, failure.code), (reason, Some(code)));
        // Not the whole list, where the first words say it all.
        assert_eq!(sim.statements().len(), 3, "{:#?}", sim.statements());
    }
}
