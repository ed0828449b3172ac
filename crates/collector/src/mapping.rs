//! Rows to samples: pure. The columns are found by name once per answer, and each row then becomes text.

use std::{cell::Cell, collections::HashSet, hash::Hash, ops::Range};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    Failure, Metric, OnNull, Query, Reason, ResultLimits, Rows, Target, ValueSource,
    cell::{append_label, append_number, not_a_number},
    fragment::{identity, is_valid, labels_text},
    rows::{Column, Row},
};

/// Why a sample that a row should have yielded is not on the page, as labels of `series_dropped_total`.
pub const DROPPED: [&str; 3] = ["duplicate", "not_a_number", "invalid"];

/// A query's families and what their lines begin with on every target. One for all items of the query.
#[derive(Debug)]
pub(crate) struct Plan {
    /// For each family of the query, in the order of first appearance, the metrics that feed it.
    families: Vec<Vec<Feed>>,
}

#[derive(Debug)]
struct Feed {
    metric: usize,
    /// The encoded labels that the metric has on every target.
    static_labels: String,
}

/// What the lines of a metric begin with on one target. Made for each run: it is a text of its own for each item.
struct Prefix {
    /// `name` and, where there are labels that are the same for each row, `{` and these.
    text: String,
    /// Whether it already holds a label.
    labelled: bool,
}

impl Feed {
    fn prefix(&self, query: &Query, target_labels: &str) -> Prefix {
        let (name, labels) = (&query.metrics[self.metric].family.name, &self.static_labels);
        let text = match (target_labels, labels.as_str()) {
            ("", "") => name.clone(),
            (labels, "") | ("", labels) => format!("{name}{{{labels}"),
            _ => format!("{name}{{{target_labels},{labels}"),
        };
        Prefix { labelled: text.len() > name.len(), text }
    }
}

impl Prefix {
    /// Whether a series has this one's name and constant labels.
    fn begins(&self, series: &[u8]) -> bool {
        let behind: &[u8] = if self.labelled { b",}" } else { b"{" };
        let rest = series.strip_prefix(self.text.as_bytes());
        rest.is_some_and(|rest| rest.first().map_or(!self.labelled, |next| behind.contains(next)))
    }
}

/// The lines of each family of a plan. Most queries have one.
pub(crate) type Fragments = SmallVec<[Bytes; 1]>;

/// What an answer became.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Mapped {
    /// For each family of the plan its lines; possibly none.
    pub(crate) fragments: Fragments,
    pub(crate) series: usize,
    /// In the order of [`DROPPED`].
    pub(crate) dropped: [u64; DROPPED.len()],
    /// Label values cut at the limit.
    pub(crate) cut: u64,
    /// The first value that was no number, for the log.
    pub(crate) example: Option<String>,
}

impl Mapped {
    /// Bytes of all lines.
    pub(crate) fn bytes(&self) -> i64 {
        self.fragments.iter().map(|fragment| i64::try_from(fragment.len()).unwrap_or(i64::MAX)).sum()
    }
}

impl Plan {
    /// The plan of `query`.
    pub(crate) fn new(query: &Query) -> Self {
        let mut families: Vec<(&str, Vec<Feed>)> = Vec::new();
        for (metric, Metric { family, static_labels, .. }) in query.metrics.iter().enumerate() {
            let feed = Feed { metric, static_labels: labels_text(static_labels.iter()) };
            match families.iter_mut().find(|(name, _)| *name == family.name) {
                Some((_, feeds)) => feeds.push(feed),
                None => families.push((&family.name, vec![feed])),
            }
        }
        Self { families: families.into_iter().map(|(_, feeds)| feeds).collect() }
    }

    /// For each family, one of the metrics that feed it.
    pub(crate) fn family_metrics(&self) -> impl Iterator<Item = usize> {
        self.families.iter().map(|feeds| feeds[0].metric)
    }

    /// How many series these are, if each is one that this plan of `query` could write for the family of this place on
    /// `target`, and none is there twice.
    pub(crate) fn series_in<'a>(
        &self,
        query: &Query,
        target: &Target,
        family: usize,
        series: impl Iterator<Item = &'a [u8]>,
    ) -> Option<usize> {
        let target_labels = labels_text(target.labels.iter());
        let prefixes = self.families.get(family)?.iter().map(|feed| feed.prefix(query, &target_labels));
        let prefixes: Vec<_> = prefixes.collect();
        let mut seen = HashSet::new();
        for series in series {
            if !(prefixes.iter().any(|prefix| prefix.begins(series)) && seen.insert(identity(series))) {
                return None;
            }
        }
        Some(seen.len())
    }

    /// Turns an answer of `target` into the lines of each family, or says why it does not fit.
    pub(crate) fn map(
        &self,
        query: &Query,
        target: &Target,
        limits: ResultLimits,
        rows: &Rows,
    ) -> Result<Mapped, Failure> {
        let mut mapped = Mapped::default();
        let target_labels = labels_text(target.labels.iter());
        let mut text = Text { bytes: SCRATCH.take(), lines: Vec::with_capacity(rows.len()) };
        text.bytes.clear();
        text.bytes.reserve(self.likely_bytes(query, &target_labels, rows));
        let mut ends = Vec::with_capacity(self.families.len());
        for feeds in &self.families {
            let start = text.bytes.len();
            text.lines.clear();
            for feed in feeds {
                let prefix = feed.prefix(query, &target_labels);
                map_metric(limits, &query.metrics[feed.metric], &prefix, rows, &mut text, &mut mapped)?;
            }
            mapped.dropped[0] += text.drop_duplicates(start, feeds.len());
            if !is_valid(&text.bytes[start..]) {
                // Our own mistake, then: nobody else's page suffers for it.
                mapped.dropped[2] += text.lines.len() as u64;
                text.bytes.truncate(start);
                text.lines.clear();
            }
            mapped.series += text.lines.len();
            ends.push(text.bytes.len());
        }
        // One buffer of the exact size, of which the fragments are slices. A larger one that is made smaller would leave
        // a hole behind it that nothing of its size fits into again.
        let mut bytes = Bytes::copy_from_slice(&text.bytes);
        if text.bytes.capacity() <= KEPT_SCRATCH {
            SCRATCH.set(text.bytes);
        }
        let mut start = 0;
        mapped.fragments =
            ends.into_iter().map(|end| bytes.split_to(end - std::mem::replace(&mut start, end))).collect();
        Ok(mapped)
    }

    /// About how long the text of an answer will be.
    fn likely_bytes(&self, query: &Query, target_labels: &str, rows: &Rows) -> usize {
        let fixed = self.families.iter().flatten().map(|feed| {
            let Metric { family, labels, .. } = &query.metrics[feed.metric];
            let labels = labels.iter().map(|name| name.len() + ",=\"\"".len());
            let always = family.name.len() + target_labels.len() + ",".len() + feed.static_labels.len();
            always + labels.sum::<usize>() + "{} \n".len()
        });
        rows.n_bytes() + rows.len() * fixed.sum::<usize>()
    }
}

/// What a thread keeps to write answers into; larger ones are seldom.
const KEPT_SCRATCH: usize = 64 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The lines of one family as they are written, and where they are.
struct Text {
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

#[derive(Clone)]
struct Line {
    /// Name and labels.
    series: Range<usize>,
    /// Behind the line's end.
    end: usize,
}

impl Text {
    /// Keeps the first of equal series in the lines from `start` on. Returns how many lines went.
    fn drop_duplicates(&mut self, start: usize, feeds: usize) -> u64 {
        if self.lines.len() < 2 {
            return 0;
        }
        let series = self.lines.iter().map(|line| &self.bytes[line.series.clone()]);
        // One feed writes equal series alike; several may order or leave out labels each in its own way.
        let fresh = if feeds > 1 { firsts(series.map(identity)) } else { firsts(series) };
        if fresh.iter().all(|fresh| *fresh) {
            return 0;
        }
        let kept = self.lines.iter().zip(&fresh).filter(|(_, fresh)| **fresh).map(|(line, _)| line.clone());
        let kept: Vec<_> = kept.collect();
        let bytes: Vec<u8> =
            kept.iter().flat_map(|line| &self.bytes[line.series.start..line.end]).copied().collect();
        let gone = self.lines.len() - kept.len();
        self.bytes.truncate(start);
        self.bytes.extend_from_slice(&bytes);
        self.lines = kept;
        gone as u64
    }
}

/// For each whether it is the first of its like.
fn firsts<T: Eq + Hash>(all: impl Iterator<Item = T>) -> Vec<bool> {
    let mut seen = HashSet::with_capacity(all.size_hint().0);
    all.map(|one| seen.insert(one)).collect()
}

fn map_metric(
    limits: ResultLimits,
    metric: &Metric,
    prefix: &Prefix,
    rows: &Rows,
    text: &mut Text,
    mapped: &mut Mapped,
) -> Result<(), Failure> {
    // An empty answer does not show its columns, so there is nothing to compare them with.
    if rows.is_empty() {
        return Ok(());
    }
    let labels = metric.labels.iter().map(|name| Ok((name.as_str(), find(rows.columns(), name)?)));
    let labels = labels.collect::<Result<Vec<_>, Failure>>()?;
    let value = match &metric.value {
        ValueSource::Column(name) => Some(find(rows.columns(), name)?),
        ValueSource::Static(_) => None,
    };
    let (mut numbers, mut others, mut example) = (0_usize, 0_u64, None);
    for row in rows.iter() {
        let start = text.bytes.len();
        text.bytes.extend_from_slice(prefix.text.as_bytes());
        mapped.cut += append_labels(text, prefix.labelled, &labels, &row, rows.columns(), limits.label_bytes);
        let series = start..text.bytes.len();
        text.bytes.push(b' ');
        match append_value(&mut text.bytes, metric, value, &row, rows.columns())? {
            Value::Number => numbers += 1,
            Value::Skipped => {
                text.bytes.truncate(start);
                continue;
            }
            Value::NotANumber(column, cell) => {
                others += 1;
                example.get_or_insert_with(|| not_a_number(column, cell));
                text.bytes.truncate(start);
                continue;
            }
        }
        text.bytes.push(b'\n');
        text.lines.push(Line { series, end: text.bytes.len() });
        if mapped.series + text.lines.len() > limits.series {
            let message = format!("more than {} series: aggregate, or raise max_series", limits.series);
            return Err(Failure::answered(Reason::TooLarge, message));
        }
    }
    mapped.dropped[1] += others;
    if numbers == 0 && others > 0 {
        return Err(Failure::answered(Reason::Mapping, example.unwrap_or_default()));
    }
    mapped.example = mapped.example.take().or(example);
    Ok(())
}

/// Appends the row's labels and the closing brace. Returns how many values were cut.
fn append_labels(
    text: &mut Text,
    labelled: bool,
    labels: &[(&str, usize)],
    row: &Row<'_>,
    columns: &[Column],
    max: usize,
) -> u64 {
    let mut cut = 0;
    let mut separator: &[u8] = if labelled { b"," } else { b"{" };
    for (name, column) in labels {
        text.bytes.extend_from_slice(separator);
        separator = b",";
        text.bytes.extend_from_slice(name.as_bytes());
        text.bytes.extend_from_slice(b"=\"");
        if let Some(cell) = row.cell(*column) {
            cut += u64::from(append_label(&mut text.bytes, columns[*column].kind, cell, max));
        }
        text.bytes.push(b'"');
    }
    if labelled || !labels.is_empty() {
        text.bytes.push(b'}');
    }
    cut
}

enum Value<'a> {
    Number,
    Skipped,
    NotANumber(&'a Column, &'a [u8]),
}

fn append_value<'a>(
    out: &mut Vec<u8>,
    metric: &Metric,
    column: Option<usize>,
    row: &Row<'a>,
    columns: &'a [Column],
) -> Result<Value<'a>, Failure> {
    let column = match (&metric.value, column) {
        (ValueSource::Static(text), _) => {
            out.extend_from_slice(text.as_bytes());
            return Ok(Value::Number);
        }
        (ValueSource::Column(_), Some(column)) => column,
        (ValueSource::Column(_), None) => return Ok(Value::Skipped),
    };
    let name = &columns[column].name;
    let Some(cell) = row.cell(column) else {
        return match metric.on_null {
            OnNull::Skip => Ok(Value::Skipped),
            OnNull::Zero => {
                out.push(b'0');
                Ok(Value::Number)
            }
            OnNull::NaN => {
                out.extend_from_slice(b"NaN");
                Ok(Value::Number)
            }
            OnNull::Error => {
                let message = format!("column {name} is NULL in a row, and on_null = \"error\"");
                Err(Failure::answered(Reason::Mapping, message))
            }
        };
    };
    if append_number(out, columns[column].kind, cell) {
        Ok(Value::Number)
    } else {
        Ok(Value::NotANumber(&columns[column], cell))
    }
}

/// The place of the column with this name: exactly, else without regard to ASCII case, since MySQL 8 and later
/// answer `TABLE_NAME` to `table_name`.
pub fn find(columns: &[Column], name: &str) -> Result<usize, Failure> {
    let places = |same: fn(&str, &str) -> bool| {
        let mut places = (0..columns.len()).filter(|n| same(&columns[*n].name, name));
        (places.next(), places.next())
    };
    let found = match places(|column, name| column == name) {
        (None, _) => places(str::eq_ignore_ascii_case),
        found => found,
    };
    match found {
        (Some(place), None) => Ok(place),
        (None, _) => Err(Failure::answered(
            Reason::Mapping,
            format!("there is no column {name}; the answer has {}", names(columns)),
        )),
        _ => Err(Failure::answered(
            Reason::Mapping,
            format!(
                "column {name} is there more than once: give each a name of its own with AS; the answer has {}",
                names(columns)
            ),
        )),
    }
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
