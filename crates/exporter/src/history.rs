//! Where runs meet the table that outlives the process: what ran goes there, what was there comes back.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use fleet_collector::{Collector, Item, NotRestored, Report, Target, clock::since_epoch, target};
use fleet_history::{
    Address, BoxFuture, History, Items, KeptResult, KnownItem, Limits, Loaded, Loading, Login, MySql,
    Overrides, ReadLogin, Results, Run, Settings, Stats, Store, TlsMode,
};
use tokio::sync::watch;

use crate::config::{self, Config, ItemConfig, LONGEST_INTERVAL};

/// How long the first items wait at the start for what was kept.
pub(crate) const LOAD_WITHIN: Duration = Duration::from_secs(1);

/// The table, and the items whose results it asks for.
#[derive(Debug)]
pub(crate) struct Keeper {
    history: History,
    current: Arc<Current>,
}

/// The items of the configuration in force, by name.
#[derive(Debug, Default)]
struct Current(ArcSwap<HashMap<Arc<str>, Arc<Item>>>);

impl Results for Current {
    fn result(&self, item: &str) -> Option<KeptResult> {
        let (read_ms, bytes) = self.0.load().get(item)?.result_bytes()?;
        Some(KeptResult { read_at: UNIX_EPOCH + Duration::from_millis(read_ms), bytes })
    }
}

impl Keeper {
    /// Begins to connect, and waits for nobody. `listener` is the address that this exporter serves at, which makes a
    /// name for it that is the same after a restart.
    pub(crate) fn start(
        history: &config::History,
        listener: &str,
        config: &Config,
        collector: &Arc<Collector>,
    ) -> (Arc<Self>, Loading) {
        let host = rustix::system::uname();
        let settings = Settings {
            store: store(&history.store, collector),
            table: history.table.clone(),
            flush_interval: history.flush_interval,
            results: history.results,
            migrate: history.migrate,
            owner: format!("{} {listener}", host.nodename().to_string_lossy()),
            limits: Limits::default(),
        };
        let current = Arc::new(Current::default());
        let results: Arc<dyn Results> = Arc::<Current>::clone(&current);
        let (history, loading) = History::start(settings, known(config), results);
        (Arc::new(Self { history, current }), loading)
    }

    /// These are the items now.
    pub(crate) fn hold(&self, items: &[Arc<Item>]) {
        let by_name = items.iter().map(|item| (item.id().to_string().into(), Arc::clone(item)));
        self.current.0.store(Arc::new(by_name.collect()));
    }

    /// This configuration is in force now.
    pub(crate) fn follow(&self, config: &Config) {
        self.history.set_items(known(config));
    }

    /// Notes a run. Where the query is not for the server nothing ran.
    pub(crate) fn ran(&self, item: &Item, report: &Report) {
        let (value, has_result) = match &report.outcome {
            Ok(Some(_)) => (item.single_value(), true),
            Ok(None) => return,
            Err(_) => (None, false),
        };
        self.history
            .ran(&item.id().to_string().into(), Run { at: UNIX_EPOCH + since_epoch(), value, has_result });
    }

    /// The intervals that hold in place of the configuration's.
    pub(crate) fn intervals(&self) -> watch::Receiver<Arc<Overrides>> {
        self.history.intervals()
    }

    /// Gives items without a result those that were kept, and says so in the log.
    pub(crate) fn restore(&self, loaded: &Loaded) {
        let items = self.current.0.load();
        let (mut restored, mut oldest) = (0_usize, Duration::ZERO);
        let mut left_out: BTreeMap<NotRestored, usize> = BTreeMap::new();
        for (name, kept) in &loaded.items {
            let (Some(item), Some(result)) = (items.get(name), &kept.result) else { continue };
            let was_dropped = item.drops_on_failure() && is_of_an_earlier_run(result, kept.last_run);
            let age = if was_dropped {
                Err(NotRestored::TooOld)
            } else {
                let read_at = result.read_at.duration_since(UNIX_EPOCH).unwrap_or_default();
                item.restore(u64::try_from(read_at.as_millis()).unwrap_or(u64::MAX), &result.bytes)
            };
            match age {
                Ok(age) => {
                    restored += 1;
                    oldest = oldest.max(age);
                }
                Err(why) => *left_out.entry(why).or_default() += 1,
            }
        }
        if restored == 0 && left_out.is_empty() {
            return;
        }
        let of = |why| left_out.get(&why).copied().unwrap_or_default();
        tracing::info!(
            restored,
            ?oldest,
            too_old = of(NotRestored::TooOld),
            of_another_configuration = of(NotRestored::OfAnother),
            not_needed = of(NotRestored::NotNeeded),
            too_large = of(NotRestored::TooLarge),
            invalid = of(NotRestored::Invalid),
            "results of before are served again"
        );
    }

    /// The numbers of this moment.
    pub(crate) fn stats(&self) -> Stats {
        self.history.stats()
    }

    /// Writes what is pending, no later than `limit` from now. Returns whether all of it was written.
    pub(crate) async fn close(&self, limit: Duration) -> bool {
        self.history.close(limit).await
    }
}

/// Whether the item has run since, and so may have failed and dropped it. The table tells the last run to the second.
fn is_of_an_earlier_run(result: &KeptResult, last_run: Option<SystemTime>) -> bool {
    last_run.is_some_and(|last_run| last_run > result.read_at + Duration::from_secs(1))
}

/// What the table is to know of each item.
fn known(config: &Config) -> Items {
    let known = |item: &ItemConfig| KnownItem {
        interval: item.interval,
        shortest: item.shortest_interval(),
        longest: LONGEST_INTERVAL,
    };
    config.items.iter().map(|item| (item.name().into(), known(item))).collect()
}

fn store(store: &config::Store, collector: &Arc<Collector>) -> Store {
    match store {
        config::Store::Sqlite(path) => Store::Sqlite(path.clone()),
        config::Store::MySql(server) => Store::MySql(MySql {
            address: match &server.address {
                target::Address::Tcp { host, port } => Address::Tcp { host: host.clone(), port: *port },
                target::Address::Socket(path) => Address::Socket(path.clone()),
            },
            database: server.database.clone().unwrap_or_default(),
            tls: match server.tls.mode {
                target::TlsMode::Disabled => TlsMode::Disabled,
                target::TlsMode::Preferred => TlsMode::Preferred,
                target::TlsMode::Required => TlsMode::Required,
                target::TlsMode::VerifyCa => TlsMode::VerifyCa,
                target::TlsMode::VerifyIdentity => TlsMode::VerifyIdentity,
            },
            login: Arc::new(ServerLogin { server: Arc::clone(server), collector: Arc::clone(collector) }),
        }),
    }
}

/// Who logs in at the table's server, read as it is for targets.
#[derive(Debug)]
struct ServerLogin {
    server: Arc<Target>,
    collector: Arc<Collector>,
}

impl ReadLogin for ServerLogin {
    fn read(&self) -> BoxFuture<'_, Result<Login, String>> {
        Box::pin(async {
            let login = self.collector.login(&self.server).await.map_err(|failure| failure.message)?;
            Ok(Login {
                user: login.user,
                password: login.password.expose().into(),
                ca: login.certificates.ca,
                identity: login.certificates.identity,
            })
        })
    }
}
