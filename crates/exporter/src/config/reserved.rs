//! The families that the exporter writes about itself, which no query may feed: exactly those of docs/metrics.md.

/// Families with the prefix `query_exporter_`.
const OWN: &[&str] = &[
    "build_info",
    "config_last_reload_successful",
    "config_last_reload_success_timestamp_seconds",
    "web_config_last_reload_successful",
    "web_config_last_reload_success_timestamp_seconds",
    "runs_in_flight",
    "runs_waiting",
    "runs_limit",
    "tries_in_flight",
    "tries_waiting",
    "tries_limit",
    "connects_in_flight",
    "connects_limit",
    "schedule_oldest_overdue_seconds",
    "scrape_bytes_total",
    "http_refused_total",
    "compressed_bytes",
    "joined_bytes",
    "snapshot_series",
    "snapshot_bytes",
    "snapshot_limit_bytes",
    "history_up",
    "history_owner",
    "history_pending_items",
    "history_pending_results",
    "history_oldest_pending_seconds",
    "history_results_bytes",
    "history_unknown_rows",
    "history_interval_overrides",
    "history_items_written_total",
    "history_results_written_total",
    "history_bytes_written_total",
    "history_dropped_results_total",
    "history_dropped_items_total",
    "history_refused_intervals_total",
    "history_clamped_times_total",
    "history_failures_total",
    "run_panics_total",
    "log_suppressed_total",
    "query_items",
    "query_items_stale",
    "query_oldest_success_timestamp_seconds",
    "series_dropped_total",
    "labels_cut_total",
    "up",
    "target_info",
    "target_last_success_timestamp_seconds",
    "runs_total",
    "ticks_missed_total",
    "target_failures_total",
    "target_failure_reason",
    "connections",
    "connects_total",
    "kills_total",
    "failures_total",
    "group_kills_total",
    "item_last_success_timestamp_seconds",
    "item_duration_seconds",
    "item_rows",
    "item_series",
    "item_up",
];

/// Histograms with the same prefix: their series have three more names.
const OWN_HISTOGRAMS: &[&str] =
    &["schedule_lateness_seconds", "permit_wait_seconds", "scrape_duration_seconds", "run_duration_seconds"];

/// Families of the process, which have no prefix, as the field's clients name them.
const PROCESS: &[&str] = &[
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
    "process_virtual_memory_bytes",
    "process_virtual_memory_max_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_network_receive_bytes_total",
    "process_network_transmit_bytes_total",
];

/// Whether a family of this full name, namespace included, is one of ours.
pub(crate) fn is_reserved(family: &str) -> bool {
    let Some(own) = family.strip_prefix("query_exporter_") else { return PROCESS.contains(&family) };
    let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| own.strip_suffix(end));
    OWN.contains(&own)
        || OWN_HISTOGRAMS.contains(&own)
        || histogram.is_some_and(|name| OWN_HISTOGRAMS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_our_names_are_reserved_and_no_prefix_is() {
        for ours in ["query_exporter_up", "query_exporter_run_duration_seconds_sum", "process_open_fds"] {
            assert!(is_reserved(ours), "{ours}");
        }
        for free in ["up", "query_exporter_upper", "query_exporter_up_sum", "process_count", "mysql_up"] {
            assert!(!is_reserved(free), "{free}");
        }
    }
}
