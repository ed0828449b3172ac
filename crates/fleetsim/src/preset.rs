//! How known servers greet, and who they say they are.

/// A server whose greeting and manners are known.
///
/// Those of MariaDB and of MySQL 9.7 were taken from running servers, the others from their documentation and sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// MySQL 5.7, without a secure default plugin.
    MySql57,
    /// MySQL 8.0.
    MySql80,
    /// MySQL 8.4.
    MySql84,
    /// MySQL 9.7.
    MySql97,
    /// Percona Server 8.0.
    Percona80,
    /// MariaDB 10.5, whose greeting pretends to be 5.5.5.
    MariaDb105,
    /// MariaDB 10.11, likewise.
    MariaDb1011,
    /// MariaDB 11.8, which no longer pretends.
    MariaDb118,
    /// `ProxySQL` before MySQL servers: it greets by itself, without `DEPRECATE_EOF`.
    ProxySql,
}

/// What a preset says.
#[derive(Debug)]
pub(crate) struct Manners {
    /// The version in the greeting.
    pub(crate) greeting: &'static str,
    /// `@@version`.
    pub(crate) version: &'static str,
    /// `@@version_comment`.
    pub(crate) comment: &'static str,
    pub(crate) plugin: &'static str,
    pub(crate) capabilities: u64,
    /// The collation of the greeting.
    pub(crate) collation: u8,
    pub(crate) mariadb: bool,
}

/// A client may name its schema, may ask for multiple results, and so on: what each server can.
const COMMON: u64 = 0x009f_f7fe;
/// The bit by which MySQL says that it is not MariaDB's extended protocol.
const MYSQL: u64 = 1;
/// `CLIENT_DEPRECATE_EOF`
pub(crate) const DEPRECATE_EOF: u64 = 1 << 24;
/// `CLIENT_SSL`
pub(crate) const SSL: u64 = 1 << 11;
/// What MariaDB can beyond: its extended capabilities.
const MARIADB: u64 = 0x1d << 32;

impl Preset {
    /// Each of them.
    pub const ALL: [Self; 9] = [
        Self::MySql57,
        Self::MySql80,
        Self::MySql84,
        Self::MySql97,
        Self::Percona80,
        Self::MariaDb105,
        Self::MariaDb1011,
        Self::MariaDb118,
        Self::ProxySql,
    ];

    /// Whether it speaks MariaDB's dialect.
    pub fn is_mariadb(self) -> bool {
        self.manners().mariadb
    }

    pub(crate) fn manners(self) -> Manners {
        const NATIVE: &str = "mysql_native_password";
        const SHA2: &str = "caching_sha2_password";
        let mysql = |version, comment, plugin, collation| Manners {
            greeting: version,
            version,
            comment,
            plugin,
            capabilities: COMMON | MYSQL | DEPRECATE_EOF,
            collation,
            mariadb: false,
        };
        let mariadb = |greeting, version, collation| Manners {
            greeting,
            version,
            comment: "mariadb.org binary distribution",
            plugin: NATIVE,
            capabilities: COMMON | DEPRECATE_EOF | MARIADB,
            collation,
            mariadb: true,
        };
        match self {
            Self::MySql57 => mysql("5.7.44-log", "MySQL Community Server (GPL)", NATIVE, 8),
            Self::MySql80 => mysql("8.0.43", "MySQL Community Server - GPL", SHA2, 255),
            Self::MySql84 => mysql("8.4.6", "MySQL Community Server - GPL", SHA2, 255),
            Self::MySql97 => mysql("9.7.0", "MySQL Community Server - GPL", SHA2, 255),
            Self::Percona80 => {
                mysql("8.0.42-33", "Percona Server (GPL), Release 33, Revision 9dc49998", SHA2, 255)
            }
            Self::MariaDb105 => mariadb("5.5.5-10.5.29-MariaDB", "10.5.29-MariaDB", 45),
            Self::MariaDb1011 => mariadb("5.5.5-10.11.14-MariaDB", "10.11.14-MariaDB", 45),
            Self::MariaDb118 => mariadb("11.8.3-MariaDB", "11.8.3-MariaDB", 45),
            Self::ProxySql => Manners {
                greeting: "8.0.27",
                capabilities: (COMMON | MYSQL) & !DEPRECATE_EOF,
                ..mysql("8.0.41", "MySQL Community Server - GPL", NATIVE, 33)
            },
        }
    }
}
