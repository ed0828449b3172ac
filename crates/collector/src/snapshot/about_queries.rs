//! What the page says about queries: counters, and how their items do.

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{Cut, FamilyText, Snapshot, blocks::Tally};
use crate::{Kind, mapping::DROPPED, rollup::Lines};

/// The counters of one query over all its targets.
#[derive(Debug, Default)]
pub(super) struct QueryStats {
    pub(super) dropped: [AtomicU64; DROPPED.len()],
    pub(super) cut: AtomicU64,
}

/// A query at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OfQuery {
    name: Arc<str>,
    tally: Tally,
    dropped: [u64; DROPPED.len()],
    cut: u64,
}

impl Snapshot {
    /// How all queries do now.
    pub(crate) fn queries(&self) -> Vec<OfQuery> {
        self.queries_of(&Cut::default())
    }

    /// How the queries of a cut do now: only if it names queries and nothing else, as this is about all targets. The whole
    /// has them all.
    pub(crate) fn queries_of(&self, cut: &Cut) -> Vec<OfQuery> {
        let by_query = cut.targets.is_empty() && cut.groups.is_empty() && !cut.queries.is_empty();
        if !(by_query || cut.is_whole()) {
            return Vec::new();
        }
        let layout = self.layout.load();
        let wanted = layout.queries.iter().filter(|(name, _)| cut.has_query(name));
        let of_query = |(name, stats): (&Arc<str>, &Arc<QueryStats>)| OfQuery {
            name: Arc::clone(name),
            tally: layout.blocks.tally(name),
            dropped: array::from_fn(|nth| stats.dropped[nth].load(Relaxed)),
            cut: stats.cut.load(Relaxed),
        };
        wanted.map(of_query).collect()
    }
}

/// The families about queries that do so.
pub(crate) fn query_families(queries: &[OfQuery]) -> Vec<FamilyText> {
    let mut items = Lines::new("query_exporter_query_items");
    let mut stale = Lines::new("query_exporter_query_items_stale");
    let mut oldest = Lines::new("query_exporter_query_oldest_success_timestamp_seconds");
    let mut dropped = Lines::new("query_exporter_series_dropped_total");
    let mut labels_cut = Lines::new("query_exporter_labels_cut_total");
    for OfQuery { name, tally, dropped: counts, cut } in queries {
        let labels = format!("query=\"{name}\"");
        let none = tally.items == 0;
        items.add_value(&labels, tally.items);
        stale.add_value(&labels, tally.stale);
        oldest.add_seconds(&labels, if none { 0 } else { tally.oldest_success_ms });
        for (reason, count) in DROPPED.iter().zip(counts) {
            dropped.add_value(&format!("{labels},reason=\"{reason}\""), *count);
        }
        labels_cut.add_value(&labels, *cut);
    }
    vec![
        items.family("items of the query", Kind::Gauge),
        stale.family("items of the query that have no result within its age limit", Kind::Gauge),
        oldest.family(
            "when the item of the query that waits longest for a success had its last one, since the epoch; 0 if one \
             never had any",
            Kind::Gauge,
        ),
        dropped.family("samples that rows should have yielded and that are not shown, by reason", Kind::Counter),
        labels_cut.family("label values cut at max_label_bytes", Kind::Counter),
    ]
}
