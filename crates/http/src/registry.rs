//! The exporter's own metrics: rewrites the OpenMetrics text of prometheus-client into the classic format.
//!
//! The two differ in headers only: what a family is called there, the words for its type, the escaping of HELP.
//! Exemplars would have no place in the classic format; none of our metrics has them.

use std::fmt;

use prometheus_client::{encoding::text::encode_registry, registry::Registry};

use crate::exposition::{OwnFamily, header};

/// The families of the registry that have a sample, in its order.
///
/// # Errors
/// Those of a collector in the registry; the metrics themselves have none.
pub fn families(registry: &Registry) -> Result<Vec<OwnFamily>, fmt::Error> {
    let mut text = String::new();
    encode_registry(&mut text, registry)?;
    Ok(classic(&text))
}

/// The families in an OpenMetrics text without `# EOF`.
pub fn classic(open_metrics: &str) -> Vec<OwnFamily> {
    let mut families: Vec<OwnFamily> = Vec::new();
    let mut help = "";
    // A header waits here until its family shows a first sample.
    let mut waiting = None;
    for line in open_metrics.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_name, help)| help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.rsplit_once(' ').unwrap_or((rest, "unknown"));
            let (name, kind) = classic_type(name, kind);
            let text = header(&name, &classic_help(help), kind);
            waiting = Some(OwnFamily { name, text });
        } else if !line.starts_with('#') {
            families.extend(waiting.take());
            if let Some(family) = families.last_mut() {
                push_sample(&mut family.text, line);
            }
        }
    }
    families
}

/// In the classic format a family is called like its samples, and there are fewer types.
fn classic_type<'a>(name: &str, kind: &'a str) -> (String, &'a str) {
    match kind {
        "counter" => (format!("{name}_total"), kind),
        "info" => (format!("{name}_info"), "gauge"),
        "unknown" => (name.to_owned(), "untyped"),
        _ => (name.to_owned(), kind),
    }
}

/// `\\` and `\n` mean the same in both formats; a quote is escaped in OpenMetrics only. prometheus-client writes
/// HELP as it got it, so any other backslash is one that somebody forgot to escape.
fn classic_help(help: &str) -> String {
    let mut classic = String::with_capacity(help.len());
    let mut chars = help.chars().peekable();
    while let Some(char) = chars.next() {
        classic.push(char);
        if char != '\\' {
            continue;
        }
        match chars.peek() {
            Some('\\' | 'n') => classic.extend(chars.next()),
            Some('"') => {
                classic.pop();
            }
            _ => classic.push('\\'),
        }
    }
    classic
}

fn push_sample(text: &mut String, line: &str) {
    let (series, value) = match line.rsplit_once(' ') {
        Some((series, "inf")) => (series, " +Inf"),
        Some((series, "-inf")) => (series, " -Inf"),
        _ => (line, ""),
    };
    text.extend([series, value, "\n"]);
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

    #[track_caller]
    fn check(registry: &Registry, expected: &Expect) {
        let text: String = families(registry)
            .unwrap()
            .into_iter()
            .map(|OwnFamily { name, text }| {
                assert!(text.starts_with(&format!("# HELP {name} ")), "{name}: {text}");
                text
            })
            .collect();
        expected.assert_eq(&text);
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
    fn infinities_are_written_as_prometheus_writes_them() {
        let mut registry = Registry::default();
        registry.register("a", "Up", ConstGauge::new(f64::INFINITY));
        registry.register("b", "Down", ConstGauge::new(f64::NEG_INFINITY));
        registry.register("c", "Neither", ConstGauge::new(f64::NAN));
        check(
            &registry,
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
            &expect![[r#"
                # HELP a a "quoted" "bare" line\nend C:\\dir D:\\dir \\.
                # TYPE a gauge
                a 1
            "#]],
        );
    }

    #[test]
    fn unknown_becomes_untyped() {
        let families = classic("# HELP a Help.\n# TYPE a unknown\n# UNIT a seconds\na 1\na{b=\"c\"} 2\n");
        assert_eq!(
            families,
            [OwnFamily {
                name: "a".into(),
                text: "# HELP a Help.\n# TYPE a untyped\na 1\na{b=\"c\"} 2\n".into()
            }]
        );
    }
}
