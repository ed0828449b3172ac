//! Secrets that rotate while the exporter runs: the next login takes the new one, and nobody else notices.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON, write_private},
    on_both_servers, quoted,
    servers::{self, Server},
};

on_both_servers!(t48_a_password_changed_at_the_server_and_in_the_file_is_taken_without_a_restart);

const QUERY: &str = "[queries.one]\nsql = \"select 1 as n\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
    [queries.one.metrics.one]\ntype = \"gauge\"\nhelp = \"one\"\nvalue = \"n\"\n";

async fn t48_a_password_changed_at_the_server_and_in_the_file_is_taken_without_a_restart(server: &Server) {
    let mut admin = server.admin().await;
    let rotating = Account::new(server, "rotates").await;
    let steady = Account::new(server, "steady").await;
    let group = format!(
        "[groups.rotating]\nuser = {}\npassword_file = \"secret\"\ntargets = {{ rotating = {} }}\n\
         [groups.late]\nuser = {}\npassword_file = \"late\"\ntargets = {{ late = {} }}\n",
        quoted(&rotating.user),
        quoted(&rotating.address),
        quoted(&rotating.user),
        quoted(&rotating.address),
    );
    let config = steady.group("steady", &["steady"]) + &group + QUERY;
    let exporter = Exporter::start_with(&config, |_, folder| {
        write_private(&folder.join("secret"), b"e2e\n");
    })
    .await;
    let secret = exporter.folder().join("secret");
    let page = exporter
        .wait_until("those with a secret are up, the one without says so", SOON, |page| {
            page.is_up("steady") && page.is_up("rotating") && page.reason("late") == Some("credentials")
        })
        .await;
    assert_eq!(page.of("late", "query_exporter_connects_total"), 0, "no secret, no connect");

    // At the server first: sessions that are open go on, so they are ended, as a failover would.
    admin.run(&format!("alter user '{}'@'%' identified by 'second'", rotating.user)).await;
    for session in rotating.sessions(&mut admin).await {
        admin.run(&format!("kill {}", session.id)).await;
    }
    let page = exporter
        .wait_until("the old password is refused", SOON, |page| page.reason("rotating") == Some("auth"))
        .await;
    assert!(!page.is_up("rotating"));
    let tries = page.of("rotating", "query_exporter_connects_total");

    // As what rotates secrets does it: written beside, and put in place at once.
    write_private(&secret.with_extension("new"), b"second\n");
    std::fs::rename(secret.with_extension("new"), &secret).unwrap();
    let page = exporter.wait_until("the new one is taken", SOON, |page| page.is_up("rotating")).await;
    let tries = page.of("rotating", "query_exporter_connects_total") - tries;
    assert!(tries <= 20, "{tries} tries while the password was wrong");
    assert_eq!(page.reason("steady"), None);
    assert_eq!((page.runs("steady", "failure"), page.missed("steady")), (0, 0), "another group noticed");

    // The group whose secret was missing at the start.
    write_private(&exporter.folder().join("late"), b"second");
    exporter.wait_until("the late one is up", SOON * 3, |page| page.is_up("late")).await;
    exporter.stop(&[(server, &rotating), (server, &steady)]).await;
}

/// Puts a file in the place of another at once, as what rotates certificates does.
fn put(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    write_private(&beside, &fs::read(from).unwrap());
    fs::rename(&beside, to).unwrap();
}

/// The account logs in with a certificate. A pair that does not fit leaves the connections alone that are open, and the
/// reason on the page once one is opened; the right pair is taken by the next connect.
#[tokio::test]
async fn t48_a_certificate_changed_on_disk_is_taken_by_the_next_connect() {
    // It makes certificates for itself and for clients when it is set up.
    let Some(server) = servers::mysql() else { return };
    let mut admin = server.admin().await;
    let made = PathBuf::from(admin.rows("select @@datadir").await[0][0].clone().unwrap());
    let certified = Account::new(server, "certified").await;
    let steady = Account::new(server, "uncertified").await;
    admin.run(&format!("alter user '{}'@'%' require x509", certified.user)).await;
    let tls = "tls = { mode = \"verify_ca\", ca = \"ca.pem\", cert = \"cert.pem\", key = \"key.pem\" }\n";
    let config =
        certified.group("certified", &["certified"]) + tls + &steady.group("steady", &["steady"]) + QUERY;
    let pair = [("client-cert.pem", "cert.pem"), ("client-key.pem", "key.pem")];
    let exporter = Exporter::start_with(&config, |_, folder| {
        for (from, to) in [("ca.pem", "ca.pem"), pair[0], pair[1]] {
            put(&made.join(from), &folder.join(to));
        }
    })
    .await;
    exporter.wait_until("the certificate is good", SOON, |page| page.is_up("certified")).await;

    // The certificate is new, its key is not: half of a rotation, or all of a mistake.
    put(&made.join("server-cert.pem"), &exporter.folder().join("cert.pem"));
    let page = exporter.wait_for_runs("certified", 2, SOON).await;
    assert_eq!(page.runs("certified", "failure"), 0, "an open connection needs no certificate");
    for session in certified.sessions(&mut admin).await {
        admin.run(&format!("kill {}", session.id)).await;
    }
    let page = exporter.wait_until("the pair is refused", SOON, |page| !page.is_up("certified")).await;
    assert!(
        matches!(page.reason("certified"), Some("tls" | "credentials")),
        "{:?}",
        page.reason("certified")
    );

    // The other half: it is the server's own pair, which the same authority has signed.
    put(&made.join("server-key.pem"), &exporter.folder().join("key.pem"));
    exporter.wait_until("the new pair is taken", SOON, |page| page.is_up("certified")).await;

    // The authority is another one now.
    let stranger = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    write_private(&exporter.folder().join("ca.new"), stranger.as_bytes());
    fs::rename(exporter.folder().join("ca.new"), exporter.folder().join("ca.pem")).unwrap();
    for session in certified.sessions(&mut admin).await {
        admin.run(&format!("kill {}", session.id)).await;
    }
    exporter.wait_until("the authority is not known", SOON, |page| !page.is_up("certified")).await;
    put(&made.join("ca.pem"), &exporter.folder().join("ca.pem"));
    let page = exporter.wait_until("the authority is back", SOON, |page| page.is_up("certified")).await;
    assert_eq!((page.runs("steady", "failure"), page.missed("steady")), (0, 0), "another group noticed");
    exporter.stop(&[(server, &certified), (server, &steady)]).await;
}
