//! Answers in, sample lines out: each case is a query, a table, and the text that they make.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes its texts so")]

use std::fmt::Write as _;

use expect_test::{Expect, expect};

use super::*;
use crate::{
    ResultLimits,
    testing::{metric, query, rows, target},
};

#[track_caller]
fn check_on(target: Target, query: Query, columns: &str, table: &[&str], expected: Expect) {
    check_within(ResultLimits::default(), target, query, columns, table, expected);
}

#[expect(clippy::needless_pass_by_value, reason = "a case reads as one expression")]
#[track_caller]
fn check_within(
    limits: ResultLimits,
    target: Target,
    query: Query,
    columns: &str,
    table: &[&str],
    expected: Expect,
) {
    let text = match Plan::new(&query).map(&query, &target, limits, &rows(limits, columns, table)) {
        Ok(mapped) => describe(&mapped),
        Err(failure) => format!("{failure}\n"),
    };
    expected.assert_eq(&text);
}

#[track_caller]
fn check(metrics: Vec<Metric>, columns: &str, table: &[&str], expected: Expect) {
    check_on(target("db1"), query("q", metrics), columns, table, expected);
}

/// The lines, and what was counted.
fn describe(mapped: &Mapped) -> String {
    let Mapped { fragments, series, dropped, cut, example } = mapped;
    let mut text: String = fragments.iter().map(|f| std::str::from_utf8(f).unwrap()).collect();
    assert_eq!(text.lines().count(), *series, "the number of series is that of the lines");
    for (reason, count) in DROPPED.iter().zip(dropped).filter(|(_, count)| **count > 0) {
        writeln!(text, "dropped {count}: {reason}").unwrap();
    }
    if *cut > 0 {
        writeln!(text, "cut {cut}").unwrap();
    }
    if let Some(example) = example {
        writeln!(text, "example: {example}").unwrap();
    }
    text
}

#[test]
fn labels_come_from_the_target_then_the_metric_then_the_columns_in_the_order_of_the_configuration() {
    let metric = Metric {
        static_labels: vec![("mode".into(), "a \"b\"".into())],
        ..metric("sessions", "n", &["user", "host"])
    };
    check(
        vec![metric],
        "host|n|user",
        &["localhost|3|root", "10.0.0.1|12|app"],
        expect![[r#"
            sessions{target="db1",mode="a \"b\"",user="root",host="localhost"} 3
            sessions{target="db1",mode="a \"b\"",user="app",host="10.0.0.1"} 12
        "#]],
    );
}

#[test]
fn a_static_value_stands_on_the_page_as_it_was_written() {
    let metric = Metric { value: ValueSource::Static("1".into()), ..metric("info", "", &["version"]) };
    check(
        vec![metric],
        "version",
        &["10.11.6-MariaDB"],
        expect![[r#"
            info{target="db1",version="10.11.6-MariaDB"} 1
        "#]],
    );
}

#[test]
fn a_null_value_is_what_on_null_says() {
    let table = &["a|1", "b|NULL"];
    let null = |on_null| vec![Metric { on_null, ..metric("f", "n", &["who"]) }];
    check(
        null(OnNull::Skip),
        "who|n",
        table,
        expect![[r#"
            f{target="db1",who="a"} 1
        "#]],
    );
    check(
        null(OnNull::Zero),
        "who|n",
        table,
        expect![[r#"
            f{target="db1",who="a"} 1
            f{target="db1",who="b"} 0
        "#]],
    );
    check(
        null(OnNull::NaN),
        "who|n",
        table,
        expect![[r#"
            f{target="db1",who="a"} 1
            f{target="db1",who="b"} NaN
        "#]],
    );
    check(
        null(OnNull::Error),
        "who|n",
        table,
        expect![[r#"
            mapping: column n is NULL in a row, and on_null = "error"
        "#]],
    );
}

#[test]
fn a_null_label_is_an_empty_one() {
    check(
        vec![metric("f", "n", &["who", "flags"])],
        "who|flags:bit|n",
        &["NULL|NULL|1"],
        expect![[r#"
            f{target="db1",who="",flags=""} 1
        "#]],
    );
}

#[test]
fn several_metrics_of_one_query_may_feed_one_family() {
    let of = |kind: &str, value| Metric {
        static_labels: vec![("kind".into(), kind.into())],
        ..metric("rows_total", value, &["table"])
    };
    check(
        vec![of("read", "r"), metric("other", "w", &[]), of("written", "w")],
        "table|r|w",
        &["t1|1|10", "t2|2|20"],
        expect![[r#"
            rows_total{target="db1",kind="read",table="t1"} 1
            rows_total{target="db1",kind="read",table="t2"} 2
            rows_total{target="db1",kind="written",table="t1"} 10
            rows_total{target="db1",kind="written",table="t2"} 20
            other{target="db1"} 10
            dropped 1: duplicate
        "#]],
    );
}

#[test]
fn of_equal_series_the_first_row_is_kept_and_the_rest_counted() {
    check(
        vec![metric("f", "n", &["who"])],
        "who|n",
        &["a|1", "b|2", "a|3", "a|4"],
        expect![[r#"
            f{target="db1",who="a"} 1
            f{target="db1",who="b"} 2
            dropped 2: duplicate
        "#]],
    );
}

#[test]
fn series_are_equal_whatever_the_order_of_their_labels_and_without_the_empty_ones() {
    let reversed = metric("f", "n", &["b", "a"]);
    let short = metric("f", "n", &["a"]);
    check(
        vec![metric("f", "n", &["a", "b"]), reversed, short],
        "a|b|n",
        &["1|2|10", "3||20"],
        expect![[r#"
            f{target="db1",a="1",b="2"} 10
            f{target="db1",a="3",b=""} 20
            f{target="db1",a="1"} 10
            dropped 3: duplicate
        "#]],
    );
}

#[test]
fn a_missing_column_is_named_beside_those_that_are_there() {
    check(
        vec![metric("f", "nn", &["who"])],
        "who|n",
        &["a|1"],
        expect![[r#"
            mapping: there is no column nn; the answer has who, n
        "#]],
    );
    check(
        vec![metric("f", "n", &["whom"])],
        "who|n",
        &["a|1"],
        expect![[r#"
            mapping: there is no column whom; the answer has who, n
        "#]],
    );
}

#[test]
fn a_column_matches_exactly_first_and_then_without_regard_to_case() {
    check(
        vec![metric("f", "n", &["table_name"])],
        "TABLE_NAME|N",
        &["t1|1"],
        expect![[r#"
            f{target="db1",table_name="t1"} 1
        "#]],
    );
    check(
        vec![metric("f", "n", &[])],
        "N|n",
        &["1|2"],
        expect![[r#"
            f{target="db1"} 2
        "#]],
    );
}

#[test]
fn a_column_that_is_there_twice_is_no_column() {
    check(
        vec![metric("f", "n", &[])],
        "n|who|n",
        &["1|a|2"],
        expect![[r#"
            mapping: column n is there more than once: give each a name of its own with AS; the answer has n, who, n
        "#]],
    );
    check(
        vec![metric("f", "value", &["n"])],
        "N|value|n ame|N",
        &["1|2|3|4"],
        expect![[r#"
            mapping: column n is there more than once: give each a name of its own with AS; the answer has N, value, n ame, N
        "#]],
    );
    // Names that differ in case only are both what `Size` may mean.
    check(
        vec![metric("f", "Size", &[])],
        "size|SIZE",
        &["1|2"],
        expect![[r#"
            mapping: column Size is there more than once: give each a name of its own with AS; the answer has size, SIZE
        "#]],
    );
}

#[test]
fn a_bit_is_a_number_as_value_and_as_label() {
    check(
        vec![metric("f", "flags", &["flags"])],
        "flags:bit",
        &["\u{1}\0", "\0"],
        expect![[r#"
            f{target="db1",flags="256"} 256
            f{target="db1",flags="0"} 0
        "#]],
    );
}

#[test]
fn a_date_is_no_number_and_the_message_says_what_to_write() {
    check(
        vec![metric("f", "at", &[])],
        "at:date",
        &["2024-02-29 12:34:56"],
        expect![[r#"
            mapping: column at holds a date, which is a number only in a known time zone: use UNIX_TIMESTAMP(at), or set session.time_zone = "+00:00"
        "#]],
    );
    check(
        vec![metric("f", "n", &["at"])],
        "at:date|n",
        &["2024-02-29 12:34:56|1"],
        expect![[r#"
            f{target="db1",at="2024-02-29 12:34:56"} 1
        "#]],
    );
}

#[test]
fn a_value_that_is_no_number_is_left_out_counted_and_quoted() {
    check(
        vec![metric("f", "value", &["name"])],
        "name|value",
        &["a|1", "b|half", "c|0x10", "d|1e999", "e|", "f|nan"],
        expect![[r#"
            f{target="db1",name="a"} 1
            dropped 5: not_a_number
            example: column value holds "half", which is not a number
        "#]],
    );
}

#[test]
fn without_any_number_the_run_fails_and_says_so_of_the_metric_that_has_none() {
    check(
        vec![metric("f", "some", &["name"]), metric("g", "none", &[])],
        "name|some|none",
        &["a|1|x", "b|half|y"],
        expect![[r#"
            mapping: column none holds "x", which is not a number
        "#]],
    );
}

#[test]
fn numbers_keep_the_digits_they_came_with() {
    check(
        vec![metric("f", "n", &["n"])],
        "n",
        &["12345678901234567890.1234567890", "-0", " 42 ", "1.7976931348623157e308", "000042"],
        expect![[r#"
            f{target="db1",n="12345678901234567890.1234567890"} 12345678901234567890.1234567890
            f{target="db1",n="-0"} -0
            f{target="db1",n=" 42 "} 42
            f{target="db1",n="1.7976931348623157e308"} 1.7976931348623157e308
            f{target="db1",n="000042"} 000042
        "#]],
    );
}

#[test]
fn more_series_than_the_limit_fail_the_run() {
    let capped = query("q", vec![metric("f", "n", &["n"]), metric("g", "n", &["n"])]);
    let at_most = |series| ResultLimits { series, ..ResultLimits::default() };
    let refused = expect![[r#"
        too_large: more than 3 series: aggregate, or raise max_series
    "#]];
    check_within(at_most(3), target("db1"), capped.clone(), "n", &["1", "2"], refused);
    check_within(
        at_most(4),
        target("db1"),
        capped,
        "n",
        &["1", "2"],
        expect![[r#"
            f{target="db1",n="1"} 1
            f{target="db1",n="2"} 2
            g{target="db1",n="1"} 1
            g{target="db1",n="2"} 2
        "#]],
    );
}

#[test]
fn a_long_label_is_cut_and_counted() {
    let short = query("q", vec![metric("f", "n", &["a", "b"])]);
    check_within(
        ResultLimits { label_bytes: 4, ..ResultLimits::default() },
        target("db1"),
        short,
        "a|b|n",
        &["12345|größer|1", "1234||2"],
        expect![[r#"
            f{target="db1",a="1234",b="grö"} 1
            f{target="db1",a="1234",b=""} 2
            cut 2
        "#]],
    );
}

#[test]
fn an_empty_answer_has_no_lines_and_is_no_error() {
    check(vec![metric("f", "n", &["who"])], "who|n", &[], expect![""]);
}

#[test]
fn without_labels_there_are_no_braces() {
    let bare = Target { labels: Vec::new(), ..target("db1") };
    let expected = expect![[r#"
        f 1
    "#]];
    check_on(bare.clone(), query("q", vec![metric("f", "n", &[])]), "n", &["1"], expected);
    let expected = expect![[r#"
        f{who="a"} 1
    "#]];
    check_on(bare, query("q", vec![metric("f", "n", &["who"])]), "who|n", &["a|1"], expected);
}

#[test]
fn a_family_that_would_spoil_the_page_is_left_out_and_counted_and_the_others_stay() {
    let broken = Metric {
        static_labels: vec![("two words".into(), String::new())],
        ..metric("broken", "n", &["who"])
    };
    check(
        vec![broken, metric("f", "n", &["who"])],
        "who|n",
        &["a|1", "b|2"],
        expect![[r#"
            f{target="db1",who="a"} 1
            f{target="db1",who="b"} 2
            dropped 2: invalid
        "#]],
    );
}

#[test]
fn a_date_of_a_utc_session_is_the_seconds_since_the_epoch_and_a_zero_date_none() {
    check(
        vec![metric("f", "n", &["n"])],
        "n:utc",
        &["2024-02-29 12:34:56", "0000-00-00", "NULL"],
        expect![[r#"
            f{target="db1",n="2024-02-29 12:34:56"} 1709210096
            dropped 1: not_a_number
            example: column n holds "0000-00-00", a date that does not exist
        "#]],
    );
}

#[test]
fn a_time_is_its_seconds_in_any_session() {
    check(
        vec![metric("f", "lag", &["lag"])],
        "lag:time",
        &["-838:59:59.500", "00:01:30"],
        expect![[r#"
            f{target="db1",lag="-838:59:59.500"} -3020399.500
            f{target="db1",lag="00:01:30"} 90
        "#]],
    );
}

#[test]
fn words_for_yes_and_no_are_numbers_and_stay_words_as_labels() {
    check(
        vec![metric("f", "value", &["value"])],
        "value",
        &["ON", "no"],
        expect![[r#"
            f{target="db1",value="ON"} 1
            f{target="db1",value="no"} 0
        "#]],
    );
}

#[test]
fn the_padding_of_a_binary_column_is_in_no_label() {
    check(
        vec![metric("f", "n", &["n"])],
        "n:binary",
        &["42\0\0"],
        expect![[r#"
            f{target="db1",n="42"} 42
        "#]],
    );
}
