//! A page of metrics: its text, and the samples that an independent parser finds in it.

use std::collections::BTreeMap;

use prometheus_parse::{Scrape, Value};

/// The labels of a series.
pub(crate) type Labels = BTreeMap<String, String>;

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) text: String,
    /// Families with their series. Histograms are left out.
    families: BTreeMap<String, Vec<(Labels, f64)>>,
}

impl Page {
    pub(crate) fn parse(text: String) -> Self {
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let mut families: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for sample in scrape.samples {
            let (Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value)) = sample.value else {
                continue;
            };
            let labels = sample.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            families.entry(sample.metric).or_default().push((labels, value));
        }
        Self { text, families }
    }

    /// The series of a family that have these labels among theirs.
    pub(crate) fn series(&self, family: &str, labels: &[(&str, &str)]) -> Vec<&(Labels, f64)> {
        let has = |of: &Labels| {
            labels.iter().all(|(name, value)| of.get(*name).map(String::as_str) == Some(*value))
        };
        self.families.get(family).into_iter().flatten().filter(|(of, _)| has(of)).collect()
    }

    /// The value of the one series that has these labels among its own.
    ///
    /// # Panics
    /// If there are several.
    pub(crate) fn value(&self, family: &str, labels: &[(&str, &str)]) -> Option<f64> {
        match self.series(family, labels)[..] {
            [] => None,
            [(_, value)] => Some(*value),
            ref more => panic!("{family} {labels:?} is more than one series: {more:?}"),
        }
    }

    /// The value of a series that counts something and is always there.
    pub(crate) fn count(&self, family: &str, labels: &[(&str, &str)]) -> u64 {
        let value = self.value(family, labels);
        whole(value.unwrap_or_else(|| panic!("the page has no {family} with {labels:?}:\n{}", self.text)))
    }

    /// What the exporter counts for a target.
    pub(crate) fn of(&self, target: &str, family: &str) -> u64 {
        self.count(family, &[("target", target)])
    }

    /// Whether the target is up.
    pub(crate) fn is_up(&self, target: &str) -> bool {
        self.of(target, "query_exporter_up") > 0
    }

    /// Runs of a target by outcome: `success`, `failure`.
    pub(crate) fn runs(&self, target: &str, outcome: &str) -> u64 {
        self.count("query_exporter_runs_total", &[("target", target), ("outcome", outcome)])
    }

    /// Ticks of a target that were missed, whatever the reason.
    pub(crate) fn missed(&self, target: &str) -> u64 {
        let series = self.series("query_exporter_ticks_missed_total", &[("target", target)]);
        series.iter().map(|(_, value)| whole(*value)).sum()
    }

    /// Why the target's last run failed.
    pub(crate) fn reason(&self, target: &str) -> Option<&str> {
        match self.series("query_exporter_target_failure_reason", &[("target", target)])[..] {
            [] => None,
            [(labels, 1.0)] => labels.get("reason").map(String::as_str),
            ref other => panic!("{other:?}"),
        }
    }

    /// The sample lines of a family as they stand in the text.
    pub(crate) fn lines(&self, family: &str) -> Vec<&str> {
        let is_sample = |line: &&str| {
            line.strip_prefix(family).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
        };
        self.text.lines().filter(is_sample).collect()
    }

    /// Whether the text has this line.
    pub(crate) fn has_line(&self, line: &str) -> bool {
        self.text.lines().any(|other| other == line)
    }
}

/// A value that counts.
fn whole(value: f64) -> u64 {
    format!("{value}").parse().unwrap_or_else(|_| panic!("{value} counts nothing"))
}
