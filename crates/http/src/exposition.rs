//! The text of `/metrics`: joins families from all sources into one valid page, in the classic format 0.0.4.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use fleet_collector::{FamilyText, Kind};

/// The content type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Pieces below this size are copied together; a larger one becomes a chunk of its own, shared with the snapshot.
const COPY_BELOW: usize = 16 << 10;

/// The size of the chunks that small pieces are copied into. Sending a page in pieces of 2 KB costs half as much
/// again as sending it in these.
const CHUNK: usize = 64 << 10;

/// One page.
#[derive(Debug, Default)]
pub struct Exposition {
    /// The text, to be sent in this order.
    pub chunks: Vec<Bytes>,
    /// The names of families that were left out because an earlier one has the name. A page on which a family
    /// comes twice is invalid as a whole.
    pub repeated: Vec<String>,
}

/// A family whose text is finished, header included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFamily {
    /// The name as HELP and TYPE say it.
    pub name: String,
    /// The header and at least one sample line.
    pub text: String,
}

/// The page with the exporter's own families first, then the others as they come, without those that have no
/// sample. Where two have the same name the first is kept, so no query can take the name of a family of ours.
pub fn page(own: Vec<OwnFamily>, others: impl IntoIterator<Item = FamilyText>) -> Exposition {
    let mut writer = Writer::default();
    let mut names = HashSet::new();
    let mut repeated = Vec::new();
    for family in own {
        if names.insert(family.name.clone()) {
            writer.push(Bytes::from(family.text));
        } else {
            repeated.push(family.name);
        }
    }
    for FamilyText { family, lines } in others {
        if lines.is_empty() {
            continue;
        }
        if names.contains(&family.name) {
            repeated.push(family.name.clone());
            continue;
        }
        writer.copy(header(&family.name, &escape_help(&family.help), kind(family.kind)).as_bytes());
        for piece in lines {
            writer.push(piece);
        }
        names.insert(family.name.clone());
    }
    Exposition { chunks: writer.finish(), repeated }
}

/// HELP and TYPE of one family. `help` is escaped already.
pub(crate) fn header(name: &str, help: &str, kind: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Gauge => "gauge",
        Kind::Counter => "counter",
    }
}

fn escape_help(help: &str) -> String {
    help.replace('\\', "\\\\").replace('\n', "\\n")
}

/// Collects small pieces in `open` and closes it when it is full or a large piece follows.
#[derive(Default)]
struct Writer {
    closed: Vec<Bytes>,
    open: BytesMut,
}

impl Writer {
    fn push(&mut self, piece: Bytes) {
        if piece.len() < COPY_BELOW {
            self.copy(&piece);
        } else {
            self.close();
            self.closed.push(piece);
        }
    }

    fn copy(&mut self, piece: &[u8]) {
        if self.open.len() + piece.len() > CHUNK {
            self.close();
        }
        if self.open.is_empty() {
            self.open.reserve(CHUNK);
        }
        self.open.extend_from_slice(piece);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed.push(std::mem::take(&mut self.open).freeze());
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.close();
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use expect_test::{Expect, expect};
    use fleet_collector::Family;

    use super::*;

    fn family(name: &str, help: &str, kind: Kind, lines: &[&str]) -> FamilyText {
        FamilyText {
            family: Arc::new(Family { name: name.into(), help: help.into(), kind }),
            lines: lines.iter().map(|line| Bytes::from(line.to_string())).collect(),
        }
    }

    fn own(name: &str, text: &str) -> OwnFamily {
        OwnFamily { name: name.into(), text: text.into() }
    }

    #[track_caller]
    fn check(own: Vec<OwnFamily>, others: Vec<FamilyText>, expected: &Expect) {
        let Exposition { chunks, repeated } = page(own, others);
        let mut text = String::from_utf8(chunks.concat()).unwrap();
        text.extend(repeated.iter().map(|name| format!("(repeated: {name})\n")));
        expected.assert_eq(&text);
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
        check(
            vec![],
            vec![family("a", "C:\\new \"quoted\"\nsecond line, é", Kind::Gauge, &["a 1\n"])],
            &expect![[r#"
                # HELP a C:\\new "quoted"\nsecond line, é
                # TYPE a gauge
                a 1
            "#]],
        );
    }

    #[test]
    fn of_families_with_one_name_the_first_is_kept() {
        check(
            vec![own("up", "# HELP up Ours.\n# TYPE up gauge\nup 1\n")],
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
    fn small_pieces_are_copied_together_and_large_ones_are_shared() {
        let small = Bytes::from(vec![b's'; 1000]);
        let large = Bytes::from(vec![b'l'; COPY_BELOW]);
        let mut lines = vec![small.clone(); 100];
        lines.push(large.clone());
        lines.push(small);
        let family = Arc::new(Family { name: "a".into(), help: String::new(), kind: Kind::Gauge });
        let chunks = page(vec![], [FamilyText { family, lines }]).chunks;

        let sizes: Vec<_> = chunks.iter().map(Bytes::len).collect();
        let header = "# HELP a \n# TYPE a gauge\n".len();
        assert_eq!(sizes, [65_000 + header, 35_000, COPY_BELOW, 1000]);
        assert_eq!(chunks[2].as_ptr(), large.as_ptr());
    }
}
