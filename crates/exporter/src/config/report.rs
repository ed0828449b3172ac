//! What is wrong in a configuration file and how it is shown: the place, the line, a caret, and what to write.

use std::{fmt, ops::Range, sync::Arc};

use unicode_width::UnicodeWidthStr;

/// A place in the file: a range of bytes.
pub(super) type Place = Range<usize>;

/// The file that was read. Its `Debug` is its name alone, since the text may hold a password.
pub(super) struct Source {
    name: String,
    text: String,
    /// What is never shown, sorted and apart from each other.
    masked: Vec<Place>,
}

impl Source {
    pub(super) fn new(name: String, text: String, masked: Vec<Place>) -> Self {
        Self { name, text, masked: joined(masked) }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The line around a byte, without its end.
    fn line(&self, at: usize) -> Place {
        let start = self.text[..at].rfind('\n').map_or(0, |i| i + 1);
        let end = self.text[at..].find('\n').map_or(self.text.len(), |i| at + i);
        start..start + self.text[start..end].trim_end_matches('\r').len()
    }

    /// `file:line:column` of a byte, lines and characters counted from 1.
    fn position(&self, at: usize) -> String {
        let line = self.line(at);
        let number = self.text[..line.start].matches('\n').count() + 1;
        let column = self.text[line.start..at.max(line.start)].chars().count() + 1;
        format!("{}:{number}:{column}", self.name)
    }

    /// The line of a place as it may be shown, and the carets below it. A place of several lines is marked to the
    /// end of its first.
    fn excerpt(&self, place: &Place) -> (String, String) {
        let line = self.line(place.start);
        let (mut shown, mut before, mut through) = (String::new(), 0, 0);
        for (i, c) in self.text[line.clone()].char_indices() {
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
    source: Arc<Source>,
    /// None for the file as a whole.
    at: Option<Place>,
    severity: Severity,
    message: String,
    notes: Vec<(Place, String)>,
    help: Option<String>,
}

impl Problem {
    pub(super) fn new(source: &Arc<Source>, at: Option<Place>, severity: Severity, message: String) -> Self {
        Self { source: Arc::clone(source), at, severity, message, notes: Vec::new(), help: None }
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
            Some(at) => self.source.position(at.start),
            None => self.source.name.clone(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}: {}", self.position(), self.severity, one_line(&self.message))?;
        if let Some(at) = &self.at {
            excerpt(f, &self.source, at)?;
        }
        for (at, note) in &self.notes {
            writeln!(f, "{}: note: {}", self.source.position(at.start), one_line(note))?;
            excerpt(f, &self.source, at)?;
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

/// Every problem of one reading, in the order of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| {
            let key = |p: &Problem| (p.at.as_ref().map(|at| at.start), p.severity == Severity::Warning);
            a.source.name.cmp(&b.source.name).then_with(|| key(a).cmp(&key(b)))
        });
        Self { problems }
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems, in the order of the file.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// The problems of both, in the order of the file.
    #[must_use]
    pub(crate) fn and(self, other: Self) -> Self {
        Self::new(self.problems.into_iter().chain(other.problems).collect())
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

/// The problems found so far, while a file is checked.
#[derive(Debug)]
pub(super) struct Findings {
    source: Arc<Source>,
    problems: Vec<Problem>,
    /// Keys that were probably meant by an unknown one, by the start of their table: they are not missing too.
    meant: Vec<(usize, &'static str)>,
}

impl Findings {
    pub(super) fn new(source: Arc<Source>) -> Self {
        Self { source, problems: Vec::new(), meant: Vec::new() }
    }

    pub(super) fn source(&self) -> &Arc<Source> {
        &self.source
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

    fn push(&mut self, at: Option<Place>, severity: Severity, message: String) -> &mut Problem {
        self.problems.push(Problem::new(&self.source, at, severity, message));
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
        self.problems.iter().any(|p| {
            p.severity == Severity::Error && p.at.as_ref().is_some_and(|place| place.start == at.start)
        })
    }

    pub(super) fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.severity == Severity::Error)
    }

    pub(super) fn into_report(self) -> Report {
        Report::new(self.problems)
    }
}
