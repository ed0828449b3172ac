//! What sqlx reports, as one of the closed set of reasons.

use std::io;

use sqlx::mysql::MySqlDatabaseError;

use super::doubtful;
use super::tls;
use crate::{
    Failure, Reason, Target,
    driver::{QueryError, SessionState},
};

/// Why there is no session.
pub(super) fn connect_failure(error: &sqlx::Error, target: &Target) -> Failure {
    if let Some((code, message)) = server_error(error) {
        return login_failure(code, &message);
    }
    if let Some(words) = tls::words(error, target) {
        return Failure::unanswered(Reason::Tls, words);
    }
    match error {
        sqlx::Error::Configuration(source) => Failure::unanswered(Reason::Credentials, source.to_string()),
        sqlx::Error::Io(source) => io_failure(source, Reason::Unreachable),
        other => Failure::unanswered(Reason::Protocol, other.to_string()),
    }
}

/// What the server said instead of a session. Whatever it is, the target is down.
fn login_failure(code: u16, message: &str) -> Failure {
    let failure = match code {
        1040 | 1203 | 1226 => Failure::answered(Reason::TooManyConnections, message),
        1129 | 1130 => Failure::answered(Reason::Blocked, message),
        // Shutting down, or not ready yet.
        1053 | 1077 | 3168 => Failure::unanswered(Reason::Lost, message),
        // What it read of us was not whole, or not in time.
        1043 | 1153..=1161 => Failure::unanswered(Reason::Protocol, message),
        // It wants TLS.
        3159 => Failure::unanswered(Reason::Tls, message),
        // Anything else is about the account, or about the schema that the account asked for.
        _ => Failure::answered(Reason::Auth, message),
    };
    failure.with_code(code)
}

fn io_failure(error: &io::Error, otherwise: Reason) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Reason::Refused,
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Reason::Lost,
        // rustls reports what it does not accept as invalid data.
        io::ErrorKind::InvalidData => Reason::Tls,
        _ => otherwise,
    };
    match error.kind() {
        // Each layer words this in its own way, one of them with a link to its manual.
        io::ErrorKind::UnexpectedEof => Failure::unanswered(reason, "the server closed the connection"),
        _ => Failure::unanswered(reason, error.to_string()),
    }
}

/// Why a query failed, and what is left of its session.
pub(super) fn query_error(error: &sqlx::Error, answered: bool) -> QueryError {
    if let Some((code, message)) = server_error(error) {
        let (reason, session) = server_reason(code);
        return QueryError { failure: Failure::answered(reason, message).with_code(code), session };
    }
    let (mut failure, session) = match error {
        // VECTOR, a type of MySQL 9 that sqlx does not know: the server is well, the query is not for us.
        sqlx::Error::Protocol(message) if message.contains("unknown column type 0xf2") => {
            const HELP: &str =
                "a column is a VECTOR, which cannot be read: select VECTOR_TO_STRING(column) in its place";
            return doubtful(Failure::answered(Reason::Mapping, HELP));
        }
        sqlx::Error::Io(source) => {
            let failure = io_failure(source, Reason::Lost);
            let ended = failure.reason == Reason::Lost && !answered;
            (failure, if ended { SessionState::Ended } else { SessionState::Doubtful })
        }
        other => (Failure::unanswered(Reason::Protocol, other.to_string()), SessionState::Doubtful),
    };
    failure.answered = answered;
    QueryError { failure, session }
}

/// The server's error numbers that have a reason of their own, and whether the session goes on after them.
/// Source: the error references of MySQL 9 and MariaDB 11.
fn server_reason(code: u16) -> (Reason, SessionState) {
    use SessionState::{Ended, Intact};
    match code {
        // max_statement_time (MariaDB), max_execution_time (MySQL), lock_wait_timeout.
        1969 | 3024 | 1205 => (Reason::Timeout, Intact),
        1317 => (Reason::Killed, Intact),
        // The connection was killed; the session was killed.
        1927 | 3169 => (Reason::Killed, Ended),
        // Shutdown in progress; normal shutdown; disconnected for inactivity.
        1053 | 1077 | 4031 => (Reason::Lost, Ended),
        1064 | 1149 => (Reason::Syntax, Intact),
        1044 | 1142 | 1143 | 1227 | 1345 | 1370 => (Reason::Denied, Intact),
        _ => (Reason::ServerError, Intact),
    }
}

/// The number and text of an error that the server itself sent.
pub(super) fn server_error(error: &sqlx::Error) -> Option<(u16, String)> {
    let error = error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?;
    Some((error.number(), error.message().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::target;

    #[test]
    fn a_refused_port_is_not_a_lost_connection() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(connect_failure(&sqlx::Error::Io(refused), &target("t")).reason, Reason::Refused);
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(connect_failure(&sqlx::Error::Io(reset()), &target("t")).reason, Reason::Lost);
        assert_eq!(query_error(&sqlx::Error::Io(reset()), false).session, SessionState::Ended);
        assert_eq!(query_error(&sqlx::Error::Io(reset()), true).session, SessionState::Doubtful);
    }

    #[test]
    fn a_login_that_is_refused_is_down_and_for_its_own_reason() {
        use Reason::{Auth, Blocked, Lost, Protocol, Tls, TooManyConnections};
        for (code, reason) in [
            (1040, TooManyConnections),
            (1203, TooManyConnections),
            (1226, TooManyConnections),
            (1129, Blocked),
            (1130, Blocked),
            (1045, Auth),
            (1049, Auth),
            (3118, Auth),
            (1053, Lost),
            (1159, Protocol),
            (3159, Tls),
        ] {
            let failure = login_failure(code, "as it says");
            assert_eq!(
                (failure.reason, failure.code, failure.is_down()),
                (reason, Some(code), true),
                "{code}"
            );
        }
    }

    #[test]
    fn the_limit_of_the_server_is_a_timeout_that_leaves_the_session_intact() {
        for code in [1969, 3024, 1205] {
            assert_eq!(server_reason(code), (Reason::Timeout, SessionState::Intact));
        }
        assert_eq!(server_reason(1927), (Reason::Killed, SessionState::Ended));
    }
}
