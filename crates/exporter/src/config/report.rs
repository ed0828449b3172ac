//! What is wrong in the configuration and how it is shown: the place, the line, a caret, and what to write.

use std::{
    collections::BTreeSet,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use unicode_width::UnicodeWidthStr;

/// A place: a range of bytes, counted through all files, one behind the other, in the order in which they were read.
pub(super) type Place = Range<usize>;

/// A file that was read. Its `Debug` is its name alone, since the text may hold a password.
pub(super) struct Source {
    name: String,
    /// What relative paths in it are relative to.
    folder: PathBuf,
    text: String,
    /// Where its first byte is counted.
    base: usize,
    /// Where its lines begin.
    lines: Vec<usize>,
    /// What is never shown, sorted and apart from each other.
    masked: Vec<Place>,
}

impl Source {
    /// The line around a byte, without its end.
    fn line(&self, at: usize) -> Place {
        let n = self.line_number(at);
        let start = self.lines[n - 1];
        let end = self.lines.get(n).map_or(self.text.len() + 1, |next| *next) - 1;
        let length = self.text[start..end].trim_end_matches('\r').len();
        self.base + start..self.base + start + length
    }

    /// The number of the line around a byte, counted from 1.
    fn line_number(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at - self.base)
    }

    fn slice(&self, place: &Place) -> &str {
        &self.text[place.start - self.base..place.end - self.base]
    }

    /// `file:line:column` of a byte, lines and characters counted from 1.
    fn position(&self, at: usize) -> String {
        let start = self.line(at).start;
        let column = self.slice(&(start..at)).chars().count() + 1;
        format!("{}:{}:{column}", self.name, self.line_number(at))
    }

    /// The line of a place as it may be shown, and the carets below it. A place of several lines is marked to the
    /// end of its first.
    fn excerpt(&self, place: &Place) -> (String, String) {
        let line = self.line(place.start);
        let (mut shown, mut before, mut through) = (String::new(), 0, 0);
        for (i, c) in self.slice(&line).char_indices() {
            let at = line.start + i;
            match self.masked.iter().find(|m| m.contains(&at)) {
                // Every mask is as long as the next: the length of a password is nobody's business either.
                Some(mask) if at == mask.start.max(line.start) => shown.push_str("***"),
                Some(_) => {}
                None => shown.push_str(&visible(c)),
            }
            let next = at + c.len_utf8();
            if next <= place.start {
                before = shown.width();
            }
            if next <= place.end {
                through = shown.width();
            }
        }
        let carets = through.saturating_sub(before).max(1);
        (shown, format!("{}{}", " ".repeat(before), "^".repeat(carets)))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.name).finish()
    }
}

/// All files that were read.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources(Arc<Vec<Arc<Source>>>);

impl Sources {
    /// Where the first byte of the next file will be counted: one behind the end of the last, which is a place too.
    pub(super) fn next_base(&self) -> usize {
        self.0.last().map_or(0, |last| last.base + last.text.len() + 1)
    }

    /// Takes a file in. `masked` is counted as if it were the only one.
    pub(super) fn add(&mut self, path: &Path, text: &str, masked: Vec<Place>) {
        let base = self.next_base();
        let masked = masked.into_iter().map(|place| base + place.start..base + place.end).collect();
        Arc::make_mut(&mut self.0).push(Arc::new(Source {
            name: path.display().to_string(),
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
            text: text.to_owned(),
            base,
            lines: std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect(),
            masked: joined(masked),
        }));
    }

    fn of(&self, place: &Place) -> &Arc<Source> {
        let n = self.0.partition_point(|source| source.base <= place.start);
        &self.0[n.saturating_sub(1)]
    }

    /// The text of a place.
    pub(super) fn text(&self, place: &Place) -> &str {
        self.of(place).slice(place)
    }

    /// The text of the place's file before it.
    pub(super) fn before(&self, place: &Place) -> &str {
        let source = self.of(place);
        source.slice(&(source.base..place.start))
    }

    /// A path as it is meant in the file of a place.
    pub(super) fn path(&self, place: &Place, path: &str) -> PathBuf {
        self.of(place).folder.join(path)
    }

    /// `file:line` of a place.
    pub(super) fn line(&self, place: &Place) -> String {
        let source = self.of(place);
        format!("{}:{}", source.name, source.line_number(place.start))
    }

    /// The name of a place's file.
    pub(super) fn name(&self, place: &Place) -> &str {
        &self.of(place).name
    }
}

/// Sorted, and overlapping ones made one.
fn joined(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_by_key(|place| place.start);
    let mut out: Vec<Place> = Vec::new();
    for place in places {
        match out.last_mut() {
            Some(last) if place.start <= last.end => last.end = last.end.max(place.end),
            _ => out.push(place),
        }
    }
    out
}

/// A character as a terminal may get it: a tab has a known width, a control character does nothing.
fn visible(c: char) -> String {
    match c {
        '\t' => "    ".to_owned(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does not do what its author wants.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing that is wrong. Its `Display` is `file:line:column: error: message`, the line, a caret, and `help:`.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    sources: Sources,
    /// None for the main file as a whole.
    at: Option<Place>,
    severity: Severity,
    message: String,
    notes: Vec<(Place, String)>,
    help: Option<String>,
}

impl Problem {
    fn new(sources: &Sources, at: Option<Place>, severity: Severity, message: String) -> Self {
        Self { sources: sources.clone(), at, severity, message, notes: Vec::new(), help: None }
    }

    /// Says what to write instead.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Shows a second place.
    pub(super) fn note(&mut self, at: &Place, note: impl Into<String>) -> &mut Self {
        self.notes.push((at.clone(), note.into()));
        self
    }

    /// All of it on one line, for a log.
    pub(crate) fn one_line(&self) -> String {
        let help = self.help.as_ref().map_or(String::new(), |help| format!("; {help}"));
        one_line(&format!("{}: {}{help}", self.position(), self.message))
    }

    /// `file:line:column`, or the file alone.
    fn position(&self) -> String {
        match &self.at {
            Some(at) => self.sources.of(at).position(at.start),
            None => self.sources.0.first().map_or_else(String::new, |main| main.name.clone()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}: {}", self.position(), self.severity, one_line(&self.message))?;
        if let Some(at) = &self.at {
            excerpt(f, self.sources.of(at), at)?;
        }
        for (at, note) in &self.notes {
            let source = self.sources.of(at);
            writeln!(f, "{}: note: {}", source.position(at.start), one_line(note))?;
            excerpt(f, source, at)?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "help: {}", one_line(help))?;
        }
        Ok(())
    }
}

fn excerpt(f: &mut fmt::Formatter<'_>, source: &Source, at: &Place) -> fmt::Result {
    let (line, carets) = source.excerpt(at);
    writeln!(f, "    {}", line.trim_end())?;
    writeln!(f, "    {carets}")
}

/// Names and values that a message repeats may hold anything; a message stays one line.
fn one_line(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// Every problem of one reading, in the order of the files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| (p.at.as_ref().map(|at| at.start), p.severity == Severity::Warning));
        Self { problems }
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems, in the order of the files.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// The problems of both, in the order of the files.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self::new(self.problems.into_iter().chain(other.problems).collect())
    }

    /// The first error on one line, and how many there are.
    pub(crate) fn in_short(&self) -> String {
        let mut errors = self.iter().filter(|problem| problem.severity == Severity::Error);
        let first = errors.next().map(Problem::one_line).unwrap_or_default();
        match errors.count() {
            0 => first,
            more => format!("{first}; and {more} more"),
        }
    }

    fn count(&self, severity: Severity) -> usize {
        self.iter().filter(|p| p.severity == severity).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        let counts: Vec<String> = [Severity::Error, Severity::Warning]
            .into_iter()
            .filter_map(|severity| match self.count(severity) {
                0 => None,
                1 => Some(format!("1 {severity}")),
                n => Some(format!("{n} {severity}s")),
            })
            .collect();
        f.write_str(&counts.join(", "))
    }
}

impl std::error::Error for Report {}

/// The files read and the problems found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) sources: Sources,
    problems: Vec<Problem>,
    n_errors: usize,
    /// Keys that were probably meant by an unknown one, by the start of their table: they are not missing too.
    meant: Vec<(usize, &'static str)>,
    /// Where errors begin.
    error_starts: BTreeSet<usize>,
}

impl Findings {
    pub(super) fn new(sources: Sources) -> Self {
        Self { sources, ..Self::default() }
    }

    pub(super) fn error(&mut self, at: &Place, message: impl Into<String>) -> &mut Problem {
        self.push(Some(at.clone()), Severity::Error, message.into())
    }

    pub(super) fn warn(&mut self, at: &Place, message: impl Into<String>) -> &mut Problem {
        self.push(Some(at.clone()), Severity::Warning, message.into())
    }

    /// An error of the file as a whole.
    pub(super) fn error_of_file(&mut self, message: impl Into<String>) -> &mut Problem {
        self.push(None, Severity::Error, message.into())
    }

    /// A warning about the file as a whole.
    pub(super) fn warn_of_file(&mut self, message: impl Into<String>) -> &mut Problem {
        self.push(None, Severity::Warning, message.into())
    }

    fn push(&mut self, at: Option<Place>, severity: Severity, message: String) -> &mut Problem {
        if severity == Severity::Error {
            self.n_errors += 1;
            self.error_starts.extend(at.as_ref().map(|at| at.start));
        }
        self.problems.push(Problem::new(&self.sources, at, severity, message));
        self.problems.last_mut().expect("one was pushed in the line above")
    }

    /// Notes that an unknown key of a table was probably this one.
    pub(super) fn meant(&mut self, table: &Place, key: &'static str) {
        self.meant.push((table.start, key));
    }

    /// Whether an unknown key of a table was probably one of these.
    pub(super) fn was_meant(&self, table: &Place, keys: &[&str]) -> bool {
        self.meant.iter().any(|(start, key)| *start == table.start && keys.contains(key))
    }

    /// Whether an error begins at this place.
    pub(super) fn has_error_at(&self, at: &Place) -> bool {
        self.error_starts.contains(&at.start)
    }

    pub(super) fn has_errors(&self) -> bool {
        self.n_errors > 0
    }

    pub(super) fn into_report(self) -> Report {
        Report::new(self.problems)
    }
}
