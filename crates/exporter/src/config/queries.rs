//! Queries: the statement, the families that its rows feed, and the groups that it reaches.

use std::{collections::BTreeMap, sync::Arc};

use fleet_collector::{
    query::{Family, Kind, Metric, Query, ValueSource},
    statement::Calls,
};

use super::{
    field::{
        At, Entries, Field, List, Node, Number, Setting, Table, Wrong, good, list, nearest, read, read_with,
        table,
    },
    names,
    raw::{RawMetric, RawMetricNode, RawQuery},
    report::{Findings, Place},
    reserved,
    settings::Settings,
    statements::{self, Statements},
    targets::Group,
};

/// A query as far as items are concerned.
#[derive(Debug)]
pub(super) struct CheckedQuery {
    pub(super) name: At<String>,
    /// None if something in it was wrong.
    pub(super) query: Option<Arc<Query>>,
    /// The indexes of the groups that it reaches.
    pub(super) groups: Vec<usize>,
    /// Labels that a target must have.
    pub(super) where_labels: Vec<(At<String>, At<String>)>,
    /// Names or patterns, one of which a target's name must fit; all names if there are none.
    pub(super) targets: Vec<At<String>>,
    pub(super) settings: Settings,
    /// Where it is said that it may be a CALL.
    pub(super) calls: Option<Place>,
    /// The labels that each metric takes from columns and constants, with their places.
    pub(super) labels: Vec<At<String>>,
}

/// What holds for all queries.
#[derive(Debug)]
pub(super) struct Common<'a> {
    pub(super) namespace: &'a str,
    pub(super) groups: &'a [Group],
}

/// Checks all queries.
pub(super) fn check(
    found: &mut Findings,
    queries: Entries<Table<RawQuery>>,
    common: &Common<'_>,
) -> Vec<CheckedQuery> {
    let mut checker = Checker {
        found,
        common,
        families: BTreeMap::new(),
        names: names::Seen::default(),
        namespace: String::new(),
    };
    queries.0.into_iter().filter_map(|(name, node)| checker.query(&name, node)).collect()
}

struct Checker<'a> {
    found: &'a mut Findings,
    common: &'a Common<'a>,
    /// Each family as it was first fed.
    families: BTreeMap<String, Fed>,
    names: names::Seen,
    /// That of the present query.
    namespace: String,
}

struct Fed {
    family: Arc<Family>,
    kind_at: Place,
    help_at: Place,
}

impl Checker<'_> {
    fn query(&mut self, name: &At<String>, node: Table<RawQuery>) -> Option<CheckedQuery> {
        if let Err(wrong) = names::plain(&name.value) {
            self.found.error(&name.at, format!("{:?} {}", name.value, wrong.message)).help(wrong.help);
        } else {
            self.names.add(self.found, "query", &name.value, &name.at);
        }
        let key = format!("queries.{}", name.value);
        let At { at, value } =
            table(self.found, &key, Some(node), "write [queries.NAME] and its keys below")?;
        let RawQuery {
            settings,
            statement,
            groups,
            where_labels,
            targets,
            enabled,
            variants,
            allow_call,
            namespace,
            metrics,
        } = value;
        let settings = Settings::check(self.found, settings, enabled);
        let namespace = read_with(self.found, "namespace", namespace, namespace_rule);
        self.namespace =
            good(namespace).map_or_else(|| self.common.namespace.to_owned(), |namespace| namespace.value);
        let groups = self.groups(groups);
        let where_labels = self.where_labels(where_labels);
        let targets = self.targets(targets);
        let allow_call = good(read(self.found, "allow_call", allow_call)).filter(|allow| allow.value);
        let allowed = if allow_call.is_some() { Calls::Allowed } else { Calls::Refused };
        let statements = statements::check(self.found, name, &at, statement, variants, allowed);
        let mut labels = Vec::new();
        let metrics = self.metrics(name, &at, metrics, &mut labels);
        let query = statements.zip(metrics).map(|(Statements { own, variants }, metrics)| {
            let name = name.value.as_str().into();
            Arc::new(Query { name, statement: own, variants, metrics })
        });
        let calls = allow_call.map(|allow| allow.at);
        Some(CheckedQuery {
            name: name.clone(),
            query,
            groups,
            where_labels,
            targets,
            settings,
            calls,
            labels,
        })
    }

    fn where_labels(&mut self, labels: Option<super::raw::Labels>) -> Vec<(At<String>, At<String>)> {
        let labels = table(self.found, "where", labels, "write pairs: where = { role = \"replica\" }");
        let Some(At { value: Entries(labels), .. }) = labels else { return Vec::new() };
        let pairs = labels.into_iter().filter_map(|(label, value)| {
            let value = good(Some(value.check(self.found, &label.value)))?;
            Some((label, value))
        });
        pairs.collect()
    }

    fn targets(&mut self, targets: Option<List<Field<String>>>) -> Vec<At<String>> {
        let help = "write targets = [\"orders-*\"], or leave it away to reach all targets";
        let Some(At { at, value }) = list(self.found, "targets", targets, help) else { return Vec::new() };
        if value.is_empty() {
            self.found.error(&at, "`targets` is empty: the query reaches nothing").help(help);
        }
        value.into_iter().filter_map(|name| name.check_in(self.found, "targets")).collect()
    }

    fn groups(&mut self, groups: Option<List<Field<String>>>) -> Vec<usize> {
        let known = self.common.groups;
        let all = (0..known.len()).collect();
        let Some(list_at) = groups.as_ref().map(|groups| groups.at.clone()) else { return all };
        let help = "write groups = [\"prod\"], or leave it away to reach all groups";
        let Some(groups) = list(self.found, "groups", groups, help) else { return all };
        if groups.value.is_empty() {
            self.found.error(&list_at, "`groups` is empty: the query reaches nothing").help(help);
        }
        let mut reached = Vec::new();
        for group in groups.value {
            let Some(At { at, value }) = group.check_in(self.found, "groups") else { continue };
            let names = || known.iter().map(|group| group.name.value.as_ref());
            match names().position(|name| name == value) {
                Some(index) if reached.contains(&index) => {}
                Some(index) => reached.push(index),
                None => {
                    let help = match nearest(&value, names()) {
                        Some(name) => format!("did you mean \"{name}\"?"),
                        None => format!("the groups are {}", names().collect::<Vec<_>>().join(", ")),
                    };
                    self.found.error(&at, format!("there is no group {value:?}")).help(help);
                }
            }
        }
        reached
    }

    fn metrics(
        &mut self,
        query: &At<String>,
        table_at: &Place,
        metrics: Option<Table<Entries<RawMetricNode>>>,
        labels: &mut Vec<At<String>>,
    ) -> Option<Vec<Metric>> {
        let help = format!(
            "write [queries.{}.metrics.FAMILY] with type, help, labels and value below it",
            query.value
        );
        let written = metrics.is_some();
        let metrics = table(self.found, "metrics", metrics, &help);
        let empty = metrics.as_ref().is_some_and(|metrics| metrics.value.0.is_empty());
        if (!written && !self.found.was_meant(table_at, &["metrics"])) || empty {
            self.found.error(&query.at, format!("query `{}` has no metrics", query.value)).help(help);
        }
        let mut checked = Vec::new();
        for (family, node) in metrics?.value.0 {
            self.family_name(&family);
            for metric in self.one_or_many(&family, node) {
                checked.push((metric.at.start, self.metric(&family, metric, labels)));
            }
        }
        // An array of tables may stand apart: the order is that of the tables, not of the families.
        checked.sort_by_key(|(start, _)| *start);
        checked.into_iter().map(|(_, metric)| metric).collect()
    }

    fn full_name(&self, family: &str) -> String {
        if self.namespace.is_empty() { family.to_owned() } else { format!("{}_{family}", self.namespace) }
    }

    fn family_name(&mut self, family: &At<String>) {
        let full = self.full_name(&family.value);
        if let Err(wrong) = names::family(&full) {
            self.found.error(&family.at, format!("{full:?} {}", wrong.message)).help(wrong.help);
        } else if reserved::is_reserved(&full) {
            self.found
                .error(&family.at, format!("the exporter itself writes the family `{full}`"))
                .help("rename the family, or give the query another namespace");
        }
    }

    fn one_or_many(&mut self, family: &At<String>, node: RawMetricNode) -> Vec<At<RawMetric>> {
        let help =
            "write [queries.NAME.metrics.FAMILY], or [[queries.NAME.metrics.FAMILY]] for each of several";
        let At { at, value } = node;
        match value {
            Node::Table(metric) => vec![At { at, value: metric }],
            Node::List(metrics) => metrics
                .into_iter()
                .filter_map(|node| table(self.found, &family.value, Some(node), help))
                .collect(),
            other => {
                let message = format!("metric `{}` takes a table, not {}", family.value, other.kind());
                self.found.error(&at, message).help(help);
                Vec::new()
            }
        }
    }

    /// None if anything in it is wrong: a metric is taken whole or not at all.
    fn metric(
        &mut self,
        name: &At<String>,
        metric: At<RawMetric>,
        all_labels: &mut Vec<At<String>>,
    ) -> Option<Metric> {
        let At { at, value } = metric;
        let RawMetric { kind, help, labels, value, static_value, static_labels, on_null } = value;
        let kind = read(self.found, "type", kind);
        let kind = self.required(name, &at, "type", kind, "write type = \"gauge\" or \"counter\"");
        let help = read(self.found, "help", help);
        let help = self.required(
            name,
            &at,
            "help",
            help,
            "write in a few words what the number counts: help = \"…\"",
        );
        let family = kind.zip(help).and_then(|(kind, help)| self.family(name, kind, help));
        let columns = self.columns(labels);
        let static_labels = self.static_labels(static_labels);
        let mut own = BTreeMap::new();
        for label in columns.iter().chain(static_labels.iter().map(|(label, _)| label)) {
            if let Some(other) = own.insert(label.value.clone(), label.at.clone()) {
                self.found
                    .error(&label.at, format!("the label `{}` is there twice", label.value))
                    .note(&other, "the first is here")
                    .help("leave one of them away, or give a column another name with AS");
            }
        }
        all_labels.extend(own.into_iter().map(|(value, at)| At { at, value }));
        let source = self.value(name, &at, value, static_value);
        let on_null = read(self.found, "on_null", on_null);
        Some(Metric {
            family: family?,
            labels: columns.into_iter().map(|label| label.value).collect(),
            static_labels: static_labels.into_iter().map(|(label, value)| (label.value, value)).collect(),
            value: source?,
            on_null: on_null.and_then(|on_null| on_null.value).unwrap_or_default(),
        })
    }

    fn required<T>(
        &mut self,
        family: &At<String>,
        table_at: &Place,
        key: &str,
        setting: Setting<T>,
        help: &str,
    ) -> Option<At<T>> {
        if setting.is_none() && !self.found.was_meant(table_at, &[key]) {
            self.found.error(&family.at, format!("metric `{}` has no `{key}`", family.value)).help(help);
        }
        good(setting)
    }

    /// Every metric that feeds a family must say the same of it.
    fn family(&mut self, name: &At<String>, kind: At<Kind>, help: At<String>) -> Option<Arc<Family>> {
        let full = self.full_name(&name.value);
        let Some(fed) = self.families.get(&full) else {
            if kind.value == Kind::Counter && !full.ends_with("_total") {
                self.found
                    .warn(&name.at, format!("the counter `{full}` does not end with _total"))
                    .help("a counter without _total is of unknown type in OpenMetrics: rename it if you can");
            }
            let family = Arc::new(Family { name: full.clone(), help: help.value, kind: kind.value });
            let fed = Fed { family: Arc::clone(&family), kind_at: kind.at, help_at: help.at };
            self.families.insert(full, fed);
            return Some(family);
        };
        let differs = [
            (fed.family.kind != kind.value, "type", &kind.at, &fed.kind_at),
            (fed.family.help != help.value, "help", &help.at, &fed.help_at),
        ];
        for (_, what, at, other) in differs.iter().filter(|(differs, ..)| *differs) {
            self.found
                .error(at, format!("the family `{full}` is fed twice, with another {what}"))
                .note(other, "the first is here")
                .help(format!("a family has one {what}: write the same, or take another name"));
        }
        (!differs.iter().any(|(differs, ..)| *differs)).then(|| Arc::clone(&fed.family))
    }

    fn columns(&mut self, labels: Option<List<Field<String>>>) -> Vec<At<String>> {
        let help = "labels of a metric are columns: labels = [\"user\", \"host\"]; \
                    fixed pairs are static_labels = { … }, and pairs of a target belong in its group";
        let Some(labels) = list(self.found, "labels", labels, help) else { return Vec::new() };
        let columns: Vec<_> =
            labels.value.into_iter().filter_map(|label| label.check_in(self.found, "labels")).collect();
        for label in &columns {
            self.label_name(label);
        }
        columns
    }

    fn static_labels(&mut self, labels: Option<super::raw::Labels>) -> Vec<(At<String>, String)> {
        let help = "write pairs: static_labels = { kind = \"read\" }";
        let Some(labels) = table(self.found, "static_labels", labels, help) else { return Vec::new() };
        let mut checked = Vec::new();
        for (label, value) in labels.value.0 {
            self.label_name(&label);
            if let Some(value) = good(Some(value.check(self.found, &label.value))) {
                checked.push((label, value.value));
            }
        }
        checked
    }

    fn label_name(&mut self, label: &At<String>) {
        if let Err(wrong) = names::label(&label.value) {
            self.found.error(&label.at, format!("{:?} {}", label.value, wrong.message)).help(wrong.help);
        }
    }

    fn value(
        &mut self,
        family: &At<String>,
        table_at: &Place,
        column: Option<Field<String>>,
        number: Option<Field<Number>>,
    ) -> Option<ValueSource> {
        let column = read(self.found, "value", column);
        let number = read(self.found, "static_value", number);
        match (column, number) {
            (None, None) => {
                if !self.found.was_meant(table_at, &["value", "static_value"]) {
                    self.found.error(&family.at, format!("metric `{}` has no `value`", family.value)).help(
                        "write value = \"COLUMN\", or static_value = 1 for the same number in each row",
                    );
                }
                None
            }
            (Some(column), Some(number)) => {
                self.found
                    .error(
                        &number.at,
                        format!("metric `{}` has a `value` and a `static_value`", family.value),
                    )
                    .note(&column.at, "the value is here")
                    .help("keep one of the two");
                None
            }
            (Some(column), None) => {
                let column = good(Some(column))?;
                if column.value.is_empty() {
                    self.found.error(&column.at, "`value` is empty").help("write the name of a column");
                    return None;
                }
                Some(ValueSource::Column(column.value))
            }
            (None, number) => {
                let At { at, value } = good(number)?;
                Some(ValueSource::Static(as_on_the_page(value, self.found.sources.text(&at))))
            }
        }
    }
}

/// What a namespace may be.
pub(super) fn namespace_rule(namespace: String) -> Result<String, Wrong> {
    if namespace.is_empty() || names::family(&namespace).is_ok() {
        return Ok(namespace);
    }
    Err(Wrong::new(
        format!("is {namespace:?}, which cannot begin the name of a family"),
        "it has the characters A-Z a-z 0-9 _, does not begin with a digit, and is \"\" for none",
    ))
}

/// A number with the digits it was written with, as far as the page can take them.
fn as_on_the_page(number: Number, written: &str) -> String {
    let digits: String = written.chars().filter(|c| *c != '_').collect();
    let plain = digits.trim_start_matches(['+', '-']).bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match number {
        _ if plain => digits.trim_start_matches('+').to_owned(),
        Number::Integer(n) => n.to_string(),
        Number::Float(n) if n.is_nan() => "NaN".to_owned(),
        Number::Float(n) if n.is_infinite() => if n > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        Number::Float(n) => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_its_digits() {
        for (written, number, page) in [
            ("1.50", Number::Float(1.5), "1.50"),
            ("1_000", Number::Integer(1000), "1000"),
            ("+3", Number::Integer(3), "3"),
            ("0x10", Number::Integer(16), "16"),
            ("-inf", Number::Float(f64::NEG_INFINITY), "-Inf"),
            ("1e3", Number::Float(1000.0), "1000"),
        ] {
            assert_eq!(as_on_the_page(number, written), page);
        }
    }
}
