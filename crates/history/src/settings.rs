//! Where the table is, who logs in there, and the bounds of what is written.

use std::{fmt, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use secrecy::SecretString;

/// A future in a box, as traits with `dyn` need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// All that a [`History`](crate::History) is told once, when it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the table is.
    pub store: Store,
    /// The table's name; tables beside it are named after it.
    pub table: TableName,
    /// How often what ran is written down.
    pub flush_interval: Duration,
    /// Whether whole results are kept too, for a warm start.
    pub results: bool,
    /// Whether a table that is found in another shape than ours may be altered.
    pub migrate: bool,
    /// Who this is in the table's lock: the same name for one exporter after each of its restarts, another for each
    /// that may run beside it. Host name and listen address do. 255 characters of it count.
    pub owner: String,
    /// Bounds of time and size.
    pub limits: Limits,
}

/// Bounds of time and size; the defaults serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest result that is kept, in bytes; a larger one is counted and left out.
    pub max_result_bytes: usize,
    /// How much all kept results may come to, in bytes; what would exceed it is counted and left out.
    pub max_results_bytes: u64,
    /// The shortest time between two writes of one item's result; its interval, where that is longer.
    pub results_interval: Duration,
    /// How long a statement may take. On MySQL its connection is dropped then; SQLite's goes on.
    pub statement_timeout: Duration,
    /// How long the table's owner may be silent until another takes its place.
    pub lock_timeout: Duration,
    /// How often the table is looked at for changed intervals.
    pub poll_interval: Duration,
    /// The longest wait between two tries of a store that fails.
    pub max_back_off: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_result_bytes: 1 << 20,
            max_results_bytes: 256 << 20,
            results_interval: Duration::from_secs(60),
            statement_timeout: Duration::from_secs(8),
            lock_timeout: Duration::from_secs(20),
            poll_interval: Duration::from_secs(2),
            max_back_off: Duration::from_secs(10),
        }
    }
}

/// Where the table is.
#[derive(Debug, Clone)]
pub enum Store {
    /// A file of SQLite, made if it is not there; its folder must be.
    Sqlite(PathBuf),
    /// A MySQL or MariaDB server.
    MySql(MySql),
}

/// A server, a schema on it, and where to learn who logs in.
#[derive(Debug, Clone)]
pub struct MySql {
    /// Where it listens.
    pub address: Address,
    /// The schema that holds the table.
    pub database: String,
    /// Whether the connection is encrypted.
    pub tls: TlsMode,
    /// Asked at each connect, so that rotated secrets are taken.
    pub login: Arc<dyn ReadLogin>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A host name or IP address (IPv6 without brackets) and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// The path of a Unix socket.
    Socket(PathBuf),
}

/// Whether a connection is encrypted, and what the server has to prove; the words are those of MySQL's `ssl-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Never encrypted.
    Disabled,
    /// Encrypted if the server can.
    Preferred,
    /// Encrypted or not at all.
    Required,
    /// The certificate must come from a trusted authority.
    VerifyCa,
    /// The certificate must come from a trusted authority and name the host.
    VerifyIdentity,
}

/// Knows who logs in.
pub trait ReadLogin: fmt::Debug + Send + Sync {
    /// Reads account, secret and certificates now, in bounded time. The error is a sentence that quotes no secret.
    fn read(&self) -> BoxFuture<'_, Result<Login, String>>;
}

/// An account, its password and what TLS needs of files.
#[derive(Debug, Clone)]
pub struct Login {
    /// The account's name.
    pub user: String,
    /// Its password; empty for none.
    pub password: SecretString,
    /// Certificate authorities to trust besides the public ones, as PEM.
    pub ca: Option<Vec<u8>>,
    /// The client's certificate chain and key, both PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// The table's name: 1 to 48 ASCII letters, digits and underscores, the first of them no digit. So it needs no
/// quoting, and those of the tables beside it fit as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName(String);

/// Why a table cannot be called so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadTableName;

impl fmt::Display for BadTableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a table's name here is 1 to 48 letters, digits and underscores, the first of them no digit",
        )
    }
}

impl std::error::Error for BadTableName {}

impl TableName {
    /// Takes a name that fits.
    pub fn new(name: &str) -> Result<Self, BadTableName> {
        let fits = (1..=48).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.starts_with(|first: char| first.is_ascii_digit());
        fits.then(|| Self(name.to_owned())).ok_or(BadTableName)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
