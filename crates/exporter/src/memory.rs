//! How much memory this fleet may need, beside what the control group of the process allows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::config::Config;

const MIB: u64 = 1 << 20;

/// The process with one target.
const BASE: u64 = 8 * MIB;

/// An item that waits for its tick, before it has ever had a result: its task, its place on the page, its settings.
const IDLE_ITEM: u64 = 1 << 10;

/// An item with what its runs have left in memory, its results excluded.
const ITEM: u64 = 3 << 10;

/// The buffers of the client for an open connection, of which there may be two.
const CONNECTION: u64 = 16 << 10;

/// What to warn of, where the fleet would not fit if its results became as large as they may.
///
/// # Errors
/// That it cannot fit even without any result: what it needs, what there is, and what to do. The kernel would end it in
/// the middle of its work, and again after each restart.
pub(crate) fn check(config: &Config) -> Result<Option<String>, String> {
    let Some(limit) = Limit::of_this_process(Path::new("/")) else { return Ok(None) };
    match fits(Need::of(config), &limit) {
        Fit::Always => Ok(None),
        Fit::Maybe(why) => Ok(Some(why)),
        Fit::Never(why) => Err(why),
    }
}

/// What memory is needed for.
#[derive(Debug, Clone, Copy)]
struct Need {
    items: u64,
    connections: u64,
    page: u64,
}

impl Need {
    fn of(config: &Config) -> Self {
        Self {
            items: config.items.len() as u64,
            connections: config.connections().into_values().map(u64::from).sum(),
            page: config.max_page_bytes as u64,
        }
    }

    /// Before any server has answered.
    fn least(self) -> u64 {
        BASE + self.items * IDLE_ITEM
    }

    /// With all connections open.
    fn without_results(self) -> u64 {
        BASE + self.items * ITEM + self.connections * CONNECTION
    }

    /// With a page as large as it may become: its text, and as much again for the results of before, which are there as
    /// long as a page of them is kept or sent. Measured: 2.1 times the page with plain scrapes, 1.5 with compressed ones.
    fn most(self) -> u64 {
        self.without_results() + 2 * self.page
    }

    /// The largest page that fits.
    fn page_within(self, limit: u64) -> u64 {
        limit.saturating_sub(self.without_results()) / 2
    }
}

/// Whether the fleet fits into a limit, and if not, why.
#[derive(Debug, PartialEq, Eq)]
enum Fit {
    Always,
    Maybe(String),
    Never(String),
}

fn fits(need: Need, limit: &Limit) -> Fit {
    const RAISE: &str = "raise the limit (MemoryMax= in systemd, --memory in Docker)";
    let Need { items, connections, page } = need;
    let is = format!("the limit is {} ({})", mib(limit.bytes), limit.file.display());
    if limit.bytes < need.least() {
        let least = mib_up(need.least());
        return Fit::Never(format!(
            "the fleet needs {least} of memory for {items} items before any server has answered, and {is}; {RAISE}, or \
             lower the number of items"
        ));
    }
    if limit.bytes < need.most() {
        let within = need.page_within(limit.bytes) / MIB;
        let lower = if within > 0 {
            format!("lower max_page_bytes to {} ({within} MiB)", within * MIB)
        } else {
            "lower max_connections or the number of items".to_owned()
        };
        return Fit::Maybe(format!(
            "the fleet may need {} of memory, and {is}: {items} items, {connections} connections, a page of {} and as \
             much again for the one before (max_page_bytes); {lower}, or {RAISE}",
            mib_up(need.most()),
            mib(page)
        ));
    }
    Fit::Always
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / MIB)
}

fn mib_up(bytes: u64) -> String {
    mib(bytes + MIB - 1)
}

/// How much memory a process may have.
#[derive(Debug, PartialEq, Eq)]
struct Limit {
    bytes: u64,
    /// Where that is written.
    file: PathBuf,
}

impl Limit {
    /// The lowest limit of the process's control group and of those that it is in, of either version; none where there
    /// is none, or none to be seen. `root` is the root of the file system.
    fn of_this_process(root: &Path) -> Option<Self> {
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
        groups.lines().filter_map(|line| Self::of_group(root, line)).min_by_key(|limit| limit.bytes)
    }

    /// Of a line `number:controllers:path`; version 2 has neither number nor controllers.
    fn of_group(root: &Path, line: &str) -> Option<Self> {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (top, name) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let top = root.join(top);
        // In a container the path may be the host's, of which only the top is to be seen here.
        let own = top.join(path.trim_start_matches('/'));
        let files =
            own.ancestors().take_while(|folder| folder.starts_with(&top)).map(|folder| folder.join(name));
        let limits = files.filter_map(|file| {
            // "max" is none.
            let bytes = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
            Some(Self { bytes, file })
        });
        limits.min_by_key(|limit| limit.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Need = Need { items: 3000, connections: 900, page: 256 * MIB };

    fn limit(bytes: u64) -> Limit {
        Limit { bytes, file: "/sys/fs/cgroup/memory.max".into() }
    }

    #[track_caller]
    fn says(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }

    #[test]
    fn t41_a_fleet_that_cannot_fit_is_refused_and_one_that_may_not_is_told_what_to_lower() {
        let Fit::Never(refused) = fits(NEED, &limit(10 * MIB)) else {
            panic!("it has no room for the items")
        };
        says(
            &refused,
            &["needs 11 MiB", "3000 items", "limit is 10 MiB (/sys/fs/cgroup/memory.max)", "MemoryMax="],
        );

        let Fit::Maybe(told) = fits(NEED, &limit(256 * MIB)) else {
            panic!("a page may be that large alone")
        };
        says(
            &told,
            &[
                "may need 543 MiB",
                "limit is 256 MiB",
                "a page of 256 MiB",
                "max_page_bytes to 117440512 (112 MiB)",
            ],
        );
        let lowered = Need { page: 117_440_512, ..NEED };
        assert_eq!(fits(lowered, &limit(256 * MIB)), Fit::Always, "what it said fits");

        let Fit::Maybe(told) = fits(NEED, &limit(20 * MIB)) else { panic!("connections do not fit") };
        says(&told, &["lower max_connections or the number of items"]);
        assert_eq!(fits(NEED, &limit(543 * MIB)), Fit::Always);
    }

    /// The lowest limit of a file system with these files, and where it stands.
    fn found(files: &[(&str, &str)]) -> Option<(u64, String)> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let Limit { bytes, file } = Limit::of_this_process(root.path())?;
        Some((bytes, file.strip_prefix(root.path()).unwrap().display().to_string()))
    }

    #[test]
    fn t41_the_limit_is_the_lowest_of_the_groups_that_the_process_is_in() {
        let own = ("proc/self/cgroup", "0::/system.slice/exporter.service\n");
        let service = "sys/fs/cgroup/system.slice/exporter.service/memory.max";
        let slice = "sys/fs/cgroup/system.slice/memory.max";
        let at = |bytes, file: &str| Some((bytes, file.to_owned()));
        assert_eq!(found(&[own, (service, "67108864\n"), (slice, "max\n")]), at(64 * MIB, service));
        assert_eq!(found(&[own, (service, "67108864\n"), (slice, "1048576\n")]), at(MIB, slice));
        assert_eq!(found(&[own, (service, "max\n"), ("sys/fs/cgroup/other/memory.max", "1\n")]), None);
        // A container sees its own group as the top, under whatever path.
        let top = "sys/fs/cgroup/memory.max";
        assert_eq!(found(&[("proc/self/cgroup", "0::/\n"), (top, "1048576\n")]), at(MIB, top));
        // Version 1, and both beside each other.
        let mixed = ("proc/self/cgroup", "9:cpu,cpuacct:/a\n4:memory:/docker/c0ffee\n0::/a\n");
        let one = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_eq!(found(&[mixed, (one, "2097152\n")]), at(2 * MIB, one));
        assert_eq!(found(&[]), None);
    }
}
