//! Families in, pages out: golden texts of each format.

use expect_test::{Expect, expect};

use super::*;

fn family(name: &str, help: &str, kind: Kind, lines: &[&str]) -> FamilyText {
    FamilyText {
        family: Arc::new(Family { name: name.into(), help: help.into(), kind }),
        lines: lines.iter().map(|line| Bytes::from(line.to_string())).collect(),
    }
}

fn own(name: &str, kind: Type, text: &str) -> OwnFamily {
    let header = Arc::new(Header { name: name.into(), help: "Ours.".into(), kind });
    OwnFamily { header, lines: vec![Bytes::copy_from_slice(text.as_bytes())] }
}

fn page(format: Format, sources: Sources<'_>) -> String {
    let mut plain = Plain::default();
    let repeated = write(format, sources, &mut plain);
    let mut text = String::from_utf8(plain.finish().chunks.concat()).unwrap();
    text.extend(repeated.iter().map(|name| format!("(repeated: {name})\n")));
    text
}

#[track_caller]
fn check(own: Vec<OwnFamily>, rollups: Vec<FamilyText>, expected: &Expect) {
    expected.assert_eq(&page(Format::Classic, Sources { own, rollups, results: None }));
}

#[track_caller]
fn check_open_metrics(own: Vec<OwnFamily>, rollups: Vec<FamilyText>, expected: &Expect) {
    expected.assert_eq(&page(Format::OpenMetrics, Sources { own, rollups, results: None }));
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
    assert_eq!(page(Format::OpenMetrics, Sources::default()), "# EOF\n");
    assert_eq!(page(Format::OldOpenMetrics, Sources::default()), "# EOF\n");
    assert_eq!(page(Format::Classic, Sources::default()), "");
}
