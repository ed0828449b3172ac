//! One MySQL-protocol server: where it is, how to log in, and the labels its series carry.

use std::{fmt, net::IpAddr, path::PathBuf, sync::Arc};

use secrecy::{ExposeSecret, SecretString};

/// A server to watch, as the configuration says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, unique in the fleet; the value of the target label.
    pub name: Arc<str>,
    /// The group it belongs to.
    pub group: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// The account to log in with; None if the defaults file says it.
    pub user: Option<String>,
    /// Where that account's password comes from.
    pub password: Password,
    /// The schema a session starts in; none by default.
    pub database: Option<String>,
    /// Whether and how the connection is encrypted.
    pub tls: Tls,
    /// The label names and values that each of its series carries, sorted by name: the target label first to be
    /// merged, then those of its group and its own. Empty with `target_label = ""` and no `labels`.
    pub labels: Vec<(String, String)>,
    /// Connections open, or still running at the server, at any moment: at least 1. With 1 there is one lane and
    /// no KILL, with 2 one lane and KILL, with n there are n - 1 lanes and KILL.
    pub max_connections: u16,
    /// Whether a query that outlives its limit is stopped by `KILL` on a side connection.
    pub kill: bool,
    /// What each session is set to when it begins.
    pub session: SessionSettings,
}

impl Target {
    /// All that decides how it is reached. Where it is the same, connections opened for one target are as good for the
    /// other. Its `Debug` shows no secret.
    pub fn way(&self) -> impl PartialEq + fmt::Debug + '_ {
        let Self {
            address,
            user,
            password,
            database,
            tls,
            max_connections,
            kill,
            session,
            name: _,
            group: _,
            labels: _,
        } = self;
        (address, user, password, database, tls, max_connections, kill, session)
    }

    /// All that decides what is found there: the account, the server, the schema and what a session is set to. Where it
    /// is the same, what was read from one target is what the other would say, however it is reached. Its `Debug` shows
    /// no secret.
    pub fn data(&self) -> impl PartialEq + fmt::Debug + '_ {
        let Self { address, user, password, database, session, .. } = self;
        // Where nobody is named, the option file says who it is.
        (address, user, user.is_none().then_some(password), database, session)
    }

    /// How many runs may use the server at once: one connection is kept for KILL where there is more than one.
    pub fn lanes(&self) -> u16 {
        self.max_connections.saturating_sub(1).max(1)
    }

    /// Whether a side connection for KILL fits under `max_connections`.
    pub fn may_kill(&self) -> bool {
        self.kill && self.max_connections > 1
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A host name or IP address (an IPv6 address without brackets) and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port, 3306 by default.
        port: u16,
    },
    /// The path of a Unix socket.
    Socket(PathBuf),
}

impl Address {
    /// The IP address, where the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp { host, .. } => host.parse().ok(),
            Self::Socket(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Whether a connection is encrypted, and what the server has to prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// How much is asked for.
    pub mode: TlsMode,
    /// A PEM file with the certificate authorities to trust, besides the built-in public ones.
    pub ca: Option<PathBuf>,
    /// The client's certificate chain and private key, both PEM files.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How much is asked of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Never encrypted; the default for Unix sockets.
    Disabled,
    /// Encrypted if the server can, without asking who it is; the default for TCP.
    Preferred,
    /// Encrypted or not at all, without asking who it is.
    Required,
    /// The certificate must come from a trusted authority.
    VerifyCa,
    /// The certificate must come from a trusted authority and name the host.
    VerifyIdentity,
}

impl TlsMode {
    /// The word of the configuration and of the label `tls` of `target_info`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Preferred => "preferred",
            Self::Required => "required",
            Self::VerifyCa => "verify_ca",
            Self::VerifyIdentity => "verify_identity",
        }
    }
}

/// Where a password comes from. Files and variables are read anew at each connect, so a rotated secret needs no
/// reload.
///
/// Its `Debug` names a command's program alone: an argument may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The account has none.
    None,
    /// Written in the configuration.
    Inline(Secret),
    /// The content of a file, without one trailing line end.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// What a program prints: its path and arguments, run without a shell.
    Command(Vec<String>),
    /// An option file of the MySQL client, which may name the user too.
    DefaultsFile {
        /// The file.
        path: PathBuf,
        /// The section of it, without brackets.
        section: String,
    },
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Inline(secret) => f.debug_tuple("Inline").field(secret).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Self::Command(words) => {
                let (program, arguments) = words.split_first().map_or(("", 0), |(p, rest)| (p, rest.len()));
                write!(f, "Command({program:?}, {arguments} arguments)")
            }
            Self::DefaultsFile { path, section } => {
                f.debug_struct("DefaultsFile").field("path", path).field("section", section).finish()
            }
        }
    }
}

/// What a session is set to when it begins; what is not set stays as the server has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionSettings {
    /// The `time_zone`: letters, digits and `_ + - : /` only.
    pub time_zone: Option<String>,
    /// The `sql_mode`: letters, digits and `_ ,` only.
    pub sql_mode: Option<String>,
    /// The isolation level of its transactions.
    pub isolation: Option<Isolation>,
    /// Further statements, each a single SET of the session.
    pub extra: Vec<String>,
}

/// An isolation level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// `READ UNCOMMITTED`
    ReadUncommitted,
    /// `READ COMMITTED`
    ReadCommitted,
    /// `REPEATABLE READ`
    RepeatableRead,
    /// `SERIALIZABLE`
    Serializable,
}

/// A password that no log, error or page can show: its `Debug` is a placeholder and it has no `Display`.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself, for the login and for nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}
impl Eq for Secret {}
