//! Targets and items as HTML: a row in a list, or all about one of them.

use std::time::Duration;

use fleet_collector::Failure;

use super::{
    html::more,
    markup::Markup,
    model::{Item, ItemState, Next, NextTry, State, Target, failure},
    picture::{self, Of},
    view::Cut,
    words::{Count, Length, Utc},
};

/// Where the details of a target or a group are. Relative, so that it holds behind a proxy that adds a path.
pub(super) fn link(what: &'static str, name: &str) -> String {
    format!("status?{}", form_urlencoded::Serializer::new(String::new()).append_pair(what, name).finish())
}

/// A table of targets.
pub(super) fn targets(page: &mut Markup, targets: &Cut<Target>, now_ms: u64) {
    page.raw("<table>\n<thead><tr><th>Target</th><th>State</th><th>Why</th><th>Next try</th><th>Items</th>");
    page.raw("<th>Last hour</th></tr></thead>\n<tbody>\n");
    for target in &targets.list {
        let brief = &target.brief;
        page.raw("<tr><td><a href=\"").text(link("target", &brief.name)).raw("\"><bdi>").text(&brief.name);
        page.raw("</bdi></a> <span class=\"soft\">in <a href=\"").text(link("group", &brief.group));
        page.raw("\"><bdi>").text(&brief.group).raw("</bdi></a></span> <span class=\"soft line\"><bdi>");
        page.text(&target.address).raw("</bdi></span></td>");
        page.raw("<td>");
        state(page, target, now_ms);
        page.raw("</td><td>");
        why(page, target, now_ms);
        page.raw("</td><td data-name=\"next try\">");
        next_try(page, target.next_try);
        page.raw("</td><td data-name=\"items\">");
        item_counts(page, target);
        page.raw("</td><td>");
        pictures(page, target);
        page.raw("</td></tr>\n");
    }
    page.raw("</tbody>\n</table>\n");
    more(page, targets.more, "target");
}

fn state(page: &mut Markup, target: &Target, now_ms: u64) {
    let (class, word) = match target.brief.state {
        State::Down => ("bad", "down"),
        State::NeverTried => ("soft", "never tried"),
        State::Up if target.brief.is_sick() => ("warn", "up, ailing"),
        State::Up => ("good", "up"),
        State::NoItems => ("soft", "no items"),
        State::Paused => ("soft", "paused"),
    };
    page.raw("<span class=\"state ").raw(class).raw("\">").raw(word).raw("</span>");
    if let Some(since_ms) = target.brief.since_ms {
        page.raw(" for ");
        ago(page, since_ms, now_ms);
    }
}

/// How long ago a moment was, and on closer look the moment.
fn ago(page: &mut Markup, at_ms: u64, now_ms: u64) {
    page.raw("<time datetime=\"").text(Utc(at_ms)).raw("\" title=\"").text(Utc(at_ms)).raw("\">");
    page.text(Length(Duration::from_millis(now_ms.saturating_sub(at_ms)))).raw("</time>");
}

fn why(page: &mut Markup, target: &Target, now_ms: u64) {
    if let (State::Down, Some((_, failure))) = (target.brief.state, &target.down) {
        error(page, failure);
        return;
    }
    if let Some((query, run)) = &target.trouble
        && let Some(failure) = failure(run)
    {
        page.raw("<p><bdi>").text(query).raw("</bdi> has failed for ");
        ago(page, run.since_ms, now_ms);
        page.raw(":</p> ");
        error(page, failure);
    }
}

/// A reason, and the message, which ends with the server's number.
fn error(page: &mut Markup, failure: &Failure) {
    page.raw("<span class=\"state\">").text(failure.reason).raw("</span> ");
    page.raw("<bdi class=\"error\">").text(&failure.message).raw("</bdi>");
}

fn next_try(page: &mut Markup, next_try: Option<NextTry>) {
    let Some(NextTry { failures, wait }) = next_try else { return };
    match wait {
        None => page.raw("now"),
        Some(Duration::ZERO) => page.raw("at its next tick"),
        Some(wait) => page.raw("in ").text(Length(wait)),
    };
    page.raw(" <span class=\"soft\">(").text(Count(failures as usize, "failure")).raw(" so far)</span>");
}

fn item_counts(page: &mut Markup, target: &Target) {
    let items = target.brief.items;
    let mut first = true;
    for (n, word, class) in [
        (items.failing, "failing", "<span class=\"warn\">"),
        (items.stale, "stale", "<span class=\"warn\">"),
        (items.not_run, "not run yet", "<span>"),
    ] {
        if n > 0 {
            page.raw(if first { "" } else { ", " }).raw(class).text(n).raw(" ").raw(word).raw("</span>");
            first = false;
        }
    }
    page.raw(if first { "" } else { " of " }).text(items.all);
}

fn pictures(page: &mut Markup, target: &Target) {
    page.raw("<div class=\"pictures\">");
    for (of, name, value) in [
        (Of::RunTime, "run time", target.hour.iter().filter_map(|minute| minute.longest).max()),
        (
            Of::Lateness,
            "late",
            target.hour.iter().filter_map(|minute| minute.longest.map(|_| minute.latest)).max(),
        ),
    ] {
        page.raw("<figure>");
        picture::draw(page, of, &target.hour);
        page.raw("<figcaption>").raw(name);
        if let Some(value) = value {
            page.raw(" ≤ ").text(Length(value));
        }
        page.raw("</figcaption></figure>");
    }
    page.raw("</div>");
}

/// All about one target.
pub(super) fn target(page: &mut Markup, target: &Target, now_ms: u64) {
    let brief = &target.brief;
    page.raw("<h2>Target <bdi>").text(&brief.name).raw("</bdi></h2>\n<p class=\"verdict\">");
    state(page, target, now_ms);
    page.raw("</p>\n<dl>\n");
    if let Some((at_ms, failure)) = &target.down {
        page.raw(if brief.state == State::Down { "<dt>why</dt><dd>" } else { "<dt>was down</dt><dd>" });
        error(page, failure);
        page.raw(" <span class=\"soft\">");
        ago(page, *at_ms, now_ms);
        page.raw(" ago</span></dd>\n");
    }
    if target.next_try.is_some() {
        page.raw("<dt>next try</dt><dd>");
        next_try(page, target.next_try);
        page.raw("</dd>\n");
    }
    page.raw("<dt>group</dt><dd><a href=\"").text(link("group", &brief.group)).raw("\"><bdi>");
    page.text(&brief.group).raw("</bdi></a></dd>\n<dt>address</dt><dd><bdi>").text(&target.address);
    page.raw("</bdi></dd>\n");
    if let Some(server) = &target.server {
        page.raw("<dt>server</dt><dd>").raw(server.flavour.as_str()).raw(" <bdi>").text(&server.version);
        page.raw("</bdi> ").raw(server.role()).raw(", server id <bdi>").text(&server.server_id);
        page.raw("</bdi></dd>\n");
        if !server.refused.is_empty() {
            page.raw("<dt>guards refused</dt><dd class=\"warn\">")
                .text(server.guards_refused())
                .raw("</dd>\n");
        }
    }
    let (open, allowed) = target.connections;
    page.raw("<dt>connections</dt><dd>").text(open).raw(" open, ").text(allowed).raw(" allowed</dd>\n");
    page.raw("<dt>TLS</dt><dd>").raw(target.tls).raw("</dd>\n");
    let [running, no_permit, down, stopped] = target.missed;
    page.raw("<dt>ticks missed</dt><dd>").text(running).raw(" as the last run was still going, ");
    page.text(no_permit)
        .raw(" without a permit, ")
        .text(down)
        .raw(" while it was down, ")
        .text(stopped)
        .raw(" given up as the item changed</dd>\n<dt>labels</dt><dd>");
    for (place, (name, value)) in target.labels.iter().enumerate() {
        page.raw(if place == 0 { "<bdi>" } else { ", <bdi>" }).text(name).raw("=").text(value).raw("</bdi>");
    }
    page.raw("</dd>\n</dl>\n<div class=\"large\">");
    pictures(page, target);
    page.raw("</div>\n");
}

/// The items of one target.
pub(super) fn items(page: &mut Markup, items: &Cut<Item>, now_ms: u64) {
    page.raw("<h2>Items</h2>\n<table>\n<thead><tr><th>Query</th><th>State</th><th>Last run</th>");
    page.raw("<th>Next run</th><th class=\"number\">Rows</th><th class=\"number\">Series</th>");
    page.raw("<th>Age of the result</th><th>Trouble</th></tr></thead>\n<tbody>\n");
    for item in &items.list {
        page.raw("<tr><td><bdi>").text(&item.query).raw("</bdi> <span class=\"soft\">every ");
        page.text(Length(item.interval));
        if let Some(configured) = item.configured {
            page.raw(" in place of ").text(Length(configured));
        }
        page.raw(", at most ").text(Length(item.timeout)).raw("</span></td><td>");
        item_state(page, item.state());
        page.raw("</td><td data-name=\"last run\">");
        if let Some(last) = &item.last {
            ago(page, last.ended_ms, now_ms);
            page.raw(" ago, took ").text(Length(last.took.duration));
            page.raw(", late ").text(Length(last.took.lateness));
        }
        page.raw("</td><td data-name=\"next run\">");
        next(page, item.next);
        let result = item.last.as_ref().and_then(|last| last.result).filter(|_| item.shown);
        page.raw("</td><td class=\"number\" data-name=\"rows\">");
        if let Some(result) = result {
            page.text(result.rows);
        }
        page.raw("</td><td class=\"number\" data-name=\"series\">");
        if let Some(result) = result {
            page.text(result.series);
        }
        page.raw("</td><td data-name=\"age\">");
        if let Some(age) = item.age.filter(|_| item.shown) {
            page.text(Length(age)).raw(" of ").text(Length(item.expire_after));
        }
        page.raw("</td><td>");
        trouble(page, item, now_ms);
        page.raw("</td></tr>\n");
    }
    page.raw("</tbody>\n</table>\n");
    more(page, items.more, "item");
}

fn item_state(page: &mut Markup, state: ItemState) {
    let (class, word) = match state {
        ItemState::Failing => ("bad", "failing"),
        ItemState::Stale => ("warn", "stale"),
        ItemState::NotRun => ("soft", "not run yet"),
        ItemState::Well => ("good", "well"),
        ItemState::NotForServer => ("soft", "not for this server"),
    };
    page.raw("<span class=\"state ").raw(class).raw("\">").raw(word).raw("</span>");
}

fn next(page: &mut Markup, next: Option<Next>) {
    match next {
        None => page,
        Some(Next::In(wait)) => page.raw("in ").text(Length(wait)),
        Some(Next::Overdue(since)) => {
            page.raw("<span class=\"warn\">has waited ").text(Length(since)).raw(" for a permit</span>")
        }
        Some(Next::Running) => page.raw("running"),
    };
}

fn trouble(page: &mut Markup, item: &Item, now_ms: u64) {
    if let Some((failure, last)) = item.failure().zip(item.last.as_ref()) {
        error(page, failure);
        page.raw(" <span class=\"soft\">").text(Count(last.failures as usize, "failed run"));
        page.raw(" in ");
        ago(page, last.since_ms, now_ms);
        page.raw("</span>");
    } else if let Some(note) = item.note() {
        page.raw("<span class=\"warn\">some values left out:</span> <bdi class=\"error\">").text(note);
        page.raw("</bdi>");
    }
}
