//! A browser without a window.

use std::{env, time::Duration};

use super::{
    not_tested,
    process::{Process, command},
};

/// What Chromium shows of a page that is plain text; none where there is no Chromium.
pub(crate) async fn shows(url: &str) -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut programs = env::split_paths(&path).map(|folder| folder.join("chromium"));
    let Some(program) = programs.find(|program| program.exists()) else {
        not_tested("there is no chromium; Debian's package of that name brings it");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(program);
    // It sees nothing but our own page, and its sandbox wants more than a container has.
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", folder.path().display())).env("HOME", folder.path()).arg(url);
    let mut process = Process::start(command);
    let status = process.ended(Duration::from_secs(60)).await;
    let html = process.stdout.text();
    assert!(status.success(), "{html}{}", process.stderr.text());
    let (_, text) =
        html.split_once("<pre").and_then(|(_, pre)| pre.split_once('>')).expect("it shows a text");
    let (text, _) = text.rsplit_once("</pre>").unwrap();
    Some(text.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}").replace("&amp;", "&"))
}
