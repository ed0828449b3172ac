//! What the page says about queries: counters, and families made of them at the scrape.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Cut, FamilyText, Snapshot};
use crate::{Kind, mapping::DROPPED, rollup::Lines};

/// The counters of one query over all its targets.
#[derive(Debug, Default)]
pub(super) struct QueryStats {
    pub(super) dropped: [AtomicU64; DROPPED.len()],
    pub(super) cut: AtomicU64,
}

impl Snapshot {
    /// The families about queries, at this moment.
    pub fn query_families(&self) -> Vec<FamilyText> {
        self.query_families_of(&Cut::default())
    }

    /// The families about the queries of a cut, at this moment: only if it names queries and nothing else, as they are about
    /// all targets. The whole has them all.
    pub fn query_families_of(&self, cut: &Cut) -> Vec<FamilyText> {
        let by_query = cut.targets.is_empty() && cut.groups.is_empty() && !cut.queries.is_empty();
        if !(by_query || cut.is_whole()) {
            return Vec::new();
        }
        let layout = self.layout.load();
        let mut items = Lines::new("query_exporter_query_items");
        let mut stale = Lines::new("query_exporter_query_items_stale");
        let mut oldest = Lines::new("query_exporter_query_oldest_success_timestamp_seconds");
        let mut dropped = Lines::new("query_exporter_series_dropped_total");
        let mut labels_cut = Lines::new("query_exporter_labels_cut_total");
        for (name, stats) in &layout.queries {
            let labels = format!("query=\"{name}\"");
            if !cut.has_query(name) {
                continue;
            }
            let tally = layout.blocks.tally(name);
            let none = tally.items == 0;
            items.add_value(&labels, tally.items);
            stale.add_value(&labels, tally.stale);
            oldest.add_seconds(&labels, if none { 0 } else { tally.oldest_success_ms });
            for (reason, count) in DROPPED.iter().zip(&stats.dropped) {
                dropped.add_value(&format!("{labels},reason=\"{reason}\""), count.load(Relaxed));
            }
            labels_cut.add_value(&labels, stats.cut.load(Relaxed));
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
}
