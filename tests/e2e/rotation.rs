//! Secrets that rotate while the exporter runs: the next login takes the new one, and nobody else notices.

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON, write_private},
    on_both_servers, quoted,
    servers::Server,
};

on_both_servers!(a_password_changed_at_the_server_and_in_the_file_is_taken_without_a_restart);

const QUERY: &str = "[queries.one]\nsql = \"select 1 as n\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
    [queries.one.metrics.one]\ntype = \"gauge\"\nhelp = \"one\"\nvalue = \"n\"\n";

async fn a_password_changed_at_the_server_and_in_the_file_is_taken_without_a_restart(server: &Server) {
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
