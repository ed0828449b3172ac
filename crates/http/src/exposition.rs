//! The text of `/metrics`: joins families from all sources into one valid page, in any of its formats.
//!
//! Sample lines are the same bytes in all formats. What differs is what a family is called in its header, the words
//! for its type, and the end of the page.

use std::{borrow::Cow, collections::BTreeSet, iter::once, sync::Arc};

use bytes::Bytes;
use fleet_collector::{
    BootTime, Cut, Family, FamilyText, Kind,
    snapshot::{Piece, Reading},
};
use xxhash_rust::xxh64::xxh64;

use crate::{
    chunks::Joined,
    negotiate::Format,
    plain::Plain,
    segments::{Parts, Runs, Segments},
};

/// Where the text goes. What is done with it depends on how long it lives.
pub(crate) trait Output {
    /// Text of our own.
    fn text(&mut self, text: &Bytes);
    /// Text of a result.
    fn piece(&mut self, piece: &Piece<'_>);
    /// A run of text in this form.
    fn run(&mut self, run: &Joined);
    /// How much there is so far, as it is read in the end.
    fn text_length(&self) -> u64;
    /// All of it in the form in which it is sent.
    fn finish(self) -> Joined;
}

/// A form in which pages are sent.
pub(crate) trait Form {
    /// What makes a run of it.
    type Output<'a>: Output
    where
        Self: 'a;

    /// How much text a segment of results has that is kept.
    const SEGMENT: u64;

    /// The same for our own families, a few lines of which change all over with each run.
    const OWN_SEGMENT: u64;

    /// Whether runs that are joined to larger ones are there twice.
    const RUNS_ARE_COPIES: bool;

    /// Text of about this length follows.
    fn expect(&mut self, _text: u64) {}

    /// Begins a run.
    fn begin(&mut self) -> Self::Output<'_>;

    /// The page of these runs: its chunks, to be sent in this order.
    fn page<'a>(&self, runs: impl Iterator<Item = &'a Joined>) -> Vec<Bytes>;
}

/// A family of the exporter's own, with its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFamily {
    /// What it is.
    pub header: Header,
    /// At least one sample line.
    pub text: String,
}

/// What stands above the lines of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name in the classic format: that of the samples, but for the parts of a histogram.
    pub name: String,
    /// For people; not escaped.
    pub help: String,
    /// What its values are.
    pub kind: Type,
}

/// What a family's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Goes up and down.
    Gauge,
    /// Goes up.
    Counter,
    /// Counts by size.
    Histogram,
    /// 1, with facts in its labels.
    Info,
    /// Not known.
    Unknown,
}

impl Type {
    fn word(self, format: Format) -> &'static str {
        match (self, format.is_open_metrics()) {
            (Self::Gauge, _) | (Self::Info, false) => "gauge",
            (Self::Counter, _) => "counter",
            (Self::Histogram, _) => "histogram",
            (Self::Info, true) => "info",
            (Self::Unknown, false) => "untyped",
            (Self::Unknown, true) => "unknown",
        }
    }

    /// What `OpenMetrics` adds to a family's name for its samples.
    fn suffix(self) -> Option<&'static str> {
        match self {
            Self::Counter => Some("_total"),
            Self::Info => Some("_info"),
            Self::Gauge | Self::Histogram | Self::Unknown => None,
        }
    }
}

impl Header {
    fn of(family: &Family) -> Self {
        let kind = match family.kind {
            Kind::Gauge => Type::Gauge,
            Kind::Counter => Type::Counter,
        };
        Self { name: family.name.clone(), help: family.help.clone(), kind }
    }

    /// HELP and TYPE. `taken` says whether another family of the page has a name.
    ///
    /// In `OpenMetrics` a counter is called like its samples without `_total`. Where they do not end like that, or
    /// another family is called so, its type is unknown: the samples have the same names in all formats.
    fn text(&self, format: Format, taken: impl Fn(&str) -> bool) -> String {
        let (mut name, mut kind) = (self.name.as_str(), self.kind);
        if format.is_open_metrics()
            && let Some(suffix) = kind.suffix()
        {
            match name.strip_suffix(suffix).filter(|name| !name.is_empty() && !taken(name)) {
                Some(short) => name = short,
                None => kind = Type::Unknown,
            }
        }
        let (help, word) = (escape_help(&self.help, format), kind.word(format));
        format!("# HELP {name} {help}\n# TYPE {name} {word}\n")
    }
}

fn escape_help(help: &str, format: Format) -> Cow<'_, str> {
    if !help.contains(['\\', '\n', '"']) {
        return Cow::Borrowed(help);
    }
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    Cow::Owned(if format.is_open_metrics() { help.replace('"', "\\\"") } else { help })
}

/// What a page is made of.
#[derive(Debug, Default)]
pub(crate) struct Sources<'a> {
    /// The exporter's families of the process.
    pub(crate) own: Vec<OwnFamily>,
    /// Its families about targets, groups and queries.
    pub(crate) rollups: Vec<FamilyText>,
    /// The results, and which of them.
    pub(crate) results: Option<(Reading, &'a Cut)>,
}

/// The text of these families alone, in the classic format, for people to read.
pub fn classic_text(families: Vec<FamilyText>) -> String {
    let mut plain = Plain::default();
    write(Format::Classic, Sources { rollups: families, ..Sources::default() }, &mut plain);
    String::from_utf8_lossy(&plain.finish().chunks.concat()).into_owned()
}

/// Writes a page: the exporter's own families first, then the results, without families that have no sample. Gives
/// the names of families that were left out because an earlier one has the name: a page on which a family comes
/// twice is invalid as a whole. So no query can take the name of a family of ours.
pub(crate) fn write(format: Format, sources: Sources<'_>, output: &mut impl Output) -> Vec<String> {
    let Sources { own, rollups, results } = sources;
    let (reading, cut) = results.map_or((None, None), |(reading, cut)| (Some(reading), Some(cut)));
    let page = Page::new(format, own, rollups, reading.as_ref());
    for part in 0..page.own.count() {
        page.own.write(part, &mut (), output);
    }
    if let (Some(reading), Some(cut)) = (&reading, cut) {
        let mut present = Present::default();
        reading.walk(cut, |family, piece| present.show(&page, family, &piece, output));
    }
    page.write_end(output);
    page.repeated
}

/// What is kept of a page with everything on it for the next one.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The items and our own families of which the segments are.
    of: Option<(u64, BTreeSet<String>)>,
    own: Segments<(), Bytes>,
    results: Segments<Present, ()>,
    /// All of them, joined.
    all: Segments<(), Arc<Joined>>,
}

/// Text of a run of joined segments.
const RUN: u64 = 512 << 10;

impl Kept {
    /// Makes a page with everything on it. Gives the families left out as well.
    pub(crate) fn page<F: Form>(
        &mut self,
        format: Format,
        form: &mut F,
        (own, rollups): (Vec<OwnFamily>, Vec<FamilyText>),
        reading: &Reading,
    ) -> (Vec<Bytes>, Vec<String>) {
        let page = Page::new(format, own, rollups, Some(reading));
        let is_other = |(layout, ours): &(_, _)| (*layout, ours) != (reading.layout(), &page.ours);
        if self.of.as_ref().is_none_or(is_other) {
            *self = Self { of: Some((reading.layout(), page.ours.clone())), ..Self::default() };
        }
        let now = reading.now();
        self.own.update(&page.own, now, (), F::OWN_SEGMENT, form);
        let results = Results { page: &page, reading };
        let unchanged = self.results.update(&results, now, Present::default(), F::SEGMENT, form);
        let runs = Runs(self.own.runs().chain(self.results.runs()).collect());
        self.all.update(&runs, now, (), RUN, form);
        let mut end = form.begin();
        page.write_end(&mut end);
        let end = end.finish();
        let runs = self.all.runs().map(|run| &**run).chain(once(&end));
        let chunks = form.page(runs);
        // What has changed since the last page will have changed until the next one, and would be kept for nothing.
        if unchanged < self.results.text_length() / 2 {
            self.results.forget();
            self.all = Segments::default();
        }
        (chunks, page.repeated)
    }

    /// Bytes of the segments, in this form.
    pub(crate) fn bytes<F: Form>(&self) -> usize {
        let copies = if F::RUNS_ARE_COPIES { self.all.bytes() } else { 0 };
        self.own.bytes() + self.results.bytes() + copies
    }
}

/// A page about to be written: whose names are taken, and our own part of it.
struct Page<'a> {
    format: Format,
    ours: BTreeSet<String>,
    repeated: Vec<String>,
    reading: Option<&'a Reading>,
    /// Our families.
    own: Own,
}

impl<'a> Page<'a> {
    fn new(
        format: Format,
        own: Vec<OwnFamily>,
        rollups: Vec<FamilyText>,
        reading: Option<&'a Reading>,
    ) -> Self {
        let mut page =
            Self { format, ours: BTreeSet::new(), repeated: Vec::new(), reading, own: Own::default() };
        let own: Vec<_> = own.into_iter().filter(|family| page.takes(&family.header.name)).collect();
        let has_lines = |family: &FamilyText| !family.lines.is_empty();
        let rollups: Vec<_> = rollups
            .into_iter()
            .filter(|family| has_lines(family) && page.takes(&family.family.name))
            .collect();
        // With all names known.
        for OwnFamily { header, text } in own {
            page.own.add_text(page.header(&header) + &text);
        }
        for FamilyText { family, lines } in rollups {
            let header = page.header(&Header::of(&family));
            page.own.add(header, lines);
        }
        let hidden = page.ours.iter().filter(|name| reading.is_some_and(|reading| reading.has_family(name)));
        page.repeated.extend(hidden.cloned());
        page
    }

    /// Whether a family of ours may have this name, which it has from now on.
    fn takes(&mut self, name: &str) -> bool {
        let is_free = self.ours.insert(name.to_owned());
        if !is_free {
            self.repeated.push(name.to_owned());
        }
        is_free
    }

    fn header(&self, header: &Header) -> String {
        header.text(self.format, |name| {
            self.ours.contains(name) || self.reading.is_some_and(|reading| reading.has_family(name))
        })
    }

    fn write_end(&self, output: &mut impl Output) {
        if self.format.is_open_metrics() {
            output.text(&Bytes::from_static(b"# EOF\n"));
        }
    }
}

/// Lines of a part of a family of the process. By their number, so that one that grows a digit moves no other part.
const LINES: usize = 16;

/// Our families in parts, each with its stamp.
#[derive(Debug, Default)]
struct Own(Vec<(u64, Bytes)>);

impl Own {
    /// A family about targets, groups or queries.
    fn add(&mut self, header: String, lines: Vec<Bytes>) {
        self.0.push(by_content(header.into()));
        // What has not changed is the same memory.
        self.0.extend(lines.into_iter().map(|lines| (lines.as_ptr().addr() as u64, lines)));
    }

    /// A family of the process, which is written anew each time.
    fn add_text(&mut self, text: String) {
        let ends = text.match_indices('\n').map(|(place, _)| place + 1).skip(LINES - 1).step_by(LINES);
        let ends: Vec<_> = ends.chain(once(text.len())).collect();
        let (text, mut start) = (Bytes::from(text), 0);
        for end in ends {
            if end > start {
                self.0.push(by_content(text.slice(start..end)));
            }
            start = end;
        }
    }
}

/// A part whose stamp is a hash of what it says.
fn by_content(text: Bytes) -> (u64, Bytes) {
    (xxh64(&text, 0), text)
}

impl Parts for Own {
    type Carry = ();
    type Pin = Bytes;

    fn count(&self) -> usize {
        self.0.len()
    }

    fn stamp(&self, part: usize) -> u64 {
        self.0[part].0
    }

    fn pin(&self, part: usize) -> Option<Bytes> {
        Some(self.0[part].1.clone())
    }

    fn write(&self, part: usize, (): &mut (), output: &mut impl Output) -> Option<BootTime> {
        output.text(&self.0[part].1);
        None
    }
}

/// The results, of all items.
struct Results<'a> {
    page: &'a Page<'a>,
    reading: &'a Reading,
}

impl Parts for Results<'_> {
    type Carry = Present;
    type Pin = ();

    fn count(&self) -> usize {
        self.reading.parts()
    }

    fn stamp(&self, part: usize) -> u64 {
        self.reading.stamp(part)
    }

    fn pin(&self, _: usize) -> Option<()> {
        None
    }

    fn write(&self, part: usize, present: &mut Present, output: &mut impl Output) -> Option<BootTime> {
        self.reading.walk_part(part, |family, piece| present.show(self.page, family, &piece, output))
    }
}

/// The family that is being written, and whether it is shown: there may be one of ours with its name.
#[derive(Debug, Clone, Default)]
struct Present(Option<(Arc<Family>, bool)>);

impl Present {
    /// Writes a piece, below its family's header where it is the first.
    fn show(&mut self, page: &Page<'_>, family: &Arc<Family>, piece: &Piece<'_>, output: &mut impl Output) {
        let known = self.0.as_ref().filter(|(known, _)| Arc::ptr_eq(known, family)).map(|(_, shown)| *shown);
        let shown = known.unwrap_or_else(|| !page.ours.contains(&family.name));
        if known.is_none() {
            if shown {
                output.text(&page.header(&Header::of(family)).into());
            }
            self.0 = Some((Arc::clone(family), shown));
        }
        if shown {
            output.piece(piece);
        }
    }
}

impl PartialEq for Present {
    fn eq(&self, other: &Self) -> bool {
        let family = |present: &Self| present.0.as_ref().map(|(family, _)| Arc::as_ptr(family));
        family(self) == family(other)
    }
}

#[cfg(test)]
mod tests;
