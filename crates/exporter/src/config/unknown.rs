//! Keys that mean nothing where they stand: what was probably meant, or where they belong.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    field::nearest,
    keys::{Keys, keys_of},
    raw::{
        RawDefaults, RawDefaultsFile, RawFile, RawGroup, RawHistory, RawHistoryMysql, RawLimits, RawMetric,
        RawOverride, RawQuery, RawServer, RawSession, RawTarget, RawTls, RawVariant, RawWhen,
    },
    report::{Findings, Place},
};

/// Reports every unknown key of the file.
pub(super) fn find(tree: &Spanned<DeTable<'_>>, found: &mut Findings) {
    let mut walk = Walk { levels: Levels::new(), found };
    let root = tree.get_ref();
    walk.level(Level::File, "the top level of the file", root, &tree.span());
    walk.section(root, "server", Level::Server);
    walk.section(root, "defaults", Level::Defaults);
    walk.section(root, "limits", Level::Limits);
    walk.section(root, "history", Level::History);
    if let Some((history, _)) = root.get("history").and_then(as_table)
        && let Some((mysql, at)) = history.get("mysql").and_then(as_table)
    {
        walk.level(Level::HistoryMysql, "[history.mysql]", mysql, &at);
        walk.inner(mysql, "tls", Level::Tls, "[history.mysql]");
        walk.inner(mysql, "defaults_file", Level::DefaultsFile, "[history.mysql]");
    }
    if let Some((defaults, _)) = root.get("defaults").and_then(as_table) {
        walk.access(defaults, "[defaults]");
    }
    for (name, at, group) in tables(root.get("groups")) {
        walk.group(name, group, &at);
    }
    for (name, at, query) in tables(root.get("queries")) {
        let title = format!("[queries.{name}]");
        walk.level(Level::Query, &title, query, &at);
        for (variant, at) in query.get("variants").map(one_or_many).unwrap_or_default() {
            walk.level(Level::Variant, &format!("[[queries.{name}.variants]]"), variant, &at);
            walk.inner(variant, "when", Level::When, &format!("a variant of {title}"));
        }
        for (family, metric) in entries(query.get("metrics")) {
            for (metric, at) in one_or_many(metric) {
                walk.level(Level::Metric, &format!("[queries.{name}.metrics.{family}]"), metric, &at);
            }
        }
    }
}

/// A kind of table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    File,
    Server,
    Defaults,
    Limits,
    History,
    HistoryMysql,
    Group,
    Target,
    Tls,
    Session,
    DefaultsFile,
    Override,
    Query,
    Variant,
    When,
    Metric,
}

/// The keys of each kind of table, and how it is called when a key belongs there.
struct Levels(Vec<(Level, &'static str, Vec<&'static str>)>);

impl Levels {
    fn new() -> Self {
        fn names<T: Keys>() -> Vec<&'static str> {
            keys_of::<T>().into_iter().map(|key| key.name).collect()
        }
        Self(vec![
            (Level::File, "the top level of the file", names::<RawFile>()),
            (Level::Server, "[server]", names::<RawServer>()),
            (Level::Defaults, "[defaults]", names::<RawDefaults>()),
            (Level::Limits, "[limits]", names::<RawLimits>()),
            (Level::Group, "[groups.NAME]", names::<RawGroup>()),
            (Level::Target, "a target's table", names::<RawTarget>()),
            (Level::Tls, "tls = { … }", names::<RawTls>()),
            (Level::Session, "session = { … }", names::<RawSession>()),
            (Level::DefaultsFile, "defaults_file = { … }", names::<RawDefaultsFile>()),
            (Level::Query, "[queries.NAME]", names::<RawQuery>()),
            (Level::Override, "[groups.NAME.queries.NAME]", names::<RawOverride>()),
            (Level::Variant, "[[queries.NAME.variants]]", names::<RawVariant>()),
            (Level::When, "when = { … }", names::<RawWhen>()),
            (Level::Metric, "[queries.NAME.metrics.FAMILY]", names::<RawMetric>()),
            (Level::History, "[history]", names::<RawHistory>()),
            (Level::HistoryMysql, "[history.mysql]", names::<RawHistoryMysql>()),
        ])
    }

    fn keys(&self, level: Level) -> &[&'static str] {
        self.0.iter().find(|(l, ..)| *l == level).map_or(&[], |(.., keys)| keys)
    }

    /// The other kinds of table that know a key.
    fn homes(&self, key: &str) -> String {
        let homes: Vec<_> =
            self.0.iter().filter(|(.., keys)| keys.contains(&key)).map(|(_, title, _)| *title).collect();
        match homes.as_slice() {
            [] => String::new(),
            [one] => (*one).to_owned(),
            [some @ .., last] => format!("{} or {last}", some.join(", ")),
        }
    }
}

struct Walk<'f> {
    levels: Levels,
    found: &'f mut Findings,
}

impl Walk<'_> {
    fn section(&mut self, root: &DeTable<'_>, name: &str, level: Level) {
        if let Some((table, at)) = root.get(name).and_then(as_table) {
            self.level(level, &format!("[{name}]"), table, &at);
        }
    }

    fn group(&mut self, name: &str, group: &DeTable<'_>, at: &Place) {
        let title = format!("[groups.{name}]");
        self.level(Level::Group, &title, group, at);
        self.access(group, &title);
        self.overrides(group, &title);
        for (name, at, target) in tables(group.get("targets")) {
            self.target(name, target, &at);
            let title = format!("target `{name}`");
            self.access(target, &title);
            self.overrides(target, &title);
        }
    }

    fn overrides(&mut self, table: &DeTable<'_>, of: &str) {
        for (query, at, settings) in tables(table.get("queries")) {
            self.level(Level::Override, &format!("the override of `{query}` in {of}"), settings, &at);
        }
    }

    /// The tables inside those that say how to reach a target.
    fn access(&mut self, table: &DeTable<'_>, of: &str) {
        self.inner(table, "tls", Level::Tls, of);
        self.inner(table, "session", Level::Session, of);
        self.inner(table, "defaults_file", Level::DefaultsFile, of);
    }

    fn inner(&mut self, table: &DeTable<'_>, key: &str, level: Level, of: &str) {
        if let Some((inner, at)) = table.get(key).and_then(as_table) {
            self.level(level, &format!("`{key}` of {of}"), inner, &at);
        }
    }

    fn target(&mut self, name: &str, target: &DeTable<'_>, at: &Place) {
        let keys = self.levels.keys(Level::Target).to_vec();
        let title = format!("target `{name}`");
        for (key, value) in target {
            if keys.contains(&key.get_ref().as_ref()) {
                continue;
            }
            if !self.follows_dot(&key.span()) {
                self.unknown(Level::Target, &title, key, value, at);
                continue;
            }
            // `db1.example.net = "…"` is target `db1` with a table `example`: the first mistake of every new user.
            let mut leaves = Vec::new();
            leaves_of(format!("{name}.{}", key.get_ref()), key, value, &mut leaves);
            for (dotted, leaf) in leaves {
                let key = key.get_ref();
                self.found
                    .error(
                        &self.dotted(&leaf),
                        format!("a target's name with dots stands in quotes: this is key `{key}` of {title}"),
                    )
                    .help(format!("write \"{dotted}\" = …"));
            }
            self.found.meant(at, "the name");
        }
    }

    /// Reports the unknown keys of one table.
    fn level(&mut self, level: Level, title: &str, table: &DeTable<'_>, at: &Place) {
        let keys = self.levels.keys(level).to_vec();
        for (key, value) in table {
            if !keys.contains(&key.get_ref().as_ref()) {
                self.unknown(level, title, key, value, at);
            }
        }
    }

    fn unknown(
        &mut self,
        level: Level,
        title: &str,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        table: &Place,
    ) {
        let name = key.get_ref().as_ref();
        let keys = self.levels.keys(level);
        let homes = self.levels.homes(name);
        let dotted = matches!(level, Level::Group | Level::Query) && value.get_ref().is_table();
        let help = if !homes.is_empty() {
            format!("`{name}` belongs in {homes}")
        } else if let Some(meant) = nearest(name, keys.iter().copied()) {
            // The similar key is not missing as well.
            if let Some(meant) = keys.iter().find(|key| **key == meant) {
                self.found.meant(table, meant);
            }
            format!("did you mean `{meant}`?")
        } else if dotted && self.follows_dot(&key.span()) {
            // Its keys went into the table of the longer name.
            self.found.meant(table, if level == Level::Group { "targets" } else { "metrics" });
            self.found.meant(table, if level == Level::Group { "user" } else { "sql" });
            let (kind, owner) = title.trim_matches(['[', ']']).split_once('.').unwrap_or((title, ""));
            format!("a name with dots stands in quotes: [{kind}.\"{owner}.{name}\"]")
        } else {
            format!("the keys here are {}", keys.join(", "))
        };
        self.found.error(&key.span(), format!("`{name}` is not a key of {title}")).help(help);
    }

    /// The whole dotted key whose last part is this.
    fn dotted(&self, leaf: &Place) -> Place {
        let before = self.found.sources.before(leaf);
        let start = before.rfind(['\n', '[', '{', ',']).map_or(0, |i| i + 1);
        leaf.start - before[start..].trim_start().len()..leaf.end
    }

    fn follows_dot(&self, key: &Place) -> bool {
        self.found.sources.before(key).trim_end().ends_with('.')
    }
}

/// The dotted names that a chain of tables spells, each with the place of its first unknown key.
fn leaves_of(
    path: String,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
    out: &mut Vec<(String, Place)>,
) {
    match value.get_ref() {
        DeValue::Table(table) if !table.is_empty() => {
            for (next, value) in table {
                leaves_of(format!("{path}.{}", next.get_ref()), next, value, out);
            }
        }
        _ => out.push((path, key.span())),
    }
}

fn as_table<'t, 'i>(value: &'t Spanned<DeValue<'i>>) -> Option<(&'t DeTable<'i>, Place)> {
    value.get_ref().as_table().map(|table| (table, value.span()))
}

/// The entries of a table that may not be one.
fn entries<'t, 'i>(
    value: Option<&'t Spanned<DeValue<'i>>>,
) -> impl Iterator<Item = (&'t str, &'t Spanned<DeValue<'i>>)> {
    let table = value.and_then(as_table).map(|(table, _)| table);
    table.into_iter().flatten().map(|(key, value)| (key.get_ref().as_ref(), value))
}

/// Those of them that are tables.
fn tables<'t, 'i>(
    value: Option<&'t Spanned<DeValue<'i>>>,
) -> impl Iterator<Item = (&'t str, Place, &'t DeTable<'i>)> {
    entries(value).filter_map(|(name, value)| as_table(value).map(|(table, at)| (name, at, table)))
}

/// A table, or the tables of an array.
fn one_or_many<'t, 'i>(value: &'t Spanned<DeValue<'i>>) -> Vec<(&'t DeTable<'i>, Place)> {
    match value.get_ref() {
        DeValue::Array(values) => values.iter().filter_map(as_table).collect(),
        _ => as_table(value).into_iter().collect(),
    }
}
