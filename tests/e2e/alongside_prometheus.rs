//! A minute beside a real Prometheus: what it stores is what the servers have, without a gap, and what is gone leaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, sleep};

use crate::support::{
    account::Account,
    exporter::{Exporter, SOON},
    note,
    page::Labels,
    prometheus::{Prometheus, Series},
    promtool,
    servers::{self, Server},
    wait::{seen_if, wait_for},
};

/// How long the tables move.
const WHILE: Duration = Duration::from_mins(1);
/// When the doomed server is killed.
const KILLED_AFTER: Duration = Duration::from_secs(20);
/// How old a result may become.
const AGE_LIMIT: f64 = 10.0;

const QUERY: &str = r#"
[queries.work]
sql = "select name, level, clicks from work"
interval = "1s"
timeout = "1s"
expire_after = "10s"

[queries.work.metrics.level]
type = "gauge"
help = "how much there is to do"
labels = ["name"]
value = "level"

[queries.work.metrics.clicks_total]
type = "counter"
help = "how often somebody clicked"
labels = ["name"]
value = "clicks"
"#;

/// A server with a table that moves.
struct Moving<'a> {
    target: &'static str,
    server: &'a Server,
    account: Account,
}

impl<'a> Moving<'a> {
    async fn new(target: &'static str, server: &'a Server) -> Self {
        let account = Account::new(server, target).await;
        let schema = &account.schema;
        let sql = format!(
            "create table {schema}.work (name varchar(20) primary key, level int, clicks bigint);
             insert into {schema}.work values ('a', 10, 0), ('b', 20, 1000)"
        );
        server.admin().await.run(&sql).await;
        Self { target, server, account }
    }

    /// One step: the gauge goes up and down, the counter up.
    async fn step(&self, n: u64) {
        let (schema, level) = (&self.account.schema, n % 7);
        let sql =
            format!("update {schema}.work set level = {level} + char_length(name), clicks = clicks + 3");
        self.server.admin().await.run(&sql).await;
    }
}

#[tokio::test]
async fn prometheus_has_what_the_servers_have_without_a_gap_and_what_died_leaves_at_its_age_limit() {
    let doomed_server = servers::own_mariadb();
    let mut moving = vec![Moving::new("steady", servers::mariadb()).await];
    if let Some(mysql) = servers::mysql() {
        moving.push(Moving::new("mysql", mysql).await);
    }
    let doomed = Moving::new("doomed", &doomed_server).await;
    let groups = moving.iter().chain([&doomed]).map(|one| one.account.group(one.target, &[one.target]));
    let exporter = Exporter::start(&(groups.collect::<String>() + QUERY)).await;
    // From the first scrape on each series is there, so that none begins late.
    exporter
        .wait_until("all are up", SOON, |page| {
            ["steady", "doomed"].iter().all(|target| page.is_up(target))
                && page.series("query_exporter_up", &[]).iter().all(|(_, up)| *up > 0.0)
        })
        .await;
    let Some(prometheus) = Prometheus::start(&exporter.address).await else {
        exporter.stop(&[]).await;
        return;
    };
    wait_for("Prometheus scrapes", SOON, async || {
        let up = prometheus.value("up").await;
        seen_if(up == Some(1.0), up).map(|_| ())
    })
    .await;

    // The tables move each second; after a while one server is killed.
    let start = Instant::now();
    let mut n = 0;
    while start.elapsed() < KILLED_AFTER {
        n += 1;
        for one in moving.iter().chain([&doomed]) {
            one.step(n).await;
        }
        sleep(Duration::from_secs(1)).await;
    }
    drop(doomed);
    let killed = since_epoch();
    doomed_server.kill().await;
    while start.elapsed() < WHILE {
        n += 1;
        for one in &moving {
            one.step(n).await;
        }
        sleep(Duration::from_secs(1)).await;
    }

    // What it has now is what the servers have.
    for one in &moving {
        let Moving { target, server, account } = one;
        let rows = server
            .admin()
            .await
            .rows(&format!("select name, level, clicks from {}.work", account.schema))
            .await;
        for row in rows {
            let [name, level, clicks] = row.try_into().unwrap();
            let name = name.unwrap();
            for (family, expected) in [("level", level.unwrap()), ("clicks_total", clicks.unwrap())] {
                let series = format!("query_exporter_{family}{{target=\"{target}\", name=\"{name}\"}}");
                let expected: f64 = expected.parse().unwrap();
                wait_for(&format!("{series} is {expected}"), SOON, async || {
                    let value = prometheus.value(&series).await;
                    seen_if(value == Some(expected), value).map(|_| ())
                })
                .await;
                let changes = prometheus.value(&format!("changes({series}[1m])")).await;
                assert!(changes > Some(30.0), "{series} moved {changes:?} times in a minute");
            }
        }
    }
    let stored = Stored::read(&prometheus).await;
    stored.assert_scraped_each_second();
    stored.assert_no_gap();
    stored.assert_left_at_the_age_limit(killed);

    let page = exporter.page().await;
    assert_eq!(page.reason("doomed"), Some("refused"));
    promtool::assert_valid(&page);
    let left: Vec<_> = moving.iter().map(|one| (one.server, &one.account)).collect();
    exporter.stop(&left).await;
}

/// All raw samples that Prometheus has of the exporter.
struct Stored {
    series: Vec<Series>,
    /// When it scraped, in milliseconds since the epoch.
    scrapes: BTreeSet<i64>,
}

impl Stored {
    async fn read(prometheus: &Prometheus) -> Self {
        let series = prometheus.query("{job=\"fleet\"}[5m]").await;
        let up = series.iter().find(|(labels, _)| labels["__name__"] == "up").unwrap();
        assert!(up.1.iter().all(|(_, value)| *value > 0.0), "up was not always 1: {up:?}");
        let scrapes = up.1.iter().map(|(at, _)| millis(*at)).collect();
        Self { series, scrapes }
    }

    fn assert_scraped_each_second(&self) {
        let all: Vec<_> = self.scrapes.iter().collect();
        assert!(all.len() >= 58, "{} scrapes in a minute", all.len());
        let longest = all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        note!("{} scrapes, all up, {} series, the longest pause {longest} ms", all.len(), self.series.len());
        assert!(longest <= 2500, "{longest} ms between two scrapes");
    }

    /// Each series has a sample of each scrape, but those that ended or began with the death of the doomed server.
    fn assert_no_gap(&self) {
        let of_the_doomed = ["level", "clicks_total", "target_failure_reason", "target_info"];
        let mut whole: BTreeMap<&str, usize> = BTreeMap::new();
        for (labels, samples) in &self.series {
            let name = labels["__name__"].as_str();
            let may_end = labels.get("target").is_some_and(|target| target == "doomed")
                && of_the_doomed.iter().any(|family| name == format!("query_exporter_{family}"));
            if may_end {
                continue;
            }
            let at: BTreeSet<_> = samples.iter().map(|(at, _)| millis(*at)).collect();
            let missing: Vec<_> = self.scrapes.difference(&at).collect();
            assert!(missing.is_empty(), "{labels:?} has no sample at {missing:?}");
            *whole.entry(name).or_default() += 1;
        }
        assert!(whole["query_exporter_level"] >= 2 && whole["query_exporter_up"] >= 2, "{whole:?}");
    }

    /// Each series of the doomed server ended when its last result was as old as it may be, and not before.
    fn assert_left_at_the_age_limit(&self, killed: f64) {
        let is_its = |labels: &Labels| {
            labels.get("target").is_some_and(|target| target == "doomed")
                && ["query_exporter_level", "query_exporter_clicks_total"]
                    .contains(&labels["__name__"].as_str())
        };
        let its: Vec<_> = self.series.iter().filter(|(labels, _)| is_its(labels)).collect();
        assert_eq!(its.len(), 4, "{its:?}");
        for (labels, samples) in its {
            let lasted = samples.last().unwrap().0 - killed;
            note!("{} left {lasted:.1} s after the kill", labels["__name__"]);
            // The last run was up to a second before that, or two on a busy machine, and the scrapes are a second apart.
            assert!((AGE_LIMIT - 3.0..=AGE_LIMIT + 1.0).contains(&lasted), "{labels:?} lasted {lasted} s");
        }
    }
}

fn since_epoch() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[expect(clippy::cast_possible_truncation, reason = "milliseconds of this century fit")]
fn millis(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}
