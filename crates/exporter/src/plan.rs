//! From the configuration to items: the one place that knows both their queries and their intervals.

use std::{sync::Arc, time::Duration};

use fleet_collector::{Arranged, Collector, ItemSpec};
use fleet_scheduler::Item;

use crate::{
    config::{Config, OnFailure},
    job::Job,
    metrics::RunMetrics,
};

/// Items with a longer interval than this run once within it after the start, so that an hourly query does not
/// wait for its hour.
pub(crate) const STARTUP_SPREAD: Duration = Duration::from_mins(1);

/// The items of a configuration: arranged in the collector, and as the scheduler wants them. Works for some milliseconds
/// when the fleet is large, so not on an async thread.
pub(crate) fn plan(
    config: &Config,
    collector: &Collector,
    metrics: &Arc<RunMetrics>,
) -> (Arranged, Vec<Item<Job>>) {
    let specs = config.items.iter().map(|item| ItemSpec {
        query: Arc::clone(&item.query),
        target: Arc::clone(&item.target),
        timeout: item.timeout,
        expire_after: item.expire_after,
        drop_on_failure: item.on_failure == OnFailure::Drop,
        limits: item.limits,
    });
    let arranged = collector.arrange(specs.collect());
    let wanted = config.items.iter().zip(&arranged.items).map(|(config, item)| Item {
        target: Arc::clone(&config.target.name),
        query: Arc::clone(&config.query.name),
        lanes: usize::from(config.target.lanes()),
        interval: config.interval,
        timeout: config.timeout,
        retry_after: config.retry_after,
        ran_before: item.has_result(),
        job: Arc::new(Job::new(Arc::clone(item), Arc::clone(metrics))),
    });
    let wanted = wanted.collect();
    (arranged, wanted)
}
