//! How many files the process may have open, and how many this fleet needs: sockets are files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// For all that does not grow with the fleet: the standard streams, timers, the listening socket, secrets and certificates
/// that are being read, and some to spare.
const OTHERS: u64 = 96;

/// A fleet needs more files than the usual soft limit of 1024; the hard limit is what the administrator allows.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Whether the fleet fits within the limit. Where it does not, it would run for a while, and then connections to servers
/// and scrapes would fail at random.
///
/// # Errors
/// What it needs, what there is, and what to do.
pub(crate) fn check(config: &Config) -> Result<(), String> {
    fits(Need::of(config), getrlimit(Resource::Nofile).current)
}

/// Files that may be open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    targets: u64,
    connections: u64,
    clients: u64,
}

impl Need {
    fn of(config: &Config) -> Self {
        let connections = config.connections();
        Self {
            targets: connections.len() as u64,
            connections: connections.into_values().map(u64::from).sum(),
            clients: fleet_http::MAX_CONNECTIONS as u64,
        }
    }

    fn all(self) -> u64 {
        self.connections + self.clients + OTHERS
    }
}

fn fits(need: Need, limit: Option<u64>) -> Result<(), String> {
    let all = need.all();
    let Some(limit) = limit.filter(|limit| *limit < all) else { return Ok(()) };
    let Need { targets, connections, clients } = need;
    Err(format!(
        "the fleet needs {all} open files and the limit is {limit}: {targets} targets with {connections} connections at most \
         (max_connections), {clients} clients, {OTHERS} others; raise the hard limit (LimitNOFILE= in systemd, \
         --ulimit nofile= in Docker, ulimit -Hn), or lower max_connections"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_that_does_not_fit_is_refused_with_what_it_needs() {
        let need = Need { targets: 300, connections: 900, clients: 256 };
        assert_eq!(fits(need, None), Ok(()));
        assert_eq!(fits(need, Some(1252)), Ok(()));
        let refused = fits(need, Some(1251)).unwrap_err();
        for part in
            ["needs 1252 open files", "limit is 1251", "300 targets with 900 connections", "LimitNOFILE="]
        {
            assert!(refused.contains(part), "{part} is not in: {refused}");
        }
    }
}
