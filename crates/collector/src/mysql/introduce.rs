//! Who a server is, as it says itself when a session begins.

use sqlx::mysql::MySqlConnection;

use super::fetch;
use crate::{
    Failure, Reason, Rows,
    driver::{Flavour, Server},
    query::ResultLimits,
};

/// Who the server is, and the session's number.
pub(super) async fn introduce(connection: &mut MySqlConnection) -> Result<(Server, u64), Failure> {
    const WHO: &str = "SELECT @@version, @@version_comment, CONNECTION_ID(), @@hostname, @@port, @@server_id";
    // A few short words; they end up in labels.
    let mut rows = Rows::new(ResultLimits { rows: 1, result_bytes: 4096, ..ResultLimits::default() });
    fetch(connection, WHO.into(), false, &mut rows).await.map_err(|error| error.failure)?;
    let Some(row) = rows.iter().next() else {
        return Err(Failure::answered(Reason::Protocol, "the server did not say its version"));
    };
    let text = |n| String::from_utf8_lossy(row.cell(n).unwrap_or_default()).into_owned();
    let says_mariadb = |n| text(n).to_ascii_lowercase().contains("mariadb");
    let flavour = if says_mariadb(0) || says_mariadb(1) { Flavour::MariaDb } else { Flavour::MySql };
    let id = text(2).parse();
    let id = id.map_err(|_| Failure::answered(Reason::Protocol, "the server gave no connection id"))?;
    Ok((Server { flavour, version: text(0), hostname: text(3), port: text(4), server_id: text(5) }, id))
}
