//! The exporter's own metrics: takes the `OpenMetrics` text of prometheus-client apart into families.
//!
//! Its headers are written anew, for whichever format is asked for. Exemplars would have no place in the classic
//! format; none of our metrics has them.

use std::{fmt, iter::once, sync::Arc};

use bytes::Bytes;
use prometheus_client::{encoding::text::encode_registry, registry::Registry};

use crate::exposition::{Header, OwnFamily, Type};

/// Lines of a piece of a family. By their number, so that one that grows a digit moves no other piece.
const PIECE_LINES: usize = 16;

/// The families of a registry as they were last read. Those that say the same again are the same memory.
#[derive(Debug, Default)]
pub struct LastRead {
    /// The whole text, for its room.
    text: String,
    blocks: Vec<Block>,
}

/// The text of one family, and what it says: nothing without a sample.
#[derive(Debug, Default)]
struct Block {
    text: String,
    family: Option<OwnFamily>,
}

/// What begins a block. Within lines an end of line is escaped.
const BEGINS: &str = "# HELP ";

/// What ends the last one.
const END: &str = "# EOF";

impl LastRead {
    /// The families of the registry that have a sample, in its order.
    ///
    /// # Errors
    /// Those of a collector in the registry; the metrics themselves have none.
    pub fn families(&mut self, registry: &Registry) -> Result<Vec<OwnFamily>, fmt::Error> {
        self.text.clear();
        encode_registry(&mut self.text, registry)?;
        Ok(self.read())
    }

    fn read(&mut self) -> Vec<OwnFamily> {
        let (mut rest, mut count) = (self.text.as_str(), 0);
        while !rest.is_empty() {
            if count == self.blocks.len() {
                self.blocks.push(Block::default());
            }
            let taken = self.blocks[count].update(rest);
            rest = &rest[taken..];
            count += 1;
        }
        self.blocks.truncate(count);
        self.blocks.iter().filter_map(|block| block.family.clone()).collect()
    }
}

impl Block {
    /// Makes this the block at the beginning of the text. Gives its length.
    fn update(&mut self, text: &str) -> usize {
        let behind = text.strip_prefix(&self.text).filter(|_| !self.text.is_empty());
        let is_same =
            |behind: &str| behind.is_empty() || behind.starts_with(BEGINS) || behind.starts_with(END);
        if !behind.is_some_and(is_same) {
            let lines = text.split_inclusive('\n');
            let length = lines
                .enumerate()
                .take_while(|(nth, line)| *nth == 0 || !(line.starts_with(BEGINS) || line.starts_with(END)))
                .map(|(_, line)| line.len())
                .sum();
            text[..length].clone_into(&mut self.text);
            self.family = read(&self.text, self.family.take());
        }
        self.text.len()
    }
}

/// The family in a block of an `OpenMetrics` text, of the same memory as far as it is the same as before.
fn read(block: &str, before: Option<OwnFamily>) -> Option<OwnFamily> {
    let (mut help, mut found, mut samples) = ("", None, String::with_capacity(block.len()));
    for line in block.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix(BEGINS) {
            help = rest.split_once(' ').map_or("", |(_name, help)| help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, word) = rest.rsplit_once(' ').unwrap_or((rest, "unknown"));
            found = Some(header(name, help, word));
        } else if !line.starts_with('#') {
            push_sample(&mut samples, line);
        }
    }
    let header = Arc::new(found.filter(|_| !samples.is_empty())?);
    let (old_header, old_lines) = before.map(|before| (before.header, before.lines)).unzip();
    let mut old_lines = old_lines.unwrap_or_default().into_iter();
    let keep = |piece: &str| match old_lines.next() {
        Some(old) if old == piece => old,
        _ => Bytes::copy_from_slice(piece.as_bytes()),
    };
    let lines = pieces(&samples).map(keep).collect();
    Some(OwnFamily { header: old_header.filter(|old| *old == header).unwrap_or(header), lines })
}

/// The text in pieces of some lines each.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let ends = text.match_indices('\n').map(|(place, _)| place + 1);
    let mut start = 0;
    ends.skip(PIECE_LINES - 1).step_by(PIECE_LINES).chain(once(text.len())).filter_map(move |end| {
        let piece = &text[start..end];
        start = end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// In the classic format a counter is called like its samples.
fn header(name: &str, help: &str, word: &str) -> Header {
    let (suffix, kind) = match word {
        "counter" => ("_total", Type::Counter),
        "info" => ("_info", Type::Info),
        "gauge" => ("", Type::Gauge),
        "histogram" => ("", Type::Histogram),
        _ => ("", Type::Unknown),
    };
    Header { name: format!("{name}{suffix}"), help: unescaped(help), kind }
}

/// prometheus-client writes HELP as it got it, so a backslash that begins no escape is one that somebody forgot to
/// escape.
fn unescaped(help: &str) -> String {
    let mut text = String::with_capacity(help.len());
    let mut rest = help;
    while let Some((before, behind)) = rest.split_once('\\') {
        text.push_str(before);
        let (char, length) = match behind.as_bytes().first() {
            Some(b'n') => ('\n', 1),
            Some(b'"') => ('"', 1),
            Some(b'\\') => ('\\', 1),
            _ => ('\\', 0),
        };
        text.push(char);
        rest = &behind[length..];
    }
    text + rest
}

fn push_sample(text: &mut String, line: &str) {
    if let Some(series) = line.strip_suffix(" inf") {
        text.extend([series, " +Inf\n"]);
    } else if let Some(series) = line.strip_suffix(" -inf") {
        text.extend([series, " -Inf\n"]);
    } else {
        text.extend([line, "\n"]);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use prometheus_client::{
        metrics::{
            counter::Counter, family::Family, gauge::ConstGauge, gauge::Gauge, histogram::Histogram,
            info::Info,
        },
        registry::Unit,
    };

    use super::*;
    use crate::{
        exposition::{self, Sources},
        form::Output as _,
        negotiate::Format,
        plain::Plain,
    };

    #[track_caller]
    fn check(registry: &Registry, format: Format, expected: &Expect) {
        let mut page = Plain::default();
        let sources = Sources { own: LastRead::default().families(registry).unwrap(), ..Sources::default() };
        exposition::write(format, sources, &mut page);
        expected.assert_eq(&String::from_utf8(page.finish().chunks.concat()).unwrap());
    }

    #[test]
    fn a_registry_with_one_of_each_type() {
        let mut registry = Registry::with_prefix("own");
        let runs = Family::<Vec<(String, String)>, Counter>::default();
        runs.get_or_create(&vec![("group".into(), "a \"b\" c\\d\ne inf".into())]).inc_by(3);
        registry.register("runs", "Runs", runs);
        registry.register(
            "empty",
            "A family without a sample",
            Family::<Vec<(String, String)>, Gauge>::default(),
        );
        registry.register("bytes", "Bytes", Counter::<u64>::default());
        let waiting: Gauge = Gauge::default();
        waiting.set(-4);
        registry.register("waiting", "Runs that wait", waiting);
        let duration = Histogram::new([0.5, 1.0]);
        duration.observe(0.25);
        duration.observe(7.0);
        registry.register_with_unit("duration", "How long", Unit::Seconds, duration);
        registry.register("build", "The build", Info::new([("version", "0.1.0")]));
        check(
            &registry,
            Format::Classic,
            &expect![[r#"
                # HELP own_runs_total Runs.
                # TYPE own_runs_total counter
                own_runs_total{group="a \"b\" c\\d\ne inf"} 3
                # HELP own_bytes_total Bytes.
                # TYPE own_bytes_total counter
                own_bytes_total 0
                # HELP own_waiting Runs that wait.
                # TYPE own_waiting gauge
                own_waiting -4
                # HELP own_duration_seconds How long.
                # TYPE own_duration_seconds histogram
                own_duration_seconds_sum 7.25
                own_duration_seconds_count 2
                own_duration_seconds_bucket{le="0.5"} 1
                own_duration_seconds_bucket{le="1.0"} 1
                own_duration_seconds_bucket{le="+Inf"} 2
                # HELP own_build_info The build.
                # TYPE own_build_info gauge
                own_build_info{version="0.1.0"} 1
            "#]],
        );
    }

    #[test]
    fn in_openmetrics_the_text_is_what_it_was_but_for_escapes() {
        let mut registry = Registry::default();
        registry.register("runs", "Runs of \"queries\"", Counter::<u64>::default());
        registry.register("build", "The build", Info::new([("version", "0.1.0")]));
        check(
            &registry,
            Format::OpenMetrics,
            &expect![[r##"
                # HELP runs Runs of \"queries\".
                # TYPE runs counter
                runs_total 0
                # HELP build The build.
                # TYPE build info
                build_info{version="0.1.0"} 1
                # EOF
            "##]],
        );
    }

    #[test]
    fn infinities_are_written_as_prometheus_writes_them() {
        let mut registry = Registry::default();
        registry.register("a", "Up", ConstGauge::new(f64::INFINITY));
        registry.register("b", "Down", ConstGauge::new(f64::NEG_INFINITY));
        registry.register("c", "Neither", ConstGauge::new(f64::NAN));
        check(
            &registry,
            Format::Classic,
            &expect![[r#"
                # HELP a Up.
                # TYPE a gauge
                a +Inf
                # HELP b Down.
                # TYPE b gauge
                b -Inf
                # HELP c Neither.
                # TYPE c gauge
                c NaN
            "#]],
        );
    }

    #[test]
    fn help_loses_the_escaping_of_quotes_only() {
        let mut registry = Registry::default();
        registry.register("a", r#"a \"quoted\" "bare" line\nend C:\\dir D:\dir \"#, ConstGauge::new(1_i64));
        check(
            &registry,
            Format::Classic,
            &expect![[r#"
                # HELP a a "quoted" "bare" line\nend C:\\dir D:\\dir \\.
                # TYPE a gauge
                a 1
            "#]],
        );
    }

    #[test]
    fn what_has_another_type_is_unknown() {
        let text =
            "# HELP a Help.\n# TYPE a stateset\n# UNIT a seconds\na 1\na{b=\"c\"} 2\n# EOF\n".to_owned();
        let families = LastRead { text, ..LastRead::default() }.read();
        let header = Arc::new(Header { name: "a".into(), help: "Help.".into(), kind: Type::Unknown });
        let lines = vec![Bytes::from_static(b"a 1\na{b=\"c\"} 2\n")];
        assert_eq!(families, [OwnFamily { header, lines }]);
    }

    #[test]
    fn what_says_the_same_again_is_the_same_memory() {
        let mut registry = Registry::default();
        let (one, many) = (Counter::<u64>::default(), Family::<Vec<(String, String)>, Counter>::default());
        let nth = |n: u32| many.get_or_create(&vec![("n".into(), n.to_string())]).clone();
        registry.register("empty", "Without a sample", Family::<Vec<(String, String)>, Gauge>::default());
        registry.register("many", "Of three pieces", many.clone());
        registry.register("one", "Of one line", one.clone());
        (10..50).for_each(|n| drop(nth(n)));
        let mut kept = LastRead::default();
        let mut last = kept.families(&registry).unwrap();
        // How many pieces a family has, and how many of them are other memory than last time.
        let mut check = |expected: [(usize, usize); 2]| {
            let families = kept.families(&registry).unwrap();
            assert_eq!(families, LastRead::default().families(&registry).unwrap());
            let changed = |(was, is): (&OwnFamily, &OwnFamily)| {
                assert!(Arc::ptr_eq(&was.header, &is.header));
                let same = was.lines.iter().zip(&is.lines).filter(|(was, is)| was.as_ptr() == is.as_ptr());
                (is.lines.len(), is.lines.len() - same.count())
            };
            assert_eq!(last.iter().zip(&families).map(changed).collect::<Vec<_>>(), expected);
            last = families;
        };
        check([(3, 0), (1, 0)]);
        nth(10).inc_by(1234);
        check([(3, 1), (1, 0)]);
        one.inc();
        check([(3, 0), (1, 1)]);
    }
}
