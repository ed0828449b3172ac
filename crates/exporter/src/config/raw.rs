//! What was written: the tables of a configuration file, key by key, each value right or wrong by itself.
//!
//! Every struct here is taken apart completely where it is checked, so no key can be read and forgotten. The comment of
//! a key is its description in the JSON Schema.

use std::time::Duration;

use fleet_collector::{
    driver::Flavour,
    query::{Kind, OnNull},
    target::{Isolation, TlsMode},
};

use super::{
    OnFailure,
    field::{At, Entries, Field, List, Node, Number, Table, TextToo, Word},
    keys::keys,
};

keys! {
    /// A configuration file.
    struct RawFile {
        /// Further files that add targets, groups and queries: paths and patterns such as "conf.d/*.toml".
        include: List<Field<String>>,
        /// The exporter's own HTTP server.
        server: Table<RawServer>,
        /// What holds where nothing nearer says otherwise.
        defaults: Table<RawDefaults>,
        /// How much at most, over the whole fleet.
        limits: Table<RawLimits>,
        /// Where what ran is kept over a restart; nowhere without it.
        history: Table<RawHistory>,
        /// Sets of targets, by name.
        groups: Table<Entries<Table<RawGroup>>>,
        /// Queries, by name.
        queries: Table<Entries<Table<RawQuery>>>,
    }

    /// `[server]`
    struct RawServer {
        /// Host and port of the HTTP server.
        listen: Field<String>,
        /// true: `POST /-/reload` reads the configuration anew, as SIGHUP does.
        reload: Field<bool>,
        /// A web configuration file, as Prometheus' exporters share it: TLS, logins and headers of this server.
        web_config: Field<String>,
    }

    /// `[defaults]`
    struct RawDefaults {
        ..access: RawAccess,
        ..settings: RawSettings,
        /// Stands before each family; "" for none.
        namespace: Field<String>,
        /// The label that holds a target's name; "" only with a single target.
        target_label: Field<String>,
    }

    /// `[limits]`
    struct RawLimits {
        ..result: RawResultLimits,
        /// Queries that run at the same time, over the whole fleet.
        max_runs: Field<usize>,
        /// Connections that are being opened at the same time.
        max_connects: Field<usize>,
        /// Bytes of the page that Prometheus reads.
        max_page_bytes: Field<usize>,
    }

    /// `[history]`
    struct RawHistory {
        /// A file of SQLite for the table, made if it is not there.
        sqlite: Field<String>,
        /// The server that has the table.
        mysql: Table<RawHistoryMysql>,
        /// How often what ran is written down: as much is lost when the process is killed.
        flush_interval: Field<Duration>,
        /// Whether whole results are kept too, to be served again after a restart.
        results: Field<bool>,
        /// Whether a table that is found in another shape may be altered.
        migrate: Field<bool>,
    }

    /// `[history.mysql]`
    struct RawHistoryMysql {
        ..account: RawAccount,
        /// Host and port of the server; the port is 3306 unless it is written.
        address: Field<String>,
        /// The path of a Unix socket.
        socket: Field<String>,
        /// The table's name.
        table: Field<String>,
    }

    /// The settings of an item: a query on a target.
    struct RawSettings {
        ..timing: RawTiming,
        ..result: RawResultLimits,
    }

    /// How often, how long, how old.
    struct RawTiming {
        /// How often the query runs on the target.
        interval: Field<Duration>,
        /// How long a run may take; not above its interval.
        timeout: Field<Duration>,
        /// How old the last good result may be while it is shown.
        expire_after: Field<Duration>,
        /// How long after a failure an item runs again before its next tick; not at all where it is not below the interval.
        retry_after: Field<Duration>,
        /// Whether a failed run keeps the last good result until it expires, or drops it at once.
        on_failure: Field<OnFailure>,
    }

    /// How large an answer may be.
    struct RawResultLimits {
        /// Rows of one answer; a larger one fails the run.
        rows as "max_rows": Field<usize>,
        /// Series of one run; more fail the run.
        series as "max_series": Field<usize>,
        /// Bytes of one label value; a longer one is cut.
        label_bytes as "max_label_bytes": Field<usize>,
        /// Bytes of one answer; a larger one fails the run.
        result_bytes as "max_result_bytes": Field<usize>,
    }

    /// Who logs in, and how.
    struct RawAccount {
        /// The account to log in with.
        user: Field<String>,
        /// Its password; `password_file` and `password_env` keep it out of this file.
        password: Field<String>,
        /// A file that holds the password, read again at each connect.
        password_file: Field<String>,
        /// An environment variable that holds the password.
        password_env: Field<String>,
        /// A program and its arguments that prints the password; no shell is involved.
        password_command: List<Field<String>>,
        /// An option file of the MySQL client (my.cnf) with user and password.
        defaults_file: Table<RawDefaultsFile>,
        /// Whether and how connections are encrypted.
        tls: Table<RawTls>,
        /// The schema that a session starts in.
        database: Field<String>,
    }

    /// How to reach a target.
    struct RawAccess {
        ..account: RawAccount,
        /// Connections at one target at any moment, 1 to 100.
        max_connections: Field<usize>,
        /// Pairs that each series of each target carries.
        labels: Labels,
        /// Whether a query that outlives its timeout is stopped at the server.
        kill: Field<bool>,
        /// What each session is set to when it begins.
        session: Table<RawSession>,
    }

    /// `defaults_file`
    struct RawDefaultsFile {
        /// The option file, such as "my.cnf".
        path: Field<String> = required,
        /// The section of it that is read.
        section: Field<String>,
    }

    /// `tls`
    struct RawTls {
        /// How much is asked of the server.
        mode: Field<TlsMode> = required,
        /// A PEM file with the authorities to trust besides the public ones.
        ca: Field<String>,
        /// The client's certificate, a PEM file.
        cert: Field<String>,
        /// The key of the client's certificate, a PEM file.
        key: Field<String>,
    }

    /// `session`
    struct RawSession {
        /// The session's `time_zone`, such as "+00:00".
        time_zone: Field<String>,
        /// The session's `sql_mode`.
        sql_mode: Field<String>,
        /// The isolation level of the session's transactions.
        isolation: Field<Isolation>,
        /// Further SET statements.
        extra: List<Field<String>>,
    }

    /// `[groups.NAME]`
    struct RawGroup {
        ..access: RawAccess,
        ..settings: RawSettings,
        /// false: no query runs on these targets, unless something nearer says otherwise.
        enabled: Field<bool>,
        /// true: nothing connects to these targets.
        paused: Field<bool>,
        /// The servers: names with their addresses, or a list of addresses.
        targets: RawTargets,
        /// What holds for single queries on this group.
        queries: Overrides,
    }

    /// A target's table.
    struct RawTarget {
        ..access: RawAccess,
        ..settings: RawSettings,
        /// Host and port; the port is 3306 unless it is written.
        address: Field<String>,
        /// The path of a Unix socket.
        socket: Field<String>,
        /// false: no query runs on this target, unless something nearer says otherwise.
        enabled: Field<bool>,
        /// true: nothing connects to this target.
        paused: Field<bool>,
        /// What holds for single queries on this target.
        queries: Overrides,
    }

    /// `[groups.NAME.queries.NAME]`, or queries = { NAME = { … } } of a target.
    struct RawOverride {
        ..settings: RawSettings,
        /// Whether the query runs here.
        enabled: Field<bool>,
    }

    /// `[queries.NAME]`
    struct RawQuery {
        ..settings: RawSettings,
        ..statement: RawStatement,
        /// The groups that it runs on; all by default.
        groups: List<Field<String>>,
        /// Only on targets with these labels.
        where_labels as "where": Labels,
        /// Only on targets whose names are these, or fit these patterns of * and ?.
        targets: List<Field<String>>,
        /// Whether it runs at all, unless something nearer says otherwise.
        enabled: Field<bool>,
        /// Other statements for certain servers; the first that fits is taken.
        variants: List<Table<RawVariant>>,
        /// Whether the statement may be a CALL.
        allow_call: Field<bool>,
        /// Stands before its families; "" for none.
        namespace: Field<String>,
        /// What its rows become, by family.
        metrics: Table<Entries<RawMetricNode>>,
    }

    /// One statement that only reads.
    struct RawStatement {
        /// The statement itself.
        sql: Field<String>,
        /// A file that holds it.
        sql_file: Field<String>,
    }

    /// `[[queries.NAME.variants]]`
    struct RawVariant {
        ..statement: RawStatement,
        /// Which servers it is for.
        when: Table<RawWhen> = required,
    }

    /// `when`
    struct RawWhen {
        /// Whose dialect the server speaks.
        flavour: Field<Flavour>,
        /// Which versions, such as ">=10.5, <11".
        version: Field<String>,
    }

    /// `[queries.NAME.metrics.FAMILY]`
    struct RawMetric {
        /// The type of the family.
        kind as "type": Field<Kind> = required,
        /// What the number counts, in a few words.
        help: Field<String> = required,
        /// Columns that become labels of the same name.
        labels: List<Field<String>>,
        /// The column that holds the number.
        value: Field<String>,
        /// The same number for each row.
        static_value: Field<Number>,
        /// Labels that do not come from the row.
        static_labels: Labels,
        /// What NULL in the value column means.
        on_null: Field<OnNull>,
    }
}

/// The targets of a group: a table of names, or a list of addresses.
pub(super) type RawTargets = At<Node<Entries<RawTargetNode>, Vec<Field<String>>>>;
/// A target's value: its address, or a table.
pub(super) type RawTargetNode = At<Node<RawTarget, TextToo>>;
/// Pairs of label names and values.
pub(super) type Labels = Table<Entries<Field<String>>>;
/// Settings for single queries, by their names.
pub(super) type Overrides = Table<Entries<Table<RawOverride>>>;
/// A family's value: one table, or an array of them when one row feeds it more than once.
pub(super) type RawMetricNode = At<Node<RawMetric, Vec<Table<RawMetric>>>>;

impl Word for OnFailure {
    const WORDS: &[(&str, Self)] = &[("keep", Self::Keep), ("drop", Self::Drop)];
}

impl Word for Kind {
    const WORDS: &[(&str, Self)] = &[("gauge", Self::Gauge), ("counter", Self::Counter)];
}

impl Word for OnNull {
    const WORDS: &[(&str, Self)] =
        &[("skip", Self::Skip), ("zero", Self::Zero), ("nan", Self::NaN), ("error", Self::Error)];
}

impl Word for TlsMode {
    const WORDS: &[(&str, Self)] = &[
        ("disabled", Self::Disabled),
        ("preferred", Self::Preferred),
        ("required", Self::Required),
        ("verify_ca", Self::VerifyCa),
        ("verify_identity", Self::VerifyIdentity),
    ];
}

impl Word for Isolation {
    const WORDS: &[(&str, Self)] = &[
        ("read uncommitted", Self::ReadUncommitted),
        ("read committed", Self::ReadCommitted),
        ("repeatable read", Self::RepeatableRead),
        ("serializable", Self::Serializable),
    ];
}

impl Word for Flavour {
    const WORDS: &[(&str, Self)] = &[("mariadb", Self::MariaDb), ("mysql", Self::MySql)];
}
