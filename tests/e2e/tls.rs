//! TLS and sockets with real servers: who proves what to whom, and what is said where it is not enough.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    on_both_servers, quoted,
    servers::{Admin, Kind, Server},
};

on_both_servers!(
    a_client_certificate_logs_in_where_it_is_required,
    a_server_proves_who_it_is_or_gets_no_password,
    a_socket_needs_no_tls,
);

const QUERY: &str = "[queries.q]\nsql = \"select 1 as n\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
    [queries.q.metrics.n]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n";

/// One word that the server says of itself.
async fn ask(admin: &mut Admin, variable: &str) -> String {
    admin.rows(&format!("select @@{variable}")).await[0][0].clone().unwrap()
}

/// The folder of the server's certificates, with its authority's key.
async fn certificates(server: &Server) -> PathBuf {
    PathBuf::from(ask(&mut server.admin().await, "datadir").await)
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes `name.pem` and `name.key` in this folder: a client's certificate from the authority in `authority`.
fn issue(folder: &Path, name: &str, authority: &Path) {
    let authority = authority.display();
    openssl(
        folder,
        &format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"),
    );
    std::fs::write(folder.join("v3"), "basicConstraints=CA:FALSE\n").unwrap();
    openssl(
        folder,
        &format!(
            "x509 -req -days 30 -in {name}.csr -CA {authority}/ca.pem -CAkey {authority}/ca-key.pem \
             -set_serial 4711 -extfile v3 -out {name}.pem"
        ),
    );
}

/// Makes `ca.pem` and `ca-key.pem` of another authority.
fn another_authority(folder: &Path) {
    openssl(
        folder,
        "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=another -keyout ca-key.pem -out ca.pem",
    );
}

async fn a_client_certificate_logs_in_where_it_is_required(server: &Server) {
    let account = Account::new(server, "x509").await;
    server.admin().await.run(&format!("alter user '{}'@'%' require x509", account.user)).await;
    let authority = certificates(server).await;
    let scratch = tempfile::tempdir().unwrap();
    another_authority(scratch.path());
    issue(scratch.path(), "ours", &authority);
    issue(scratch.path(), "theirs", scratch.path());
    // MySQL's own certificate names no host.
    let mode = if server.kind == Kind::MariaDb { "verify_identity" } else { "verify_ca" };
    let group = |name: &str, client: &str| {
        let client = if client.is_empty() {
            String::new()
        } else {
            let file = |end| quoted(&scratch.path().join(format!("{client}.{end}")).display().to_string());
            format!(", cert = {}, key = {}", file("pem"), file("key"))
        };
        let ca = quoted(&authority.join("ca.pem").display().to_string());
        account.group(name, &[name]) + &format!("tls = {{ mode = \"{mode}\", ca = {ca}{client} }}\n")
    };
    let config = group("with", "ours") + &group("without", "") + &group("other", "theirs") + QUERY;
    let exporter = Exporter::start(&config).await;
    let page = exporter
        .wait_until("all were tried", SOON, |page| {
            page.runs("with", "success") > 0
                && ["without", "other"].iter().all(|target| page.runs(target, "failure") > 0)
        })
        .await;
    assert_eq!(page.reason("with"), None);
    // The server does not say which of an account's conditions is not met.
    assert_eq!(page.reason("without"), Some("auth"));
    assert_eq!(page.reason("other"), Some("tls"));
    let log = exporter.stop_and_read(&[(server, &account)]).await;
    let words = "the server does not accept our client certificate";
    assert!(
        log.iter().any(|line| line.contains("target_name=\"other\"") && line.contains(words)),
        "{log:#?}"
    );
}

async fn a_server_proves_who_it_is_or_gets_no_password(server: &Server) {
    let account = Account::new(server, "proves").await;
    let authority = certificates(server).await;
    let scratch = tempfile::tempdir().unwrap();
    another_authority(scratch.path());
    let group = |name: &str, mode: &str, folder: &Path| {
        let ca = quoted(&folder.join("ca.pem").display().to_string());
        account.group(name, &[name]) + &format!("tls = {{ mode = \"{mode}\", ca = {ca} }}\n")
    };
    let config = group("well", "verify_ca", &authority)
        + &group("strict", "verify_identity", &authority)
        + &group("stranger", "verify_ca", scratch.path())
        + QUERY;
    let exporter = Exporter::start(&config).await;
    let tried = |page: &crate::support::page::Page| {
        page.runs("well", "success") > 0
            && page.runs("stranger", "failure") > 0
            && page.runs("strict", "success") + page.runs("strict", "failure") > 0
    };
    let page = exporter.wait_until("all were tried", SOON, tried).await;
    assert_eq!((page.reason("well"), page.reason("stranger")), (None, Some("tls")));
    let named = server.kind == Kind::MariaDb;
    assert_eq!(page.reason("strict"), if named { None } else { Some("tls") });
    let log = exporter.stop_and_read(&[(server, &account)]).await;
    let said = |target: &str, words: &str| {
        log.iter().any(|line| line.contains(&format!("target_name=\"{target}\"")) && line.contains(words))
    };
    assert!(said("stranger", "not from an authority in the file of tls.ca"), "{log:#?}");
    assert!(named || said("strict", "the server's certificate is not for 127.0.0.1"), "{log:#?}");
}

async fn a_socket_needs_no_tls(server: &Server) {
    let account = Account::new(server, "socket").await;
    let mut admin = server.admin().await;
    let socket = ask(&mut admin, "socket").await;
    let target =
        format!("db = {{ socket = {} }}, gone = {{ socket = \"/nowhere/mysqld.sock\" }}", quoted(&socket));
    // What the group says of TLS is for the network.
    let config = account.group_of("g", &target) + "tls = { mode = \"verify_identity\" }\n" + QUERY;
    let exporter = Exporter::start(&config).await;
    let page = exporter
        .wait_until("both were tried", SOON, |page| {
            page.runs("db", "success") > 1 && page.runs("gone", "failure") > 0
        })
        .await;
    assert_eq!((page.reason("db"), page.reason("gone")), (None, Some("refused")));
    assert_eq!(page.value("query_exporter_target_info", &[("target", "db"), ("tls", "disabled")]), Some(1.0));
    exporter.stop(&[(server, &account)]).await;
}
