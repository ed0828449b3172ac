//! A line for each of many targets, and where they differ: who answers other columns, another number of rows, an error.

use std::{fmt::Write as _, time::Duration};

use super::{
    View, advice, count,
    show::{left_out, time, variant},
    table::{Table, shown},
    terminal::{Look, Mark, cut},
    trials::Tried,
};

/// Names that are spelled out before the rest is counted.
const NAMES: usize = 8;

/// What is kept of a trial on one of many targets.
#[derive(Debug)]
pub(super) struct Line {
    target: String,
    server: String,
    variant: Option<String>,
    asked: bool,
    n_rows: Option<usize>,
    series: Option<usize>,
    /// Names and types; None where no row has shown them.
    columns: Option<Vec<String>>,
    left_out: Vec<String>,
    plan: Option<String>,
    connect: Duration,
    answer: Option<Duration>,
    note: Option<&'static str>,
    pub(super) failed: Option<Failed>,
}

/// A failure with what to do about it.
#[derive(Debug)]
pub(super) struct Failed {
    reason: &'static str,
    message: String,
    help: String,
}

impl Line {
    pub(super) fn new(tried: &Tried, view: View, rows_shown: usize) -> Self {
        let Tried { candidate, trial, .. } = tried;
        let rows = trial.rows.as_ref();
        let mapping = trial.mapping.as_ref().filter(|_| view == View::Published);
        let column = |column: &fleet_collector::rows::Column| {
            format!("{} ({})", shown(&column.name), column.type_name)
        };
        let left_out =
            mapping.map(|mapping| left_out(mapping, candidate.limits.label_bytes)).unwrap_or_default();
        // The same for each target, so that equal plans are equal texts; it is cut when it is shown.
        let wide = Look { colours: false, width: usize::MAX, rows: rows_shown };
        Self {
            target: candidate.target.name.to_string(),
            server: trial.server.as_ref().map_or_else(
                || "-".to_owned(),
                |server| {
                    // What builders add to the version makes the table wide and tells little.
                    let version = server.version.split('-').next().unwrap_or_default();
                    shown(&format!("{} {version}", server.flavour.as_str()))
                },
            ),
            variant: variant(tried),
            asked: !trial.is_not_for_this_server(),
            n_rows: rows.map(fleet_collector::Rows::len),
            series: mapping.map(|mapping| mapping.series),
            columns: rows
                .filter(|rows| !rows.is_empty())
                .map(|rows| rows.columns().iter().map(column).collect()),
            left_out: left_out.into_iter().map(|(_, why)| why).collect(),
            plan: rows.filter(|_| view == View::Plan).map(|rows| Table::of_rows(rows, rows_shown).text(wide)),
            connect: trial.connect,
            answer: trial.answer,
            note: candidate.note,
            failed: trial.failure.as_ref().map(|failure| Failed {
                reason: failure.reason.as_str(),
                message: failure.message.clone(),
                help: advice::help(tried, failure),
            }),
        }
    }

    fn outcome(&self) -> &str {
        match &self.failed {
            Some(failed) => failed.reason,
            None if self.asked => "ok",
            None => "not for this server",
        }
    }
}

/// The table and the differences.
pub(super) fn page(query: &str, lines: &[Line], view: View, look: Look) -> String {
    let n_failed = lines.iter().filter(|line| line.failed.is_some()).count();
    let title = format!("{query} on {}: {n_failed} failed", count(lines.len(), "target"));
    let mut page = look.mark(Mark::Title, &title) + "\n\n" + &table(lines, view).text(look);
    if view == View::Plan {
        for (plan, targets) in groups(lines, |line| line.plan.clone()) {
            let _ = write!(page, "\n{}\n", look.mark(Mark::Title, &format!("Plan on {}", names(&targets))));
            for line in plan.lines() {
                let _ = writeln!(page, "{}", cut(line, look.width));
            }
        }
        return page;
    }
    let differences = differences(lines, look);
    if !differences.is_empty() {
        let _ = write!(page, "\n{}\n{differences}", look.mark(Mark::Title, "Differences"));
    }
    let mut notes = String::new();
    for (variant, targets) in groups(lines, |line| line.variant.clone()) {
        let _ = writeln!(notes, "  {variant}: {}", names(&targets));
    }
    for (why, targets) in groups(lines, |line| (!line.left_out.is_empty()).then(|| line.left_out.join("; ")))
    {
        let _ = writeln!(notes, "  {why}: {}", names(&targets));
    }
    for (note, targets) in groups(lines, |line| line.note) {
        let _ = writeln!(notes, "  {note}, so the exporter does not run it there: {}", names(&targets));
    }
    if !notes.is_empty() {
        let _ = write!(page, "\n{}\n{notes}", look.mark(Mark::Title, "Notes"));
    }
    page
}

fn table(lines: &[Line], view: View) -> Table {
    let number = |n: Option<usize>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let mut heads = vec!["target", "server", "outcome", ">rows"];
    if view == View::Published {
        heads.push(">series");
    }
    heads.extend([">connect", ">answer"]);
    let mut table = Table::new(&heads);
    for line in lines {
        let mut cells =
            vec![line.target.clone(), line.server.clone(), line.outcome().to_owned(), number(line.n_rows)];
        if view == View::Published {
            cells.push(number(line.series));
        }
        cells.extend([time(line.connect), line.answer.map_or_else(|| "-".to_owned(), time)]);
        let mark = match (&line.failed, line.asked) {
            (Some(_), _) => Mark::Bad,
            (None, true) => Mark::Good,
            (None, false) => Mark::Faint,
        };
        table.push(cells, Some(mark));
    }
    table
}

/// Each failure once, with the targets that it befell and what to do about it.
pub(super) fn failures(lines: &[Line]) -> String {
    let key = |line: &Line| line.failed.as_ref().map(|f| (f.reason, f.message.clone(), f.help.clone()));
    let mut text = String::new();
    for ((reason, message, help), targets) in groups(lines, key) {
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{gap}{}", advice::told(&names(&targets), reason, &message, &help));
    }
    text
}

/// Where the answers differ. Nothing where there are not two of them.
fn differences(lines: &[Line], look: Look) -> String {
    let mut text = String::new();
    // A metric finds its columns without regard to case, which servers do not agree on.
    let lower =
        |columns: &Vec<String>| columns.iter().map(|column| column.to_ascii_lowercase()).collect::<Vec<_>>();
    let columns = by_number(groups(lines, |line| line.columns.as_ref().map(lower)));
    if let [(usual, _), others @ ..] = &*columns
        && !others.is_empty()
    {
        let _ = writeln!(text, "  columns");
        let others = others.iter().map(|(other, targets)| (unlike(usual, other), targets));
        let all = std::iter::once((usual.join(", "), &columns[0].1)).chain(others);
        list(
            &mut text,
            all.map(|(columns, targets)| format!("{columns}: {}", names(targets))).collect(),
            look,
        );
    }
    let rows = by_number(groups(lines, |line| line.n_rows));
    if rows.len() > 1 {
        let _ = writeln!(text, "  rows");
        list(&mut text, rows.iter().map(|(n, targets)| format!("{n}: {}", names(targets))).collect(), look);
    }
    let n_answers = lines.iter().filter(|line| line.n_rows.is_some()).count();
    if text.is_empty() && n_answers > 1 {
        text.push_str("  none: the same columns, types and number of rows wherever there was an answer\n");
    }
    text
}

/// Those that most targets have first.
fn by_number<K>(mut groups: Vec<(K, Vec<&str>)>) -> Vec<(K, Vec<&str>)> {
    groups.sort_by_key(|(_, targets)| std::cmp::Reverse(targets.len()));
    groups
}

/// What the other columns lack and have that the usual ones do not.
fn unlike(usual: &[String], other: &[String]) -> String {
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|column| !those.contains(column)).cloned().collect::<Vec<_>>().join(", ")
    };
    match (only(usual, other), only(other, usual)) {
        (less, more) if less.is_empty() && more.is_empty() => "the same in another order".to_owned(),
        (less, more) if less.is_empty() => format!("and {more}"),
        (less, more) if more.is_empty() => format!("without {less}"),
        (less, more) => format!("{more} instead of {less}"),
    }
}

fn list(text: &mut String, lines: Vec<String>, look: Look) {
    let more = lines.len().saturating_sub(NAMES);
    for line in lines.into_iter().take(NAMES) {
        let _ = writeln!(text, "    {}", cut(&line, look.width.saturating_sub(4)));
    }
    if more > 0 {
        let _ = writeln!(text, "    … {more} more");
    }
}

/// The targets that have the same in common, in the order of the first of each.
fn groups<K: PartialEq>(lines: &[Line], key: impl Fn(&Line) -> Option<K>) -> Vec<(K, Vec<&str>)> {
    let mut groups: Vec<(K, Vec<&str>)> = Vec::new();
    for line in lines {
        let Some(key) = key(line) else { continue };
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, targets)) => targets.push(&line.target),
            None => groups.push((key, vec![&line.target])),
        }
    }
    groups
}

fn names(targets: &[&str]) -> String {
    let some = targets.iter().take(NAMES).copied().collect::<Vec<_>>().join(", ");
    match targets.len().checked_sub(NAMES) {
        None | Some(0) => some,
        Some(more) => format!("{some} and {more} more"),
    }
}
