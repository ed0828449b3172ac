//! Any fleet, any results: each page, in each format and encoding and of each cut, is read back to the samples that were
//! published, by a reader that shares no code with the crate.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod fleet;
mod reader;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
};

use flate2::bufread::GzDecoder;
use fleet_collector::Kind;
use proptest::{collection::vec, prelude::*, sample::select};
use tokio::runtime::Runtime;

use fleet::{Answer, Fleet, Table};
use reader::{Sample, read};

/// The queries of every fleet here; two of them feed one family.
const QUERIES: [(&str, &str, Kind); 4] = [
    ("q1", "level", Kind::Gauge),
    ("q2", "clicks_total", Kind::Counter),
    ("q3", "hits", Kind::Counter),
    ("q4", "level", Kind::Gauge),
];

/// Targets with their groups.
const TARGETS: [(&str, &str); 5] = [("a", "g1"), ("b", "g1"), ("c", "g1"), ("d", "g2"), ("e:1", "g2")];

const OPEN_METRICS: (&str, &str) = ("accept", "application/openmetrics-text;version=1.0.0");
const GZIP: (&str, &str) = ("accept-encoding", "gzip");

/// What happens to a fleet, one after the other.
#[derive(Debug, Clone)]
enum Step {
    Publish { query: usize, target: usize, table: Table },
    Ask { targets: Vec<usize>, groups: Vec<usize>, queries: Vec<usize>, open_metrics: bool, gzip: bool },
}

fn table() -> impl Strategy<Value = Table> {
    let label = prop_oneof![
        6 => "[a-z]{0,3}",
        2 => any::<String>(),
        1 => Just("a long one, so that a result is large ".repeat(20)),
    ];
    let number = prop_oneof!["-?[0-9]{1,20}", "[0-9]{1,3}\\.[0-9]{1,3}"];
    prop_oneof![
        8 => vec((label, number), 0..6),
        // Beyond the size from which a result is compressed by itself.
        1 => (0..1_000_u32, 100..400_usize).prop_map(|(n, rows)| {
            (0..rows).map(|row| (format!("row number {row} of a large table"), format!("{n}"))).collect()
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let some = |most: usize| vec(0..most, 0..3);
    prop_oneof![
        (0..QUERIES.len(), 0..TARGETS.len(), table()).prop_map(|(query, target, table)| Step::Publish {
            query,
            target,
            table
        }),
        (some(TARGETS.len()), some(2), some(QUERIES.len()), any::<bool>(), any::<bool>()).prop_map(
            |(targets, groups, queries, open_metrics, gzip)| Step::Ask {
                targets,
                groups,
                queries,
                open_metrics,
                gzip
            }
        ),
        // The whole page, again and again, so that it is put together of what was there and what is new.
        (any::<bool>(), select(vec![true, true, false])).prop_map(|(open_metrics, gzip)| Step::Ask {
            targets: Vec::new(),
            groups: Vec::new(),
            queries: Vec::new(),
            open_metrics,
            gzip
        }),
    ]
}

/// What was published last, by query and target.
#[derive(Default)]
struct Model(BTreeMap<(usize, usize), Table>);

impl Model {
    /// The samples of a cut. Of equal series the first is there, by query, then target, then row.
    fn samples(&self, cut: impl Fn(usize, usize) -> bool) -> Vec<Sample> {
        let mut seen = BTreeSet::new();
        let mut samples = Vec::new();
        for ((query, target), table) in self.0.iter().filter(|((query, target), _)| cut(*query, *target)) {
            for (who, n) in table {
                let mut labels = BTreeMap::from([("target".to_owned(), TARGETS[*target].0.to_owned())]);
                labels.insert("who".to_owned(), who.clone());
                let name = QUERIES[*query].1.to_owned();
                if seen.insert((name.clone(), labels.clone())) {
                    samples.push((name, labels, n.clone()));
                }
            }
        }
        samples.sort();
        samples
    }
}

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

/// The samples of the results on a page. Those of the exporter itself have to be readable only.
fn results(answer: &Answer, open_metrics: bool, gzip: bool) -> Vec<Sample> {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let content_type = if open_metrics {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    assert_eq!(answer.header("content-type"), content_type);
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert_eq!(answer.header("content-encoding"), if gzip { "gzip" } else { "" });
    let text = if gzip { unzipped(&answer.body) } else { answer.body.clone() };
    let mut samples = read(&text, open_metrics)
        .unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(&text)));
    samples.retain(|(name, ..)| !name.starts_with("query_exporter_"));
    samples.sort();
    samples
}

async fn play(steps: Vec<Step>) {
    let fleet = Fleet::new(&QUERIES, &TARGETS);
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Publish { query, target, table } => {
                fleet.publish(QUERIES[query].0, TARGETS[target].0, table.clone()).await;
                model.0.insert((query, target), table);
            }
            Step::Ask { targets, groups, queries, open_metrics, gzip } => {
                let parameters = targets.iter().map(|n| ("target", TARGETS[*n].0));
                let parameters = parameters.chain(groups.iter().map(|n| ("group", ["g1", "g2"][*n])));
                let parameters = parameters.chain(queries.iter().map(|n| ("query", QUERIES[*n].0)));
                let url =
                    parameters.fold("/metrics?".to_owned(), |url, (key, name)| url + key + "=" + name + "&");
                let group = |target: usize| usize::from(TARGETS[target].1 == "g2");
                let in_group = |target: usize| groups.is_empty() || groups.contains(&group(target));
                let headers: Vec<_> = [open_metrics.then_some(OPEN_METRICS), gzip.then_some(GZIP)]
                    .into_iter()
                    .flatten()
                    .collect();
                let answer = fleet.get(&url, &headers).await;
                if !targets.is_empty() && !targets.iter().any(|target| in_group(*target)) {
                    assert_eq!(answer.status, 404);
                    continue;
                }
                let expected = model.samples(|query, target| {
                    (queries.is_empty() || queries.contains(&query))
                        && (targets.is_empty() || targets.contains(&target))
                        && in_group(target)
                });
                assert_eq!(results(&answer, open_metrics, gzip), expected, "{url}");
            }
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_page_is_read_back_to_what_was_published(steps in vec(step(), 1..40)) {
        runtime().block_on(play(steps));
    }
}

fn rows(n: usize, value: &str) -> Table {
    (0..n).map(|row| (format!("row number {row} of a table"), value.to_owned())).collect()
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

#[tokio::test]
async fn scrapers_that_come_together_share_their_page() {
    let fleet = Fleet::new(&QUERIES, &TARGETS);
    fleet.publish("q1", "a", rows(1000, "1")).await;
    let requests = (0..50).map(|_| fleet.get("/metrics", &[]));
    let answers = futures_util::future::join_all(requests).await;
    // Each page counts the scrapes that were answered before it was begun, so pages of different moments differ.
    let pages: BTreeSet<_> = answers.iter().map(|answer| answer.body.clone()).collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(pages.len() <= 2, "{}", pages.len());
}
