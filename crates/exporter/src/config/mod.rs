//! The configuration: from TOML files to what is true, or to every mistake in them with its place and what to write.
//!
//! Two stages. First all syntax errors of all files ([`syntax`], [`files`]), and stop. Then together: unknown keys
//! ([`unknown`]), types and values (the raw structs of [`raw`], made of [`field`]s), meanings and references
//! ([`targets`], [`queries`], [`items`]). Nothing here connects or runs a program. Beside the main file it reads what
//! that names: included files, SQL files, option files, the web file and its certificates; secrets of targets are looked
//! for and not read.

mod access;
mod account;
mod address;
mod field;
mod files;
mod glob;
mod history;
mod items;
mod keys;
mod names;
mod option_files;
mod pattern;
mod queries;
mod raw;
mod report;
mod reserved;
mod schema;
mod secrets;
mod selection;
mod server;
mod session;
mod settings;
mod show;
mod statements;
mod syntax;
mod targets;
#[cfg(test)]
mod tests;
mod unknown;
mod web;
mod yaml;

use std::{collections::BTreeMap, fmt::Write as _, io, ops::Deref, path::Path, sync::Arc, time::Duration};

use fleet_collector::{
    query::{Query, ResultLimits},
    target::Target,
};
use serde::Deserialize as _;
use toml::Spanned;

use access::Access;
use field::{Entries, Field, Setting, good, read_with, table};
#[allow(unused_imports, reason = "the benches of the loader need no history")]
pub(crate) use history::{History, Store};
use items::{Items, Parts};
pub(crate) use names::is_label_name;
use raw::{RawDefaults, RawFile, RawLimits};
use report::{Findings, Place, Sources};
pub(crate) use report::{Problem, Report};
#[cfg(test)]
pub(crate) use reserved::is_reserved;
pub(crate) use schema::schema;
pub(crate) use secrets::missing_secrets;
pub(crate) use selection::{Candidate, Selection, Wanted};
use server::Server;
#[allow(unused_imports, reason = "the benches of the loader need no history")]
pub(crate) use settings::LONGEST_INTERVAL;
use settings::{SHORTEST_INTERVAL, Settings, Written, at_most};
pub(crate) use show::Unknown;
pub(crate) use statements::check_sql;
#[allow(unused_imports, reason = "the benches of the loader watch no file")]
pub(crate) use web::{Port, WebFile, read_web};

/// A whole configuration in which everything is right.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where to listen, as `host:port`.
    pub(crate) listen: String,
    /// Whether a request over HTTP may reload it.
    pub(crate) reload: bool,
    /// Who may come in, and how.
    pub(crate) web: WebFile,
    /// Runs at the same time, over all targets.
    pub(crate) max_runs: usize,
    /// Connections being opened at the same time, over all targets.
    pub(crate) max_connects: usize,
    /// Bytes of the page at most.
    pub(crate) max_page_bytes: usize,
    /// Where what ran is kept, if anywhere.
    pub(crate) history: Option<History>,
    /// The servers, in the order of the file; those that are paused too.
    pub(crate) targets: Vec<Arc<Target>>,
    /// The queries, in the order of the file.
    pub(crate) queries: Vec<Arc<Query>>,
    /// Each query on each target that it reaches, but for those that are disabled or whose target is paused.
    pub(crate) items: Vec<ItemConfig>,
    n_disabled: usize,
    n_paused: usize,
    sources: Sources,
    needs: Vec<secrets::Need>,
    inline: Vec<Place>,
    /// What the settings were made of, to tell where each comes from.
    parts: Parts,
}

/// One query on one target, and the settings that won for it.
#[derive(Debug, Clone)]
pub(crate) struct ItemConfig {
    /// Where.
    pub(crate) target: Arc<Target>,
    /// What.
    pub(crate) query: Arc<Query>,
    /// How; held once for all items with the same.
    settings: Arc<ItemSettings>,
}

/// How an item runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ItemSettings {
    /// How often.
    pub(crate) interval: Duration,
    /// How long a run may take: at most the interval.
    pub(crate) timeout: Duration,
    /// How old its last good result may be while it is shown.
    pub(crate) expire_after: Duration,
    /// What a failed run does to that result.
    pub(crate) on_failure: OnFailure,
    /// How long after a failure it runs again before its next tick, if at all.
    pub(crate) retry_after: Option<Duration>,
    /// How large an answer may be.
    pub(crate) limits: ResultLimits,
    /// What of these is written, and does not follow from another interval.
    written: Written,
}

impl Deref for ItemConfig {
    type Target = ItemSettings;

    fn deref(&self) -> &ItemSettings {
        &self.settings
    }
}

impl ItemConfig {
    /// What it is called, `QUERY@TARGET`.
    pub(crate) fn name(&self) -> String {
        format!("{}@{}", self.query.name, self.target.name)
    }

    /// The shortest interval that it may have.
    pub(crate) fn shortest_interval(&self) -> Duration {
        self.timeout.max(SHORTEST_INTERVAL)
    }

    /// The same item at another interval, with what follows from that.
    #[must_use]
    pub(crate) fn at_interval(&self, interval: Duration) -> Self {
        let (expire_after, retry_after) = self.written.at(interval, self.timeout);
        let settings = ItemSettings { interval, expire_after, retry_after, ..(*self.settings).clone() };
        Self { settings: Arc::new(settings), ..self.clone() }
    }
}

/// What a failed run does to the last good result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OnFailure {
    /// It is shown until it expires.
    Keep,
    /// It is no longer shown.
    Drop,
}

/// What the command line says in place of the file.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Given<'a> {
    /// Where to listen.
    pub(crate) bind: Option<&'a str>,
    /// The web file.
    pub(crate) web_config: Option<&'a Path>,
}

/// A configuration, and what its author should look at.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What is true.
    pub(crate) config: Config,
    /// What is probably not meant so.
    pub(crate) warnings: Report,
}

/// Reads and checks a file and those that it includes.
pub(crate) fn load(path: &Path, given: Option<Given<'_>>) -> Result<Loaded, Report> {
    let text = files::read_text(path).map_err(|error| unreadable(path, &error))?;
    let Loaded { config, warnings } = parse(path, &text, given)?;
    let mut found = Findings::new(config.sources.clone());
    secrets::check_files(&config, &mut found);
    let failed = found.has_errors();
    let warnings = warnings.and(found.into_report());
    if failed { Err(warnings) } else { Ok(Loaded { config, warnings }) }
}

/// Checks the text of a file; the path gives its name and the folder that relative paths start from.
pub(crate) fn parse(path: &Path, text: &str, given: Option<Given<'_>>) -> Result<Loaded, Report> {
    let mut found = Findings::default();
    let tree = syntax::parse(&mut found, path, text);
    let included = files::included(&mut found, path, tree.get_ref());
    let trees: Vec<_> =
        included.iter().map(|file| syntax::parse(&mut found, &file.path, &file.text)).collect();
    if found.has_errors() {
        return Err(found.into_report());
    }
    let at = tree.span();
    let mut tree = tree.into_inner();
    for other in trees {
        files::merge(&mut found, &mut tree, other.into_inner());
    }
    let tree = Spanned::new(at, tree);
    unknown::find(&tree, &mut found);
    let raw = match RawFile::deserialize(toml::de::Deserializer::from(tree)) {
        Ok(raw) => raw,
        Err(error) => {
            found.error(&error.span().unwrap_or_default(), error.message());
            return Err(found.into_report());
        }
    };
    let config = check(&mut found, raw, given.unwrap_or_default());
    match config {
        Some(config) if !found.has_errors() => Ok(Loaded { config, warnings: found.into_report() }),
        _ => Err(found.into_report()),
    }
}

impl Config {
    /// Each target, and whether it is paused.
    pub(crate) fn targets_and_pauses(&self) -> impl Iterator<Item = (&Arc<Target>, bool)> {
        self.parts.fleet.members.iter().map(|member| (&member.target, member.paused))
    }

    /// The connections that each target with an item may have.
    pub(crate) fn connections(&self) -> BTreeMap<&str, u16> {
        self.items.iter().map(|item| (&*item.target.name, item.target.max_connections)).collect()
    }

    /// One line on what the configuration amounts to.
    pub(crate) fn summary(&self) -> String {
        let mut busiest: BTreeMap<&str, f64> = BTreeMap::new();
        let mut all = 0.0;
        for item in &self.items {
            let rate = item.interval.as_secs_f64().recip();
            all += rate;
            *busiest.entry(&item.target.name).or_default() += rate;
        }
        let connections: u64 = self.connections().into_values().map(u64::from).sum();
        let busiest = busiest.into_values().fold(0.0, f64::max);
        let series = self.items.iter().fold(0_usize, |sum, item| sum.saturating_add(item.limits.series));
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
        let more = |n| format!("{n} more {}", if n == 1 { "item" } else { "items" });
        let n_paused = self.parts.fleet.members.iter().filter(|member| member.paused).count();
        if n_paused > 0 {
            let _ = write!(line, "; paused: {n_paused} of the targets, with {}", more(self.n_paused));
        }
        if self.n_disabled > 0 {
            let _ = write!(line, "; disabled: {}", more(self.n_disabled));
        }
        line
    }
}

/// A rate with as many digits as it needs to not look like zero.
fn rate(rate: f64) -> String {
    if rate < 0.095 { format!("{rate:.4}") } else { format!("{rate:.1}") }
}

fn check(found: &mut Findings, raw: RawFile, given: Given<'_>) -> Option<Config> {
    let RawFile { include, server, defaults, limits, history, groups, queries } = raw;
    let include = field::list(found, "include", include, "write include = [\"conf.d/*.toml\"]");
    for path in include.map(|include| include.value).unwrap_or_default() {
        path.check_in(found, "include");
    }
    let server = table(found, "server", server, "write [server] on a line of its own, its keys below");
    let server = Server::check(found, server.map(|server| server.value).unwrap_or_default(), given);
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
    let mut fleet = targets::check(found, groups, defaults.access, target_label);
    let history = history::check(found, history, &mut fleet);
    let common = queries::Common { namespace: &defaults.namespace, groups: &fleet.groups };
    let queries = queries::check(found, queries, &common);
    let parts = Parts { fleet, queries, defaults: defaults.settings, limits: limits.result };
    let Items { list: items, n_disabled, n_paused } = parts.items(found, target_label);

    if let (None, Some(at), n @ 2..) = (target_label, &defaults.target_label_at, parts.fleet.members.len()) {
        found
            .error(at, format!("`target_label` is empty, but there are {n} targets"))
            .help("their series would be the same: write target_label = \"target\", or leave it away");
    }
    if !found.has_errors() && items.len() + n_disabled + n_paused == 0 {
        let (message, help) = match wrote {
            (false, _) => ("there are no groups", "write [groups.NAME] with user and targets"),
            (_, false) => ("there are no queries", "write [queries.NAME] with sql and metrics"),
            _ => ("there is nothing to run", "a fleet has at least one target and one query that reaches it"),
        };
        found.error_of_file(message).help(help);
    } else if !found.has_errors() && items.is_empty() {
        // Somebody wrote so, perhaps for a while; but a page without results should surprise nobody.
        found
            .warn_of_file("nothing runs: every item is disabled or paused")
            .help("take away enabled = false or paused = true where queries are to run");
    }
    let targets: Vec<_> = parts.fleet.members.iter().map(|member| Arc::clone(&member.target)).collect();
    let lanes = targets.iter().map(|target| usize::from(target.lanes())).sum::<usize>();
    let Server { listen, reload, web } = server?;
    Some(Config {
        listen,
        reload,
        web,
        max_runs: limits.max_runs.unwrap_or_else(|| lanes.max(256)),
        max_connects: limits.max_connects.unwrap_or_else(|| (targets.len() / 16).max(32)),
        max_page_bytes: limits.max_page_bytes,
        history,
        targets,
        queries: parts.queries.iter().filter_map(|query| query.query.clone()).collect(),
        items,
        n_disabled,
        n_paused,
        sources: found.sources.clone(),
        needs: parts.fleet.needs.clone(),
        inline: parts.fleet.inline.clone(),
        parts,
    })
}

/// `[defaults]`, checked.
struct Defaults {
    namespace: String,
    target_label: Option<String>,
    target_label_at: Option<Place>,
    access: Access,
    settings: Settings,
}

impl Defaults {
    fn check(found: &mut Findings, raw: RawDefaults) -> Self {
        let RawDefaults { access, settings, namespace, target_label } = raw;
        let namespace = read_with(found, "namespace", namespace, queries::namespace_rule);
        let target_label = read_with(found, "target_label", target_label, |label| {
            if label.is_empty() { Ok(label) } else { names::label(&label).map(|()| label) }
        });
        let target_label_at = target_label.as_ref().map(|label| label.at.clone());
        let target_label = good(target_label).map_or_else(|| "target".to_owned(), |label| label.value);
        let own_label = Some(target_label.as_str()).filter(|label| !label.is_empty());
        Self {
            namespace: good(namespace)
                .map_or_else(|| "query_exporter".to_owned(), |namespace| namespace.value),
            access: Access::check(found, access, own_label),
            settings: Settings::check(found, settings, None),
            target_label: Some(target_label),
            target_label_at,
        }
    }
}

/// `[limits]`, checked.
struct Limits {
    max_runs: Option<usize>,
    max_connects: Option<usize>,
    max_page_bytes: usize,
    result: Settings,
}

impl Limits {
    fn check(found: &mut Findings, raw: RawLimits) -> Self {
        let RawLimits { result, max_runs, max_connects, max_page_bytes } = raw;
        let mut limit = |key: &str, most: usize, field: Option<Field<usize>>| {
            let setting: Setting<usize> = read_with(found, key, field, at_most(most));
            good(setting).map(|n| n.value)
        };
        Self {
            max_runs: limit("max_runs", 100_000, max_runs),
            max_connects: limit("max_connects", 100_000, max_connects),
            max_page_bytes: limit("max_page_bytes", 16 << 30, max_page_bytes).unwrap_or(256 << 20),
            result: Settings::check_limits(found, result),
        }
    }
}

/// The one problem of a file that cannot be read.
fn unreadable(path: &Path, error: &io::Error) -> Report {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "check the path; an annotated example is configs/example.toml",
        io::ErrorKind::IsADirectory => "give the file itself, such as fleet.toml in that directory",
        io::ErrorKind::InvalidData => "save the file as UTF-8; TOML has no other encoding",
        io::ErrorKind::PermissionDenied => "let the exporter's user read it",
        _ => "the configuration is one TOML file",
    };
    whole_file(path, format!("cannot read the configuration: {error}"), help)
}

fn whole_file(path: &Path, message: String, help: &str) -> Report {
    let mut found = Findings::default();
    found.sources.add(path, "", Vec::new());
    found.error_of_file(message).help(help);
    found.into_report()
}
