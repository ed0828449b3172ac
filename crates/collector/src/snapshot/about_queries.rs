//! What the page says about queries: counters, and how their items do.

use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{Cut, Snapshot, blocks::Tally};
use crate::{
    Kind,
    mapping::DROPPED,
    rollup::{Column, Row},
};

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

impl OfQuery {
    fn labels(&self) -> String {
        format!("query=\"{}\"", self.name)
    }
}

impl Row for OfQuery {
    const COLUMNS: &'static [Column<Self>] = &FAMILIES;

    const OF_A_PIECE: usize = 16;

    fn is_of(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const FAMILIES: [Column<OfQuery>; 5] = [
    Column {
        name: "query_exporter_query_items",
        help: "items of the query",
        kind: Kind::Gauge,
        is_same: |a, b| a.tally.items == b.tally.items,
        write: |lines, query| lines.add(&query.labels(), "", query.tally.items),
    },
    Column {
        name: "query_exporter_query_items_stale",
        help: "items of the query that have no result within its age limit",
        kind: Kind::Gauge,
        is_same: |a, b| a.tally.stale == b.tally.stale,
        write: |lines, query| lines.add(&query.labels(), "", query.tally.stale),
    },
    Column {
        name: "query_exporter_query_oldest_success_timestamp_seconds",
        help: "when the item of the query that waits longest for a success had its last one, since the epoch; 0 if one \
               never had any",
        kind: Kind::Gauge,
        is_same: |a, b| a.tally.oldest_success_ms == b.tally.oldest_success_ms,
        write: |lines, query| {
            let none = query.tally.items == 0;
            lines.add_seconds(&query.labels(), if none { 0 } else { query.tally.oldest_success_ms });
        },
    },
    Column {
        name: "query_exporter_series_dropped_total",
        help: "samples that rows should have yielded and that are not shown, by reason",
        kind: Kind::Counter,
        is_same: |a, b| a.dropped == b.dropped,
        write: |lines, query| {
            for (reason, count) in DROPPED.iter().zip(query.dropped) {
                lines.add(&query.labels(), &format!("reason=\"{reason}\""), count);
            }
        },
    },
    Column {
        name: "query_exporter_labels_cut_total",
        help: "label values cut at max_label_bytes",
        kind: Kind::Counter,
        is_same: |a, b| a.cut == b.cut,
        write: |lines, query| lines.add(&query.labels(), "", query.cut),
    },
];
