//! A query: its SQL, and how the columns of its answer become metric families.

use std::{fmt, sync::Arc};

use crate::{driver::Server, statement::Statement, version::When};

/// SQL and its mapping, as the configuration says it, the same for each target that it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Its name, unique in the fleet.
    pub name: Arc<str>,
    /// What is asked of servers that no variant is for. None: nothing is.
    pub statement: Option<Statement>,
    /// What is asked of certain servers instead. The first that fits is taken.
    pub variants: Vec<Variant>,
    /// What each row yields, in the order of the configuration.
    pub metrics: Vec<Metric>,
}

impl Query {
    /// What this server is asked: the first variant that fits, else the query's own statement. None: the query is
    /// not for this server.
    pub fn statement_for(&self, server: &Server) -> Option<&Statement> {
        let variant = self.variants.iter().find(|variant| variant.when.fits(server));
        variant.map(|variant| &variant.statement).or(self.statement.as_ref())
    }

    /// All that decides which samples it yields: everything but what HELP says.
    pub fn yields(&self) -> impl PartialEq + fmt::Debug + '_ {
        let Self { name: _, statement, variants, metrics } = self;
        let metrics = metrics.iter().map(|metric| {
            let Metric { family, labels, static_labels, value, on_null } = metric;
            let Family { name, help: _, kind } = &**family;
            (name, kind, labels, static_labels, value, on_null)
        });
        (statement, variants, metrics.collect::<Vec<_>>())
    }
}

/// A statement for certain servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Which.
    pub when: When,
    /// What they are asked.
    pub statement: Statement,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Flavour;

    #[test]
    fn the_first_variant_that_fits_is_taken_then_the_querys_own_statement() {
        let variant = |flavour, version: &str, sql| Variant {
            when: When { flavour, version: (!version.is_empty()).then(|| version.parse().unwrap()) },
            statement: Statement::check(sql).unwrap(),
        };
        let mut query = Query {
            name: "q".into(),
            statement: Some(Statement::check("select 0").unwrap()),
            variants: vec![
                variant(Some(Flavour::MariaDb), ">=10.5", "select 1"),
                variant(Some(Flavour::MariaDb), "", "select 2"),
                variant(None, "<8", "select 3"),
            ],
            metrics: Vec::new(),
        };
        let sql_for = |query: &Query, flavour, version: &str| {
            let server = Server { flavour, version: version.to_owned(), ..Server::default() };
            query.statement_for(&server).map(|statement| statement.sql().to_owned())
        };
        for (flavour, version, sql) in [
            (Flavour::MariaDb, "10.11.6-MariaDB", "select 1"),
            (Flavour::MariaDb, "10.4.34-MariaDB", "select 2"),
            (Flavour::MySql, "5.7.44-log", "select 3"),
            (Flavour::MySql, "9.7.4", "select 0"),
        ] {
            assert_eq!(sql_for(&query, flavour, version).as_deref(), Some(sql), "{version}");
        }
        query.statement = None;
        assert_eq!(sql_for(&query, Flavour::MySql, "9.7.4"), None);
    }
}
