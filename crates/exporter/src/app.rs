//! The running exporter: built once, waited for, taken down in order.

use std::{collections::BTreeMap, path::Path, pin::pin, sync::Arc, time::Duration};

use fleet_collector::{Address, Arranged, Collector, Snapshot, TlsMode, mysql::MySql, rollup};
use fleet_http::{HttpMetrics, Sources, State};
use fleet_scheduler::{Limits, Scheduler, Timeline};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Config, Report},
    job::Job,
    logging::Logging,
    metrics::{self, Live, Process, RunMetrics},
    plan::{STARTUP_SPREAD, plan},
    status::{Board, Facts},
    suspension::Suspension,
};

/// How long stopping queries at their servers and taking leave of them may take at the end.
pub(crate) const FAREWELL: Duration = Duration::from_millis(2500);

/// How often age limits are enforced and idle connections looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// A running exporter.
struct App {
    scheduler: Scheduler<Job>,
    collector: Arc<Collector>,
    arranged: Arc<Arranged>,
    tasks: TaskTracker,
    token: CancellationToken,
}

/// Runs until SIGTERM or SIGINT. The error is for a person: what could not be done, and where.
pub(crate) async fn run(
    path: &Path,
    config: &Config,
    problems: &Report,
    listen: &str,
    logging: &Logging,
) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    raise_file_limit();
    // Listen first: a port that is taken is said before any server is bothered, and a scrape is answered before
    // the first target is.
    let listener =
        fleet_http::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    say_hello(path, config, &listener, listen);
    for problem in problems.iter() {
        tracing::warn!("{}", problem.one_line());
    }
    let mut app = App::start(config, listener, logging).await;
    let signal = app.until(signals.next()).await;
    tracing::info!(signal, "stopping");
    tokio::select! {
        () = app.stop() => {}
        signal = signals.next() => tracing::warn!(signal, "a second signal: leaving at once"),
    }
    Ok(())
}

impl App {
    async fn start(config: &Config, listener: TcpListener, logging: &Logging) -> Self {
        let snapshot = Arc::new(Snapshot::new(config.max_page_bytes));
        let collector = Arc::new(Collector::new(Arc::new(MySql), config.max_connects, Arc::clone(&snapshot)));
        let started = Instant::now();
        let since_epoch = metrics::since_epoch();
        let limits = Limits {
            max_runs: config.max_runs,
            max_tries: collector.connects_for_tries(),
            startup_spread: STARTUP_SPREAD,
        };
        // Two exporters on the same fleet should not back off in step, so the jitter's seed is the start.
        let seed = u64::from(since_epoch.subsec_nanos());
        let mut scheduler = Scheduler::new(limits, Timeline::new(started, since_epoch), seed);

        let mut registry = Registry::default();
        metrics::register_build_info(&mut registry);
        metrics::register_config(&mut registry);
        let run_metrics = Arc::new(RunMetrics::register(&mut registry));
        let http_metrics = HttpMetrics::register(&mut registry);
        registry.register_collector(Box::new(Live {
            stats: scheduler.stats(),
            collector: Arc::clone(&collector),
            log_dropped: logging.dropped(),
        }));
        registry.register_collector(Box::new(Process));

        let (arranged, wanted) = plan(config, &collector, &run_metrics);
        let arranged = Arc::new(arranged);
        let (tasks, token) = (TaskTracker::new(), CancellationToken::new());
        let board = Board::new(Facts {
            started,
            stats: scheduler.stats(),
            collector: Arc::clone(&collector),
            log_dropped: logging.dropped(),
        });
        board.show(config, &arranged.items);
        let sources = Sources {
            snapshot,
            rollups: rollups(&collector, &arranged),
            registry: Arc::new(registry),
            status: board.source(),
        };
        let state = State::new(sources, http_metrics, env!("CARGO_PKG_VERSION"), started);
        tasks.spawn(fleet_http::serve(listener, Arc::new(state), token.clone()));
        tasks.spawn(token.clone().run_until_cancelled_owned(sweep(
            Arc::clone(&collector),
            Arc::clone(&arranged),
            run_metrics,
        )));
        scheduler.sync(wanted).await;
        Self { scheduler, collector, arranged, tasks, token }
    }

    /// Goes on until `end`; a machine that has slept begins anew.
    async fn until<T>(&mut self, end: impl Future<Output = T>) -> T {
        let (mut end, mut suspension) = (pin!(end), Suspension::new());
        loop {
            let slept = tokio::select! {
                ended = &mut end => return ended,
                slept = suspension.over() => slept,
            };
            tracing::info!(?slept, "the machine has slept: every item begins anew on its offset");
            self.scheduler.resumed(slept).await;
        }
    }

    /// Runs first, then their servers, the page last: it is served to the end.
    async fn stop(self) {
        self.scheduler.shutdown().await;
        if !self.collector.shutdown(&self.arranged, FAREWELL).await {
            tracing::warn!(
                "some servers did not confirm in time that our queries ended; their own limits will end them"
            );
        }
        self.token.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        tracing::info!("stopped");
    }
}

fn rollups(collector: &Arc<Collector>, arranged: &Arc<Arranged>) -> fleet_http::Rollups {
    let (collector, arranged) = (Arc::clone(collector), Arc::clone(arranged));
    Box::new(move || {
        let mut families = rollup::families(&arranged.targets, &arranged.groups);
        families.extend(collector.snapshot().query_families());
        families
    })
}

/// Each second: what is too old leaves, connections that nobody uses are closed, and sums are told.
async fn sweep(collector: Arc<Collector>, arranged: Arc<Arranged>, metrics: Arc<RunMetrics>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        arranged.sweep(collector.snapshot());
        metrics.news.tell(&arranged.targets);
    }
}

/// The first lines of the log: what runs, on what, and what its reader should know about the way passwords go.
fn say_hello(path: &Path, config: &Config, listener: &TcpListener, listen: &str) {
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
    let mut unverified: BTreeMap<&str, usize> = BTreeMap::new();
    for target in &config.targets {
        if matches!(target.tls.mode, TlsMode::Preferred | TlsMode::Required) && !is_local(&target.address) {
            *unverified.entry(&target.group).or_default() += 1;
        }
    }
    for (group, targets) in unverified {
        tracing::warn!(
            group,
            targets,
            "the password goes to an unverified server; set tls = {{ mode = \"verify_identity\", ca = … }}"
        );
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

/// A fleet needs more files than the usual soft limit of 1024; the hard limit is what the administrator allows.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// The signals that end the process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they no longer end it by themselves.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one, and gives its name.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
