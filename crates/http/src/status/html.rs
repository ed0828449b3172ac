//! The pages as HTML: no script, one style, what is wrong first.

use std::{sync::Arc, time::Duration};

use super::{
    markup::Markup,
    model::{Exporter, State},
    rows,
    view::{Ask, Counts, Cut, Group, Shown, View},
    words::{Bytes, Count, Length, Utc},
};

/// The style of every page; the answer's Content-Security-Policy allows this text and no other.
pub(super) const STYLE: &str = include_str!("style.css");

/// A tick that waits longer than this for a permit says that the exporter cannot keep up.
const OVERDUE: Duration = Duration::from_secs(5);

/// Writes a whole page.
pub(super) fn page(view: &View) -> String {
    let mut page = Markup::default();
    page.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    page.text(title(view)).raw("</title>\n<style>").raw(STYLE).raw("</style>\n</head>\n<body>\n");
    header(&mut page, view);
    page.raw("<main>\n");
    match &view.shown {
        Shown::Overview { sick, groups, paused } => {
            let alarmed = alarms(&mut page, &view.exporter);
            verdict(&mut page, &view.fleet, alarmed);
            if !sick.list.is_empty() {
                page.raw("<h2>What is wrong</h2>\n");
                rows::targets(&mut page, sick, view.exporter.now_ms);
            }
            page.raw("<h2 id=\"groups\">Groups</h2>\n");
            groups_table(&mut page, groups);
            paused_targets(&mut page, paused);
            page.raw("<h2 id=\"exporter\">The exporter</h2>\n");
            exporter(&mut page, view);
        }
        Shown::Group { group, targets } => {
            page.raw("<h2>Group <bdi>").text(&group.name).raw("</bdi></h2>\n");
            let alarmed = alarms(&mut page, &view.exporter);
            verdict(&mut page, &group.counts, alarmed);
            rows::targets(&mut page, targets, view.exporter.now_ms);
        }
        Shown::Target { target, items } => {
            alarms(&mut page, &view.exporter);
            rows::target(&mut page, target, view.exporter.now_ms);
            rows::items(&mut page, items, view.exporter.now_ms);
        }
        Shown::Missing { ask, near } => missing(&mut page, ask, near),
    }
    page.raw("</main>\n</body>\n</html>\n");
    page.finish()
}

/// What a tab says: whether to look at it.
fn title(view: &View) -> String {
    let name = match &view.shown {
        Shown::Overview { .. } | Shown::Missing { .. } => "fleet-query-exporter",
        Shown::Group { group, .. } => &group.name,
        Shown::Target { target, .. } => &target.brief.name,
    };
    match (view.fleet.of(State::Down), view.fleet.ailing) {
        (0, 0) => name.to_owned(),
        (0, ailing) => format!("{ailing} ailing · {name}"),
        (down, _) => format!("{down} down · {name}"),
    }
}

fn header(page: &mut Markup, view: &View) {
    page.raw("<header>\n<h1>fleet-query-exporter</h1>\n<a href=\"status\">What is wrong</a>\n");
    page.raw("<a href=\"status#groups\">Groups</a>\n<a href=\"status#exporter\">Exporter</a>\n");
    page.raw("<a href=\"metrics\">Metrics</a>\n<span>at <time>").text(Utc(view.exporter.now_ms));
    page.raw(
        "</time></span>\n<form action=\"status\"><input name=\"target\" aria-label=\"Name of a target\" ",
    );
    page.raw("placeholder=\"target\"><button>Find</button></form>\n</header>\n");
}

/// The state of the fleet, or of a group, in one sentence. Under an alarm not all is well, whatever the targets do.
fn verdict(page: &mut Markup, counts: &Counts, alarmed: bool) {
    let (targets, down) = (counts.targets(), counts.of(State::Down));
    let paused = counts.of(State::Paused);
    if down > 0 {
        let reasons: Vec<_> = counts.reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        page.raw("<p class=\"verdict bad\">").text(format_args!("{down} of {}", Count(targets, "target")));
        page.raw(if down == 1 { " is down: " } else { " are down: " }).text(reasons.join(", "));
        page.raw("</p>\n");
    }
    if counts.ailing > 0 {
        let class = if down > 0 { "<p class=\"warn\">" } else { "<p class=\"verdict warn\">" };
        page.raw(class).text(Count(counts.ailing, "target")).raw(if counts.ailing == 1 {
            " is up and has failing or stale items"
        } else {
            " are up and have failing or stale items"
        });
        page.raw("</p>\n");
    }
    let tried = counts.of(State::Up) + down;
    if tried == 0 {
        page.raw("<p class=\"verdict\">No target has been tried yet</p>\n");
    } else if down == 0 && counts.ailing == 0 {
        page.raw(if alarmed { "<p class=\"verdict\">" } else { "<p class=\"verdict good\">All is well: " });
        page.text(Count(tried, "target")).raw(" up</p>\n");
    }
    let untried = counts.of(State::NeverTried);
    let items = counts.items;
    page.raw("<p class=\"soft\">").text(Count(items.all, "item"));
    let more = [
        (items.failing, " failing"),
        (items.stale, " stale"),
        (items.not_run, " not run yet"),
        (items.not_for_server, " not for their servers"),
    ];
    for (n, what) in more.into_iter().filter(|(n, _)| *n > 0) {
        page.raw(", ").text(n).raw(what);
    }
    for (n, what) in
        [(untried, " never tried"), (paused, " paused"), (counts.of(State::NoItems), " without items")]
    {
        if n > 0 {
            page.raw("; ").text(Count(n, "target")).raw(what);
        }
    }
    page.raw("</p>\n");
}

/// What is wrong with the exporter itself, on every page: it makes the rest of the page doubtful. Returns whether
/// anything is.
fn alarms(page: &mut Markup, exporter: &Exporter) -> bool {
    let (bytes, limit) = exporter.bytes;
    let (behind, full) = (exporter.oldest_overdue > OVERDUE, bytes > limit / 10 * 9);
    if behind {
        page.raw("<p class=\"alarm\">The exporter is behind: a tick has waited ");
        page.text(Length(exporter.oldest_overdue)).raw(" for its permit.</p>\n");
    }
    if let Some(error) = &exporter.config_error {
        page.raw(
            "<p class=\"alarm\">The configuration that was read last is not in force: <bdi class=\"error\">",
        );
        page.text(error).raw("</bdi></p>\n");
    }
    if full {
        page.raw("<p class=\"alarm\">The page of metrics is almost full: ").text(Bytes(bytes));
        page.raw(" of ").text(Bytes(limit)).raw(".</p>\n");
    }
    behind || full || exporter.config_error.is_some()
}

fn groups_table(page: &mut Markup, groups: &Cut<Group>) {
    page.raw(
        "<table>\n<thead><tr><th>Group</th><th class=\"number\">down</th><th class=\"number\">ailing</th>",
    );
    page.raw(
        "<th class=\"number\">up</th><th class=\"number\">never tried</th><th class=\"number\">paused</th>",
    );
    page.raw(
        "<th class=\"number\">items</th><th class=\"number\">failing</th><th class=\"number\">stale</th>",
    );
    page.raw("</tr></thead>\n<tbody>\n");
    for Group { name, counts } in &groups.list {
        page.raw("<tr><td><a href=\"").text(rows::link("group", name)).raw("\"><bdi>").text(name);
        page.raw("</bdi></a></td>");
        number(page, "<td class=\"number\" data-name=\"down\">", counts.of(State::Down), Some("bad"));
        number(page, "<td class=\"number\" data-name=\"ailing\">", counts.ailing, Some("warn"));
        number(page, "<td class=\"number\" data-name=\"up\">", counts.of(State::Up), None);
        number(page, "<td class=\"number\" data-name=\"never tried\">", counts.of(State::NeverTried), None);
        number(page, "<td class=\"number\" data-name=\"paused\">", counts.of(State::Paused), None);
        number(page, "<td class=\"number\" data-name=\"items\">", counts.items.all, None);
        number(page, "<td class=\"number\" data-name=\"failing\">", counts.items.failing, Some("warn"));
        number(page, "<td class=\"number\" data-name=\"stale\">", counts.items.stale, Some("warn"));
        page.raw("</tr>\n");
    }
    page.raw("</tbody>\n</table>\n");
    more(page, groups.more, "group");
}

fn paused_targets(page: &mut Markup, paused: &Cut<Arc<str>>) {
    if paused.list.is_empty() {
        return;
    }
    page.raw("<h2>Paused</h2>\n<p>");
    for (place, name) in paused.list.iter().enumerate() {
        page.raw(if place == 0 { "<a href=\"" } else { ", <a href=\"" }).text(rows::link("target", name));
        page.raw("\"><bdi>").text(name).raw("</bdi></a>");
    }
    page.raw("</p>\n");
    more(page, paused.more, "target");
}

fn number(page: &mut Markup, cell: &'static str, n: usize, class: Option<&'static str>) {
    page.raw(cell);
    match class.filter(|_| n > 0) {
        Some(class) => page.raw("<span class=\"").raw(class).raw("\">").text(n).raw("</span>"),
        None => page.text(n),
    };
    page.raw("</td>");
}

/// How many are not shown, and where they are.
pub(super) fn more(page: &mut Markup, n: usize, what: &'static str) {
    if n > 0 {
        page.raw("<p class=\"soft\">and ").text(Count(n, what)).raw(" more</p>\n");
    }
}

fn exporter(page: &mut Markup, view: &View) {
    let Exporter { version, now_ms, uptime, config_loaded_ms, queries, runs, tries, connects, .. } =
        &view.exporter;
    let (exporter, fleet) = (&view.exporter, &view.fleet);
    page.raw("<dl>\n");
    let mut row = |name: &'static str, value: String| {
        page.raw("<dt>").raw(name).raw("</dt><dd>").text(value).raw("</dd>\n");
    };
    row("version", version.clone());
    row("up for", Length(*uptime).to_string());
    let age = Duration::from_millis(now_ms.saturating_sub(*config_loaded_ms));
    row("configuration", format!("read {} ago, at {}", Length(age), Utc(*config_loaded_ms)));
    let (targets, items) = (Count(fleet.targets(), "target"), Count(fleet.items.all, "item"));
    let queries = if *queries == 1 { "1 query".to_owned() } else { format!("{queries} queries") };
    row("fleet", format!("{targets}, {queries}, {items}"));
    let queue = |queue: &super::model::Queue| {
        format!("{} going, {} waiting, {} at most", queue.in_flight, queue.waiting, queue.limit)
    };
    row("runs", queue(runs));
    row("tries of down targets", queue(tries));
    row("connects", format!("{} going, {} at most", connects.0, connects.1));
    row("oldest overdue tick", Length(exporter.oldest_overdue).to_string());
    let (bytes, limit) = exporter.bytes;
    row("page", format!("{} series, {} of {}", exporter.series, Bytes(bytes), Bytes(limit)));
    row("log lines dropped", exporter.log_lines_dropped.to_string());
    page.raw("</dl>\n");
}

fn missing(page: &mut Markup, ask: &Ask, near: &Cut<Arc<str>>) {
    let (what, name) = match ask {
        Ask::Target(name) => ("target", name.as_str()),
        Ask::Group(name) => ("group", name.as_str()),
        Ask::Overview => ("page", ""),
    };
    page.raw("<p class=\"verdict\">There is no ").raw(what).raw(" called <bdi>").text(name);
    page.raw("</bdi></p>\n");
    if near.list.is_empty() {
        page.raw("<p>Nor does a name hold these letters. <a href=\"status\">All groups</a></p>\n");
        return;
    }
    page.raw("<p>These names hold it:</p>\n<ul>\n");
    for name in &near.list {
        page.raw("<li><a href=\"").text(rows::link(what, name)).raw("\"><bdi>").text(name);
        page.raw("</bdi></a></li>\n");
    }
    page.raw("</ul>\n");
    more(page, near.more, "name");
}
