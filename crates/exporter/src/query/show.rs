//! All about one trial: what would be published, the columns and who uses them, the first rows, and the numbers.

use std::{fmt::Write as _, time::Duration};

use fleet_collector::{
    Metric, OnNull, Rows, ValueSource, mapping,
    trial::{Mapping, Trial},
};
use fleet_http::exposition;

use super::{
    View, count, skeleton,
    table::{Table, shown},
    terminal::{Look, Mark, cut, visible},
    trials::Tried,
};

/// The text of a trial, but for why it failed.
pub(super) fn page(tried: &Tried, view: View, look: Look) -> String {
    let Tried { query, candidate, trial } = tried;
    let mut page = head(tried, look);
    if trial.is_not_for_this_server() {
        page += "the query has no statement for this server: nothing was asked\n";
        return page;
    }
    if let (View::Published, Some(mapping)) = (view, &trial.mapping) {
        section(&mut page, look, "On the page", &published(mapping, look));
    }
    if let Some(rows) = &trial.rows {
        if !rows.is_empty() && view != View::Plan {
            let metrics = (view == View::Published).then_some(&*query.metrics);
            section(&mut page, look, "Columns", &columns(rows, metrics, look));
        }
        section(&mut page, look, &rows_title(rows, view, look), &rows_text(rows, look));
    }
    let limits = &candidate.limits;
    let mut numbers = Numbers::default();
    if let Some(rows) = &trial.rows {
        numbers.add("rows", format!("{} (max_rows {})", rows.len(), limits.rows));
    }
    if let (View::Published, Some(mapping)) = (view, &trial.mapping) {
        numbers.add("series", format!("{} (max_series {})", mapping.series, limits.series));
        for (what, why) in left_out(mapping, limits.label_bytes) {
            numbers.add(what, why);
        }
        for nulls in trial.rows.iter().flat_map(|rows| nulls(rows, &query.metrics)) {
            numbers.add("NULL", nulls);
        }
    }
    numbers.add("connect", connect(trial));
    if let Some(answer) = trial.answer {
        let limit = humantime::format_duration(candidate.timeout);
        numbers.add(
            "answer",
            format!("{}  from sending the statement to the end of its answer, seen from here; the limit is {limit}", time(answer)),
        );
    }
    section(&mut page, look, "In numbers", &numbers.0);
    if let (View::Rows, Some(rows)) = (view, &trial.rows)
        && let Some(text) = query.statement.as_ref().and_then(|statement| skeleton::of(statement.sql(), rows))
    {
        section(&mut page, look, "To begin with, for the configuration", &text);
    }
    page
}

/// Who was asked what.
fn head(tried: &Tried, look: Look) -> String {
    let Tried { query, candidate, trial } = tried;
    let target = &candidate.target;
    let whom = match &trial.server {
        Some(server) => {
            format!("{} {} at {}", server.flavour.as_str(), visible(&server.version), target.address)
        }
        None => format!("no session at {}", target.address),
    };
    let mut head = look.mark(Mark::Title, &format!("{}@{}: {whom}", query.name, target.name)) + "\n";
    if let Some(variant) = variant(tried) {
        let _ = writeln!(head, "asked as {variant}");
    }
    if let Some(refused) =
        trial.server.as_ref().map(|server| server.guards_refused()).filter(|r| !r.is_empty())
    {
        let _ = writeln!(head, "note: the server refused guards of the session: {}", visible(&refused));
    }
    if let Some(note) = candidate.note {
        let _ = writeln!(head, "note: {note}, so the exporter does not run it there");
    }
    head
}

/// Which of its statements the server got, where a query has several.
pub(super) fn variant(tried: &Tried) -> Option<String> {
    let Tried { query, trial, .. } = tried;
    let server = trial.server.as_ref().filter(|_| !query.variants.is_empty())?;
    let place = query.variants.iter().position(|variant| variant.when.fits(server));
    match place {
        Some(n) => {
            Some(format!("variant {} of {}, for {}", n + 1, query.variants.len(), query.variants[n].when))
        }
        None => query.statement.as_ref().map(|_| "any server that no variant is for".to_owned()),
    }
}

fn section(page: &mut String, look: Look, title: &str, text: &str) {
    let _ = write!(page, "\n{}\n{text}", look.mark(Mark::Title, title));
}

/// The lines as Prometheus would read them, the first of each family.
fn published(mapping: &Mapping, look: Look) -> String {
    let page = exposition::classic_text(mapping.families.clone());
    let (mut text, mut in_family, mut left) = (String::new(), 0, 0);
    let more = |text: &mut String, left: &mut usize| {
        if *left > 0 {
            let _ = writeln!(text, "  … {} more (--rows shows more)", std::mem::take(left));
        }
    };
    for line in page.lines() {
        if line.starts_with("# HELP") {
            more(&mut text, &mut left);
            in_family = 0;
        } else if !line.starts_with('#') {
            in_family += 1;
            if in_family > look.rows {
                left += 1;
                continue;
            }
        }
        let _ = writeln!(text, "  {}", visible(line));
    }
    more(&mut text, &mut left);
    if text.is_empty() { "  nothing\n".to_owned() } else { text }
}

/// Each column, its type, and what is made of it.
fn columns(rows: &Rows, metrics: Option<&[Metric]>, look: Look) -> String {
    let mut table =
        Table::new(if metrics.is_some() { &["name", "type", "used as"] } else { &["name", "type"] });
    for (n, column) in rows.columns().iter().enumerate() {
        let mut cells = vec![shown(&column.name), column.type_name.to_owned()];
        let mut mark = None;
        if let Some(metrics) = metrics {
            let uses = uses(rows, metrics, n);
            mark = uses.is_empty().then_some(Mark::Faint);
            cells.push(if uses.is_empty() { "nothing".to_owned() } else { uses });
        }
        table.push(cells, mark);
    }
    table.text(look)
}

fn uses(rows: &Rows, metrics: &[Metric], column: usize) -> String {
    let is = |name: &str| mapping::find(rows.columns(), name) == Ok(column);
    let families = |used: &dyn Fn(&Metric) -> bool| {
        let mut names: Vec<_> =
            metrics.iter().filter(|metric| used(metric)).map(|metric| metric.family.name.as_str()).collect();
        names.dedup();
        names.join(", ")
    };
    let values = families(&|metric| matches!(&metric.value, ValueSource::Column(name) if is(name)));
    let labels = families(&|metric| metric.labels.iter().any(|name| is(name)));
    let uses = [("value of ", values), ("label of ", labels)];
    let uses: Vec<_> = uses
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what}{names}"))
        .collect();
    uses.join("; ")
}

fn rows_title(rows: &Rows, view: View, look: Look) -> String {
    let what = if view == View::Plan { "Plan" } else { "Rows" };
    if rows.len() > look.rows {
        format!("{what}, the first {} of {} (--rows shows more)", look.rows, rows.len())
    } else {
        what.to_owned()
    }
}

fn rows_text(rows: &Rows, look: Look) -> String {
    if rows.is_empty() {
        return "  none, and an empty answer does not show its columns\n".to_owned();
    }
    Table::of_rows(rows, look.rows).text(look)
}

/// What rows should have yielded and is not there, and why.
pub(super) fn left_out(mapping: &Mapping, label_bytes: usize) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for (reason, n) in mapping.dropped.iter().filter(|(_, n)| *n > 0) {
        let n = usize::try_from(*n).unwrap_or(usize::MAX);
        let why = match *reason {
            "duplicate" => "rows with the same labels as one before; the first is kept".to_owned(),
            "not_a_number" => mapping.not_a_number.clone().unwrap_or_default(),
            _ => "their text would not be valid; this is a defect of the exporter".to_owned(),
        };
        lines.push(("left out", format!("{}, {reason}: {why}", count(n, "sample"))));
    }
    if mapping.cut > 0 {
        let n = usize::try_from(mapping.cut).unwrap_or(usize::MAX);
        lines.push(("labels", format!("{} cut at {label_bytes} bytes (max_label_bytes)", count(n, "value"))));
    }
    lines
}

/// What became of NULLs in the columns of values.
fn nulls(rows: &Rows, metrics: &[Metric]) -> Vec<String> {
    let mut lines = Vec::new();
    for metric in metrics {
        let ValueSource::Column(name) = &metric.value else { continue };
        let Ok(column) = mapping::find(rows.columns(), name) else { continue };
        let n = rows.iter().filter(|row| row.cell(column).is_none()).count();
        let became = match metric.on_null {
            OnNull::Skip => "no sample (on_null = \"skip\")",
            OnNull::Zero => "0 (on_null = \"zero\")",
            OnNull::NaN => "NaN (on_null = \"nan\")",
            OnNull::Error => "an error (on_null = \"error\")",
        };
        if n > 0 {
            lines.push(format!("{n} in {}: {became} of {}", shown(name), metric.family.name));
        }
    }
    lines
}

fn connect(trial: &Trial) -> String {
    let what = if trial.server.is_some() {
        "resolving the name, TLS, login and the session's settings"
    } else {
        "until it failed"
    };
    format!("{}  {what}", time(trial.connect))
}

/// A length of time, as wide for a second as for a minute.
pub(super) fn time(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Lines of a name and what there is to say.
#[derive(Default)]
struct Numbers(String);

impl Numbers {
    fn add(&mut self, name: &str, text: impl AsRef<str>) {
        let _ = writeln!(self.0, "  {name:<9} {}", cut(&visible(text.as_ref()), usize::MAX));
    }
}
