//! Errors as servers send them: a number, a state, and a text that may be anything.

/// An error packet of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The error's number.
    pub code: u16,
    /// Its SQLSTATE.
    pub state: [u8; 5],
    /// Its text: any bytes, any length.
    pub message: Vec<u8>,
}

impl ServerError {
    /// An error with a text of one's own.
    pub fn new(code: u16, message: impl Into<Vec<u8>>) -> Self {
        Self { code, state: known(code).0, message: message.into() }
    }

    /// The same with another SQLSTATE.
    #[must_use]
    pub fn with_state(self, state: [u8; 5]) -> Self {
        Self { state, ..self }
    }

    /// The payload of its packet. Before a client has said what it can, the state is left out.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>, with_state: bool) {
        bytes.push(0xff);
        bytes.extend_from_slice(&self.code.to_le_bytes());
        if with_state {
            bytes.push(b'#');
            bytes.extend_from_slice(&self.state);
        }
        bytes.extend_from_slice(&self.message);
    }
}

impl From<u16> for ServerError {
    /// The error of this number in a server's usual words.
    fn from(code: u16) -> Self {
        let (state, message) = known(code);
        Self { code, state, message: message.into() }
    }
}

/// The state and the words of the errors that matter to a monitor.
/// Source: the error references of MySQL 9 and MariaDB 11.
fn known(code: u16) -> ([u8; 5], &'static str) {
    let (state, message) = match code {
        1040 => (b"08004", "Too many connections"),
        1045 => (b"28000", "Access denied for user 'monitor'@'localhost' (using password: YES)"),
        1047 => (b"08S01", "Unknown command"),
        1049 => (b"42000", "Unknown database 'nowhere'"),
        1053 => (b"08S01", "Server shutdown in progress"),
        1064 => (b"42000", "You have an error in your SQL syntax"),
        1065 => (b"42000", "Query was empty"),
        1094 => (b"HY000", "Unknown thread id"),
        1095 => (b"HY000", "You are not owner of thread"),
        1129 => (b"HY000", "Host '127.0.0.1' is blocked because of many connection errors"),
        1130 => (b"HY000", "Host '127.0.0.1' is not allowed to connect to this server"),
        1142 => (b"42000", "SELECT command denied to user 'monitor'@'localhost' for table 't'"),
        1146 => (b"42S02", "Table 'fleet.t' doesn't exist"),
        1193 => (b"HY000", "Unknown system variable"),
        1203 => (b"42000", "User monitor already has more than 'max_user_connections' active connections"),
        1205 => (b"HY000", "Lock wait timeout exceeded; try restarting transaction"),
        1226 => {
            (b"42000", "User 'monitor' has exceeded the 'max_user_connections' resource (current value: 1)")
        }
        1317 => (b"70100", "Query execution was interrupted"),
        1792 => (b"25006", "Cannot execute statement in a READ ONLY transaction"),
        1862 => (
            b"HY000",
            "Your password has expired. To log in you must change it using a client that supports expired passwords.",
        ),
        1927 => (b"70100", "Connection was killed"),
        1969 => (b"70100", "Query execution was interrupted (max_statement_time exceeded)"),
        3024 => (b"HY000", "Query execution was interrupted, maximum statement execution time exceeded"),
        3118 => (b"HY000", "Access denied for user 'monitor'@'localhost'. Account is locked."),
        3159 => (b"08004", "Connections using insecure transport are prohibited"),
        3169 => (b"HY000", "Session was killed"),
        4031 => (b"HY000", "The client was disconnected by the server because of inactivity"),
        4151 => (b"HY000", "Access denied, this account is locked"),
        _ => (b"HY000", "An error of the simulated server"),
    };
    (*state, message)
}
