//! The configuration: from a TOML file to what is true, or to every mistake in it with its place and what to write.
//!
//! Two stages. First all syntax errors ([`syntax`]), and stop. Then together: unknown keys ([`unknown`]), types and
//! values (the raw structs of [`raw`], made of [`field`]s), meanings and references ([`targets`], [`queries`],
//! [`items`]). Nothing here connects, and only [`load`] and [`missing_secrets`] touch the file system.

mod access;
mod address;
mod field;
mod items;
mod names;
mod pattern;
mod queries;
mod raw;
mod report;
mod reserved;
mod secrets;
mod syntax;
mod targets;
#[cfg(test)]
mod tests;
mod timing;
mod unknown;

use std::{collections::BTreeMap, fmt::Write as _, io, path::Path, sync::Arc, time::Duration};

use fleet_collector::{
    query::{Query, ResultLimits},
    target::Target,
};
use serde::Deserialize as _;

use field::{Entries, Field, Wrong, good, read_with, table};
use raw::{RawDefaults, RawFile, RawLimits, RawServer};
pub(crate) use report::Report;
use report::{Findings, Place, Source};
#[cfg(test)]
pub(crate) use reserved::is_reserved;
pub(crate) use secrets::missing_secrets;
use timing::Timing;

/// A whole configuration in which everything is right.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where to listen, as `host:port`.
    pub(crate) listen: String,
    /// Runs at the same time, over all targets.
    pub(crate) max_runs: usize,
    /// Connections being opened at the same time, over all targets.
    pub(crate) max_connects: usize,
    /// The servers, in the order of the file.
    pub(crate) targets: Vec<Arc<Target>>,
    /// The queries, in the order of the file.
    pub(crate) queries: Vec<Arc<Query>>,
    /// Each query on each target that it reaches.
    pub(crate) items: Vec<ItemConfig>,
    source: Arc<Source>,
    needs: Vec<secrets::Need>,
    inline: Vec<Place>,
}

/// One query on one target, and the settings that won for it.
#[derive(Debug, Clone)]
pub(crate) struct ItemConfig {
    /// Where.
    pub(crate) target: Arc<Target>,
    /// What.
    pub(crate) query: Arc<Query>,
    /// How often.
    pub(crate) interval: Duration,
    /// How long a run may take: at most the interval.
    pub(crate) timeout: Duration,
    /// How old its last good result may be while it is shown.
    pub(crate) expire_after: Duration,
    /// What a failed run does to that result.
    pub(crate) on_failure: OnFailure,
}

/// What a failed run does to the last good result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// It is shown until it expires.
    Keep,
    /// It is no longer shown.
    Drop,
}

/// A configuration, and what its author should look at.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What is true.
    pub(crate) config: Config,
    /// What is probably not meant so.
    pub(crate) warnings: Report,
}

/// Reads and checks a file.
pub(crate) fn load(path: &Path) -> Result<Loaded, Report> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
    let Loaded { config, warnings } = parse(path, &text)?;
    let mut found = Findings::new(Arc::clone(&config.source));
    secrets::check_files(path, &config, &mut found);
    let failed = found.has_errors();
    let warnings = warnings.and(found.into_report());
    if failed { Err(warnings) } else { Ok(Loaded { config, warnings }) }
}

/// Checks the text of a file; the path gives its name and the folder that relative paths start from.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Loaded, Report> {
    let (source, tree) = syntax::parse(path.display().to_string(), text)?;
    let mut found = Findings::new(Arc::clone(&source));
    unknown::find(&tree, &mut found);
    let raw = match RawFile::deserialize(toml::de::Deserializer::from(tree)) {
        Ok(raw) => raw,
        Err(error) => {
            found.error(&error.span().unwrap_or_default(), error.message());
            return Err(found.into_report());
        }
    };
    let config = check(&mut found, raw, path.parent().unwrap_or(Path::new("")));
    match config {
        Some(config) if !found.has_errors() => Ok(Loaded { config, warnings: found.into_report() }),
        _ => Err(found.into_report()),
    }
}

impl Config {
    /// One line on what the configuration amounts to.
    pub(crate) fn summary(&self) -> String {
        let mut busiest: BTreeMap<&str, f64> = BTreeMap::new();
        let mut all = 0.0;
        for item in &self.items {
            let rate = item.interval.as_secs_f64().recip();
            all += rate;
            *busiest.entry(&item.target.name).or_default() += rate;
        }
        let busiest = busiest.into_values().fold(0.0, f64::max);
        let connections: usize = self.targets.iter().map(|target| usize::from(target.max_connections)).sum();
        let series =
            self.items.iter().fold(0_usize, |sum, item| sum.saturating_add(item.query.limits.series));
        let mut line = String::new();
        for (n, what) in [
            (self.targets.len(), ("target", "targets")),
            (self.queries.len(), ("query", "queries")),
            (self.items.len(), ("item", "items")),
        ] {
            let _ = write!(line, "{n} {}, ", if n == 1 { what.0 } else { what.1 });
        }
        let _ = write!(
            line,
            "{} runs a second in all, {} at the busiest target, at most {connections} connections, at most {series} series",
            rate(all),
            rate(busiest)
        );
        line
    }
}

/// A rate with as many digits as it needs to not look like zero.
fn rate(rate: f64) -> String {
    if rate < 0.095 { format!("{rate:.4}") } else { format!("{rate:.1}") }
}

fn check(found: &mut Findings, raw: RawFile, folder: &Path) -> Option<Config> {
    let RawFile { server, defaults, limits, groups, queries } = raw;
    let server = table(found, "server", server, "write [server] on a line of its own, its keys below");
    let listen = listen(found, server.map(|server| server.value).unwrap_or_default());
    let defaults =
        table(found, "defaults", defaults, "write [defaults] on a line of its own, its keys below");
    let defaults = Defaults::check(found, defaults.map(|defaults| defaults.value).unwrap_or_default());
    let limits = table(found, "limits", limits, "write [limits] on a line of its own, its keys below");
    let limits = Limits::check(found, limits.map(|limits| limits.value).unwrap_or_default());
    let wrote = (groups.is_some(), queries.is_some());
    let groups = table(found, "groups", groups, "write [groups.NAME]");
    let groups = groups.map_or(Entries(Vec::new()), |groups| groups.value);
    let queries = table(found, "queries", queries, "write [queries.NAME]");
    let queries = queries.map_or(Entries(Vec::new()), |queries| queries.value);

    let target_label = defaults.target_label.as_deref().filter(|label| !label.is_empty());
    let common = targets::Common { folder, target_label, database: defaults.database.as_deref() };
    let fleet = targets::check(found, groups, &common);
    let common =
        queries::Common { namespace: &defaults.namespace, limits: limits.result, groups: &fleet.groups };
    let queries = queries::check(found, queries, &common);
    let items = items::check(found, &fleet, &queries, &defaults.timing, target_label);

    if let (None, Some(at), n @ 2..) = (target_label, &defaults.target_label_at, fleet.members.len()) {
        found
            .error(at, format!("`target_label` is empty, but there are {n} targets"))
            .help("their series would be the same: write target_label = \"target\", or leave it away");
    }
    if !found.has_errors() && items.is_empty() {
        let (message, help) = match wrote {
            (false, _) => ("there are no groups", "write [groups.NAME] with user and targets"),
            (_, false) => ("there are no queries", "write [queries.NAME] with sql and metrics"),
            _ => ("there is nothing to run", "a fleet has at least one target and one query that reaches it"),
        };
        found.error_of_file(message).help(help);
    }
    let targets::Fleet { groups: _, members, needs, inline } = fleet;
    Some(Config {
        listen: listen?,
        max_runs: limits.max_runs,
        max_connects: limits.max_connects.unwrap_or_else(|| (members.len() / 16).max(32)),
        targets: members.into_iter().map(|member| member.target).collect(),
        queries: queries.into_iter().filter_map(|query| query.query).collect(),
        items,
        source: Arc::clone(found.source()),
        needs,
        inline,
    })
}

fn listen(found: &mut Findings, server: RawServer) -> Option<String> {
    let RawServer { listen } = server;
    let listen = read_with(found, "listen", listen, |listen| {
        address::host_and_port(&listen, None).map(|_| listen).map_err(|wrong| Wrong {
            help: "write \"0.0.0.0:9104\" for all addresses, or \"127.0.0.1:9104\" for this machine alone"
                .to_owned(),
            ..wrong
        })
    });
    match listen {
        None => Some("0.0.0.0:9104".to_owned()),
        Some(listen) => listen.value,
    }
}

/// `[defaults]`, checked.
struct Defaults {
    namespace: String,
    target_label: Option<String>,
    target_label_at: Option<Place>,
    database: Option<String>,
    timing: Timing,
}

impl Defaults {
    fn check(found: &mut Findings, raw: RawDefaults) -> Self {
        let RawDefaults { namespace, target_label, database, interval, timeout, expire_after, on_failure } =
            raw;
        let namespace = read_with(found, "namespace", namespace, queries::namespace_rule);
        let target_label = read_with(found, "target_label", target_label, |label| {
            if label.is_empty() { Ok(label) } else { names::label(&label).map(|()| label) }
        });
        let target_label_at = target_label.as_ref().map(|label| label.at.clone());
        let database = field::read(found, "database", database);
        Self {
            namespace: good(namespace)
                .map_or_else(|| "query_exporter".to_owned(), |namespace| namespace.value),
            target_label: good(target_label).map_or(Some("target".to_owned()), |label| Some(label.value)),
            target_label_at,
            database: good(database).map(|database| database.value),
            timing: Timing::check(found, interval, timeout, expire_after, on_failure),
        }
    }
}

/// `[limits]`, checked.
struct Limits {
    max_runs: usize,
    max_connects: Option<usize>,
    result: ResultLimits,
}

impl Limits {
    fn check(found: &mut Findings, raw: RawLimits) -> Self {
        let RawLimits { max_runs, max_connects, max_rows, max_series, max_label_bytes, max_result_bytes } =
            raw;
        let mut limit = |key: &str, most: usize, field: Option<Field<usize>>| {
            let setting = read_with(found, key, field, |n| match n {
                0 => Err(Wrong::new("is 0, which leaves nothing", "write at least 1")),
                n if n > most => {
                    Err(Wrong::new(format!("is {n}, which is too large"), format!("write at most {most}")))
                }
                n => Ok(n),
            });
            good(setting).map(|n| n.value)
        };
        let usual = ResultLimits::default();
        Self {
            max_runs: limit("max_runs", 100_000, max_runs).unwrap_or(256),
            max_connects: limit("max_connects", 100_000, max_connects),
            result: ResultLimits {
                rows: limit("max_rows", 10_000_000, max_rows).unwrap_or(usual.rows),
                series: limit("max_series", 10_000_000, max_series).unwrap_or(usual.series),
                label_bytes: limit("max_label_bytes", 1 << 20, max_label_bytes).unwrap_or(usual.label_bytes),
                result_bytes: limit("max_result_bytes", 1 << 30, max_result_bytes)
                    .unwrap_or(usual.result_bytes),
            },
        }
    }
}

/// The one problem of a file that cannot be read.
fn unreadable(path: &Path, error: &io::Error) -> Report {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "check the path; an annotated example is configs/example.toml",
        io::ErrorKind::IsADirectory => "give the file itself, such as fleet.toml in that directory",
        io::ErrorKind::PermissionDenied => "let the exporter's user read it",
        _ => "the configuration is one TOML file",
    };
    whole_file(path, format!("cannot read the configuration: {error}"), help)
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Report {
    let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line = before.split(|byte| *byte == b'\n').count();
    whole_file(
        path,
        format!("line {line} is not UTF-8"),
        "save the file as UTF-8; TOML has no other encoding",
    )
}

fn whole_file(path: &Path, message: String, help: &str) -> Report {
    let source = Arc::new(Source::new(path.display().to_string(), String::new(), Vec::new()));
    let mut found = Findings::new(source);
    found.error_of_file(message).help(help);
    found.into_report()
}
