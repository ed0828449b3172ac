//! The pages as JSON; docs/status.md says what each key means.
//!
//! Moments are seconds since the epoch and end in `_at`, lengths are seconds and end in `_seconds`; what is not known is
//! null. A key is never absent.

use std::time::Duration;

use fleet_collector::{Failure, Reason, hour::Minute};
use serde_json::{Map, Value, json};

use super::{
    model::{Exporter, Item, ItemCounts, Next, Queue, State, Target, failure},
    view::{Ask, Counts, Cut, Group, Shown, View},
};

/// Writes a whole page.
pub(super) fn page(view: &View) -> String {
    let mut page = json!({
        "at": seconds_at(view.exporter.now_ms),
        "exporter": exporter(&view.exporter),
        "fleet": counts(&view.fleet),
    });
    match &view.shown {
        Shown::Overview { sick, groups, paused } => {
            list(&mut page, "sick", "sick_more", sick, target);
            list(&mut page, "groups", "groups_more", groups, group);
            list(&mut page, "paused", "paused_more", paused, |name| Value::from(&**name));
        }
        Shown::Group { group: shown, targets } => {
            page["group"] = group(shown);
            list(&mut page, "targets", "targets_more", targets, target);
        }
        Shown::Target { target: shown, items } => {
            page["target"] = target(shown);
            list(&mut page, "items", "items_more", items, item);
        }
        Shown::Missing { ask, near } => {
            let what = match ask {
                Ask::Group(name) => format!("there is no group called {name}"),
                Ask::Target(name) => format!("there is no target called {name}"),
                Ask::Overview => "there is nothing".to_owned(),
            };
            page["error"] = what.into();
            list(&mut page, "near", "near_more", near, |name| Value::from(&**name));
        }
    }
    let mut text = page.to_string();
    text.push('\n');
    text
}

fn list<T>(page: &mut Value, name: &str, more: &str, cut: &Cut<T>, entry: impl Fn(&T) -> Value) {
    page[name] = cut.list.iter().map(entry).collect();
    page[more] = cut.more.into();
}

fn exporter(exporter: &Exporter) -> Value {
    json!({
        "version": exporter.version,
        "uptime_seconds": seconds(exporter.uptime),
        "config_loaded_at": seconds_at(exporter.config_loaded_ms),
        "config_error": exporter.config_error,
        "queries": exporter.queries,
        "runs": queue(exporter.runs),
        "tries": queue(exporter.tries),
        "connects": { "in_flight": exporter.connects.0, "limit": exporter.connects.1 },
        "oldest_overdue_seconds": seconds(exporter.oldest_overdue),
        "series": exporter.series,
        "bytes": exporter.bytes.0,
        "bytes_limit": exporter.bytes.1,
        "log_lines_dropped": exporter.log_lines_dropped,
    })
}

fn queue(queue: Queue) -> Value {
    json!({ "in_flight": queue.in_flight, "waiting": queue.waiting, "limit": queue.limit })
}

fn counts(counts: &Counts) -> Value {
    let states = State::ALL.iter().map(|state| (state.as_str().to_owned(), counts.of(*state).into()));
    let mut targets: Map<String, Value> = states.collect();
    targets.insert("all".to_owned(), counts.targets().into());
    targets.insert("ailing".to_owned(), counts.ailing.into());
    let reasons: Map<String, Value> =
        counts.reasons.iter().map(|(reason, n)| (reason.to_string(), (*n).into())).collect();
    json!({ "targets": targets, "down_reasons": reasons, "items": item_counts(counts.items) })
}

fn item_counts(items: ItemCounts) -> Value {
    let ItemCounts { all, failing, stale, not_run, not_for_server } = items;
    json!({
        "all": all,
        "failing": failing,
        "stale": stale,
        "not_run": not_run,
        "not_for_server": not_for_server,
    })
}

fn group(group: &Group) -> Value {
    let mut value = counts(&group.counts);
    value["name"] = (*group.name).into();
    value
}

fn target(target: &Target) -> Value {
    let brief = &target.brief;
    let [running, no_permit, down, stopped] = target.missed;
    let labels: Map<String, Value> =
        target.labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    json!({
        "name": &*brief.name,
        "group": &*brief.group,
        "address": target.address,
        "labels": labels,
        "state": brief.state.as_str(),
        "since_at": brief.since_ms.map(seconds_at),
        "reason": brief.reason.map(Reason::as_str),
        "last_error": target.down.as_ref().map(|(at_ms, failure)| error(failure, *at_ms)),
        "next_try": target.next_try.map(|next| json!({
            "in_seconds": next.wait.map(seconds),
            "trying": next.wait.is_none(),
            "failures": next.failures,
        })),
        "connections": { "open": target.connections.0, "limit": target.connections.1 },
        "server": target.server.as_ref().map(|server| json!({
            "flavour": server.flavour.as_str(),
            "version": server.version,
            "server_id": server.server_id,
            "role": server.role(),
            "guards_refused": server.refused.iter().map(|refused| refused.guard).collect::<Vec<_>>(),
        })),
        "tls": target.tls,
        "items": item_counts(brief.items),
        "trouble": target.trouble.as_ref().and_then(|(query, run)| {
            Some(json!({
                "query": &**query,
                "since_at": seconds_at(run.since_ms),
                "error": error(failure(run)?, run.ended_ms),
            }))
        }),
        "ticks_missed": { "running": running, "no_permit": no_permit, "target_down": down, "stopped": stopped },
        "hour": hour(&target.hour),
    })
}

fn hour(minutes: &[Minute]) -> Value {
    let lengths = |of: fn(&Minute) -> Option<Duration>| -> Value {
        minutes.iter().map(|minute| of(minute).map(seconds)).collect()
    };
    let numbers = |of: fn(&Minute) -> u8| -> Value { minutes.iter().map(of).collect() };
    json!({
        "run_seconds": lengths(|minute| minute.longest),
        "lateness_seconds": lengths(|minute| minute.longest.map(|_| minute.latest)),
        "failed_runs": numbers(|minute| minute.failed),
        "ticks_missed": numbers(|minute| minute.missed),
    })
}

fn item(item: &Item) -> Value {
    let last = item.last.as_deref();
    let result = last.and_then(|last| last.result).filter(|_| item.shown);
    let (next_seconds, overdue_seconds) = match item.next {
        Some(Next::In(wait)) => (Some(seconds(wait)), None),
        Some(Next::Overdue(since)) => (None, Some(seconds(since))),
        Some(Next::Running) | None => (None, None),
    };
    json!({
        "query": &*item.query,
        "state": item.state().as_str(),
        "interval_seconds": seconds(item.interval),
        "configured_interval_seconds": seconds(item.configured.unwrap_or(item.interval)),
        "timeout_seconds": seconds(item.timeout),
        "last_run": last.map(|last| json!({
            "ended_at": seconds_at(last.ended_ms),
            "duration_seconds": seconds(last.took.duration),
            "lateness_seconds": seconds(last.took.lateness),
        })),
        "running": item.next == Some(Next::Running),
        "next_run_in_seconds": next_seconds,
        "overdue_seconds": overdue_seconds,
        "result": result.map(|result| json!({
            "rows": result.rows,
            "series": result.series,
            "age_seconds": item.age.map(seconds),
        })),
        "age_limit_seconds": seconds(item.expire_after),
        "failures": last.map_or(0, |last| last.failures),
        "failing_since_at": item.failure().and(last).map(|last| seconds_at(last.since_ms)),
        "last_error": item.failure().zip(last).map(|(failure, last)| error(failure, last.ended_ms)),
        "left_out": item.note(),
    })
}

fn error(failure: &Failure, at_ms: u64) -> Value {
    json!({
        "at": seconds_at(at_ms),
        "reason": failure.reason.as_str(),
        "code": failure.code,
        "message": failure.message,
    })
}

/// A length, to the microsecond.
fn seconds(length: Duration) -> f64 {
    (length.as_secs_f64() * 1e6).round() / 1e6
}

/// A moment, to the millisecond.
fn seconds_at(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
