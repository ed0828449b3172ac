//! T49: what may be wrong with a file that holds a password.

use std::{fs, os::unix::fs::PermissionsExt as _};

use fleetsim::Sim;

use super::healthy;
use crate::support::{
    bystander::Bystander,
    exporter::{Exporter, SOON, command, run},
    page::Page,
};

/// The targets, each with a file of its own as its password.
const FILES: [(&str, &[u8]); 5] = [
    ("exact", b"word"),
    ("ended", b"word\r\n"),
    ("ended_twice", b"word\n\n"),
    ("empty", b"\n"),
    ("open", b"word"),
];

#[tokio::test]
async fn t49_a_secret_file_is_stripped_of_one_line_end_and_is_neither_empty_nor_a_folder() {
    let sim = Sim::start(healthy().account("monitor", "word")).await.unwrap();
    let bystander = Bystander::start().await;
    let targets = FILES.iter().map(|(name, _)| *name).chain(["folder"]);
    let targets: Vec<_> = targets.map(|name| format!("{name} = \"{}\"", sim.address())).collect();
    let config = format!(
        "[groups.g]\nuser = \"monitor\"\npassword_file = \"secret-{{target}}\"\ntargets = {{ {} }}\n\
         [queries.asks]\ngroups = [\"g\"]\nsql = \"select n from asked\"\ninterval = \"1s\"\ntimeout = \"1s\"\n\
         [queries.asks.metrics.asks]\ntype = \"gauge\"\nhelp = \"n\"\nvalue = \"n\"\n{}",
        targets.join(", "),
        bystander.config()
    );
    let exporter = Exporter::start_with(&config, |_, folder| {
        for (name, content) in FILES {
            let path = folder.join(format!("secret-{name}"));
            fs::write(&path, content).unwrap();
            let mode = if name == "open" { 0o644 } else { 0o600 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(folder.join("secret-folder")).unwrap();
    })
    .await;

    let reasons = [("ended_twice", "auth"), ("empty", "credentials"), ("folder", "credentials")];
    let settled = |page: &Page| {
        ["exact", "ended", "open"].iter().all(|target| page.is_up(target))
            && reasons.iter().all(|(target, reason)| page.reason(target) == Some(reason))
    };
    exporter.wait_until("each is up or says why not", SOON, settled).await;
    let warned = exporter.log().with("others may read the password");
    assert!(warned.len() == 1 && warned[0].contains("secret-open"), "{warned:?}");
    let log = exporter.log().text();
    assert!(log.contains("secret-empty: is empty") && log.contains("directory"), "{log}");

    let mut check = command();
    check.arg("--check").arg("--config").arg(exporter.folder().join("fleet.toml"));
    let (code, _, stderr) = run(check).await;
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("it is a directory") && stderr.contains("warning: others may read"), "{stderr}");

    bystander.assert_untroubled(&exporter).await;
    exporter.stop(&[]).await;
}
