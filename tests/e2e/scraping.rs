//! The three ways in which the documentation has Prometheus scrape a fleet, each with a real Prometheus; and other readers
//! of the page.

use std::{collections::BTreeSet, fs, process::Command};

use fleetsim::{Answer, Script, Sim};

use crate::support::{
    account::Account,
    chromium,
    exporter::{Exporter, SOON},
    page::Page,
    prometheus::Prometheus,
    reader, repository, servers,
    wait::{seen_if, wait_for},
};

const QUERY: &str = "
[queries.one]
sql = \"select 'x' as who, 1 as n\"
interval = \"1s\"
timeout = \"1s\"

[queries.one.metrics.one]
type = \"gauge\"
help = \"one\"
labels = [\"who\"]
value = \"n\"
";

/// An exporter with two groups on one server, each result there.
async fn exporter() -> (Exporter, Account) {
    let account = Account::new(servers::mariadb(), "scraping").await;
    let config = account.group("prod", &["orders", "stock"]) + &account.group("test", &["trial"]) + QUERY;
    let exporter = Exporter::start(&config).await;
    exporter
        .wait_until("each has its result", SOON, |page| page.series("query_exporter_one", &[]).len() == 3)
        .await;
    (exporter, account)
}

/// A Prometheus on an example of the documentation, at a pace for a test.
async fn prometheus(example: &str, exporter: &Exporter) -> Option<Prometheus> {
    let text = fs::read_to_string(repository().join("docs/examples").join(example)).unwrap();
    let mut config = "global: { scrape_interval: 1s, scrape_timeout: 1s }\n".to_owned();
    for line in text.replace("exporter:9104", &exporter.address).lines() {
        let pace = |key: &str| line.split_once(key).map(|(indent, _)| format!("{indent}{key} 1s"));
        config += &pace("scrape_interval:").or_else(|| pace("refresh_interval:")).unwrap_or(line.to_owned());
        config.push('\n');
    }
    Prometheus::start_on(&config).await
}

/// Waits until a query has exactly these values of a label.
async fn wait_for_labels(prometheus: &Prometheus, query: &str, label: &str, expected: &[&str]) {
    wait_for(&format!("{query} has {label} {expected:?}"), SOON, async || {
        let series = prometheus.query(query).await;
        let mut seen: Vec<_> = series.iter().map(|(labels, _)| labels[label].clone()).collect();
        seen.sort();
        seen_if(seen == expected, seen).map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn one_page_for_the_whole_fleet() {
    let (exporter, account) = exporter().await;
    if let Some(prometheus) = prometheus("prometheus-whole.yml", &exporter).await {
        wait_for_labels(&prometheus, "query_exporter_one == 1", "target", &["orders", "stock", "trial"])
            .await;
        wait_for_labels(&prometheus, "up == 1", "job", &["fleet"]).await;
        wait_for_labels(&prometheus, "query_exporter_build_info", "job", &["fleet"]).await;
    }
    exporter.stop(&[(servers::mariadb(), &account)]).await;
}

#[tokio::test]
async fn a_page_for_each_group() {
    let (exporter, account) = exporter().await;
    if let Some(prometheus) = prometheus("prometheus-groups.yml", &exporter).await {
        let of = |job: &str| format!("query_exporter_one{{job=\"{job}\"}} == 1");
        wait_for_labels(&prometheus, &of("fleet-prod"), "target", &["orders", "stock"]).await;
        wait_for_labels(&prometheus, &of("fleet-test"), "target", &["trial"]).await;
        wait_for_labels(&prometheus, "up == 1", "job", &["fleet-exporter", "fleet-prod", "fleet-test"]).await;
        wait_for_labels(&prometheus, "query_exporter_build_info", "job", &["fleet-exporter"]).await;
        wait_for_labels(&prometheus, "query_exporter_up", "target", &["orders", "stock", "trial"]).await;
    }
    exporter.stop(&[(servers::mariadb(), &account)]).await;
}

#[tokio::test]
async fn each_database_a_target_of_its_own() {
    let (exporter, account) = exporter().await;
    if let Some(prometheus) = prometheus("prometheus-databases.yml", &exporter).await {
        wait_for_labels(&prometheus, "up{job=\"mysql\"} == 1", "instance", &["orders", "stock", "trial"])
            .await;
        wait_for_labels(&prometheus, "up{fleet_group=\"prod\"}", "instance", &["orders", "stock"]).await;
        let own = "query_exporter_one == 1";
        wait_for_labels(&prometheus, own, "instance", &["orders", "stock", "trial"]).await;
        wait_for_labels(&prometheus, own, "target", &["orders", "stock", "trial"]).await;
        wait_for_labels(&prometheus, "query_exporter_build_info", "job", &["fleet-exporter"]).await;
    }
    exporter.stop(&[(servers::mariadb(), &account)]).await;
}

/// Other programs that read the page, in the encoding that they ask for.
#[tokio::test]
async fn t54_curl_gzip_and_python_read_the_page_that_they_ask_for() {
    let (exporter, account) = exporter().await;
    let url = format!("http://{}/metrics?query=one", exporter.address);
    let expected = exporter.get("/metrics?query=one").await.body;
    let families = |text: &str| -> BTreeSet<String> {
        Page::parse(text.to_owned())
            .series("query_exporter_one", &[])
            .iter()
            .map(|(of, _)| of["target"].clone())
            .collect()
    };
    let python = "import gzip, sys, urllib.request\n\
                  request = urllib.request.Request(sys.argv[1], headers={'Accept-Encoding': 'gzip'})\n\
                  answer = urllib.request.urlopen(request)\n\
                  assert answer.headers['Content-Encoding'] == 'gzip', answer.headers\n\
                  sys.stdout.write(gzip.decompress(answer.read()).decode())";
    let curl = |options: &str| format!("curl --silent --show-error --fail {options} '{url}'");
    for (what, command) in [
        ("curl", curl("")),
        ("curl --compressed", curl("--compressed")),
        ("gzip", curl("--header 'Accept-Encoding: gzip'") + " | gzip --decompress --stdout"),
        ("curl without gzip", curl("--header 'Accept-Encoding: gzip;q=0'")),
        ("Python", format!("python3 -c \"{python}\" '{url}'")),
    ] {
        let output = Command::new("bash").args(["-o", "pipefail", "-c", &command]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(families(&text), families(&expected), "{what}");
        assert_eq!(families(&text).len(), 3, "{what}");
    }
    exporter.stop(&[(servers::mariadb(), &account)]).await;
}

/// Labels that are easily lost on the way.
const ODD: [&str; 9] = [
    "\"quoted\"",
    "back\\slash\\",
    "two\nlines",
    "a\ttab, a {brace}=\"1\" and # a hash",
    "<b>&amp;</b>",
    " spaces ",
    "gr\u{f6}\u{df}e \u{20ac} \u{1f600}",
    "\u{feff}\u{2028}\u{200f}",
    "a\u{a0}b",
];

/// Labels that a reader of metrics keeps and a browser does not.
const ODDER: [&str; 3] = ["\0", "a carriage\rreturn", "\u{1}\u{7f}\u{85}"];

/// Each label is read back as it was, from compressed pages with small results and large ones.
#[tokio::test]
async fn t54_prometheus_and_chromium_read_odd_labels_as_they_are() {
    let table = |labels: &[&str]| {
        let rows: Vec<_> = labels.iter().map(|label| [(*label).to_owned(), "7".to_owned()]).collect();
        Answer::text(["who", "n"], rows)
    };
    let many: Vec<_> = (0..400).map(|n| format!("row number {n}: {}", ODD[n % ODD.len()])).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let script = Script::default()
        .on("from odd", table(&ODD))
        .on("from queer", table(&ODDER))
        .on("from many", table(&many));
    let sim = Sim::start(script).await.unwrap();
    let queries = ["odd", "queer", "many"].map(|name| {
        QUERY.replace("one", name).replace("select 'x' as who, 1 as n", &format!("select who, n from {name}"))
    });
    let group = format!("[groups.g]\nuser = \"monitor\"\ntargets = {{ db = \"{}\" }}\n", sim.address());
    let exporter = Exporter::start(&(group + &queries.concat())).await;
    let sizes = [("odd", ODD.len()), ("queer", ODDER.len()), ("many", many.len())];
    wait_for("each result is there", SOON, async || {
        let text = exporter.get("/metrics").await.body;
        let lines = |name: &str| text.matches(&format!("\nquery_exporter_{name}{{")).count();
        seen_if(sizes.iter().all(|(name, size)| lines(name) == *size), text)
    })
    .await;
    let expected =
        |labels: &[&str]| -> BTreeSet<String> { labels.iter().map(|label| (*label).to_owned()).collect() };

    if let Some(prometheus) = Prometheus::start(&exporter.address).await {
        for (name, labels) in [("odd", &ODD[..]), ("queer", &ODDER), ("many", &many)] {
            wait_for("Prometheus has each label", SOON, async || {
                let series = prometheus.query(&format!("query_exporter_{name} == 7")).await;
                let seen: BTreeSet<_> = series.iter().map(|(of, _)| of["who"].clone()).collect();
                seen_if(seen == expected(labels), seen)
            })
            .await;
        }
    }
    for (name, labels) in [("odd", &ODD[..]), ("many", &many)] {
        let url = format!("http://{}/metrics?query={name}", exporter.address);
        let Some(text) = chromium::shows(&url).await else { break };
        let samples = reader::read(text.as_bytes(), false).unwrap();
        let family = format!("query_exporter_{name}");
        let shown: BTreeSet<_> = samples
            .into_iter()
            .filter(|(of, ..)| *of == family)
            .map(|(_, of, _)| of["who"].clone())
            .collect();
        assert_eq!(shown, expected(labels));
    }
    exporter.stop(&[]).await;
}
