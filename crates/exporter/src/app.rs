//! The running exporter: built once, changed by reloads, taken down in order.

use std::{collections::BTreeSet, future::pending, path::Path, pin::pin, sync::Arc, time::Duration};

use fleet_collector::{Arranged, Collector, Snapshot, clock::since_epoch, mysql::MySql};
use fleet_history::{Loaded, Loading, Overrides};
use fleet_http::{HttpMetrics, Scope, Sources, State, Web};
use fleet_scheduler::{Changes, Item, Limits, Scheduler, Timeline};
use prometheus_client::registry::Registry;
use tokio::{
    join,
    net::TcpListener,
    select,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    announce::{log_problems, not_reloaded, reloaded, say_hello, warn_of_unverified},
    config::{Config, Given, Report},
    effective::Effective,
    history::{Keeper, LOAD_WITHIN},
    job::Job,
    logging::Logging,
    memory,
    metrics::{self, ConfigMetrics, HistoryMetrics, Live, Process, RunMetrics, Seldom},
    open_files,
    plan::{Planner, STARTUP_SPREAD},
    reload::{Answer, Reader, Reloads, Unread},
    signals::Signals,
    status::{Board, Facts},
    suspension::Suspension,
    web::{self, WebWatch},
};

/// How long stopping queries at their servers and taking leave of them may take at the end.
pub(crate) const FAREWELL: Duration = Duration::from_millis(2500);

/// How often age limits are enforced and idle connections looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// A running exporter.
struct App {
    config: watch::Sender<Arc<Config>>,
    scheduler: Scheduler<Job>,
    planner: Planner,
    /// The intervals that the history has in place of the configuration's; none without one.
    intervals: Option<watch::Receiver<Arc<Overrides>>>,
    config_metrics: ConfigMetrics,
    web: Arc<Web>,
    web_metrics: ConfigMetrics,
    reloads: Arc<Reloads>,
    /// Connections that may be opened at once at most, whatever the file says: each may hold a thread.
    most_connects: usize,
    tasks: TaskTracker,
    token: CancellationToken,
}

/// What the command line and the system give it.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The configuration file.
    pub(crate) path: &'a Path,
    /// What the command line says in place of the file.
    pub(crate) given: Given<'a>,
    /// Where to send the logs.
    pub(crate) logging: &'a Logging,
    /// Threads for connecting.
    pub(crate) most_connects: usize,
}

/// Runs until SIGTERM or SIGINT. The error is for a person: what could not be done, and where.
pub(crate) async fn run(start: Start<'_>, config: Config, problems: Report) -> Result<(), String> {
    let mut signals = Signals::new().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let mut hangup =
        signal(SignalKind::hangup()).map_err(|error| format!("cannot wait for signals: {error}"))?;
    open_files::raise_limit();
    open_files::check(&config)?;
    let may_not_fit = memory::check(&config)?;
    // Listen first: a port that is taken is said before any server is bothered, and a scrape is answered before
    // the first target is.
    let listen = start.given.bind.unwrap_or(&config.listen);
    let listener =
        fleet_http::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    say_hello(start.path, &config, &listener, listen);
    if let Some(why) = may_not_fit {
        tracing::warn!("{why}");
    }
    for problem in problems.iter() {
        tracing::warn!("{}", problem.one_line());
    }
    warn_of_unverified(&config, None);
    let mut reader = Reader::new(start.path.to_owned(), Some(start.given));
    let mut app = App::start(config, listener, &start).await;
    let signal = app.until(signals.next(), &mut reader, &mut hangup, start.given.bind.is_some()).await;
    tracing::info!(signal, "stopping");
    select! {
        () = app.stop() => {}
        signal = signals.next() => tracing::warn!(signal, "a second signal: leaving at once"),
    }
    Ok(())
}

impl App {
    async fn start(config: Config, listener: TcpListener, start: &Start<'_>) -> Self {
        let config = Arc::new(config);
        let snapshot = Arc::new(Snapshot::new(config.max_page_bytes));
        let collector = Arc::new(Collector::new(Arc::new(MySql), config.max_connects, Arc::clone(&snapshot)));
        let started = Instant::now();
        let since_epoch = since_epoch();
        let limits = Limits {
            max_runs: config.max_runs,
            max_tries: collector.connects_for_tries(),
            startup_spread: STARTUP_SPREAD,
        };
        // Two exporters on the same fleet should not back off in step, so the jitter's seed is the start.
        let seed = u64::from(since_epoch.subsec_nanos());
        let scheduler = Scheduler::new(limits, Timeline::new(started, since_epoch), seed);

        let mut registry = Registry::default();
        metrics::register_build_info(&mut registry);
        let config_metrics = ConfigMetrics::register(&mut registry);
        let web_metrics = ConfigMetrics::register_web(&mut registry);
        let run_metrics = Arc::new(RunMetrics::register(&mut registry));
        let http_metrics = HttpMetrics::register(&mut registry);
        registry.register_collector(Box::new(Live {
            stats: scheduler.stats(),
            collector: Arc::clone(&collector),
            log_suppressed: start.logging.suppressed(),
            oldest_overdue: Seldom::default(),
        }));
        registry.register_collector(Box::new(Process::default()));

        let serves_at = start.given.bind.unwrap_or(&config.listen);
        let kept =
            config.history.as_ref().map(|history| Keeper::start(history, serves_at, &config, &collector));
        let (keeper, loading) = kept.unzip();
        registry.register_collector(Box::new(HistoryMetrics(keeper.clone())));
        let board = Board::new(Facts {
            started,
            stats: scheduler.stats(),
            collector: Arc::clone(&collector),
            log_suppressed: start.logging.suppressed(),
        });
        let planner = Planner { collector: Arc::clone(&collector), board, run_metrics, keeper };
        let intervals = planner.keeper.as_ref().map(|keeper| keeper.intervals());
        let cold = planner.plan(&config, &Overrides::new());
        let config = watch::Sender::new(config);
        let (tasks, token) = (TaskTracker::new(), CancellationToken::new());
        let reloads = Arc::new(Reloads::new(config.borrow().reload));
        let sources = Sources {
            snapshot,
            rollups: rollups(&collector),
            registry: Arc::new(registry),
            status: planner.board.source(),
            reload: over_http(&reloads),
            items: effective_items(config.subscribe()),
        };
        let state = State::new(sources, http_metrics, env!("CARGO_PKG_VERSION"), started);
        let web = Arc::clone(state.web());
        web.set(config.borrow().web.settings.clone());
        tasks.spawn(fleet_http::serve(listener, Arc::new(state), token.clone()));
        let sweeping = sweep(collector, Arc::clone(&planner.run_metrics));
        tasks.spawn(token.clone().run_until_cancelled_owned(sweeping));
        let most_connects = start.most_connects;
        let mut app = Self {
            config,
            scheduler,
            planner,
            intervals,
            config_metrics,
            web,
            web_metrics,
            reloads,
            most_connects,
            tasks,
            token,
        };
        let warm = match loading {
            Some(loading) => app.warm(loading).await,
            None => None,
        };
        let (arranged, wanted) = warm.unwrap_or(cold);
        app.take_over(arranged, wanted).await;
        app
    }

    /// Serves what was kept of before, if the table gives it in time; what comes late is served late. Gives the items as
    /// they are then: what ran lately waits for its tick, at the interval that the table says.
    async fn warm(&mut self, mut loading: Loading) -> Option<(Arranged, Vec<Item<Job>>)> {
        let keeper = self.planner.keeper.clone()?;
        let Some(loaded) = loading.wait(LOAD_WITHIN).await else {
            tracing::warn!("what was kept of before did not come in time: the items begin without it");
            self.tasks.spawn(self.token.clone().run_until_cancelled_owned(async move {
                // It may be the turn of this exporter after days. None: it never will be.
                if let Some(loaded) = loading.wait(Duration::from_hours(24 * 365)).await {
                    restore(keeper, loaded).await;
                }
            }));
            return None;
        };
        restore(keeper, loaded).await;
        let config = Arc::clone(&self.config.borrow());
        self.plan(&config).await.ok()
    }

    /// The items of a configuration at the intervals that hold now.
    async fn plan(&mut self, config: &Arc<Config>) -> Result<(Arranged, Vec<Item<Job>>), String> {
        let overrides = self.intervals.as_mut().map(|intervals| Arc::clone(&intervals.borrow_and_update()));
        let (planner, config) = (self.planner.clone(), Arc::clone(config));
        let items = spawn_blocking(move || planner.plan(&config, &overrides.unwrap_or_default()));
        items.await.map_err(|panic| format!("the configuration could not be applied: {panic}"))
    }

    /// Goes on until `end`: reloads the configuration whenever somebody asks for it, and begins anew when the machine has
    /// slept. Gives what ended it.
    async fn until<T>(
        &mut self,
        end: impl Future<Output = T>,
        reader: &mut Reader,
        hangup: &mut Signal,
        is_bound: bool,
    ) -> T {
        let (mut end, mut suspension) = (pin!(end), Suspension::new());
        let mut web_watch = WebWatch::new(&self.config.borrow().web);
        let reloads = Arc::clone(&self.reloads);
        let mut intervals = self.intervals.clone();
        loop {
            let asked = select! {
                biased;
                ended = &mut end => return ended,
                Some(()) = hangup.recv() => {
                    drop(reloads.ask());
                    continue;
                }
                slept = suspension.over() => {
                    tracing::info!(?slept, "the machine has slept: every item begins anew on its offset");
                    self.scheduler.resumed(slept).await;
                    continue;
                }
                () = changed(&mut intervals) => {
                    self.change_intervals().await;
                    continue;
                }
                read = web_watch.read() => {
                    self.take_web(read);
                    continue;
                }
                asked = reloads.next() => asked,
            };
            let read = select! {
                biased;
                ended = &mut end => return ended,
                read = reader.read() => read,
            };
            let fits = |read: (Config, Report)| {
                open_files::check(&read.0).map_err(Unread::Stuck)?;
                if let Some(why) = memory::check(&read.0).map_err(Unread::Stuck)? {
                    tracing::warn!("{why}");
                }
                Ok(read)
            };
            // Not given up half way: it takes some milliseconds.
            let answer = match read.and_then(fits) {
                Ok((config, problems)) => {
                    let answer = self.reload(config, &problems, is_bound).await;
                    web_watch = WebWatch::new(&self.config.borrow().web);
                    answer
                }
                Err(unread) => {
                    // It may be the web file that is wrong, which has a metric of its own.
                    web_watch.hurry();
                    self.planner.board.not_reloaded(unread.in_short());
                    Err(not_reloaded(&unread))
                }
            };
            self.config_metrics.read(answer.is_ok());
            reloads.answer(asked, answer);
        }
    }

    /// Makes this the configuration: what is the same in both goes on untouched. Says what was done.
    async fn reload(&mut self, config: Config, problems: &Report, is_bound: bool) -> Answer {
        let config = Arc::new(config);
        let (arranged, wanted) = self.plan(&config).await?;
        self.planner.board.reloaded();
        let (n_targets, n_items) = (arranged.targets.len(), wanted.len());
        let changes = self.take_over(arranged, wanted).await;
        let before = self.config.send_replace(Arc::clone(&config));
        let now = &*config;
        let Planner { collector, run_metrics, keeper, .. } = &self.planner;
        for query in gone(&before, now) {
            run_metrics.remove(&query);
        }
        collector.limit_connects(now.max_connects.min(self.most_connects));
        self.scheduler.limit_runs(now.max_runs, collector.connects_for_tries());
        collector.snapshot().limit(now.max_page_bytes);
        if let Some(keeper) = keeper {
            keeper.follow(now);
        }
        self.reloads.allow_over_http(now.reload);
        self.web.set(now.web.settings.clone());
        self.web_metrics.read(true);
        let restart = self.needs_a_restart(&before, now, is_bound);

        let Changes { kept, started, stopped, changed } = changes;
        tracing::info!(
            targets = n_targets,
            items = n_items,
            started = started - changed,
            stopped = stopped - changed,
            changed,
            untouched = kept,
            "configuration reloaded"
        );
        for what in &restart {
            tracing::warn!("{what}");
        }
        log_problems(problems);
        warn_of_unverified(now, Some(&before));
        // A large fleet takes some milliseconds to let go of.
        drop(spawn_blocking(move || drop(before)));
        Ok(reloaded(changes, &restart, problems))
    }

    /// Somebody has changed intervals in the history: the items that are at others now begin anew, all others go on.
    async fn change_intervals(&mut self) {
        let config = Arc::clone(&self.config.borrow());
        match self.plan(&config).await {
            Ok((arranged, wanted)) => {
                let Changes { changed, .. } = self.take_over(arranged, wanted).await;
                tracing::info!(items = changed, "intervals changed in the history");
            }
            Err(error) => tracing::error!(error, "intervals of the history are not taken"),
        }
    }

    /// The web file was read again by itself: certificates are renewed without anybody asking for a reload.
    fn take_web(&self, read: web::Read) {
        let (is_right, lines) = match read {
            web::Read::Right { settings, warnings, is_recovered } => {
                let is_new = self.web.set(*settings);
                if is_new {
                    tracing::info!("the web configuration or its certificates changed: the new ones hold");
                } else if is_recovered {
                    tracing::info!("the web configuration is right again");
                }
                (true, if is_new { warnings } else { Vec::new() })
            }
            web::Read::Wrong { news } => {
                if !news.is_empty() {
                    tracing::error!("the web configuration is wrong, the one before goes on");
                }
                (false, news)
            }
        };
        self.web_metrics.read(is_right);
        for line in lines {
            tracing::warn!("{line}");
        }
    }

    /// The items are these now. What the ones before left behind is gone with it.
    async fn take_over(&mut self, mut arranged: Arranged, wanted: Vec<Item<Job>>) -> Changes {
        let changes = self.scheduler.sync(wanted).await;
        // A run may give its connection back to the end.
        arranged.take_leave();
        changes
    }

    /// What has changed and holds only after a restart.
    fn needs_a_restart(&self, before: &Config, now: &Config, is_bound: bool) -> Vec<String> {
        let mut what = Vec::new();
        if before.listen != now.listen && !is_bound {
            what.push(format!(
                "`listen` needs a restart: the exporter serves at {} until then",
                before.listen
            ));
        }
        if now.max_connects > self.most_connects {
            what.push(format!(
                "`max_connects` above {} needs a restart: it is {0} until then",
                self.most_connects
            ));
        }
        if before.history != now.history {
            what.push("`[history]` needs a restart: it is as before until then".to_owned());
        }
        what
    }

    /// Runs first, then their servers, the page last: it is served to the end.
    async fn stop(self) {
        self.reloads.close();
        self.scheduler.shutdown().await;
        let Planner { collector, keeper, .. } = &self.planner;
        let keep = async {
            match keeper {
                Some(keeper) => keeper.close(FAREWELL).await,
                None => true,
            }
        };
        let (ended, kept) = join!(collector.shutdown(FAREWELL), keep);
        if !ended {
            tracing::warn!(
                "some servers did not confirm in time that our queries ended; their own limits will end them"
            );
        }
        if !kept {
            tracing::warn!("the history could not be written to the end: the last runs are missing in it");
        }
        self.token.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        tracing::info!("stopped");
    }
}

/// Waits until intervals of the history change; for ever without one.
async fn changed(intervals: &mut Option<watch::Receiver<Arc<Overrides>>>) {
    if let Some(intervals) = intervals
        && intervals.changed().await.is_ok()
    {
        return;
    }
    pending::<()>().await;
}

/// Off the async threads: results of a large fleet take some time to check.
async fn restore(keeper: Arc<Keeper>, loaded: Loaded) {
    // Only a panic could come of it, which has been logged.
    let _ = spawn_blocking(move || keeper.restore(&loaded)).await;
}

/// The queries that are no longer there.
fn gone(before: &Config, now: &Config) -> Vec<Arc<str>> {
    let names = |config: &Config| -> BTreeSet<Arc<str>> {
        config.items.iter().map(|item| Arc::clone(&item.query.name)).collect()
    };
    names(before).difference(&names(now)).cloned().collect()
}

fn rollups(collector: &Arc<Collector>) -> fleet_http::Rollups {
    let collector = Arc::clone(collector);
    Box::new(move |scope| match scope {
        Scope::Whole => collector.own_families(),
        Scope::Cut(cut) => collector.families_of(cut),
        Scope::Own => collector.families_of_all(),
    })
}

fn over_http(reloads: &Arc<Reloads>) -> fleet_http::Reload {
    let reloads = Arc::clone(reloads);
    Box::new(move || {
        reloads.is_allowed_over_http().then(|| -> fleet_http::Reloading { Box::pin(reloads.ask()) })
    })
}

fn effective_items(config: watch::Receiver<Arc<Config>>) -> Box<dyn Fn() -> String + Send + Sync> {
    Box::new(move || {
        let now = Arc::clone(&config.borrow());
        Effective::of(&now).json()
    })
}

/// Each second: what is too old leaves, connections that nobody uses are closed, and sums are told.
async fn sweep(collector: Arc<Collector>, metrics: Arc<RunMetrics>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        collector.sweep();
        metrics.news.tell(&collector.targets());
    }
}
