//! The rules of configs/alerts: Prometheus takes them, each fires when it should and not else, and docs/operating.md has
//! the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    process::Command,
};

use crate::support::{promtool, repository};

const RULES: &str = "configs/alerts/fleet-query-exporter.yml";
const TESTS: &str = "tests/alerts/fleet-query-exporter.yml";

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

/// Runs `promtool` where the files are; it must succeed.
fn promtool(arguments: &[&str]) {
    let Some(program) = promtool::program("promtool") else { return };
    let output = Command::new(program).args(arguments).current_dir(repository()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {said}");
}

/// Each alert with its severity and its expression.
fn rules() -> BTreeMap<String, (String, String)> {
    let text = read(RULES);
    let rules = text.split("- alert: ").skip(1).map(|rule| {
        let value = |before: &str, after: &str| {
            let (_, rest) = rule.split_once(before).unwrap();
            rest.split_once(after).unwrap().0.to_owned()
        };
        let name = rule.lines().next().unwrap().to_owned();
        (name, (value("severity: ", " }"), value("expr: '", "'\n").replace("''", "'")))
    });
    let rules: BTreeMap<_, _> = rules.collect();
    assert!(rules.len() > 10, "{rules:?}");
    rules
}

#[test]
fn each_alert_fires_when_it_should_and_not_else() {
    promtool(&["check", "rules", RULES]);
    promtool(&["test", "rules", TESTS]);
    // What is not asked for would be no failure of that.
    let tests = read(TESTS);
    let (sick, well) = tests.split_once("all is well").unwrap();
    for alert in rules().keys() {
        assert!(
            sick.contains(&format!("alertname: {alert}\n        exp_alerts:\n")),
            "{alert} is not seen firing"
        );
        let quiet = format!("alertname: {alert}, exp_alerts: [] }}");
        assert!(well.contains(&quiet), "{alert} is not seen quiet");
    }
}

#[test]
fn the_docs_have_the_same_alerts_and_the_alerts_know_only_families_that_exist() {
    let docs = read("docs/operating.md");
    let (_, section) = docs.split_once("## What to alert on").unwrap();
    let section = section.split_once("\n## ").unwrap().0;
    let rows = section.lines().filter(|line| line.starts_with("| Fleet"));
    let listed: BTreeMap<_, _> = rows
        .map(|row| {
            let row = row.replace("\\|", "\u{0}");
            let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect();
            let [_, name, severity, _, expression, _] = cells.try_into().unwrap();
            (name, (severity, expression.trim_matches('`').to_owned()))
        })
        .collect();
    assert_eq!(listed, rules());

    let known = promtool::own_families();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named: BTreeSet<_> = listed
        .values()
        .flat_map(|(_, expression)| expression.split(|c| !is_part(c)))
        .filter(|word| word.starts_with("query_exporter_"))
        .collect();
    let unknown: Vec<_> = named.into_iter().filter(|family| !known.contains(*family)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// As docker-compose.yml mounts them.
#[test]
fn the_demos_prometheus_loads_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| fs::canonicalize(repository().join(path)).unwrap();
    symlink(at("prometheus.yml"), folder.path().join("prometheus.yml")).unwrap();
    symlink(at("configs/alerts"), folder.path().join("alerts")).unwrap();
    promtool(&["check", "config", folder.path().join("prometheus.yml").to_str().unwrap()]);
    for mount in
        ["./prometheus.yml:/etc/prometheus/prometheus.yml:ro", "./configs/alerts:/etc/prometheus/alerts:ro"]
    {
        assert!(read("docker-compose.yml").contains(mount), "{mount}");
    }
    assert!(read("prometheus.yml").contains("rule_files: [alerts/*.yml]"));
}
