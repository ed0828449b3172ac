//! What a configuration amounts to, item by item and without a secret: told by a running exporter, and compared with what
//! a file would make of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Debug, Write as _},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use crate::config::{Config, History, ItemConfig, OnFailure};

/// Names of targets that a line lists; a line is for a person.
const LISTED: usize = 5;

/// What is wanted of a fleet. Its JSON is `/-/config/items`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Effective {
    /// Of the exporter. Another one may put the same in other words, and so give it another fingerprint.
    version: String,
    settings: BTreeMap<String, String>,
    targets: BTreeMap<String, TargetFacts>,
    queries: BTreeMap<String, QueryFacts>,
    items: Vec<ItemFacts>,
}

/// A target. Fingerprints stand for what nobody else need know; no secret is in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TargetFacts {
    group: String,
    labels: BTreeMap<String, String>,
    /// How it is reached.
    way: String,
    /// Whose data it has.
    data: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct QueryFacts {
    /// What it asks and what becomes of the answer.
    yields: String,
    /// What HELP says.
    help: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ItemFacts {
    query: String,
    target: String,
    interval: String,
    timeout: String,
    retry_after: String,
    expire_after: String,
    on_failure: String,
    max_rows: usize,
    max_series: usize,
    max_label_bytes: usize,
    max_result_bytes: usize,
}

/// The difference between two, as lines for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) lines: Vec<String>,
}

impl Effective {
    /// What a configuration amounts to.
    pub(crate) fn of(config: &Config) -> Self {
        let items: Vec<_> = config.items.iter().map(ItemFacts::of).collect();
        let target = |item: &ItemConfig| {
            let target = &item.target;
            let facts = TargetFacts {
                group: target.group.to_string(),
                labels: target.labels.iter().cloned().collect(),
                way: fingerprint(&target.way()),
                data: fingerprint(&target.data()),
            };
            (target.name.to_string(), facts)
        };
        let query = |item: &ItemConfig| {
            let query = &item.query;
            let help: Vec<_> = query.metrics.iter().map(|metric| &metric.family.help).collect();
            let facts = QueryFacts { yields: fingerprint(&query.yields()), help: fingerprint(&help) };
            (query.name.to_string(), facts)
        };
        let settings = [
            ("listen", config.listen.clone()),
            ("reload", config.reload.to_string()),
            (
                "web_config",
                config.web.path.as_ref().map_or_else(String::new, |path| path.display().to_string()),
            ),
            ("max_runs", config.max_runs.to_string()),
            ("max_connects", config.max_connects.to_string()),
            ("max_page_bytes", config.max_page_bytes.to_string()),
            ("history", config.history.as_ref().map_or_else(|| "none".to_owned(), History::place)),
        ];
        let (mut targets, mut queries) = (BTreeMap::new(), BTreeMap::new());
        let (mut seen_targets, mut seen_queries) = (BTreeSet::new(), BTreeSet::new());
        for item in &config.items {
            if seen_targets.insert(&item.target.name) {
                targets.extend([target(item)]);
            }
            if seen_queries.insert(&item.query.name) {
                queries.extend([query(item)]);
            }
        }
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
            targets,
            queries,
            items,
        }
    }

    /// As JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("maps with text for keys, and plain values")
    }

    /// From JSON; none if it is something else.
    pub(crate) fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// What would become of these if the exporter read `new`.
    pub(crate) fn difference(&self, new: &Self) -> Difference {
        let before: BTreeMap<_, _> = self.items.iter().map(|item| (item.id(), item)).collect();
        let after: BTreeMap<_, _> = new.items.iter().map(|item| (item.id(), item)).collect();
        let mut groups: BTreeMap<(&str, &str, String), Vec<&str>> = BTreeMap::new();
        let (mut started, mut stopped, mut changed, mut untouched) = (0, 0, 0, 0);
        for (id @ (query, target), item) in &after {
            match before.get(id) {
                None => {
                    started += 1;
                    groups.entry(("start", query, String::new())).or_default().push(target);
                }
                Some(old) => match self.changes(old, new, item) {
                    why if why.is_empty() => untouched += 1,
                    why => {
                        changed += 1;
                        groups.entry(("change", query, why.join(", "))).or_default().push(target);
                    }
                },
            }
        }
        for (query, target) in before.keys().filter(|id| !after.contains_key(*id)) {
            stopped += 1;
            groups.entry(("stop", query, String::new())).or_default().push(target);
        }
        let mut lines: Vec<_> = ["start", "stop", "change"]
            .into_iter()
            .flat_map(|what| groups.iter().filter(move |((of, ..), _)| *of == what))
            .map(|((what, query, why), targets)| line(what, query, why, targets))
            .collect();
        lines.push(format!(
            "items: {started} would start, {stopped} stop, {changed} change, {untouched} go on untouched"
        ));
        lines.extend(self.new_connections(new));
        lines.extend(self.settings.iter().filter_map(|(name, old)| {
            let now = new.settings.get(name).filter(|now| *now != old)?;
            let restart =
                if ["listen", "history"].contains(&name.as_str()) { "; it needs a restart" } else { "" };
            Some(format!("{name}: {old} -> {now}{restart}"))
        }));
        if self.version != new.version {
            lines.push(format!(
                "the exporter is version {}, this is {}: what looks changed may only be worded otherwise",
                self.version, new.version
            ));
        }
        Difference { lines }
    }

    /// How an item that is in both differs.
    fn changes(&self, old: &ItemFacts, new: &Self, item: &ItemFacts) -> Vec<String> {
        let mut why = item.settings_since(old);
        if let (Some(before), Some(now)) = (self.queries.get(&old.query), new.queries.get(&item.query)) {
            why.extend((before.yields != now.yields).then(|| "its statement or its metrics".to_owned()));
            why.extend((before.help != now.help).then(|| "its help".to_owned()));
        }
        if let (Some(before), Some(now)) = (self.targets.get(&old.target), new.targets.get(&item.target)) {
            if before.data != now.data {
                why.push("the target's server, account, schema or session".to_owned());
            } else if before.way != now.way {
                why.push("the way to its target".to_owned());
            }
            why.extend((before.labels != now.labels).then(|| "the target's labels".to_owned()));
            why.extend((before.group != now.group).then(|| "the target's group".to_owned()));
        }
        why
    }

    fn new_connections(&self, new: &Self) -> Option<String> {
        let names: Vec<_> = self
            .targets
            .iter()
            .filter(|(name, before)| new.targets.get(*name).is_some_and(|now| now.way != before.way))
            .map(|(name, _)| name.as_str())
            .collect();
        let n = names.len();
        (n > 0).then(|| format!("connections to {n} of the targets would be made anew: {}", listed(&names)))
    }
}

impl ItemFacts {
    fn of(item: &ItemConfig) -> Self {
        let text = |duration: Duration| humantime::format_duration(duration).to_string();
        Self {
            query: item.query.name.to_string(),
            target: item.target.name.to_string(),
            interval: text(item.interval),
            timeout: text(item.timeout),
            retry_after: item.retry_after.map_or_else(|| "none".to_owned(), text),
            expire_after: text(item.expire_after),
            on_failure: match item.on_failure {
                OnFailure::Keep => "keep".to_owned(),
                OnFailure::Drop => "drop".to_owned(),
            },
            max_rows: item.limits.rows,
            max_series: item.limits.series,
            max_label_bytes: item.limits.label_bytes,
            max_result_bytes: item.limits.result_bytes,
        }
    }

    fn id(&self) -> (&str, &str) {
        (&self.query, &self.target)
    }

    /// The settings that are others than before.
    fn settings_since(&self, before: &Self) -> Vec<String> {
        fn since(name: &str, before: &impl ToString, now: &impl ToString) -> Option<String> {
            let (before, now) = (before.to_string(), now.to_string());
            (before != now).then(|| format!("{name} {before} -> {now}"))
        }
        [
            since("interval", &before.interval, &self.interval),
            since("timeout", &before.timeout, &self.timeout),
            since("retry_after", &before.retry_after, &self.retry_after),
            since("expire_after", &before.expire_after, &self.expire_after),
            since("on_failure", &before.on_failure, &self.on_failure),
            since("max_rows", &before.max_rows, &self.max_rows),
            since("max_series", &before.max_series, &self.max_series),
            since("max_label_bytes", &before.max_label_bytes, &self.max_label_bytes),
            since("max_result_bytes", &before.max_result_bytes, &self.max_result_bytes),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// `change  sessions on 120 targets: orders-1, …: interval 10s -> 1m`
fn line(what: &str, query: &str, why: &str, targets: &[&str]) -> String {
    let n = targets.len();
    let mut line = format!(
        "{what:6}  {query} on {n} {}: {}",
        if n == 1 { "target" } else { "targets" },
        listed(targets)
    );
    if !why.is_empty() {
        let _ = write!(line, ": {why}");
    }
    line
}

fn listed(names: &[&str]) -> String {
    let more = if names.len() > LISTED { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(LISTED)].join(", "))
}

/// Sixteen digits that stand for what it says. `Debug` shows no secret.
fn fingerprint(of: &impl Debug) -> String {
    format!("{:016x}", xxh64(format!("{of:?}").as_bytes(), 0))
}

#[cfg(test)]
#[allow(clippy::needless_raw_string_hashes, reason = "expect-test writes its texts so")]
mod tests {
    use std::path::Path;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::config;

    const FLEET: &str = r#"
[groups.g]
user = "u"
password = "hunter2"
[groups.g.targets]
"db{1..7}" = "10.0.0.{1..7}"
[queries.q]
sql = "select 1 as n"
interval = "10s"
metrics.m = { type = "gauge", help = "h", value = "n" }
[queries.r]
sql = "select 2 as n"
targets = ["db1"]
metrics.r = { type = "gauge", help = "h", value = "n" }
"#;

    fn effective(text: &str) -> Effective {
        let loaded = config::parse(Path::new("fleet.toml"), text, None);
        Effective::of(&loaded.unwrap_or_else(|report| panic!("{report}")).config)
    }

    /// From the fleet above to what it is with these replacements.
    #[expect(clippy::needless_pass_by_value, reason = "a case reads as one expression")]
    #[track_caller]
    fn check(replacements: &[(&str, &str)], expected: Expect) {
        let new = replacements.iter().fold(FLEET.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        let told = Effective::from_json(&effective(FLEET).json()).unwrap();
        expected.assert_eq(&(told.difference(&effective(&new)).lines.join("\n") + "\n"));
    }

    #[test]
    fn what_would_start_stop_and_change_is_told_query_by_query() {
        check(
            &[],
            expect![[r#"
            items: 0 would start, 0 stop, 0 change, 8 go on untouched
        "#]],
        );
        check(
            &[("db{1..7}", "db{2..8}")],
            expect![[r#"
            start   q on 1 target: db8
            stop    q on 1 target: db1
            stop    r on 1 target: db1
            change  q on 6 targets: db2, db3, db4, db5, db6, …: the target's server, account, schema or session
            items: 1 would start, 2 stop, 6 change, 0 go on untouched
            connections to 6 of the targets would be made anew: db2, db3, db4, db5, db6, …
        "#]],
        );
        check(
            &[("interval = \"10s\"", "interval = \"1m\"\non_failure = \"drop\"")],
            expect![[r#"
            change  q on 7 targets: db1, db2, db3, db4, db5, …: interval 10s -> 1m, expire_after 1m -> 2m 5s, on_failure keep -> drop
            items: 0 would start, 0 stop, 7 change, 1 go on untouched
        "#]],
        );
        check(
            &[("select 2", "select 3"), ("help = \"h\"", "help = \"help\"")],
            expect![[r#"
            change  q on 7 targets: db1, db2, db3, db4, db5, …: its help
            change  r on 1 target: db1: its statement or its metrics
            items: 0 would start, 0 stop, 8 change, 0 go on untouched
        "#]],
        );
        check(
            &[("user = \"u\"", "user = \"v\"\nlabels = { env = \"prod\" }")],
            expect![[r#"
            change  q on 7 targets: db1, db2, db3, db4, db5, …: the target's server, account, schema or session, the target's labels
            change  r on 1 target: db1: the target's server, account, schema or session, the target's labels
            items: 0 would start, 0 stop, 8 change, 0 go on untouched
            connections to 7 of the targets would be made anew: db1, db2, db3, db4, db5, …
        "#]],
        );
        check(
            &[("user = \"u\"", "user = \"u\"\nmax_connections = 2")],
            expect![[r#"
            change  q on 7 targets: db1, db2, db3, db4, db5, …: the way to its target
            change  r on 1 target: db1: the way to its target
            items: 0 would start, 0 stop, 8 change, 0 go on untouched
            connections to 7 of the targets would be made anew: db1, db2, db3, db4, db5, …
        "#]],
        );
        check(
            &[("[groups.g]", "[server]\nlisten = \"127.0.0.1:1\"\n[limits]\nmax_runs = 5\n[groups.g]")],
            expect![[r#"
                items: 0 would start, 0 stop, 0 change, 8 go on untouched
                listen: 0.0.0.0:9104 -> 127.0.0.1:1; it needs a restart
                max_runs: 256 -> 5
            "#]],
        );
    }

    #[test]
    fn no_secret_is_told_or_can_be_guessed_from_what_is() {
        let other = effective(&FLEET.replace("hunter2", "hunter3"));
        let told = effective(FLEET);
        assert!(!told.json().contains("hunter2"));
        assert_eq!(told, other, "a fingerprint that differs could be tried against a list of passwords");
    }
}
