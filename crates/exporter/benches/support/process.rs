//! What a process has used, from /proc; and child processes that do not outlive this one.

use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    fs, io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use tempfile::TempDir;

use super::Result;

/// CPU time. The kernel counts it in nanoseconds and shows it in hundredths of a second.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    pub user: Duration,
    pub system: Duration,
}

impl Cpu {
    pub fn of(pid: u32) -> Result<Self> {
        let stat = procfs::process::Process::new(i32::try_from(pid)?)?.stat()?;
        let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64);
        Ok(Self { user: time(stat.utime), system: time(stat.stime) })
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }

    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

/// CPU time to the nanosecond, of each thread of a process. For what is too short for [`Cpu`].
#[derive(Debug, Clone)]
pub struct Threads(HashMap<OsString, Duration>);

impl Threads {
    pub fn of(pid: u32) -> Result<Self> {
        let mut threads = HashMap::new();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?;
            // A thread may end meanwhile.
            let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            if let Some(nanos) = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()) {
                threads.insert(task.file_name(), Duration::from_nanos(nanos));
            }
        }
        Ok(Self(threads))
    }

    /// What all of them have used since then, but for those that have ended.
    pub fn since(&self, before: &Self) -> Duration {
        let used = |(thread, now): (&OsString, &Duration)| {
            now.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        };
        self.0.iter().map(used).sum()
    }
}

/// Bytes in memory.
pub fn resident(pid: u32) -> Result<u64> {
    let status = procfs::process::Process::new(i32::try_from(pid)?)?.status()?;
    Ok(status.vmrss.ok_or("no VmRSS")? * 1024)
}

/// The most bytes that it ever had in memory.
pub fn peak(pid: u32) -> Result<u64> {
    let status = procfs::process::Process::new(i32::try_from(pid)?)?.status()?;
    Ok(status.vmhwm.ok_or("no VmHWM")? * 1024)
}

/// How often the process's threads have gone to sleep: each time costs two passages through the kernel's scheduler.
pub fn switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let status = fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += count.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// As many open files as the administrator allows: each simulated server is one, and each of its connections.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, what needs the files says that there are none.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// A command that dies with this process, however that ends: it is run by way of [`become_guarded`].
pub fn guarded(program: &Path) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("guarded").arg(program);
    Ok(command)
}

/// Asks the kernel for SIGKILL when the parent's main thread ends, and becomes the program.
pub fn become_guarded(program: &str, arguments: &[&str]) -> Box<dyn std::error::Error> {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    let error = Command::new(program).args(arguments).exec();
    io::Error::new(error.kind(), format!("{program}: {error}")).into()
}

/// A child that is ended with its owner.
#[derive(Debug)]
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that is deleted with its owner; below the build's own, where it is in nobody's way if this process is
/// killed.
pub fn scratch() -> Result<TempDir> {
    Ok(TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?)
}
