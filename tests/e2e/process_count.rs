//! The smallest example, `configs/process-count.toml`, on a real server: the lines that the issue asks for.

use std::fs;

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    page::Page,
    promtool, quoted, repository, servers,
};

#[tokio::test]
async fn the_classic_pair_of_queries_gives_the_lines_it_promises() {
    let server = servers::mariadb();
    let account = Account::new(server, "process_count").await;
    let user = &account.user;
    // The file itself, with this test's account, server and pace.
    let config = fs::read_to_string(repository().join("configs/process-count.toml")).unwrap();
    let config = replace(&config, "user = \"exporter\"", &format!("user = {}", quoted(user)));
    let config = replace(&config, "\"127.0.0.1:3306\"", &quoted(&account.address));
    let config = replace(
        &config,
        "target_label = \"\"\n",
        "target_label = \"\"\ninterval = \"2s\"\ntimeout = \"1s\"\n",
    );
    let exporter = Exporter::start_with(&config, |command, _| {
        command.env("EXPORTER_PASSWORD", &account.password);
    })
    .await;

    let by_host = |page: &Page| page.value("query_exporter_process_count_by_host", &[("user", user)]);
    let by_user = |page: &Page| page.value("query_exporter_process_count_by_user", &[("user", user)]);
    let page = exporter
        .wait_until("both queries have run", SOON, |page| by_host(page).is_some() && by_user(page).is_some())
        .await;

    for line in [
        "# HELP query_exporter_process_count_by_host process count by host",
        "# TYPE query_exporter_process_count_by_host gauge",
        "# HELP query_exporter_process_count_by_user process count by user",
        "# TYPE query_exporter_process_count_by_user gauge",
    ] {
        assert!(page.has_line(line), "no {line:?} in\n{}", page.text);
    }
    // The order of labels is free; which there are is not.
    let has_either = |lines: [String; 2]| lines.iter().any(|line| page.has_line(line));
    let lines = [
        format!("query_exporter_process_count_by_host{{user=\"{user}\",host=\"localhost\"}} 1"),
        format!("query_exporter_process_count_by_host{{host=\"localhost\",user=\"{user}\"}} 1"),
    ];
    assert!(has_either(lines), "{:#?}", page.lines("query_exporter_process_count_by_host"));
    let line = format!("query_exporter_process_count_by_user{{user=\"{user}\"}} 1");
    assert!(page.has_line(&line), "{:#?}", page.lines("query_exporter_process_count_by_user"));
    assert_eq!(page.series("query_exporter_build_info", &[]).len(), 1);
    promtool::assert_valid(&page);

    exporter.stop(&[(server, &account)]).await;
}

/// Replaces what is there exactly once.
fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
    text.replace(from, to)
}
