//! What the errors of both databases mean, in the closed set of reasons.

use std::time::Duration;

use crate::Reason;

/// Why something could not be done, for the log and the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    pub(crate) fn timeout(limit: Duration) -> Self {
        Self::new(Reason::Timeout, format!("no answer within {limit:?}"))
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::new(reason(&error), message(&error))
    }
}

fn reason(error: &sqlx::Error) -> Reason {
    let database = match error {
        sqlx::Error::Database(database) => database,
        // A login that would need the password in plain text.
        sqlx::Error::Configuration(_) => return Reason::Login,
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => return Reason::Connection,
        _ => return Reason::Other,
    };
    if let Some(mysql) = database.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() {
        return of_mysql(mysql.number());
    }
    let code = database.code().and_then(|code| code.parse().ok());
    code.map_or(Reason::Other, of_sqlite)
}

/// By the error's number, which both servers share.
fn of_mysql(number: u16) -> Reason {
    match number {
        1040 | 1053 | 1129 | 1130 | 1203 | 1226 | 2006 | 2013 => Reason::Connection,
        1045 | 1698 | 1862 | 3118 | 3159 => Reason::Login,
        1044 | 1142 | 1143 | 1227 | 1370 => Reason::Denied,
        1049 | 1054 | 1146 | 1264 | 1265 | 1292 | 1364 | 1366 | 1406 => Reason::Layout,
        1969 | 3024 => Reason::Timeout,
        1099 | 1205 | 1213 | 3572 => Reason::Locked,
        3 | 1021 | 1041 | 1114 => Reason::Full,
        1036 | 1290 | 1792 | 1836 => Reason::ReadOnly,
        1034 | 1194 | 1195 | 1712 => Reason::Corrupt,
        _ => Reason::Other,
    }
}

/// By SQLite's extended code, whose low byte is the kind.
fn of_sqlite(code: u32) -> Reason {
    match code & 0xff {
        3 | 23 => Reason::Denied,
        5 | 6 => Reason::Locked,
        8 => Reason::ReadOnly,
        11 | 26 => Reason::Corrupt,
        13 => Reason::Full,
        14 => Reason::Connection,
        _ => Reason::Other,
    }
}

/// The error's own words, without sqlx's preface, as one line of bounded length.
fn message(error: &sqlx::Error) -> String {
    let text = match error {
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Configuration(_) => {
            "the server wants the password as it is, which it gets under TLS alone: set tls.mode to preferred or more".to_owned()
        }
        other => other.to_string(),
    };
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart() {
        assert_eq!(
            [1045, 1142, 1114, 1205, 1290, 9999].map(of_mysql),
            [Reason::Login, Reason::Denied, Reason::Full, Reason::Locked, Reason::ReadOnly, Reason::Other]
        );
        // 261 is SQLITE_BUSY_RECOVERY, 1032 SQLITE_READONLY_DBMOVED.
        assert_eq!(
            [5, 261, 13, 1032, 26, 1].map(of_sqlite),
            [Reason::Locked, Reason::Locked, Reason::Full, Reason::ReadOnly, Reason::Corrupt, Reason::Other]
        );
    }
}
