//! The built program: started on a configuration, asked over HTTP, and stopped as an operator would.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use procfs::{net::TcpState, process::FDTarget};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    account::Account,
    http::{self, Answer},
    page::Page,
    process::{self, Lines, Process},
    servers::Server,
    wait::wait_for,
};

/// How long the exporter may take to leave after SIGTERM, and the bound of bar 4.
pub(crate) const GONE_WITHIN: Duration = Duration::from_secs(5);

/// How long anything that should take a moment may take on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The command of the built program, with none of its variables set.
pub(crate) fn command() -> Command {
    let mut command = process::command(env!("CARGO_BIN_EXE_fleet-query-exporter"));
    for variable in ["CONFIG", "BIND", "LOG_LEVEL", "LOG_FORMAT"] {
        command.env_remove(format!("FLEET_QUERY_EXPORTER_{variable}"));
    }
    command
}

/// A folder with a configuration file in it, which only its owner may read.
pub(crate) fn folder_with(config: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fleet.toml");
    write_private(&path, config.as_bytes());
    (folder, path)
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, content: &[u8]) {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(content).unwrap();
}

/// A running exporter. A test ends it with [`Exporter::stop`].
#[derive(Debug)]
pub(crate) struct Exporter {
    process: Process,
    /// Where it listens.
    pub(crate) address: String,
    folder: TempDir,
    stopped: bool,
}

impl Exporter {
    /// Starts it on this configuration.
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_with(config, |_, _| {}).await
    }

    /// Starts it with more arguments, variables, or files in the folder of its configuration.
    pub(crate) async fn start_with(config: &str, more: impl FnOnce(&mut Command, &Path)) -> Self {
        let (folder, path) = folder_with(config);
        let mut command = command();
        command.arg("--config").arg(&path).args(["--bind", "127.0.0.1:0"]);
        more(&mut command, folder.path());
        Self::launch(command, folder).await
    }

    /// Starts this command; its folder lives as long as the exporter.
    pub(crate) async fn launch(command: Command, folder: TempDir) -> Self {
        let process = Process::start(command);
        let log = process.stderr.clone();
        let address = wait_for("the exporter says where it listens", SOON, async || {
            let hello = log.with("fleet-query-exporter runs").into_iter().next();
            hello.as_deref().and_then(address_in).ok_or_else(|| log.text())
        })
        .await;
        Self { process, address, folder, stopped: false }
    }

    /// Starts it on this configuration with standard output and error that nobody reads, as `output` has set them.
    pub(crate) async fn start_unread(config: &str, output: impl FnOnce(&mut Command)) -> Self {
        let (folder, path) = folder_with(config);
        let mut command = command();
        command.arg("--config").arg(&path).args(["--bind", "127.0.0.1:0"]);
        output(&mut command);
        let process = Process::start_as_is(&mut command);
        let address = wait_for("the exporter listens", SOON, async || {
            listens_at(process.id()).ok_or_else(|| "it does not".to_owned())
        })
        .await;
        Self { process, address, folder, stopped: false }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> &Lines {
        &self.process.stderr
    }

    /// Its number at the kernel.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed()).unwrap()
    }

    /// Its own folder, with the configuration in it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder().join("fleet.toml")
    }

    /// Puts another configuration in the place of its own, as a whole: written beside, and renamed.
    pub(crate) fn write_config(&self, config: &str) {
        let beside = self.folder().join("fleet.toml.new");
        write_private(&beside, config.as_bytes());
        fs::rename(&beside, self.config()).unwrap();
    }

    /// Sends SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.process.signal(Signal::HUP);
    }

    /// Asks for a reload over HTTP.
    pub(crate) async fn reload(&self) -> Answer {
        self.request("POST", "/-/reload").await
    }

    /// Puts another configuration in place, which it must take.
    pub(crate) async fn take(&self, config: &str) -> Answer {
        self.write_config(config);
        let answer = self.reload().await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer
    }

    /// Asks for a path.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path).await
    }

    /// Asks for a path with any method.
    pub(crate) async fn request(&self, method: &str, path: &str) -> Answer {
        let answer = http::request(&self.address, method, path).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log().text()))
    }

    /// The page of metrics.
    pub(crate) async fn page(&self) -> Page {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, 200);
        Page::parse(answer.body)
    }

    /// Looks at the page until `probe` finds what is waited for.
    pub(crate) async fn wait<T>(
        &self,
        what: &str,
        within: Duration,
        mut probe: impl FnMut(&Page) -> Result<T, String>,
    ) -> T {
        let look = async || {
            let page = self.page().await;
            let families = "query_exporter_up query_exporter_target_failure_reason query_exporter_runs_total";
            probe(&page).map_err(|seen| {
                let state: Vec<_> = families.split(' ').flat_map(|family| page.lines(family)).collect();
                format!("{seen}\n{}\nthe log:\n{}", state.join("\n"), self.log().text())
            })
        };
        wait_for(what, within, look).await
    }

    /// Looks at the page until something holds of it, and gives that page.
    pub(crate) async fn wait_until(
        &self,
        what: &str,
        within: Duration,
        holds: impl Fn(&Page) -> bool,
    ) -> Page {
        let probe = |page: &Page| if holds(page) { Ok(()) } else { Err("not yet".to_owned()) };
        let mut found = None;
        self.wait(what, within, |page| {
            probe(page)?;
            found = Some(Page::parse(page.text.clone()));
            Ok(())
        })
        .await;
        found.unwrap()
    }

    /// Waits until each of these targets has succeeded with `runs` runs more than now.
    pub(crate) async fn wait_for_runs(&self, target: &str, runs: u64, within: Duration) -> Page {
        let goal = self.page().await.runs(target, "success") + runs;
        self.wait_until(&format!("{runs} more runs on {target}"), within, |page| {
            page.runs(target, "success") >= goal
        })
        .await
    }

    /// Ends it with SIGTERM, and gives how long that took. It must leave in time and with exit code 0, and leave
    /// no session of these accounts at their servers.
    pub(crate) async fn stop(self, left: &[(&Server, &Account)]) -> Duration {
        self.stop_by(Signal::TERM, left).await
    }

    /// The same, and gives all that it logged before its farewell: the log runs behind what the page shows.
    pub(crate) async fn stop_and_read(self, left: &[(&Server, &Account)]) -> Vec<String> {
        let log = self.log().clone();
        self.stop(left).await;
        let mut lines = log.all();
        let farewell = lines.split_off(lines.len().saturating_sub(2));
        assert!(farewell[0].contains("stopping") && farewell[1].contains("stopped"), "{farewell:#?}");
        lines
    }

    /// The same by any signal.
    pub(crate) async fn stop_by(mut self, signal: Signal, left: &[(&Server, &Account)]) -> Duration {
        self.stopped = true;
        let start = Instant::now();
        self.process.signal(signal);
        let status = self.process.ended(GONE_WITHIN * 10).await;
        let took = start.elapsed();
        assert_eq!(status.code(), Some(0), "{}", self.log().text());
        assert!(took <= GONE_WITHIN, "it took {took:?} to leave:\n{}", self.log().text());
        for (server, account) in left {
            assert!(account.is_on(server));
            account.assert_no_session_left(&mut server.admin().await).await;
        }
        took
    }
}

impl Exporter {
    /// The most memory that it has had resident so far, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal that does not end it.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Ends it by force, and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.stopped = true;
        self.process.signal(Signal::KILL);
        self.process.ended(SOON).await;
    }

    /// How it ended though nobody had asked it to.
    pub(crate) async fn ended_by_itself(mut self, within: Duration) -> ExitStatus {
        self.stopped = true;
        self.process.ended(within).await
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        assert!(self.stopped || std::thread::panicking(), "a test ends with Exporter::stop");
    }
}

/// Where a process listens, as the kernel knows it.
fn listens_at(process: u32) -> Option<String> {
    let files = procfs::process::Process::new(process.cast_signed()).ok()?.fd().ok()?;
    let sockets: BTreeSet<_> = files
        .filter_map(|file| match file.ok()?.target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect();
    let all = procfs::net::tcp().ok()?;
    let its = all.iter().find(|one| one.state == TcpState::Listen && sockets.contains(&one.inode))?;
    Some(its.local_address.to_string())
}

/// The address in the first line of the log, as text or JSON.
fn address_in(line: &str) -> Option<String> {
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(line) {
        return json["address"].as_str().map(str::to_owned);
    }
    let (_, rest) = line.split_once("address=")?;
    rest.split(' ').next().map(str::to_owned)
}

/// Runs the program to its end: the exit code, standard output and standard error.
pub(crate) async fn run(command: Command) -> (i32, String, String) {
    let mut process = Process::start(command);
    let status = process.ended(SOON).await;
    (status.code().unwrap_or(-1), process.stdout.text(), process.stderr.text())
}

/// Runs `--check` on a configuration.
pub(crate) async fn check(config: &str) -> (i32, String, String) {
    let (_folder, path) = folder_with(config);
    let mut command = command();
    command.arg("--check").arg("--config").arg(&path);
    let output = run(command).await;
    fs::metadata(&path).unwrap();
    output
}
