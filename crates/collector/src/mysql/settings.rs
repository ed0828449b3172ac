//! What a session is set to when it begins: the guards that each has, and what the configuration wishes besides.

use std::time::Duration;

use super::MySqlSession;
use crate::{
    Failure,
    driver::{Flavour, QueryError, RefusedGuard, Server, SessionState},
    target::{Isolation, SessionSettings},
    version,
};

/// How long a session may lie idle before the server ends it: a minute more than we keep it ourselves, so that
/// a server reaps what an exporter that was killed left behind.
const WAIT_TIMEOUT: Duration = Duration::from_secs(crate::lanes::IDLE_CLOSE.as_secs() + 60);

/// How long a statement waits for a table that is being altered, or for a row that is locked. Servers wait a day or a
/// year for the first by default and 50 s for the second, and on MySQL no other limit covers what is not a SELECT.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// A setting that keeps a session from doing harm. It goes without it where the server or a proxy refuses it.
struct Guard {
    /// Its name in logs and in the label `guards_refused`.
    name: &'static str,
    /// The assignment.
    set: &'static str,
    /// Whole statements to try where that is refused.
    otherwise: &'static [&'static str],
}

impl Guard {
    const fn of(name: &'static str, set: &'static str) -> Self {
        Self { name, set, otherwise: &[] }
    }
}

/// The guards of each session. The time zone and the `sql_mode` stay as the server has them.
fn guards(server: &Server) -> [Guard; 5] {
    const _: () = assert!(WAIT_TIMEOUT.as_secs() == 360 && LOCK_WAIT.as_secs() == 2);
    const NEW: &str = "transaction_read_only = 1";
    const OLD: &str = "tx_read_only = 1";
    // MySQL had the old name up to 5.7 and has the new one since then; MariaDB has the old one, and lately both.
    let old = match server.flavour {
        Flavour::MariaDb => true,
        Flavour::MySql => version::numbers(&server.version).first().is_some_and(|major| *major < 8),
    };
    let set = if old { OLD } else { NEW };
    let otherwise = if old {
        &["SET SESSION transaction_read_only = 1", "SET SESSION TRANSACTION READ ONLY"]
    } else {
        &["SET SESSION tx_read_only = 1", "SET SESSION TRANSACTION READ ONLY"]
    };
    [
        Guard { name: "read_only", set, otherwise },
        Guard::of("autocommit", "autocommit = 1"),
        Guard::of("lock_wait_timeout", "lock_wait_timeout = 2"),
        Guard::of("innodb_lock_wait_timeout", "innodb_lock_wait_timeout = 2"),
        Guard::of("wait_timeout", "wait_timeout = 360"),
    ]
}

impl MySqlSession {
    /// Sets the guards, all in one statement; where that is refused, each on its own. Returns those that were refused.
    pub(super) async fn make_guards(&mut self, server: &Server) -> Result<Vec<RefusedGuard>, Failure> {
        let guards = guards(server);
        let all = guards.each_ref().map(|guard| guard.set).join(", ");
        if self.accepts(&format!("SET SESSION {all}")).await?.is_none() {
            return Ok(Vec::new());
        }
        let mut refused = Vec::new();
        for Guard { name, set, otherwise } in guards {
            let Some(error) = self.accepts(&format!("SET SESSION {set}")).await? else { continue };
            let mut accepted = false;
            for statement in otherwise {
                accepted = accepted || self.accepts(statement).await?.is_none();
            }
            if !accepted {
                refused.push(RefusedGuard { guard: name, error: error.message });
            }
        }
        Ok(refused)
    }

    /// What the server has against a setting, if it has.
    async fn accepts(&mut self, statement: &str) -> Result<Option<Failure>, Failure> {
        match self.send(statement).await {
            Ok(()) => Ok(None),
            Err(QueryError { failure, session: SessionState::Intact }) => Ok(Some(failure)),
            Err(QueryError { failure, .. }) => Err(failure),
        }
    }

    /// What the configuration asks for besides. Numbers may depend on it, so a session without it is none.
    pub(super) async fn make_wishes(&mut self, wishes: &SessionSettings) -> Result<(), Failure> {
        for statement in wish_statements(wishes) {
            self.send(&statement).await.map_err(|QueryError { failure, .. }| {
                let message = format!("the session's setting `{statement}` was refused: {}", failure.message);
                Failure { message: Failure::answered(failure.reason, message).message, ..failure }
            })?;
        }
        Ok(())
    }
}

/// The statements that make a session what the configuration wants, in the order in which they may depend on each
/// other. The configuration holds the values to characters that need no quoting.
fn wish_statements(wishes: &SessionSettings) -> Vec<String> {
    let SessionSettings { time_zone, sql_mode, isolation, extra } = wishes;
    let level = isolation.map(|isolation| match isolation {
        Isolation::ReadUncommitted => "READ UNCOMMITTED",
        Isolation::ReadCommitted => "READ COMMITTED",
        Isolation::RepeatableRead => "REPEATABLE READ",
        Isolation::Serializable => "SERIALIZABLE",
    });
    let quoted =
        |name: &str, value: &String| format!("SET SESSION {name} = '{}'", value.replace(['\\', '\''], ""));
    let level = level.map(|level| format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}"));
    let zone = time_zone.as_ref().map(|zone| quoted("time_zone", zone));
    let mode = sql_mode.as_ref().map(|mode| quoted("sql_mode", mode));
    [level, zone, mode].into_iter().flatten().chain(extra.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_read_only_guard_goes_by_the_server() {
        #[track_caller]
        fn check(flavour: Flavour, version: &str, first: &str) {
            let server = Server { flavour, version: version.to_owned(), ..Server::default() };
            let [read_only, ..] = guards(&server);
            assert_eq!(read_only.set, first, "{version}");
            assert!(!read_only.otherwise.iter().any(|other| other.ends_with(first)), "{version}");
        }
        for version in ["9.7.4", "8.0.36-28", "", "99.0", "ProxySQL"] {
            check(Flavour::MySql, version, "transaction_read_only = 1");
        }
        for version in ["5.7.44-log", "5.6.51", "5.5.5"] {
            check(Flavour::MySql, version, "tx_read_only = 1");
        }
        check(Flavour::MariaDb, "11.8.3-MariaDB", "tx_read_only = 1");
    }

    #[test]
    fn a_session_is_set_as_the_configuration_wants_it() {
        let wishes = SessionSettings {
            time_zone: Some("+00:00".to_owned()),
            sql_mode: Some("ANSI_QUOTES".to_owned()),
            isolation: Some(Isolation::ReadUncommitted),
            extra: vec!["set @a = 1".to_owned()],
        };
        let expected = [
            "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
            "SET SESSION time_zone = '+00:00'",
            "SET SESSION sql_mode = 'ANSI_QUOTES'",
            "set @a = 1",
        ];
        assert_eq!(wish_statements(&wishes), expected);
        assert!(wish_statements(&SessionSettings::default()).is_empty());
    }
}
