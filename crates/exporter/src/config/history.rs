//! `[history]`: where the table is that outlives a restart, and who logs in there.

use std::{path::PathBuf, sync::Arc, time::Duration};

use fleet_collector::target::{Address, Target};
use fleet_history::TableName;

use super::{
    access::{Access, PasswordText, not_empty},
    account::{Account, Holes},
    address::host_and_port,
    field::{At, Field, Table, Wrong, good, read, read_with, table},
    raw::{RawHistory, RawHistoryMysql},
    report::{Findings, Place},
    secrets::{Need, Needed},
    settings::between,
    targets::{Checker, Fleet},
};

const DEFAULT_TABLE: &str = "history";
const DEFAULT_PORT: u16 = 3306;
const EXAMPLE: &str = "write sqlite = \"history.db\", or [history.mysql] with address, user and database";

/// `[history]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct History {
    /// Where the table is.
    pub(crate) store: Store,
    /// How it is called.
    pub(crate) table: TableName,
    /// How often what ran is written down.
    pub(crate) flush_interval: Duration,
    /// Whether whole results are kept too.
    pub(crate) results: bool,
    /// Whether a table that is found in another shape may be altered.
    pub(crate) migrate: bool,
}

/// Where the table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Store {
    /// A file.
    Sqlite(PathBuf),
    /// A server: how to reach it and who logs in there. Its database is set.
    MySql(Arc<Target>),
}

impl History {
    /// Where it is, in a line without a secret.
    pub(crate) fn place(&self) -> String {
        match &self.store {
            Store::Sqlite(path) => format!("sqlite {}", path.display()),
            Store::MySql(server) => {
                let database = server.database.as_deref().unwrap_or_default();
                format!("mysql {}, table {database}.{}", server.address, self.table.as_str())
            }
        }
    }
}

/// Checks the table. What its account needs is added to what the fleet needs.
pub(super) fn check(
    found: &mut Findings,
    history: Option<Table<RawHistory>>,
    fleet: &mut Fleet,
) -> Option<History> {
    let node = history?;
    let At { at, value } = table(found, "history", Some(node), "write [history] with its keys below")?;
    let RawHistory { sqlite, mysql, flush_interval, results, migrate } = value;
    let flush_interval = read_with(
        found,
        "flush_interval",
        flush_interval,
        between(Duration::from_millis(100), Duration::from_mins(1)),
    );
    let results = read(found, "results", results);
    let migrate = read(found, "migrate", migrate);
    let (store, table) = store(found, &at, sqlite, mysql, fleet)?;
    Some(History {
        store,
        table,
        flush_interval: good(flush_interval).map_or(Duration::from_secs(1), |at| at.value),
        results: good(results).is_none_or(|at| at.value),
        migrate: good(migrate).is_some_and(|at| at.value),
    })
}

fn store(
    found: &mut Findings,
    at: &Place,
    sqlite: Option<Field<String>>,
    mysql: Option<Table<RawHistoryMysql>>,
    fleet: &mut Fleet,
) -> Option<(Store, TableName)> {
    let sqlite = read_with(found, "sqlite", sqlite, not_empty);
    match (sqlite, mysql) {
        (None, None) => {
            if !found.was_meant(at, &["sqlite", "mysql"]) {
                found.error(at, "`[history]` does not say where the table is").help(EXAMPLE);
            }
            None
        }
        (Some(sqlite), Some(mysql)) => {
            found
                .error(&mysql.at, "a history is kept in one place")
                .note(&sqlite.at, "the other is here")
                .help("keep one of sqlite and [history.mysql]");
            None
        }
        (Some(sqlite), None) => {
            let At { at, value } = good(Some(sqlite))?;
            let path = found.sources.path(&at, &value);
            fleet.needs.push(Need { at, what: Needed::HistoryFolder(path.clone()) });
            Some((Store::Sqlite(path), table_name(DEFAULT_TABLE).ok()?))
        }
        (None, Some(mysql)) => {
            let mysql = table(found, "mysql", Some(mysql), EXAMPLE)?;
            // With a fleet of its own, so that it is no group and no target.
            let mut checker = Checker::new(found, None, Fleet::default());
            let server = checker.history_server(mysql);
            let Fleet { needs, inline, .. } = checker.fleet;
            fleet.needs.extend(needs);
            fleet.inline.extend(inline);
            server
        }
    }
}

impl Checker<'_> {
    fn history_server(&mut self, mysql: At<RawHistoryMysql>) -> Option<(Store, TableName)> {
        let At { at, value: RawHistoryMysql { account, address, socket, table } } = mysql;
        let access = Access::check_account(self.found, account);
        self.fleet.inline.extend(access.inline_password());
        let table = read_with(self.found, "table", table, |name| table_name(&name));
        let no_address = address.is_none() && socket.is_none();
        let address = self.history_address(address, socket);
        let lacks_user = Account::of([&access, &Access::default(), &Access::default()]).is_none();
        let in_file = access.password.as_ref().and_then(|at| at.value.as_ref());
        let in_file = matches!(in_file, Some(PasswordText::DefaultsFile { .. }));
        let lacks_address = no_address && !in_file && !self.found.was_meant(&at, &["socket"]);
        for (lacks, key, help) in [
            (
                lacks_address,
                "address",
                "write address = \"10.0.0.11:3306\" or socket = \"/run/mysqld/mysqld.sock\"",
            ),
            (lacks_user, "user", "write user = \"exporter\", an account that may write to the table"),
            (
                access.database.is_none(),
                "database",
                "write database = \"monitoring\", the schema of the table",
            ),
        ] {
            if lacks && !self.found.was_meant(&at, &[key]) {
                self.found.error(&at, format!("`[history.mysql]` has no `{key}`")).help(help);
            }
        }
        if lacks_address || lacks_user || access.database.is_none() {
            return None;
        }
        let levels = [&access, &Access::default(), &Access::default()];
        let holes = Holes::none();
        let name = "history";
        let target = self.target(
            name.to_owned(),
            address,
            no_address,
            &name.into(),
            levels,
            &std::collections::BTreeMap::new(),
            &holes,
            &at,
        )?;
        let table = match table {
            None => table_name(DEFAULT_TABLE).ok()?,
            table => good(table)?.value,
        };
        target.database.as_ref()?;
        Some((Store::MySql(Arc::new(target)), table))
    }

    fn history_address(
        &mut self,
        address: Option<Field<String>>,
        socket: Option<Field<String>>,
    ) -> Option<Address> {
        let address = read_with(self.found, "address", address, |text| {
            let (host, port) = host_and_port(&text, Some(DEFAULT_PORT))?;
            Ok(Address::Tcp { host, port })
        });
        let socket = read_with(self.found, "socket", socket, not_empty);
        match (address, socket) {
            (Some(address), Some(socket)) => {
                self.found
                    .error(&socket.at, "`[history.mysql]` has an `address` and a `socket`")
                    .note(&address.at, "the address is here")
                    .help("keep one of the two");
                None
            }
            (Some(address), None) => good(Some(address)).map(|at| at.value),
            (None, socket) => {
                let At { at, value } = good(socket)?;
                Some(Address::Socket(self.found.sources.path(&at, &value)))
            }
        }
    }
}

fn table_name(name: &str) -> Result<TableName, Wrong> {
    TableName::new(name).map_err(|bad| {
        Wrong::new("is no name of a table", format!("{bad}; the schema has its own key, `database`"))
    })
}
