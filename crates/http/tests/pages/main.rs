//! A fleet and the pages about it: in each format, in each encoding, of each cut.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod any_fleet;
mod fleet;
mod forms;
mod kept;
#[path = "../../../../tests/reader.rs"]
mod reader;

use std::{collections::BTreeSet, io::Read as _, sync::Arc, time::Duration};

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use fleet_collector::{BootTime, Family, FamilyText, Kind};

use fleet::{Answer, Feeds, Fleet, Table, bytes};
use reader::{Sample, read};

/// The queries of every fleet here. Two of them feed one family, one feeds two.
const QUERIES: [Feeds; 4] = [
    ("q1", &[("level", Kind::Gauge)]),
    ("q2", &[("clicks_total", Kind::Counter)]),
    ("q3", &[("hits", Kind::Counter), ("size_bytes", Kind::Gauge)]),
    ("q4", &[("level", Kind::Gauge)]),
];

/// Targets with their groups.
const TARGETS: [(&str, &str); 5] =
    [("a", "g1"), ("b", "g1"), ("c", "g1"), ("d", "g2"), ("e \"\\&=\u{e9}:1", "g2")];

const OPEN_METRICS: (&str, &str) = ("accept", "application/openmetrics-text;version=1.0.0");
const GZIP: (&str, &str) = ("accept-encoding", "gzip");

/// What says `Content-Type` of each format.
const CLASSIC_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS_TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The body as it was before it was compressed; one member, and nothing behind it.
fn unzipped(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut decoder = GzDecoder::new(body);
    decoder.read_to_end(&mut text).unwrap();
    assert!(decoder.into_inner().is_empty(), "something is behind the member");
    let length = u32::from_le_bytes(*body.last_chunk().unwrap());
    assert_eq!(u64::from(length), text.len() as u64);
    text
}

/// The text of a page, whose form is this and is said in the head.
fn text(answer: &Answer, content_type: &str, gzip: bool) -> Vec<u8> {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("content-type"), content_type);
    assert_eq!(answer.header("vary"), "Accept, Accept-Encoding");
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert_eq!(answer.header("content-encoding"), if gzip { "gzip" } else { "" });
    if gzip { unzipped(&answer.body) } else { answer.body.clone() }
}

/// The samples of the results on a page. Those of the exporter itself have to be readable only.
fn results(text: &[u8], open_metrics: bool) -> Vec<Sample> {
    let mut samples =
        read(text, open_metrics).unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(text)));
    samples.retain(|(name, ..)| !name.starts_with("query_exporter_"));
    samples.sort();
    samples
}

fn rows(n: usize, value: &str) -> Table {
    (0..n).map(|row| (format!("row number {row} of a table").into_bytes(), value.to_owned())).collect()
}

/// A number of the exporter's own, as the next page has it.
async fn own_number(fleet: &Fleet, name: &str) -> f64 {
    let page = String::from_utf8(fleet.get("/-/metrics", &[]).await.body).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    line.parse().unwrap()
}

#[tokio::test]
async fn compressed_text_is_held_while_it_is_shown_and_no_longer() {
    let fleet = Fleet::new(&QUERIES, &TARGETS);
    for (target, _) in TARGETS {
        fleet.publish("q1", target, rows(50, "1")).await;
        fleet.publish("q2", target, rows(500, "1")).await;
    }
    assert!(own_number(&fleet, "query_exporter_compressed_bytes").await < 1.0, "nobody has asked for it");
    let first = fleet.get("/metrics", &[GZIP]).await;
    let held = own_number(&fleet, "query_exporter_compressed_bytes").await;
    assert!(held > 0.5 * first.body.len() as f64, "{held} of {}", first.body.len());

    // Twice as many results replaced: as much is held as before.
    for (target, _) in TARGETS {
        fleet.publish("q1", target, rows(50, "2")).await;
        fleet.publish("q2", target, rows(500, "2")).await;
    }
    fleet.get("/metrics", &[GZIP]).await;
    let held_then = own_number(&fleet, "query_exporter_compressed_bytes").await;
    assert!((held_then - held).abs() < 0.1 * held, "{held} {held_then}");
}

#[tokio::test]
async fn t51_a_page_that_nobody_reads_holds_old_results_until_it_is_dropped_and_no_longer() {
    let fleet = Fleet::new(&QUERIES, &TARGETS);
    fleet.publish("q1", "a", rows(500, "1")).await;
    let families = fleet.snapshot.read(BootTime::now());
    let [FamilyText { lines, .. }] = &families[..] else { panic!("{families:?}") };
    let old = lines[0].clone();
    drop(families);
    let unread = fleet.response("/metrics", &[]).await;
    fleet.publish("q1", "a", rows(1, "2")).await;
    assert!(!old.is_unique(), "the page has it");
    drop(unread);
    // What is kept for the next page is that of the last one, until there is a next.
    fleet.get("/metrics", &[]).await;
    // The thread that made a page may let go of it a moment after its reader has it.
    let alone = async {
        while !old.is_unique() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), alone).await.expect("nobody but this test has it");
}

#[tokio::test]
async fn a_cut_has_the_exporters_own_families_about_what_it_names() {
    let fleet = Fleet::new(&QUERIES, &TARGETS);
    fleet.publish("q1", "a", rows(1, "1")).await;
    let check = async |url: &str, there: &[&str], not_there: &[&str]| {
        let page = String::from_utf8(fleet.get(url, &[]).await.body).unwrap();
        for text in there {
            assert!(page.contains(text), "{url} without {text}:\n{page}");
        }
        for text in not_there {
            assert!(!page.contains(text), "{url} with {text}:\n{page}");
        }
    };
    let (of_a, of_b) = ("query_exporter_up{target=\"a\"} 1\n", "query_exporter_up{target=\"b\"} 0\n");
    let of_d = "query_exporter_up{target=\"d\"} 0\n";
    let (failures_in_g1, failures_in_g2) =
        ("query_exporter_failures_total{group=\"g1\"", "query_exporter_failures_total{group=\"g2\"");
    let items_of_q1 = "query_exporter_query_items{query=\"q1\"} 5\n";
    let of_process = "query_exporter_scrape_bytes_total";
    check("/metrics?target=a", &[of_a, "level{"], &[of_b, failures_in_g1, items_of_q1, of_process]).await;
    check("/probe?target=a", &[of_a, "level{"], &[of_b, failures_in_g1, items_of_q1, of_process]).await;
    check("/probe?target=b", &[of_b], &[of_a, "level{"]).await;
    check(
        "/metrics/g1",
        &[of_a, of_b, failures_in_g1, "level{"],
        &[of_d, failures_in_g2, items_of_q1, of_process],
    )
    .await;
    check("/metrics/g1?target=b", &[of_b, failures_in_g1], &[of_a, "level{"]).await;
    check("/metrics?group=g2", &[of_d, failures_in_g2], &[of_a, failures_in_g1, "level{"]).await;
    check("/metrics?query=q1", &[items_of_q1, "level{"], &[of_a, failures_in_g1, of_process, "query=\"q2\""])
        .await;
    check("/metrics?query=q1&target=a", &[of_a, "level{"], &[items_of_q1]).await;
    check("/-/metrics", &[failures_in_g1, of_process], &[of_a, "level{"]).await;
}

/// The text of a page without what the exporter says about itself, which is another at each moment.
fn without_numbers_of_ours(body: &[u8]) -> String {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let is_other = |line: &&str| {
        !["query_exporter_", "# HELP query_exporter_", "# TYPE query_exporter_"]
            .iter()
            .any(|s| line.starts_with(s))
    };
    text.split_inclusive('\n').filter(is_other).collect()
}

#[tokio::test]
async fn a_page_that_is_made_of_the_last_one_says_what_a_new_one_would() {
    const QUERIES: [Feeds; 1] = [("q", &[("a_total", Kind::Counter), ("b_total", Kind::Counter)])];
    let family = |name: &str, help: &str, kind| FamilyText {
        family: Arc::new(Family { name: name.into(), help: help.into(), kind }),
        lines: vec![Bytes::from(format!("{name} 1\n"))],
    };
    let (up, x) = (family("up", "Ours.", Kind::Gauge), family("x", "Ours.", Kind::Gauge));
    let steps: [(&str, Vec<FamilyText>); 8] = [
        ("at first", vec![up.clone()]),
        ("nothing new", vec![up.clone()]),
        ("a family more", vec![up.clone(), x.clone()]),
        ("another order", vec![x.clone(), up.clone()]),
        ("another help", vec![x.clone(), family("up", "Other.", Kind::Gauge)]),
        ("another type", vec![family("up", "Other.", Kind::Counter), x]),
        ("the name of a result", vec![up.clone(), family("a_total", "Ours.", Kind::Counter)]),
        ("the short name of a result", vec![up, family("b", "Ours.", Kind::Gauge)]),
    ];
    let fleet = async |more: &[FamilyText]| {
        let fleet = Fleet::new(&QUERIES, &[("t", "g")]);
        fleet.publish("q", "t", rows(3, "1")).await;
        *fleet.more.lock().unwrap() = more.to_vec();
        fleet
    };
    let kept = fleet(&[]).await;
    for (what, more) in steps.iter().chain(&steps) {
        more.clone_into(&mut kept.more.lock().unwrap());
        for headers in [&[][..], &[OPEN_METRICS]] {
            let new = fleet(more).await.get("/metrics", headers).await;
            let made = kept.get("/metrics", headers).await;
            assert_eq!(without_numbers_of_ours(&made.body), without_numbers_of_ours(&new.body), "{what}");
        }
    }
}

#[tokio::test]
async fn t52_scrapers_that_come_together_share_their_page() {
    let fleet = Fleet::new(&QUERIES, &TARGETS);
    fleet.publish("q1", "a", rows(1000, "1")).await;
    // The first come when no page was made yet, the others when a page is made briefly, on the spot.
    for _ in 0..3 {
        // Nobody has read a page to its end before the last has asked for one.
        let requests = (0..50).map(|_| fleet.response("/metrics", &[]));
        let answers = futures_util::future::join_all(requests).await;
        assert!(answers.iter().all(|answer| answer.status().as_u16() == 200));
        // Each page counts the scrapes that were answered before it was begun, so pages of different moments differ.
        let pages: BTreeSet<_> = answers.into_iter().map(|answer| bytes(answer.into_body())).collect();
        assert!(pages.len() <= 2, "{}", pages.len());
    }
}
