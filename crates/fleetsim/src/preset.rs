//! How known servers greet, and who they say they are.

/// A server whose greeting and manners are known.
///
/// Those of MariaDB 10.11 and of MySQL 9.7 were taken from running servers, the others from documentation and sources.
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
#[derive(Debug, Clone, Copy)]
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
    /// Variables that other servers have.
    pub(crate) lacks: &'static [&'static str],
}

/// `CLIENT_DEPRECATE_EOF`
pub(crate) const DEPRECATE_EOF: u64 = 1 << 24;
/// `CLIENT_SSL`
pub(crate) const SSL: u64 = 1 << 11;

/// What no simulated server can: TLS if the script has none, compression, optional metadata, query attributes, a
/// second factor, and MariaDB's metadata of its own.
const NEVER: u64 = SSL | 1 << 5 | 1 << 25 | 1 << 26 | 1 << 27 | 1 << 28 | 0x1e << 32;

/// The variables that a monitor may ask for, beside those that the script names.
const VARIABLES: [(&str, &str); 16] = [
    ("autocommit", "1"),
    ("innodb_lock_wait_timeout", "50"),
    ("lock_wait_timeout", "86400"),
    ("lower_case_table_names", "0"),
    ("max_connections", "151"),
    ("read_only", "0"),
    ("server_id", "1"),
    ("sql_mode", "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"),
    ("system_time_zone", "UTC"),
    ("time_zone", "SYSTEM"),
    ("transaction_isolation", "REPEATABLE-READ"),
    ("transaction_read_only", "0"),
    ("tx_isolation", "REPEATABLE-READ"),
    ("tx_read_only", "0"),
    ("version_compile_os", "Linux"),
    ("wait_timeout", "28800"),
];
const OF_MARIADB: [(&str, &str); 1] = [("max_statement_time", "0.000000")];
const OF_MYSQL: [(&str, &str); 3] = [
    ("max_execution_time", "0"),
    ("server_uuid", "5f1c7a6e-0000-11f0-8000-000000000001"),
    ("super_read_only", "0"),
];

const NATIVE: &str = "mysql_native_password";
const SHA2: &str = "caching_sha2_password";

const MYSQL: Manners = Manners {
    greeting: "9.7.4",
    version: "9.7.4",
    comment: "MySQL Community Server - GPL",
    plugin: SHA2,
    capabilities: 0xdfff_ffff & !NEVER,
    collation: 255,
    mariadb: false,
    lacks: &["tx_read_only", "tx_isolation", "max_statement_time"],
};

const MARIADB: Manners = Manners {
    greeting: "5.5.5-10.11.19-MariaDB",
    version: "10.11.19-MariaDB",
    comment: "mariadb.org binary distribution",
    plugin: NATIVE,
    capabilities: 0x1d_81ff_fffe & !NEVER,
    collation: 8,
    mariadb: true,
    lacks: &["transaction_read_only", "transaction_isolation", "max_execution_time", "super_read_only"],
};

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
        let mysql = |version| Manners { greeting: version, version, ..MYSQL };
        match self {
            Self::MySql57 => Manners {
                comment: "MySQL Community Server (GPL)",
                plugin: NATIVE,
                capabilities: 0xc1ff_ffff & !NEVER,
                collation: 8,
                lacks: &["max_statement_time"],
                ..mysql("5.7.44-log")
            },
            Self::MySql80 => mysql("8.0.43"),
            Self::MySql84 => mysql("8.4.6"),
            Self::MySql97 => MYSQL,
            Self::Percona80 => Manners {
                comment: "Percona Server (GPL), Release 33, Revision 9dc49998",
                ..mysql("8.0.42-33")
            },
            Self::MariaDb105 => {
                Manners { greeting: "5.5.5-10.5.29-MariaDB", version: "10.5.29-MariaDB", ..MARIADB }
            }
            Self::MariaDb1011 => MARIADB,
            Self::MariaDb118 => Manners {
                greeting: "11.8.3-MariaDB",
                version: "11.8.3-MariaDB",
                collation: 45,
                lacks: &["max_execution_time", "super_read_only"],
                ..MARIADB
            },
            Self::ProxySql => Manners {
                // It greets with a version of its own; the question goes to a server behind it.
                greeting: "8.0.27",
                plugin: NATIVE,
                capabilities: MYSQL.capabilities & !DEPRECATE_EOF,
                collation: 33,
                ..mysql("8.0.41")
            },
        }
    }
}

impl Manners {
    /// The variables with their values.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let own: &[_] = if self.mariadb { &OF_MARIADB } else { &OF_MYSQL };
        let said = [("version", self.version), ("version_comment", self.comment)];
        let all = VARIABLES.iter().chain(own).chain(&said);
        let has = |name: &&(&str, &str)| !self.lacks.contains(&name.0);
        all.filter(has).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_preset_has_a_variable_that_it_lacks_and_each_has_one_for_read_only_sessions() {
        for preset in Preset::ALL {
            let manners = preset.manners();
            let variables = manners.variables();
            assert!(variables.iter().all(|(name, _)| !manners.lacks.contains(&name.as_str())), "{preset:?}");
            assert!(
                variables
                    .iter()
                    .any(|(name, _)| ["tx_read_only", "transaction_read_only"].contains(&name.as_str()))
            );
            let limit = if manners.mariadb { "max_statement_time" } else { "max_execution_time" };
            assert!(variables.iter().any(|(name, _)| name == limit), "{preset:?}");
        }
    }
}
