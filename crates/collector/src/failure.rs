//! Why a run failed: a closed set of reasons, each the value of a label.

use std::fmt;

/// The reasons, closed. The name is the value of the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The host name could not be resolved.
    Dns,
    /// Nothing listens on the port.
    Refused,
    /// The network gave an error other than a refusal.
    Unreachable,
    /// No session within the time, from resolving the name to the session's settings.
    ConnectTimeout,
    /// TLS could not be agreed upon, or the certificate was not accepted.
    Tls,
    /// The server refused the account.
    Auth,
    /// A secret or certificate file, or a variable, could not be read here.
    Credentials,
    /// The server has no connection left for us.
    TooManyConnections,
    /// The server refuses this host.
    Blocked,
    /// No answer within the item's timeout, or an answer only at the server's own limit.
    Timeout,
    /// Somebody else ended the query or the connection.
    Killed,
    /// The connection ended in the middle.
    Lost,
    /// What came was not the protocol that it should be.
    Protocol,
    /// The server answered with an error that has no reason of its own.
    ServerError,
    /// The server could not parse the statement.
    Syntax,
    /// The account lacks a privilege for the statement.
    Denied,
    /// The answer does not fit the query's metrics: a column missing, ambiguous, or without any number.
    Mapping,
    /// The answer is beyond a limit: rows, series or bytes.
    TooLarge,
    /// Our own code or the driver's panicked.
    Panic,
}

impl Reason {
    /// Every reason, in the order of docs/metrics.md.
    pub const ALL: [Self; 19] = [
        Self::Dns,
        Self::Refused,
        Self::Unreachable,
        Self::ConnectTimeout,
        Self::Tls,
        Self::Auth,
        Self::Credentials,
        Self::TooManyConnections,
        Self::Blocked,
        Self::Timeout,
        Self::Killed,
        Self::Lost,
        Self::Protocol,
        Self::ServerError,
        Self::Syntax,
        Self::Denied,
        Self::Mapping,
        Self::TooLarge,
        Self::Panic,
    ];

    /// Whether it is one of the ways in which nothing comes back. A server that dies goes from one to the other.
    pub fn is_silence(self) -> bool {
        matches!(
            self,
            Self::Dns | Self::Refused | Self::Unreachable | Self::ConnectTimeout | Self::Timeout | Self::Lost
        )
    }

    /// The value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Credentials => "credentials",
            Self::TooManyConnections => "too_many_connections",
            Self::Blocked => "blocked",
            Self::Timeout => "timeout",
            Self::Killed => "killed",
            Self::Lost => "lost",
            Self::Protocol => "protocol",
            Self::ServerError => "server_error",
            Self::Syntax => "syntax",
            Self::Denied => "denied",
            Self::Mapping => "mapping",
            Self::TooLarge => "too_large",
            Self::Panic => "panic",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failed run: the reason, what the server or the system said, and whether the server answered at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why, from the closed set.
    pub reason: Reason,
    /// The server's own error number, where it gave one.
    pub code: Option<u16>,
    /// What to tell a person: one line, cut at [`Failure::MESSAGE_BYTES`], control characters escaped; behind it the
    /// error number.
    pub message: String,
    /// Whether a row or an error packet came. A server that answers, if only with an error, is up, unless it
    /// refused the login.
    pub answered: bool,
}

impl Failure {
    /// The longest message kept of an error; servers quote whole statements.
    pub const MESSAGE_BYTES: usize = 300;

    /// A failure without any answer of the server.
    pub fn unanswered(reason: Reason, message: impl AsRef<str>) -> Self {
        Self { reason, code: None, message: one_line(message.as_ref()), answered: false }
    }

    /// A failure after the server answered.
    pub fn answered(reason: Reason, message: impl AsRef<str>) -> Self {
        Self { reason, code: None, message: one_line(message.as_ref()), answered: true }
    }

    /// With the server's error number, at the end of the message too: behind the cut, so that it is always there.
    #[must_use]
    pub fn with_code(self, code: u16) -> Self {
        Self { code: Some(code), message: format!("{} (error {code})", self.message), ..self }
    }

    /// Whether the target counts as down: no answer of any kind, or the login refused.
    pub fn is_down(&self) -> bool {
        !self.answered || matches!(self.reason, Reason::Auth | Reason::TooManyConnections | Reason::Blocked)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}
impl std::error::Error for Failure {}

/// Cuts at the byte limit, on a character's border, and escapes what could break a line or a terminal.
fn one_line(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() + c.len_utf8() > Failure::MESSAGE_BYTES {
            out.push('…');
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_reasons_are_the_closed_list() {
        let names: Vec<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(
            names.join(" "),
            "dns refused unreachable connect_timeout tls auth credentials too_many_connections blocked timeout \
             killed lost protocol server_error syntax denied mapping too_large panic"
        );
    }

    #[test]
    fn a_message_is_one_short_line_without_terminal_escapes() {
        let failure = Failure::answered(Reason::ServerError, format!("a\nb\u{1b}[31m{}", "é".repeat(400)));
        assert!(failure.message.starts_with("a\\nb\\u{1b}[31mé"));
        assert!(failure.message.len() <= Failure::MESSAGE_BYTES + '…'.len_utf8());
        assert!(failure.message.ends_with('…'));
    }

    #[test]
    fn a_server_that_answers_is_up_unless_it_refused_the_login() {
        assert!(!Failure::answered(Reason::Syntax, "x").is_down());
        assert!(Failure::answered(Reason::Auth, "x").is_down());
        assert!(Failure::unanswered(Reason::Timeout, "x").is_down());
    }
}
