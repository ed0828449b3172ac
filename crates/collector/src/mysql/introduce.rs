//! Who a server is, as it says itself when a session begins.
//!
//! One statement asks for all of it. A proxy or an old server may not know one of the names and refuse the whole
//! statement; then each is asked for by itself, and what is refused stays unknown.

use sqlx::mysql::MySqlConnection;

use super::fetch;
use crate::{
    Failure, Reason, Rows,
    driver::{Flavour, QueryError, Server, SessionState},
    query::ResultLimits,
};

/// What is asked for, in the order of [`Answers`].
const WHO: [&str; 7] = [
    "@@version",
    "@@version_comment",
    "CONNECTION_ID()",
    "@@hostname",
    "@@port",
    "@@server_id",
    "@@read_only",
];

/// What the server said to each of [`WHO`]; None where it did not say.
type Answers = [Option<String>; WHO.len()];

/// Who the server is, and the session's number: 0 where the server does not tell it.
pub(super) async fn introduce(connection: &mut MySqlConnection) -> Result<(Server, u64), Failure> {
    let all = format!("SELECT {}", WHO.join(", "));
    let answers = match ask::<{ WHO.len() }>(connection, &all).await {
        Ok(answers) => answers,
        Err(refused) if refused.session == SessionState::Intact => {
            one_by_one(connection, refused.failure).await?
        }
        Err(error) => return Err(error.failure),
    };
    Ok(understand(answers))
}

/// Asks for each by itself. A server that tells neither its version nor the session's number refuses us, not a name.
async fn one_by_one(connection: &mut MySqlConnection, refusal: Failure) -> Result<Answers, Failure> {
    const ENOUGH: [usize; 2] = [0, 2];
    let mut answers = Answers::default();
    for n in ENOUGH.into_iter().chain((0..WHO.len()).filter(|n| !ENOUGH.contains(n))) {
        if !ENOUGH.contains(&n) && ENOUGH.iter().all(|n| answers[*n].is_none()) {
            return Err(refusal_of(refusal));
        }
        match ask::<1>(connection, &format!("SELECT {}", WHO[n])).await {
            Ok([answer]) => answers[n] = answer,
            Err(refused) if refused.session == SessionState::Intact => {}
            Err(error) => return Err(error.failure),
        }
    }
    tracing::debug!(error = %refusal, "the server does not say all of who it is");
    Ok(answers)
}

/// An account whose password has expired may log in, and is then refused everything.
fn refusal_of(refusal: Failure) -> Failure {
    match refusal.code {
        Some(1820 | 1862) => Failure { reason: Reason::Auth, ..refusal },
        _ => refusal,
    }
}

async fn ask<const N: usize>(
    connection: &mut MySqlConnection,
    sql: &str,
) -> Result<[Option<String>; N], QueryError> {
    // A few short words; they end up in labels.
    let mut rows = Rows::new(ResultLimits { rows: 1, result_bytes: 4096, ..ResultLimits::default() });
    fetch(connection, sql.into(), false, &mut rows).await?;
    let row = rows.iter().next();
    Ok(std::array::from_fn(|n| {
        let cell = row.as_ref().and_then(|row| row.cell(n));
        cell.map(|cell| String::from_utf8_lossy(cell).into_owned())
    }))
}

/// A server of which nothing says that it is MariaDB is taken for MySQL, whose dialect proxies speak.
fn understand(answers: Answers) -> (Server, u64) {
    let [version, comment, id, hostname, port, server_id, read_only] = answers.map(Option::unwrap_or_default);
    let says_mariadb = |text: &str| text.to_ascii_lowercase().contains("mariadb");
    let flavour =
        if says_mariadb(&version) || says_mariadb(&comment) { Flavour::MariaDb } else { Flavour::MySql };
    let read_only = match &*read_only.to_ascii_uppercase() {
        "0" | "OFF" => Some(false),
        // MariaDB 12 has further degrees of it.
        "1" | "2" | "3" | "ON" | "NO_LOCK" | "NO_LOCK_NO_ADMIN" => Some(true),
        _ => None,
    };
    let id = id.parse().unwrap_or(0);
    (Server { flavour, version, hostname, port, server_id, read_only, refused: Vec::new() }, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server said, with `-` where it said nothing, and what is made of it.
    #[track_caller]
    fn check(said: [&str; 7], flavour: Flavour, id: u64, read_only: Option<bool>) {
        let (server, session) = understand(said.map(|text| (text != "-").then(|| text.to_owned())));
        assert_eq!((server.flavour, session, server.read_only), (flavour, id, read_only), "{said:?}");
    }

    #[test]
    fn odd_servers_and_proxies_are_somebody_too() {
        use Flavour::{MariaDb, MySql};
        check(["9.7.4", "MySQL", "7", "db", "3306", "1", "0"], MySql, 7, Some(false));
        check(["11.8.3-MariaDB", "Debian", "7", "db", "3306", "1", "ON"], MariaDb, 7, Some(true));
        check(["12.1.0-MariaDB", "", "7", "db", "3306", "1", "NO_LOCK"], MariaDb, 7, Some(true));
        check(["5.5.5-10.11.6", "mariadb.org binary", "7", "", "", "", "OFF"], MariaDb, 7, Some(false));
        check(["8.0.30 (ProxySQL)", "-", "7", "-", "-", "-", "-"], MySql, 7, None);
        check(["", "", "", "", "", "", ""], MySql, 0, None);
        check(["99.0", "-", "-", "-", "-", "-", "maybe"], MySql, 0, None);
        check(["-", "-", "18446744073709551615", "-", "-", "-", "-"], MySql, u64::MAX, None);
    }

    #[test]
    fn a_server_that_does_not_say_who_it_is_is_like_no_other() {
        let said = |hostname: &str, port: &str, id: &str| {
            let said = ["9.7.4", "", "7", hostname, port, id, "0"].map(|text| Some(text.to_owned()));
            understand(said).0
        };
        let known = said("db", "3306", "1");
        assert!(known.is_same(&known.clone()) && known.is_known());
        for other in [said("db2", "3306", "1"), said("db", "3307", "1"), said("db", "3306", "2")] {
            assert!(!known.is_same(&other) && !other.is_same(&known));
        }
        for unknown in [said("", "", ""), said("", "3306", "1"), said("db", "", "1"), said("db", "3306", "")]
        {
            assert!(!unknown.is_same(&unknown.clone()) && !unknown.is_known());
        }
    }
}
