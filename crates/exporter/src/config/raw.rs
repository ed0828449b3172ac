//! What was written: the tables of a configuration file, key by key, each value right or wrong by itself.
//!
//! Every struct here is taken apart completely where it is checked, so no key can be read and forgotten.

use std::time::Duration;

use fleet_collector::{
    query::{Kind, OnNull},
    target::TlsMode,
};
use serde::Deserialize;

use super::{
    OnFailure,
    field::{At, Entries, Field, List, Node, Number, Table, Value, Wrong, choice},
};

/// The whole file.
#[derive(Debug, Deserialize)]
pub(super) struct RawFile {
    pub(super) server: Option<Table<RawServer>>,
    pub(super) defaults: Option<Table<RawDefaults>>,
    pub(super) limits: Option<Table<RawLimits>>,
    pub(super) groups: Option<Table<Entries<Table<RawGroup>>>>,
    pub(super) queries: Option<Table<Entries<Table<RawQuery>>>>,
}

/// `[server]`
#[derive(Debug, Default, Deserialize)]
pub(super) struct RawServer {
    pub(super) listen: Option<Field<String>>,
}

/// `[defaults]`
#[derive(Debug, Default, Deserialize)]
pub(super) struct RawDefaults {
    pub(super) namespace: Option<Field<String>>,
    pub(super) target_label: Option<Field<String>>,
    pub(super) database: Option<Field<String>>,
    pub(super) interval: Option<Field<Duration>>,
    pub(super) timeout: Option<Field<Duration>>,
    pub(super) expire_after: Option<Field<Duration>>,
    pub(super) on_failure: Option<Field<OnFailure>>,
}

/// `[limits]`
#[expect(clippy::struct_field_names, reason = "the fields are the keys of the file")]
#[derive(Debug, Default, Deserialize)]
pub(super) struct RawLimits {
    pub(super) max_runs: Option<Field<usize>>,
    pub(super) max_connects: Option<Field<usize>>,
    pub(super) max_rows: Option<Field<usize>>,
    pub(super) max_series: Option<Field<usize>>,
    pub(super) max_label_bytes: Option<Field<usize>>,
    pub(super) max_result_bytes: Option<Field<usize>>,
}

/// `[groups.NAME]`
#[derive(Debug, Deserialize)]
pub(super) struct RawGroup {
    pub(super) user: Option<Field<String>>,
    pub(super) password: Option<Field<String>>,
    pub(super) password_file: Option<Field<String>>,
    pub(super) password_env: Option<Field<String>>,
    pub(super) tls: Option<Table<RawTls>>,
    pub(super) max_connections: Option<Field<usize>>,
    pub(super) labels: Option<Labels>,
    pub(super) database: Option<Field<String>>,
    pub(super) kill: Option<Field<bool>>,
    pub(super) interval: Option<Field<Duration>>,
    pub(super) timeout: Option<Field<Duration>>,
    pub(super) expire_after: Option<Field<Duration>>,
    pub(super) on_failure: Option<Field<OnFailure>>,
    pub(super) targets: Option<RawTargets>,
}

/// The targets of a group: a table of names, or a list of addresses.
pub(super) type RawTargets = At<Node<Entries<RawTargetNode>, Vec<Field<String>>>>;
/// A target's value: its address, or a table.
pub(super) type RawTargetNode = At<Node<RawTarget, serde::de::IgnoredAny>>;
/// Pairs of label names and values.
pub(super) type Labels = Table<Entries<Field<String>>>;

/// A target as a table.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RawTarget {
    pub(super) address: Option<Field<String>>,
    pub(super) socket: Option<Field<String>>,
    pub(super) user: Option<Field<String>>,
    pub(super) password: Option<Field<String>>,
    pub(super) password_file: Option<Field<String>>,
    pub(super) password_env: Option<Field<String>>,
    pub(super) tls: Option<Table<RawTls>>,
    pub(super) max_connections: Option<Field<usize>>,
    pub(super) labels: Option<Labels>,
    pub(super) database: Option<Field<String>>,
    pub(super) kill: Option<Field<bool>>,
    pub(super) interval: Option<Field<Duration>>,
    pub(super) timeout: Option<Field<Duration>>,
    pub(super) expire_after: Option<Field<Duration>>,
    pub(super) on_failure: Option<Field<OnFailure>>,
}

/// `tls`
#[derive(Debug, Deserialize)]
pub(super) struct RawTls {
    pub(super) mode: Option<Field<TlsMode>>,
    pub(super) ca: Option<Field<String>>,
    pub(super) cert: Option<Field<String>>,
    pub(super) key: Option<Field<String>>,
}

/// `[queries.NAME]`
#[derive(Debug, Deserialize)]
pub(super) struct RawQuery {
    pub(super) groups: Option<List<Field<String>>>,
    pub(super) sql: Option<Field<String>>,
    pub(super) namespace: Option<Field<String>>,
    pub(super) interval: Option<Field<Duration>>,
    pub(super) timeout: Option<Field<Duration>>,
    pub(super) expire_after: Option<Field<Duration>>,
    pub(super) on_failure: Option<Field<OnFailure>>,
    pub(super) metrics: Option<Table<Entries<RawMetricNode>>>,
}

/// A family's value: one table, or an array of them when one row feeds it more than once.
pub(super) type RawMetricNode = At<Node<RawMetric, Vec<Table<RawMetric>>>>;

/// `[queries.NAME.metrics.FAMILY]`
#[derive(Debug, Deserialize)]
pub(super) struct RawMetric {
    #[serde(rename = "type")]
    pub(super) kind: Option<Field<Kind>>,
    pub(super) help: Option<Field<String>>,
    pub(super) labels: Option<List<Field<String>>>,
    pub(super) value: Option<Field<String>>,
    pub(super) static_value: Option<Field<Number>>,
    pub(super) static_labels: Option<Labels>,
    pub(super) on_null: Option<Field<OnNull>>,
}

impl Value for OnFailure {
    fn from_toml(value: toml::Value) -> Result<Self, Wrong> {
        choice(value, &[("keep", Self::Keep), ("drop", Self::Drop)])
    }
}

impl Value for Kind {
    fn from_toml(value: toml::Value) -> Result<Self, Wrong> {
        choice(value, &[("gauge", Self::Gauge), ("counter", Self::Counter)])
    }
}

impl Value for OnNull {
    fn from_toml(value: toml::Value) -> Result<Self, Wrong> {
        let words = [("skip", Self::Skip), ("zero", Self::Zero), ("nan", Self::NaN), ("error", Self::Error)];
        choice(value, &words)
    }
}

impl Value for TlsMode {
    fn from_toml(value: toml::Value) -> Result<Self, Wrong> {
        let modes = [Self::Disabled, Self::Preferred, Self::Required, Self::VerifyCa, Self::VerifyIdentity];
        choice(value, &modes.map(|mode| (mode.as_str(), mode)))
    }
}
