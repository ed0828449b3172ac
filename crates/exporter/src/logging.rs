//! Logs: to stderr through a bounded queue, so that a blocked pipe or a full disk stops nobody.

use std::{
    collections::BTreeSet,
    io,
    panic::{self, PanicHookInfo},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::{LogFormat, LogLevel};

/// Lines that wait for stderr at most; more are dropped and counted.
const QUEUED_LINES: usize = 10_000;

/// How long the lines that wait may take to be written at the end.
const LAST_LINES: Duration = Duration::from_millis(1500);

/// Keeps the log's thread; dropping it writes what waits.
#[derive(Debug)]
pub(crate) struct Logging {
    suppressed: Suppressed,
    guard: Option<WorkerGuard>,
}

impl Logging {
    /// Counts the lines that stderr did not take.
    pub(crate) fn suppressed(&self) -> Suppressed {
        self.suppressed.clone()
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // On a thread of its own: where stderr takes nothing the guard says so on stdout, which may be the same pipe.
        let (guard, (done, end)) = (self.guard.take(), mpsc::channel());
        let write = move || {
            drop(guard);
            let _ = done.send(());
        };
        if thread::Builder::new().spawn(write).is_ok() {
            let _ = end.recv_timeout(LAST_LINES);
        }
    }
}

/// The lines of the log that nobody will read: those that found the queue full, and those that could not be written.
#[derive(Debug, Clone)]
pub(crate) struct Suppressed {
    not_queued: ErrorCounter,
    not_written: Arc<AtomicU64>,
}

impl Suppressed {
    /// How many there were so far.
    pub(crate) fn lines(&self) -> u64 {
        self.not_queued.dropped_lines() as u64 + self.not_written.load(Ordering::Relaxed)
    }
}

/// Counts the lines that could not be written. The log's thread gives each line as one piece.
#[derive(Debug)]
struct Counting<W> {
    to: W,
    not_written: Arc<AtomicU64>,
}

impl<W: io::Write> io::Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.to.write_all(line);
        if written.is_err() {
            self.not_written.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// A log to `to`: the writer to give lines to, and what keeps its thread.
fn queue(to: impl io::Write + Send + 'static) -> (NonBlocking, Logging) {
    let not_written = Arc::default();
    let to = Counting { to, not_written: Arc::clone(&not_written) };
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUED_LINES).finish(to);
    let suppressed = Suppressed { not_queued: writer.error_counter(), not_written };
    (writer, Logging { suppressed, guard: Some(guard) })
}

/// Sends all logs of this process to stderr. Libraries speak up only with warnings: what they say at lower levels
/// is about packets, and some of it quotes statements.
pub(crate) fn init(level: LogLevel, format: LogFormat) -> Logging {
    let (stderr, logging) = queue(io::stderr());
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let targets = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("fleet", level);
    let lines = match format {
        LogFormat::Text => fmt::layer().with_ansi(false).with_target(false).with_writer(stderr).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(stderr).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(targets)).init();
    let told = PanicsTold::default();
    panic::set_hook(Box::new(move |panic| told.tell(panic)));
    logging
}

/// The places whose panics were told. A server that makes its client panic does so at each run, and one line of it is
/// enough; the run itself fails and is counted each time.
#[derive(Debug, Default)]
struct PanicsTold(Mutex<BTreeSet<String>>);

impl PanicsTold {
    fn tell(&self, panic: &PanicHookInfo<'_>) {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or_default();
        // A set is whole between any two operations on it, so a poisoned lock is as good.
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone()) {
            tracing::error!(
                place,
                message,
                "a panic, caught where it cannot harm others; told once for its place"
            );
        } else {
            tracing::debug!(place, message, "the same panic again");
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A counter of a log that nobody writes to.
    pub(crate) fn no_lines() -> Suppressed {
        queue(io::sink()).1.suppressed()
    }
}
