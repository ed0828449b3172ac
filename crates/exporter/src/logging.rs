//! Logs: to stderr through a bounded queue, so that a blocked pipe stops nobody.

use std::{
    collections::BTreeSet,
    io,
    panic::{self, PanicHookInfo},
    sync::{Mutex, PoisonError},
};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::{LogFormat, LogLevel};

/// Lines that wait for stderr at most; more are dropped and counted.
const QUEUED_LINES: usize = 10_000;

/// Keeps the log's thread; dropping it writes what waits.
#[derive(Debug)]
pub(crate) struct Logging {
    dropped: ErrorCounter,
    _guard: WorkerGuard,
}

impl Logging {
    /// Counts the lines that found the queue full.
    pub(crate) fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
    }
}

/// Sends all logs of this process to stderr. Libraries speak up only with warnings: what they say at lower levels
/// is about packets, and some of it quotes statements.
pub(crate) fn init(level: LogLevel, format: LogFormat) -> Logging {
    let (stderr, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUED_LINES).finish(io::stderr());
    let dropped = stderr.error_counter();
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
    Logging { dropped, _guard: guard }
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
