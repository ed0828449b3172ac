//! From the configuration to items: the one place that knows both their queries and their intervals.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fleet_collector::{Arranged, Collector, ItemSpec};
use fleet_history::Overrides;
use fleet_scheduler::Item;

use crate::{
    config::{Config, ItemConfig, LONGEST_INTERVAL, OnFailure},
    history::Keeper,
    job::Job,
    metrics::RunMetrics,
    status::Board,
};

/// Items with a longer interval than this run once within it after the start, so that an hourly query does not
/// wait for its hour.
pub(crate) const STARTUP_SPREAD: Duration = Duration::from_mins(1);

/// What items are made with, and who is to know of them.
#[derive(Clone)]
pub(crate) struct Planner {
    pub(crate) collector: Arc<Collector>,
    pub(crate) board: Arc<Board>,
    pub(crate) run_metrics: Arc<RunMetrics>,
    pub(crate) keeper: Option<Arc<Keeper>>,
}

impl Planner {
    /// The items of a configuration: arranged in the collector, and as the scheduler wants them. Works for some
    /// milliseconds when the fleet is large, so not on an async thread.
    pub(crate) fn plan(&self, config: &Config, overrides: &Overrides) -> (Arranged, Vec<Item<Job>>) {
        let effective = Intervals::new(config, overrides);
        let specs = effective.items().map(|item| ItemSpec {
            query: Arc::clone(&item.query),
            target: Arc::clone(&item.target),
            timeout: item.timeout,
            expire_after: item.expire_after,
            drop_on_failure: item.on_failure == OnFailure::Drop,
            limits: item.limits,
        });
        let arranged = self.collector.arrange(specs.collect());
        self.board.show(&effective, &arranged.items);
        if let Some(keeper) = &self.keeper {
            keeper.hold(&arranged.items);
        }
        let wanted = effective.items().zip(&arranged.items).map(|(config, item)| Item {
            target: Arc::clone(&config.target.name),
            query: Arc::clone(&config.query.name),
            lanes: usize::from(config.target.lanes()),
            interval: config.interval,
            timeout: config.timeout,
            retry_after: config.retry_after,
            ran_before: ran_lately(item, config.interval),
            job: Arc::new(Job::new(Arc::clone(item), Arc::clone(&self.run_metrics), self.keeper.clone())),
        });
        let wanted = wanted.collect();
        (arranged, wanted)
    }
}

/// Whether an item's result is no older than a result has to become before its next run. Then that waits for its tick;
/// who has no result, or an overdue one, runs within the start-up spread.
pub(crate) fn ran_lately(item: &fleet_collector::Item, interval: Duration) -> bool {
    item.result_age().is_some_and(|age| age < interval)
}

/// A configuration with the intervals that the history has in place of its own.
#[derive(Debug)]
pub(crate) struct Intervals<'a> {
    pub(crate) config: &'a Config,
    /// The items at other intervals, by their places.
    changed: BTreeMap<usize, ItemConfig>,
}

impl<'a> Intervals<'a> {
    /// What is not within an item's bounds is not for it: the overrides may be those of another configuration.
    pub(crate) fn new(config: &'a Config, overrides: &Overrides) -> Self {
        let mut changed = BTreeMap::new();
        let items = if overrides.is_empty() { &[][..] } else { &config.items };
        for (place, item) in items.iter().enumerate() {
            let bounds = item.shortest_interval()..=LONGEST_INTERVAL;
            let interval = overrides.get(item.name().as_str()).filter(|interval| bounds.contains(*interval));
            if let Some(interval) = interval.filter(|interval| **interval != item.interval) {
                changed.insert(place, item.at_interval(*interval));
            }
        }
        Self { config, changed }
    }

    /// Each item of the configuration, in its order.
    pub(crate) fn items(&self) -> impl Iterator<Item = &ItemConfig> {
        self.config.items.iter().enumerate().map(|(place, item)| self.changed.get(&place).unwrap_or(item))
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, path::Path};

    use expect_test::{Expect, expect};

    use super::*;
    use crate::config::parse;

    const FLEET: &str = r#"
        [defaults]
        interval = "10s"
        timeout = "3s"
        [groups.g]
        user = "u"
        targets = ["a", "b"]
        [queries.q]
        sql = "select 1 n"
        metrics.q = { type = "gauge", help = "h", value = "n" }
        [queries.r]
        sql = "select 1 n"
        retry_after = "20s"
        expire_after = "5m"
        metrics.r = { type = "gauge", help = "h", value = "n" }
    "#;

    #[expect(clippy::needless_pass_by_value, reason = "a case reads as one expression")]
    #[track_caller]
    fn check(overrides: &[(&str, u64)], expected: Expect) {
        let config =
            parse(Path::new("fleet.toml"), FLEET, None).unwrap_or_else(|report| panic!("{report}")).config;
        let overrides =
            overrides.iter().map(|(name, seconds)| ((*name).into(), Duration::from_secs(*seconds)));
        let mut shown = String::new();
        for item in Intervals::new(&config, &overrides.collect()).items() {
            let (name, retry) = (item.name(), item.retry_after);
            let _ = writeln!(
                shown,
                "{name} each {:?}, shown for {:?}, retried after {retry:?}",
                item.interval, item.expire_after
            );
        }
        expected.assert_eq(&shown);
    }

    #[test]
    fn another_interval_is_for_one_item_and_takes_what_follows_from_it_along() {
        check(
            &[("q@b", 3600), ("r@a", 3600)],
            expect![[r"
                q@a each 10s, shown for 60s, retried after None
                q@b each 3600s, shown for 7203s, retried after Some(30s)
                r@a each 3600s, shown for 300s, retried after Some(20s)
                r@b each 10s, shown for 300s, retried after None
            "]],
        );
    }

    #[test]
    fn an_interval_that_is_out_of_bounds_here_or_of_nobody_changes_nothing() {
        check(
            &[("q@a", 2), ("q@b", 3), ("r@a", 86_401), ("r@b", 10), ("x@y", 5)],
            expect![[r"
                q@a each 10s, shown for 60s, retried after None
                q@b each 3s, shown for 60s, retried after None
                r@a each 10s, shown for 300s, retried after None
                r@b each 10s, shown for 300s, retried after None
            "]],
        );
    }
}
