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

use crate::{
    chunks::Joined,
    form::{Form, Output},
    negotiate::Format,
    plain::Plain,
    segments::{Parts, Runs, Segments},
};

/// A family of the exporter's own, with its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFamily {
    /// What it is.
    pub header: Arc<Header>,
    /// Whole sample lines; never empty pieces. One that says the same as before should be the same memory, since then it is
    /// not written anew; one that begins at the same place in memory, while the last one is there, must say the same.
    pub lines: Vec<Bytes>,
}

impl From<FamilyText> for OwnFamily {
    fn from(FamilyText { family, lines }: FamilyText) -> Self {
        Self { header: Arc::new(Header::of(&family)), lines }
    }
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
    let families = shown(own, rollups);
    let heads = Heads::of(format, &families, reading.as_ref());
    let own = Own::of(families, &heads);
    for part in 0..own.count() {
        own.write(part, &mut (), output);
    }
    if let (Some(reading), Some(cut)) = (&reading, cut) {
        let (results, mut present) = (Results { heads: &heads, reading }, Present::default());
        reading.walk(cut, |family, piece| present.show(&results, family, &piece, output));
    }
    write_end(format, output);
    heads.repeated
}

/// Our families that have lines.
fn shown(own: Vec<OwnFamily>, rollups: Vec<FamilyText>) -> Vec<OwnFamily> {
    let families = own.into_iter().chain(rollups.into_iter().map(OwnFamily::from));
    families.filter(|family| !family.lines.is_empty()).collect()
}

fn write_end(format: Format, output: &mut impl Output) {
    if format.is_open_metrics() {
        output.text(&Bytes::from_static(b"# EOF\n"));
    }
}

/// What is kept of a page with everything on it for the next one.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The items of which the segments are, and what stands above our families.
    of: Option<(u64, Heads)>,
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
        let families = shown(own, rollups);
        let of = match self.of.take() {
            Some((layout, heads)) if layout == reading.layout() && heads.are_of(&families) => (layout, heads),
            before => {
                let heads = Heads::of(format, &families, Some(reading));
                let still = |(layout, before): (u64, Heads)| {
                    layout == reading.layout() && heads.leave_results_alone(&before, reading)
                };
                if !before.is_some_and(still) {
                    *self = Self::default();
                }
                (reading.layout(), heads)
            }
        };
        let (_, heads) = &*self.of.insert(of);
        let now = reading.now();
        self.own.update(&Own::of(families, heads), now, (), F::OWN_SEGMENT, form);
        let results = Results { heads, reading };
        let unchanged = self.results.update(&results, now, Present::default(), F::SEGMENT, form);
        let runs = Runs(self.own.runs().chain(self.results.runs()).collect());
        self.all.update(&runs, now, (), RUN, form);
        let mut end = form.begin();
        write_end(format, &mut end);
        let end = end.finish();
        let runs = self.all.runs().map(|run| &**run).chain(once(&end));
        let chunks = form.page(runs);
        // What has changed since the last page will have changed until the next one, and would be kept for nothing.
        if unchanged < self.results.text_length() / 2 {
            self.results.forget();
            self.all = Segments::default();
        }
        (chunks, heads.repeated.clone())
    }

    /// Bytes of the segments, in this form.
    pub(crate) fn bytes<F: Form>(&self) -> usize {
        let copies = if F::RUNS_ARE_COPIES { self.all.bytes() } else { 0 };
        self.own.bytes() + self.results.bytes() + copies
    }
}

/// What stands above our families on a page, and whose names are taken.
#[derive(Debug)]
struct Heads {
    format: Format,
    of: Vec<Arc<Header>>,
    /// HELP and TYPE of each; none of one that is left out.
    texts: Vec<Option<Bytes>>,
    ours: BTreeSet<String>,
    /// The names of families that are left out: ours, and those of results.
    repeated: Vec<String>,
}

impl Heads {
    fn of(format: Format, families: &[OwnFamily], reading: Option<&Reading>) -> Self {
        let (mut ours, mut repeated) = (BTreeSet::new(), Vec::new());
        let is_first = |OwnFamily { header, .. }: &OwnFamily| {
            let is_free = ours.insert(header.name.clone());
            if !is_free {
                repeated.push(header.name.clone());
            }
            is_free
        };
        let shown: Vec<_> = families.iter().map(is_first).collect();
        let of = families.iter().map(|family| Arc::clone(&family.header)).collect();
        let mut heads = Self { format, of, texts: Vec::new(), ours, repeated };
        // With all names known.
        let text = |(header, shown): (&Arc<Header>, bool)| shown.then(|| heads.text(header, reading));
        heads.texts = heads.of.iter().zip(shown).map(text).collect();
        let hidden = heads.ours.iter().filter(|name| reading.is_some_and(|reading| reading.has_family(name)));
        heads.repeated.extend(hidden.cloned());
        heads
    }

    /// Whether these families would have the same.
    fn are_of(&self, families: &[OwnFamily]) -> bool {
        self.of.iter().eq(families.iter().map(|family| &family.header))
    }

    /// Whether results are written below these as below others: no name came or went that one of theirs may be, or may be
    /// shortened to.
    fn leave_results_alone(&self, others: &Self, reading: &Reading) -> bool {
        let concerns = |name: &String| {
            reading.has_family(name)
                || Type::Counter.suffix().is_some_and(|s| reading.has_family(&format!("{name}{s}")))
        };
        !self.ours.symmetric_difference(&others.ours).any(concerns)
    }

    fn text(&self, header: &Header, reading: Option<&Reading>) -> Bytes {
        let is_taken =
            |name: &str| self.ours.contains(name) || reading.is_some_and(|reading| reading.has_family(name));
        header.text(self.format, is_taken).into()
    }
}

/// Our families in parts, which have not changed where they are the same memory.
#[derive(Debug)]
struct Own(Vec<Bytes>);

impl Own {
    /// Those that are not left out.
    fn of(families: Vec<OwnFamily>, heads: &Heads) -> Self {
        let mut parts = Vec::with_capacity(families.iter().map(|family| family.lines.len() + 1).sum());
        for (head, OwnFamily { lines, .. }) in heads.texts.iter().zip(families) {
            if let Some(head) = head {
                parts.push(head.clone());
                parts.extend(lines);
            }
        }
        Self(parts)
    }
}

impl Parts for Own {
    type Carry = ();
    type Pin = Bytes;

    fn count(&self) -> usize {
        self.0.len()
    }

    fn stamp(&self, part: usize) -> u64 {
        self.0[part].as_ptr().addr() as u64
    }

    fn pin(&self, part: usize) -> Option<Bytes> {
        Some(self.0[part].clone())
    }

    fn write(&self, part: usize, (): &mut (), output: &mut impl Output) -> Option<BootTime> {
        output.text(&self.0[part]);
        None
    }
}

/// The results of all items, below our families.
struct Results<'a> {
    heads: &'a Heads,
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
        self.reading.walk_part(part, |family, piece| present.show(self, family, &piece, output))
    }
}

/// The family that is being written, and whether it is shown: there may be one of ours with its name.
#[derive(Debug, Clone, Default)]
struct Present(Option<(Arc<Family>, bool)>);

impl Present {
    /// Writes a piece, below its family's header where it is the first.
    fn show(
        &mut self,
        results: &Results<'_>,
        family: &Arc<Family>,
        piece: &Piece<'_>,
        output: &mut impl Output,
    ) {
        let known = self.0.as_ref().filter(|(known, _)| Arc::ptr_eq(known, family)).map(|(_, shown)| *shown);
        let shown = known.unwrap_or_else(|| !results.heads.ours.contains(&family.name));
        if known.is_none() {
            if shown {
                output.text(&results.heads.text(&Header::of(family), Some(results.reading)));
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
