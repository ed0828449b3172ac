//! Sessions as the configuration wants them, and what dates are worth in them.

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    on_both_servers,
    servers::Server,
};

on_both_servers!(a_session_is_set_as_the_configuration_says_and_its_dates_are_numbers);

const QUERY: &str = r#"
[queries.asks]
interval = "1s"
timeout = "1s"
[[queries.asks.variants]]
when = { flavour = "mariadb" }
sql = "select @@time_zone as zone, @@tx_isolation as level, @@sql_mode as mode, cast('2024-02-29 12:34:56' as datetime) as at"
[[queries.asks.variants]]
when = { flavour = "mysql" }
sql = "select @@time_zone as zone, @@transaction_isolation as level, @@sql_mode as mode, cast('2024-02-29 12:34:56' as datetime) as at"
[queries.asks.metrics.at_seconds]
type = "gauge"
help = "a date"
labels = ["zone", "level", "mode"]
value = "at"
"#;

async fn a_session_is_set_as_the_configuration_says_and_its_dates_are_numbers(server: &Server) {
    let account = Account::new(server, "session").await;
    let with = |group: &str, target: &str, session: &str| {
        account.group(group, &[target]) + &format!("session = {{ {session} }}\n")
    };
    let config = with(
        "wishes",
        "wishes",
        "time_zone = \"+00:00\", isolation = \"read committed\", sql_mode = \"ANSI_QUOTES\", extra = [\"set @a = 1\"]",
    ) + &with("local", "local", "isolation = \"read uncommitted\"")
        + &with("refused", "refused", "time_zone = \"Nowhere/Land\"")
        + QUERY;
    let exporter = Exporter::start(&config).await;
    let page = exporter
        .wait_until("each was tried", SOON, |page| {
            page.runs("wishes", "success") > 0
                && page.runs("local", "failure") > 0
                && page.runs("refused", "failure") > 0
        })
        .await;
    let labels =
        [("target", "wishes"), ("zone", "+00:00"), ("level", "READ-COMMITTED"), ("mode", "ANSI_QUOTES")];
    assert_eq!(page.value("query_exporter_at_seconds", &labels), Some(1_709_210_096.0), "{}", page.text);
    // In a zone that nobody has said, a date is no moment.
    assert_eq!(page.reason("local"), Some("mapping"));
    assert_eq!(page.value("query_exporter_at_seconds", &[("target", "local")]), None);
    // A wish that the server refuses is no session, and the reason says which.
    assert_eq!(page.runs("refused", "success"), 0);
    let log = exporter.log().text();
    assert!(log.contains("Nowhere/Land"), "{log}");
    exporter.stop(&[(server, &account)]).await;
}
