//! The text of `/metrics`: joins families from all sources into one valid page, in any of its formats.
//!
//! Sample lines are the same bytes in all formats. What differs is what a family is called in its header, the words
//! for its type, and the end of the page.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use bytes::Bytes;
use fleet_collector::{
    Cut, Family, FamilyText, Kind,
    snapshot::{Piece, Reading},
};

use crate::{negotiate::Format, plain::Plain};

/// Where the text goes. What is done with it depends on how long it lives.
pub(crate) trait Output {
    /// Text that may differ at the next scrape.
    fn text(&mut self, text: Bytes);
    /// Text that says what it is.
    fn piece(&mut self, piece: &Piece<'_>);
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
pub(crate) struct Parts<'a> {
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
    write(Format::Classic, Parts { rollups: families, ..Parts::default() }, &mut plain);
    String::from_utf8_lossy(&plain.finish().concat()).into_owned()
}

/// Writes a page: the exporter's own families first, then the results, without families that have no sample. Gives
/// the names of families that were left out because an earlier one has the name: a page on which a family comes
/// twice is invalid as a whole. So no query can take the name of a family of ours.
pub(crate) fn write(format: Format, parts: Parts<'_>, output: &mut impl Output) -> Vec<String> {
    let Parts { own, rollups, results } = parts;
    let mut repeated = Vec::new();
    let mut ours: HashSet<String> = HashSet::new();
    let mut families = Vec::with_capacity(own.len() + rollups.len());
    let own = own.into_iter().map(|family| (family.header, vec![Bytes::from(family.text)]));
    let rollups = rollups.into_iter().map(|family| (Header::of(&family.family), family.lines));
    for (header, lines) in own.chain(rollups).filter(|(_, lines)| !lines.is_empty()) {
        if ours.insert(header.name.clone()) {
            families.push((header, lines));
        } else {
            repeated.push(header.name);
        }
    }
    let taken = |name: &str| {
        ours.contains(name) || results.as_ref().is_some_and(|(results, _)| results.has_family(name))
    };
    for (header, lines) in families {
        output.text(header.text(format, taken).into());
        for lines in lines {
            output.text(lines);
        }
    }
    let mut present: Option<(Arc<Family>, bool)> = None;
    let show = |family: &Arc<Family>, piece: Piece<'_>| {
        let known = present.as_ref().filter(|(known, _)| Arc::ptr_eq(known, family));
        let shown = known.map_or_else(|| !ours.contains(&family.name), |(_, shown)| *shown);
        if known.is_none() {
            if shown {
                output.text(Header::of(family).text(format, taken).into());
            } else {
                repeated.push(family.name.clone());
            }
            present = Some((Arc::clone(family), shown));
        }
        if shown {
            output.piece(&piece);
        }
    };
    if let Some((results, cut)) = &results {
        results.walk(cut, show);
    }
    if format.is_open_metrics() {
        output.text(Bytes::from_static(b"# EOF\n"));
    }
    repeated
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn family(name: &str, help: &str, kind: Kind, lines: &[&str]) -> FamilyText {
        FamilyText {
            family: Arc::new(Family { name: name.into(), help: help.into(), kind }),
            lines: lines.iter().map(|line| Bytes::from(line.to_string())).collect(),
        }
    }

    fn own(name: &str, kind: Type, text: &str) -> OwnFamily {
        OwnFamily { header: Header { name: name.into(), help: "Ours.".into(), kind }, text: text.into() }
    }

    fn page(format: Format, parts: Parts<'_>) -> String {
        let mut plain = Plain::default();
        let repeated = write(format, parts, &mut plain);
        let mut text = String::from_utf8(plain.finish().concat()).unwrap();
        text.extend(repeated.iter().map(|name| format!("(repeated: {name})\n")));
        text
    }

    #[track_caller]
    fn check(own: Vec<OwnFamily>, rollups: Vec<FamilyText>, expected: &Expect) {
        expected.assert_eq(&page(Format::Classic, Parts { own, rollups, results: None }));
    }

    #[track_caller]
    fn check_open_metrics(own: Vec<OwnFamily>, rollups: Vec<FamilyText>, expected: &Expect) {
        expected.assert_eq(&page(Format::OpenMetrics, Parts { own, rollups, results: None }));
    }

    #[test]
    fn one_header_stands_above_the_lines_of_a_family() {
        check(
            vec![],
            vec![
                family("a", "The first.", Kind::Gauge, &["a{x=\"1\"} 1\n", "a{x=\"2\"} 2\na{x=\"3\"} 3\n"]),
                family("b_total", "The second.", Kind::Counter, &["b_total 7\n"]),
            ],
            &expect![[r#"
                # HELP a The first.
                # TYPE a gauge
                a{x="1"} 1
                a{x="2"} 2
                a{x="3"} 3
                # HELP b_total The second.
                # TYPE b_total counter
                b_total 7
            "#]],
        );
    }

    #[test]
    fn a_family_without_lines_has_no_header() {
        check(vec![], vec![family("a", "The first.", Kind::Gauge, &[])], &expect![""]);
    }

    #[test]
    fn help_stays_on_one_line() {
        let families = || vec![family("a", "C:\\new \"quoted\"\nsecond line, é", Kind::Gauge, &["a 1\n"])];
        check(
            vec![],
            families(),
            &expect![[r#"
                # HELP a C:\\new "quoted"\nsecond line, é
                # TYPE a gauge
                a 1
            "#]],
        );
        check_open_metrics(
            vec![],
            families(),
            &expect![[r#"
                # HELP a C:\\new \"quoted\"\nsecond line, é
                # TYPE a gauge
                a 1
                # EOF
            "#]],
        );
    }

    #[test]
    fn each_type_has_its_word_and_the_samples_the_same_names_in_both_formats() {
        let own = || {
            vec![
                own("h", Type::Histogram, "h_sum 1\nh_count 1\nh_bucket{le=\"+Inf\"} 1\n"),
                own("build_info", Type::Info, "build_info{v=\"1\"} 1\n"),
                own("info", Type::Info, "info 1\n"),
                own("u", Type::Unknown, "u 1\n"),
            ]
        };
        let others = || {
            vec![
                family("hits", "A counter by another name.", Kind::Counter, &["hits 1\n"]),
                family("runs_total", "Runs.", Kind::Counter, &["runs_total 1\n"]),
                family("_total", "A suffix without a name.", Kind::Counter, &["_total 1\n"]),
                family("a_total", "Its short name is taken.", Kind::Counter, &["a_total 1\n"]),
                family("a", "It takes it.", Kind::Gauge, &["a 1\n"]),
            ]
        };
        check(
            own(),
            others(),
            &expect![[r##"
                # HELP h Ours.
                # TYPE h histogram
                h_sum 1
                h_count 1
                h_bucket{le="+Inf"} 1
                # HELP build_info Ours.
                # TYPE build_info gauge
                build_info{v="1"} 1
                # HELP info Ours.
                # TYPE info gauge
                info 1
                # HELP u Ours.
                # TYPE u untyped
                u 1
                # HELP hits A counter by another name.
                # TYPE hits counter
                hits 1
                # HELP runs_total Runs.
                # TYPE runs_total counter
                runs_total 1
                # HELP _total A suffix without a name.
                # TYPE _total counter
                _total 1
                # HELP a_total Its short name is taken.
                # TYPE a_total counter
                a_total 1
                # HELP a It takes it.
                # TYPE a gauge
                a 1
            "##]],
        );
        check_open_metrics(
            own(),
            others(),
            &expect![[r##"
                # HELP h Ours.
                # TYPE h histogram
                h_sum 1
                h_count 1
                h_bucket{le="+Inf"} 1
                # HELP build Ours.
                # TYPE build info
                build_info{v="1"} 1
                # HELP info Ours.
                # TYPE info unknown
                info 1
                # HELP u Ours.
                # TYPE u unknown
                u 1
                # HELP hits A counter by another name.
                # TYPE hits unknown
                hits 1
                # HELP runs Runs.
                # TYPE runs counter
                runs_total 1
                # HELP _total A suffix without a name.
                # TYPE _total unknown
                _total 1
                # HELP a_total Its short name is taken.
                # TYPE a_total unknown
                a_total 1
                # HELP a It takes it.
                # TYPE a gauge
                a 1
                # EOF
            "##]],
        );
    }

    #[test]
    fn of_families_with_one_name_the_first_is_kept() {
        check(
            vec![own("up", Type::Gauge, "up 1\n")],
            vec![
                family("up", "Theirs.", Kind::Gauge, &["up 2\n"]),
                family("a", "Empty, so it takes no name.", Kind::Gauge, &[]),
                family("a", "The first.", Kind::Gauge, &["a 1\n"]),
                family("a", "The second.", Kind::Counter, &["a 2\n"]),
            ],
            &expect![[r#"
                # HELP up Ours.
                # TYPE up gauge
                up 1
                # HELP a The first.
                # TYPE a gauge
                a 1
                (repeated: up)
                (repeated: a)
            "#]],
        );
    }

    #[test]
    fn an_empty_page_in_openmetrics_has_its_end() {
        assert_eq!(page(Format::OpenMetrics, Parts::default()), "# EOF\n");
        assert_eq!(page(Format::OldOpenMetrics, Parts::default()), "# EOF\n");
        assert_eq!(page(Format::Classic, Parts::default()), "");
    }
}
