//! What is said of a configuration: in the log at the start, and in the log and the answer behind a reload.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use fleet_collector::{Address, Target, TlsMode};
use fleet_scheduler::Changes;
use tokio::net::TcpListener;

use crate::{
    config::{Config, Report, Store},
    reload::Unread,
};

/// Problems of one reading that go to the log; the answer to a request has all of them.
const LOGGED_PROBLEMS: usize = 20;

/// The first line of the log: what runs, and on what.
pub(crate) fn say_hello(path: &Path, config: &Config, listener: &TcpListener, listen: &str) {
    let address = listener.local_addr().map_or_else(|_| listen.to_owned(), |address| address.to_string());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = %path.display(),
        targets = config.targets.len(),
        queries = config.queries.len(),
        items = config.items.len(),
        %address,
        "fleet-query-exporter runs"
    );
}

/// What a reader of the log should know about the way passwords go; once for each group.
pub(crate) fn warn_of_unverified(config: &Config, before: Option<&Config>) {
    let known = before.map(unverified).unwrap_or_default();
    for (group, targets) in unverified(config) {
        if !known.contains_key(group) {
            tracing::warn!(
                group,
                targets,
                "the password goes to an unverified server; set tls = {{ mode = \"verify_identity\", ca = … }}"
            );
        }
    }
}

/// The targets of each group that nobody asks for a proof of identity.
fn unverified(config: &Config) -> BTreeMap<&str, usize> {
    let mut unverified = BTreeMap::new();
    for target in config.targets.iter().chain(history_server(config)) {
        if matches!(target.tls.mode, TlsMode::Preferred | TlsMode::Required) && !is_local(&target.address) {
            *unverified.entry(&*target.group).or_default() += 1;
        }
    }
    unverified
}

/// The server of the history's table, to which a password goes too.
fn history_server(config: &Config) -> Option<&Arc<Target>> {
    match &config.history.as_ref()?.store {
        Store::Sqlite(_) => None,
        Store::MySql(server) => Some(server),
    }
}

fn is_local(address: &Address) -> bool {
    match address {
        Address::Socket(_) => true,
        Address::Tcp { host, .. } => {
            host.eq_ignore_ascii_case("localhost") || address.ip().is_some_and(|ip| ip.is_loopback())
        }
    }
}

/// What the answer to a request says of a reload.
pub(crate) fn reloaded(changes: Changes, restart: &[String], problems: &Report) -> String {
    let Changes { kept, started, stopped, changed } = changes;
    let (started, stopped) = (started - changed, stopped - changed);
    let done =
        format!("reloaded: items started {started}, stopped {stopped}, changed {changed}, untouched {kept}");
    let problems = (!problems.is_empty()).then(|| problems.to_string());
    let lines: Vec<_> = std::iter::once(done).chain(restart.iter().cloned()).chain(problems).collect();
    lines.join("\n")
}

/// Logs why the configuration was not taken, and gives the whole of it.
pub(crate) fn not_reloaded(unread: &Unread) -> String {
    const OLD: &str = "the configuration was not reloaded, the one before goes on";
    match unread {
        Unread::Wrong(report) => {
            tracing::error!("{OLD}");
            log_problems(report);
            format!("{OLD}\n\n{report}")
        }
        Unread::Stuck(why) => {
            tracing::error!("{OLD}: {why}");
            format!("{OLD}: {why}")
        }
    }
}

/// Logs what is to be said of a configuration.
pub(crate) fn log_problems(problems: &Report) {
    for problem in problems.iter().take(LOGGED_PROBLEMS) {
        tracing::warn!("{}", problem.one_line());
    }
    let more = problems.iter().count().saturating_sub(LOGGED_PROBLEMS);
    if more > 0 {
        tracing::warn!("and {more} more; --check shows all");
    }
}
