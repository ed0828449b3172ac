//! Keys that mean nothing where they stand: what was probably meant, or where they belong.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    field::{keys_of, nearest},
    raw::{RawDefaults, RawFile, RawGroup, RawLimits, RawMetric, RawQuery, RawServer, RawTarget, RawTls},
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
    for (name, at, group) in tables(root.get("groups")) {
        walk.group(name, group, &at);
    }
    for (name, at, query) in tables(root.get("queries")) {
        let title = format!("[queries.{name}]");
        walk.level(Level::Query, &title, query, &at);
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
    Group,
    Target,
    Tls,
    Query,
    Metric,
}

/// The keys of each kind of table, and how it is called when a key belongs there.
struct Levels([(Level, &'static str, &'static [&'static str]); 9]);

impl Levels {
    fn new() -> Self {
        Self([
            (Level::File, "the top level of the file", keys_of::<RawFile>()),
            (Level::Server, "[server]", keys_of::<RawServer>()),
            (Level::Defaults, "[defaults]", keys_of::<RawDefaults>()),
            (Level::Limits, "[limits]", keys_of::<RawLimits>()),
            (Level::Group, "[groups.NAME]", keys_of::<RawGroup>()),
            (Level::Target, "a target's table", keys_of::<RawTarget>()),
            (Level::Tls, "tls = { … }", keys_of::<RawTls>()),
            (Level::Query, "[queries.NAME]", keys_of::<RawQuery>()),
            (Level::Metric, "[queries.NAME.metrics.FAMILY]", keys_of::<RawMetric>()),
        ])
    }

    fn keys(&self, level: Level) -> &'static [&'static str] {
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
        self.tls(group, &title);
        for (name, at, target) in tables(group.get("targets")) {
            self.target(name, target, &at);
            self.tls(target, &format!("target `{name}`"));
        }
    }

    fn tls(&mut self, table: &DeTable<'_>, of: &str) {
        if let Some((tls, at)) = table.get("tls").and_then(as_table) {
            self.level(Level::Tls, &format!("`tls` of {of}"), tls, &at);
        }
    }

    fn target(&mut self, name: &str, target: &DeTable<'_>, at: &Place) {
        let keys = self.levels.keys(Level::Target);
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
            self.found.meant(at, "address");
        }
    }

    /// Reports the unknown keys of one table.
    fn level(&mut self, level: Level, title: &str, table: &DeTable<'_>, at: &Place) {
        let keys = self.levels.keys(level);
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
        let before = &self.found.source().text()[..leaf.start];
        let start = before.rfind(['\n', '[', '{', ',']).map_or(0, |i| i + 1);
        start + before[start..].len() - before[start..].trim_start().len()..leaf.end
    }

    fn follows_dot(&self, key: &Place) -> bool {
        self.found.source().text()[..key.start].trim_end().ends_with('.')
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
