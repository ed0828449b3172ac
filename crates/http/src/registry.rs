//! The exporter's own metrics: takes the `OpenMetrics` text of prometheus-client apart into families.
//!
//! Its headers are written anew, for whichever format is asked for. Exemplars would have no place in the classic
//! format; none of our metrics has them.

use std::fmt;

use prometheus_client::{encoding::text::encode_registry, registry::Registry};

use crate::exposition::{Header, OwnFamily, Type};

/// Room for all of it: the histograms of ten queries are two thirds of this.
const LIKELY_LENGTH: usize = 32 << 10;

/// Room for one family, more than most need.
const LIKELY_LENGTH_OF_ONE: usize = 1 << 10;

/// The families of the registry that have a sample, in its order.
///
/// # Errors
/// Those of a collector in the registry; the metrics themselves have none.
pub fn families(registry: &Registry) -> Result<Vec<OwnFamily>, fmt::Error> {
    let mut text = String::with_capacity(LIKELY_LENGTH);
    encode_registry(&mut text, registry)?;
    Ok(read(&text))
}

/// The families in an `OpenMetrics` text.
fn read(open_metrics: &str) -> Vec<OwnFamily> {
    let mut families: Vec<OwnFamily> = Vec::new();
    let mut help = "";
    // A header waits here until its family shows a first sample.
    let mut waiting = None;
    for line in open_metrics.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_name, help)| help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, word) = rest.rsplit_once(' ').unwrap_or((rest, "unknown"));
            let header = header(name, help, word);
            waiting = Some(OwnFamily { header, text: String::with_capacity(LIKELY_LENGTH_OF_ONE) });
        } else if !line.starts_with('#') {
            families.extend(waiting.take());
            if let Some(family) = families.last_mut() {
                push_sample(&mut family.text, line);
            }
        }
    }
    families
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
        exposition::{self, Output as _, Sources},
        negotiate::Format,
        plain::Plain,
    };

    #[track_caller]
    fn check(registry: &Registry, format: Format, expected: &Expect) {
        let mut page = Plain::default();
        let sources = Sources { own: families(registry).unwrap(), ..Sources::default() };
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
        let families =
            read("# HELP a Help.\n# TYPE a stateset\n# UNIT a seconds\na 1\na{b=\"c\"} 2\n# EOF\n");
        let header = Header { name: "a".into(), help: "Help.".into(), kind: Type::Unknown };
        assert_eq!(families, [OwnFamily { header, text: "a 1\na{b=\"c\"} 2\n".into() }]);
    }
}
