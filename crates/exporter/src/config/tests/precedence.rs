//! The level table: every key at every pair of its levels, and the stronger of the two wins.

use std::{collections::BTreeSet, path::Path};

use super::super::{
    Config, ItemConfig,
    keys::{Key, keys_of},
    parse,
    raw::{RawDefaults, RawGroup, RawLimits, RawOverride, RawQuery, RawTarget},
};

/// From the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Limits,
    Defaults,
    Group,
    Target,
    Query,
    GroupOverride,
    TargetOverride,
}
use Level::{Defaults, Group, GroupOverride, Limits, Query, Target, TargetOverride};

const ALL: [Level; 7] = [Limits, Defaults, Group, Target, Query, GroupOverride, TargetOverride];

/// Where a key may stand, two ways to write it, and how each shows in the end; last, with nothing written.
struct Case {
    levels: &'static [Level],
    lines: [&'static str; 2],
    shows: [&'static str; 3],
    read: fn(&Config) -> String,
}

fn item(config: &Config) -> &ItemConfig {
    &config.items[0]
}

const ITEM: &[Level] = &[Defaults, Group, Target, Query, GroupOverride, TargetOverride];
const ACCESS: &[Level] = &[Defaults, Group, Target];

fn cases() -> Vec<Case> {
    let case = |levels, lines, shows, read| Case { levels, lines, shows, read };
    let target = |lines, shows, read| case(ACCESS, lines, shows, read);
    vec![
        case(ITEM, ["interval = \"21s\"", "interval = \"22s\""], ["21s", "22s", "15s"], |c| {
            format!("{:?}", item(c).interval)
        }),
        case(ITEM, ["timeout = \"3s\"", "timeout = \"4s\""], ["3s", "4s", "5s"], |c| {
            format!("{:?}", item(c).timeout)
        }),
        case(ITEM, ["expire_after = \"100s\"", "expire_after = \"200s\""], ["100s", "200s", "60s"], |c| {
            format!("{:?}", item(c).expire_after)
        }),
        case(ITEM, ["retry_after = \"7s\"", "retry_after = \"9s\""], ["Some(7s)", "Some(9s)", "None"], |c| {
            format!("{:?}", item(c).retry_after)
        }),
        case(ITEM, ["on_failure = \"drop\"", "on_failure = \"keep\""], ["Drop", "Keep", "Keep"], |c| {
            format!("{:?}", item(c).on_failure)
        }),
        case(&ALL, ["max_rows = 5", "max_rows = 6"], ["5", "6", "10000"], |c| {
            item(c).limits.rows.to_string()
        }),
        case(&ALL, ["max_series = 5", "max_series = 6"], ["5", "6", "10000"], |c| {
            item(c).limits.series.to_string()
        }),
        case(&ALL, ["max_label_bytes = 5", "max_label_bytes = 6"], ["5", "6", "1024"], |c| {
            item(c).limits.label_bytes.to_string()
        }),
        case(&ALL, ["max_result_bytes = 5", "max_result_bytes = 6"], ["5", "6", "8388608"], |c| {
            item(c).limits.result_bytes.to_string()
        }),
        case(
            &[Group, Target, Query, GroupOverride, TargetOverride],
            ["enabled = false", "enabled = true"],
            ["0", "1", "1"],
            |c| c.items.len().to_string(),
        ),
        case(&[Group, Target], ["paused = true", "paused = false"], ["0", "1", "1"], |c| {
            c.items.len().to_string()
        }),
        case(
            &[Defaults, Query],
            ["namespace = \"a\"", "namespace = \"\""],
            ["a_f", "f", "query_exporter_f"],
            |c| item(c).query.metrics[0].family.name.clone(),
        ),
        target(["user = \"a\"", "user = \"b\""], ["a", "b", "-"], |c| {
            c.targets[0].user.clone().unwrap_or_default()
        }),
        target(
            ["password_file = \"a\"", "password_env = \"B\""],
            ["File(\"a\")", "Env(\"B\")", "None"],
            password,
        ),
        target(
            ["password = \"hunter2\"", "password_command = [\"prog\"]"],
            ["Inline(Secret(redacted))", "Command(\"prog\", 0 arguments)", "None"],
            password,
        ),
        target(
            ["defaults_file = { path = \"a.cnf\" }", "defaults_file = { path = \"a.cnf\", section = \"b\" }"],
            [
                "DefaultsFile { path: \"a.cnf\", section: \"client\" }",
                "DefaultsFile { path: \"a.cnf\", section: \"b\" }",
                "None",
            ],
            password,
        ),
        target(["database = \"a\"", "database = \"b\""], ["a", "b", ""], |c| {
            c.targets[0].database.clone().unwrap_or_default()
        }),
        target(
            ["tls = { mode = \"disabled\" }", "tls = { mode = \"required\" }"],
            ["disabled", "required", "preferred"],
            |c| c.targets[0].tls.mode.as_str().to_owned(),
        ),
        target(["max_connections = 1", "max_connections = 2"], ["1", "2", "3"], |c| {
            c.targets[0].max_connections.to_string()
        }),
        target(["kill = false", "kill = true"], ["false", "true", "true"], |c| c.targets[0].kill.to_string()),
        target(
            ["session = { time_zone = \"+01:00\" }", "session = { sql_mode = \"ANSI\" }"],
            ["Some(\"+01:00\") None", "None Some(\"ANSI\")", "None None"],
            |c| format!("{:?} {:?}", c.targets[0].session.time_zone, c.targets[0].session.sql_mode),
        ),
        target(["labels = { a = \"1\" }", "labels = { a = \"2\" }"], ["1", "2", ""], |c| {
            let label = c.targets[0].labels.iter().find(|(label, _)| label == "a");
            label.map_or_else(String::new, |(_, value)| value.clone())
        }),
    ]
}

fn password(config: &Config) -> String {
    format!("{:?}", config.targets[0].password)
}

/// A fleet of one item, with lines written at some levels.
fn text(written: &[(Level, &str)]) -> String {
    let at = |level| {
        let lines = written.iter().filter(|(l, _)| *l == level).map(|(_, line)| *line);
        lines.collect::<Vec<_>>().join("\n")
    };
    // Everything but the test of `user` needs one, and the nearest never hides another source of the password.
    let user = if written.iter().any(|(_, line)| line.starts_with("user")) { "" } else { "user = \"u\"" };
    format!(
        "[limits]\n{}\n[defaults]\n{}\n[groups.g]\n{}\n[groups.g.queries.q]\n{}\n\
         [groups.g.targets.t]\naddress = \"h\"\n{user}\n{}\n[groups.g.targets.t.queries.q]\n{}\n\
         [queries.q]\nsql = \"select 1 v\"\n{}\nmetrics.f = {{ type = \"gauge\", help = \"h\", value = \"v\" }}\n",
        at(Limits),
        at(Defaults),
        at(Group),
        at(GroupOverride),
        at(Target),
        at(TargetOverride),
        at(Query),
    )
}

#[track_caller]
fn check(case: &Case, written: &[(Level, &str)], expected: &str) {
    let config =
        parse(Path::new("f.toml"), &text(written), None).unwrap_or_else(|report| panic!("{report}")).config;
    assert_eq!((case.read)(&config), expected, "{written:?}");
}

#[test]
fn at_every_pair_of_levels_the_stronger_wins() {
    let mut pairs = 0;
    for case in cases() {
        if !case.lines[0].starts_with("user") {
            check(&case, &[], case.shows[2]);
        }
        for (n, weak) in case.levels.iter().enumerate() {
            for way in 0..2 {
                check(&case, &[(*weak, case.lines[way])], case.shows[way]);
                for strong in &case.levels[n + 1..] {
                    let written = [(*weak, case.lines[1 - way]), (*strong, case.lines[way])];
                    check(&case, &written, case.shows[way]);
                    pairs += 1;
                }
            }
        }
    }
    assert_eq!(pairs, 2 * (5 * 15 + 4 * 21 + 10 + 1 + 1 + 10 * 3));
}

#[test]
fn the_table_has_every_key_that_several_levels_share() {
    let tested = |level: Level| -> BTreeSet<&str> {
        let here = cases().into_iter().filter(move |case| case.levels.contains(&level));
        here.flat_map(|case| case.lines).filter_map(|line| line.split(' ').next()).collect()
    };
    let check = |level, keys: Vec<Key>, not_shared: &[&str]| {
        let keys: BTreeSet<_> = keys.iter().map(|key| key.name).collect();
        let expected = tested(level).into_iter().chain(not_shared.iter().copied()).collect();
        assert_eq!(keys, expected, "{level:?}");
    };
    check(Limits, keys_of::<RawLimits>(), &["max_runs", "max_connects", "max_page_bytes"]);
    check(Defaults, keys_of::<RawDefaults>(), &["target_label"]);
    check(Group, keys_of::<RawGroup>(), &["targets", "queries"]);
    check(Target, keys_of::<RawTarget>(), &["address", "socket", "queries"]);
    let own = ["sql", "sql_file", "variants", "allow_call", "groups", "where", "targets", "metrics"];
    check(Query, keys_of::<RawQuery>(), &own);
    check(GroupOverride, keys_of::<RawOverride>(), &[]);
    check(TargetOverride, keys_of::<RawOverride>(), &[]);
}
