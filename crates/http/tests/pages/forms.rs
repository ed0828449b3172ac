//! Who asks how, and what he gets: each `Accept` and `Accept-Encoding` that is known to be sent, and many that should not
//! be. Nobody is refused for what he says there, and nobody gets a page that is not whole.

use super::{CLASSIC_TEXT, OPEN_METRICS_TEXT, QUERIES, TARGETS, fleet::Fleet, results, rows, text};

const OLD_OPEN_METRICS_TEXT: &str = "application/openmetrics-text; version=0.0.1; charset=utf-8";

/// A fleet with a result large enough to be compressed by itself, and a small one.
async fn fleet() -> Fleet {
    let fleet = Fleet::new(&QUERIES, &TARGETS);
    fleet.publish("q1", "a", rows(200, "1")).await;
    fleet.publish("q2", "b", rows(2, "2.50")).await;
    fleet
}

/// Asks with these headers, and checks that the page is whole, in this form.
async fn check(fleet: &Fleet, headers: &[(&str, &str)], content_type: &str, gzip: bool) {
    let answer = fleet.get("/metrics", headers).await;
    let encoding = if gzip { "gzip" } else { "" };
    let form = (answer.status, answer.header("content-type"), answer.header("content-encoding"));
    assert_eq!(form, (200, content_type, encoding), "{headers:?}");
    let text = text(&answer, content_type, gzip);
    assert_eq!(results(&text, content_type != CLASSIC_TEXT).len(), 202, "{headers:?}");
}

/// What Prometheus sends, by its version and settings, as its source has it (`acceptHeader` in `scrape/scrape.go`,
/// `ScrapeProtocolsHeaders` in `config/config.go`).
const PROMETHEUS: &[(&str, &str, &str)] = &[
    (
        "2.37 to 2.48",
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
         text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        OPEN_METRICS_TEXT,
    ),
    (
        "2.40 to 2.48 with native histograms",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
         application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
         text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        OPEN_METRICS_TEXT,
    ),
    (
        "2.49.0, with a weight beyond 1",
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=2",
        OPEN_METRICS_TEXT,
    ),
    (
        "2.49.0 with native histograms",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,\
         application/openmetrics-text;version=1.0.0;q=0.4,application/openmetrics-text;version=0.0.1;q=0.3,\
         text/plain;version=0.0.4;q=0.2,*/*;q=1",
        OPEN_METRICS_TEXT,
    ),
    (
        "2.49.1 to 2.55",
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        OPEN_METRICS_TEXT,
    ),
    (
        "2.49.1 to 2.55 with native histograms",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,\
         application/openmetrics-text;version=1.0.0;q=0.4,application/openmetrics-text;version=0.0.1;q=0.3,\
         text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
        OPEN_METRICS_TEXT,
    ),
    (
        "2.49.1 to 2.55, scrape_protocols: [PrometheusText0.0.4]",
        "text/plain;version=0.0.4;q=0.5,*/*;q=0.4",
        CLASSIC_TEXT,
    ),
    (
        "3.0 to 3.3",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;escaping=allow-utf-8;q=0.5,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
         text/plain;version=0.0.4;escaping=allow-utf-8;q=0.3,*/*;q=0.2",
        OPEN_METRICS_TEXT,
    ),
    (
        "3.0 to 3.3 with native histograms",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;\
         escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
         application/openmetrics-text;version=0.0.1;escaping=allow-utf-8;q=0.4,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
         text/plain;version=0.0.4;escaping=allow-utf-8;q=0.2,*/*;q=0.1",
        OPEN_METRICS_TEXT,
    ),
    (
        "3.4 to 3.14",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        OPEN_METRICS_TEXT,
    ),
    (
        "3.4 to 3.14 with native histograms",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
         application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
         application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
         text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
        OPEN_METRICS_TEXT,
    ),
    (
        "3.4 to 3.14, metric_name_escaping_scheme: underscores",
        "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,\
         application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=underscores;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        OPEN_METRICS_TEXT,
    ),
    (
        "3.4 to 3.14, scrape_protocols: [PrometheusProto]",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,*/*;q=0.5",
        CLASSIC_TEXT,
    ),
    (
        "3.4 to 3.14, scrape_protocols: [PrometheusText1.0.0]",
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.5",
        CLASSIC_TEXT,
    ),
    (
        "3.4 to 3.14, scrape_protocols: [PrometheusText0.0.4, OpenMetricsText1.0.0]",
        "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.4",
        CLASSIC_TEXT,
    ),
    (
        "3.4 to 3.14, scrape_protocols: [OpenMetricsText0.0.1]",
        "application/openmetrics-text;version=0.0.1;q=0.6,*/*;q=0.5",
        OLD_OPEN_METRICS_TEXT,
    ),
];

#[tokio::test]
async fn t53_each_prometheus_gets_the_format_that_it_likes_best() {
    let fleet = fleet().await;
    for (_version, accept, content_type) in PROMETHEUS {
        check(&fleet, &[("accept", accept)], content_type, false).await;
        // As it asks in fact.
        check(&fleet, &[("accept", accept), ("accept-encoding", "gzip")], content_type, true).await;
    }
}

#[tokio::test]
async fn t53_whatever_else_is_accepted_the_page_comes_in_a_format_that_there_is() {
    let fleet = fleet().await;
    check(&fleet, &[], CLASSIC_TEXT, false).await;
    let half = "application/openmetrics-text;version=1.0.0;q=0.5";
    // More parts than are looked at, and one part that is as long.
    let (many, long) = ("a/b;q=0.9,".repeat(820) + half, format!("a/{},{half}", "b".repeat(8 << 10)));
    let nested = ";".repeat(8 << 10);
    for (accept, content_type) in [
        ("", CLASSIC_TEXT),
        ("*/*", CLASSIC_TEXT),
        // A browser.
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8", CLASSIC_TEXT),
        ("application/json", CLASSIC_TEXT),
        ("text/*;q=0.1, application/*;q=0.2", OPEN_METRICS_TEXT),
        // Weights out of range, which are brought into it, and none at all.
        ("application/openmetrics-text;version=1.0.0;q=2, text/plain;q=0.9", OPEN_METRICS_TEXT),
        ("application/openmetrics-text;version=1.0.0;q=2, text/plain", CLASSIC_TEXT),
        ("application/openmetrics-text;version=1.0.0;q=-1, */*;q=0.1", CLASSIC_TEXT),
        // What is refused is not sent, but where there would be nothing left.
        ("text/plain;q=0, */*;q=0.5", OPEN_METRICS_TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0, */*;q=0.5", CLASSIC_TEXT),
        ("*/*;q=0", CLASSIC_TEXT),
        ("text/plain;q=0", CLASSIC_TEXT),
        ("text/plain;q=0, application/json", CLASSIC_TEXT),
        // Garbage.
        ("q=1", CLASSIC_TEXT),
        (",;,=,;q=,/;;//", CLASSIC_TEXT),
        ("\t \t", CLASSIC_TEXT),
        ("*/*/*;q=1;q=0;version", CLASSIC_TEXT),
        ("text/plain;version=\"0.0.4", CLASSIC_TEXT),
        ("text/plain;q=1e999999999, application/openmetrics-text;q=nan", CLASSIC_TEXT),
        ("\u{e9}\u{20ac}", CLASSIC_TEXT),
        (&many, CLASSIC_TEXT),
        (&long, OPEN_METRICS_TEXT),
        (&nested, CLASSIC_TEXT),
    ] {
        check(&fleet, &[("accept", accept)], content_type, false).await;
    }
    // Several headers are one.
    let two = [("accept", "text/plain;q=0.1"), ("accept", half)];
    check(&fleet, &two, OPEN_METRICS_TEXT, false).await;
}

#[tokio::test]
async fn t54_each_way_of_asking_for_an_encoding_has_its_answer() {
    let fleet = fleet().await;
    check(&fleet, &[], CLASSIC_TEXT, false).await;
    let (many, long) = ("br,".repeat(2700) + "gzip", format!("{},gzip", "b".repeat(8 << 10)));
    for (accept_encoding, gzip) in [
        // Prometheus, with compression and without; curl --compressed and browsers; Python's urllib.
        ("gzip", true),
        ("identity", false),
        ("deflate, gzip, br, zstd", true),
        ("gzip, deflate, br, zstd", true),
        // Its other names and spellings.
        ("GZIP", true),
        ("x-gzip", true),
        (" gzip ", true),
        ("gzip;q=1.0", true),
        ("gzip ; Q=0.5", true),
        ("*", true),
        // Weights.
        ("gzip;q=0", false),
        ("gzip;q=0.000", false),
        ("gzip;q=0.001", true),
        ("gzip;q=0, *;q=1", false),
        ("*;q=0", false),
        ("*;q=0, gzip", true),
        ("*;q=0.5, identity", false),
        ("identity;q=0", false),
        ("identity;q=0, *;q=0", false),
        ("identity;q=0, gzip", true),
        ("identity, gzip;q=0.5", false),
        ("identity;q=0.5, gzip;q=0.5", true),
        ("identity;q=0.5, gzip;q=0.4", false),
        ("gzip;q=2", true),
        ("gzip;q=-1", false),
        // What there is none of.
        ("br", false),
        ("deflate", false),
        ("zstd, br;q=0.9, compress", false),
        ("gzipped", false),
        // Garbage.
        ("", false),
        (",", false),
        (";q=1,,", false),
        ("gzip;q=", false),
        ("gzip;q=high", false),
        ("gzip;q=NaN", false),
        ("\u{e9}", false),
        (&many, false),
        (&long, true),
    ] {
        check(&fleet, &[("accept-encoding", accept_encoding)], CLASSIC_TEXT, gzip).await;
    }
    let two = [("accept-encoding", "br"), ("accept-encoding", "gzip")];
    check(&fleet, &two, CLASSIC_TEXT, true).await;
}
