//! A child process that does not outlive its test, and what it wrote.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::wait_for;

/// A running process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

/// The lines that a process has written so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines {
    lines: Arc<Mutex<Written>>,
}

#[derive(Debug, Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

/// A command whose process the kernel kills when the thread that started it ends, however it ends: a test that is
/// itself killed leaves nothing behind.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

impl Process {
    /// Starts it, with its output collected.
    pub(crate) fn start(mut command: Command) -> Self {
        Self::start_as_is(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Starts it with the output that the command has; what of it is no pipe to here is not collected.
    pub(crate) fn start_as_is(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().map_or_else(Lines::none, Lines::collect);
        let stderr = child.stderr.take().map_or_else(Lines::none, Lines::collect);
        Self { child, stdout, stderr }
    }

    /// Its number: `setpriv` becomes the program that it starts.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, once it has; all that it wrote is there then.
    pub(crate) async fn ended(&mut self, within: Duration) -> ExitStatus {
        let Self { child, stdout, stderr } = self;
        let status = wait_for("the process ends", within, async || match child.try_wait().unwrap() {
            Some(status) => Ok(status),
            None => Err(format!("it runs; it wrote:\n{}{}", stdout.text(), stderr.text())),
        })
        .await;
        wait_for("its output ends", Duration::from_secs(10), async || {
            if stdout.ended() && stderr.ended() { Ok(()) } else { Err("its pipes are open".to_owned()) }
        })
        .await;
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; and nobody is left to tell of anything else.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Lines {
    /// Reads to the end on a thread of its own, so that a full pipe never stops the process.
    pub(crate) fn collect(from: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let written = Arc::clone(&lines.lines);
        thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                written.lock().unwrap().lines.push(String::from_utf8_lossy(&line).into_owned());
            }
            written.lock().unwrap().ended = true;
        });
        lines
    }

    /// Of an output that somebody else has.
    fn none() -> Self {
        let lines = Self::default();
        lines.lines.lock().unwrap().ended = true;
        lines
    }

    /// What is there.
    pub(crate) fn all(&self) -> Vec<String> {
        self.lines.lock().unwrap().lines.clone()
    }

    /// What is there, as one text.
    pub(crate) fn text(&self) -> String {
        self.all().into_iter().map(|line| line + "\n").collect()
    }

    /// The lines that hold this text.
    pub(crate) fn with(&self, text: &str) -> Vec<String> {
        self.all().into_iter().filter(|line| line.contains(text)).collect()
    }

    fn ended(&self) -> bool {
        self.lines.lock().unwrap().ended
    }
}
