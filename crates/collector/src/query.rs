//! A query: its SQL, and how the columns of its answer become metric families.

use std::sync::Arc;

use crate::statement::Statement;

/// SQL and its mapping, as the configuration says it, the same for each target that it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Its name, unique in the fleet.
    pub name: Arc<str>,
    /// One checked, read-only statement.
    pub statement: Statement,
    /// What each row yields, in the order of the configuration.
    pub metrics: Vec<Metric>,
    /// How large an answer may be.
    pub limits: ResultLimits,
}

/// What one row yields for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// The family the samples belong to. Several metrics may feed one family, in one query or in several.
    pub family: Arc<Family>,
    /// Columns that become labels of the same name.
    pub labels: Vec<String>,
    /// Label names and values that do not come from the row.
    pub static_labels: Vec<(String, String)>,
    /// Where the number comes from.
    pub value: ValueSource,
    /// What a NULL in the value column means.
    pub on_null: OnNull,
}

/// A metric family: what HELP and TYPE say once on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// The full name, namespace included.
    pub name: String,
    /// The text of HELP, unescaped.
    pub help: String,
    /// The type.
    pub kind: Kind,
}

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A value that only goes up, until it is reset.
    Counter,
}

/// Where the number of a sample comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueSource {
    /// A column of the row.
    Column(String),
    /// The same number for each row, as it is to stand on the page.
    Static(String),
}

/// What a NULL in the value column means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNull {
    /// The row yields no sample; the default.
    #[default]
    Skip,
    /// The sample's value is 0.
    Zero,
    /// The sample's value is `NaN`.
    NaN,
    /// The run fails with the reason `mapping`.
    Error,
}

/// How large the answer of one run may be. An answer beyond `rows`, `series` or `result_bytes` fails the run with
/// the reason `too_large`; a longer label value is cut at `label_bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultLimits {
    /// Rows of the answer.
    pub rows: usize,
    /// Samples that the rows yield, over all families of the query.
    pub series: usize,
    /// Bytes of one label value, before escaping.
    pub label_bytes: usize,
    /// Bytes of all cells together.
    pub result_bytes: usize,
}

impl Default for ResultLimits {
    fn default() -> Self {
        Self { rows: 10_000, series: 10_000, label_bytes: 1024, result_bytes: 8 << 20 }
    }
}
