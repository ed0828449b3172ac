//! What a session is set to when it begins: the guards that each has, and what the configuration wishes besides.

use std::time::Duration;

use super::MySqlSession;
use crate::{
    Failure,
    driver::{Flavour, QueryError, SessionState},
    target::{Isolation, SessionSettings},
};

/// How long a session may lie idle before the server ends it: a minute more than we keep it ourselves, so that
/// a server reaps what an exporter that was killed left behind.
const WAIT_TIMEOUT: Duration = Duration::from_secs(crate::lanes::IDLE_CLOSE.as_secs() + 60);

/// How long a statement waits for a table that is being altered. Servers wait a day or a year by default, and on
/// MySQL no other limit covers what is not a SELECT.
const LOCK_WAIT_TIMEOUT: Duration = Duration::from_secs(2);

impl MySqlSession {
    /// The session's settings, in one statement; where the server or a proxy refuses one, each on its own.
    pub(super) async fn make_settings(&mut self) -> Result<(), Failure> {
        let settings = settings(self.server.flavour);
        match self.set(&settings.join(", ")).await {
            Err(refused) if refused.session == SessionState::Intact => {}
            other => return other.map_err(|error| error.failure),
        }
        for setting in settings {
            match self.set(setting).await {
                Err(refused) if refused.session == SessionState::Intact => {
                    tracing::debug!(setting, error = %refused.failure, "the server refused a session setting");
                }
                other => other.map_err(|error| error.failure)?,
            }
        }
        Ok(())
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

    async fn set(&mut self, settings: &str) -> Result<(), QueryError> {
        self.send(&format!("SET SESSION {settings}")).await
    }
}

/// Read-only, autocommit, short waits. The time zone and the `sql_mode` stay as the server has them.
fn settings(flavour: Flavour) -> [&'static str; 4] {
    const _: () = assert!(WAIT_TIMEOUT.as_secs() == 360 && LOCK_WAIT_TIMEOUT.as_secs() == 2);
    let read_only = match flavour {
        Flavour::MariaDb => "tx_read_only = 1",
        Flavour::MySql => "transaction_read_only = 1",
    };
    [read_only, "autocommit = 1", "lock_wait_timeout = 2", "wait_timeout = 360"]
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
