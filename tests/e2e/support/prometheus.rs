//! A real Prometheus, and its HTTP API.

use std::{fs, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    http,
    page::Labels,
    percent_encoded,
    process::{Process, command},
    promtool,
    wait::wait_for,
};

/// A running Prometheus. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Prometheus {
    address: String,
    _process: Process,
    _folder: TempDir,
}

/// A series of a query's answer: its labels, `__name__` among them, and its samples as (seconds since the epoch, value).
pub(crate) type Series = (Labels, Vec<(f64, f64)>);

impl Prometheus {
    /// Starts it on the page of one address, each second; none where the environment says that there is none to be had.
    pub(crate) async fn start(scrapes: &str) -> Option<Self> {
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs: [{{ job_name: fleet, static_configs: [{{ targets: ['{scrapes}'] }}] }}]\n"
        );
        Self::start_on(&config).await
    }

    /// Starts it on a configuration of its own.
    pub(crate) async fn start_on(config: &str) -> Option<Self> {
        let program = promtool::program("prometheus")?;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let mut command = command(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0");
        let process = Process::start(command);
        let log = process.stderr.clone();
        let address = wait_for("Prometheus listens", Duration::from_secs(30), async || {
            let line = log.with("\"Listening on\"").pop();
            let address = line.as_deref().and_then(|line| line.split("address=").nth(1)).map(str::to_owned);
            address.ok_or_else(|| log.text())
        })
        .await;
        wait_for("Prometheus is ready", Duration::from_secs(30), async || {
            let answer = http::get(&address, "/-/ready").await.map_err(|error| error.to_string())?;
            if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
        Some(Self { address, _process: process, _folder: folder })
    }

    /// The answer to a query in `PromQL`, at this moment.
    pub(crate) async fn query(&self, query: &str) -> Vec<Series> {
        let encoded = percent_encoded(query);
        let answer = http::get(&self.address, &format!("/api/v1/query?query={encoded}")).await.unwrap();
        let json: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(json["status"], "success", "{query}: {json}");
        let sample = |pair: &Value| (pair[0].as_f64().unwrap(), pair[1].as_str().unwrap().parse().unwrap());
        let series = |one: &Value| {
            let labels = one["metric"].as_object().unwrap().iter();
            let labels =
                labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
            let samples = match one["values"].as_array() {
                Some(values) => values.iter().map(sample).collect(),
                None => vec![sample(&one["value"])],
            };
            (labels, samples)
        };
        json["data"]["result"].as_array().unwrap().iter().map(series).collect()
    }

    /// The one value of a query's answer, if it has any.
    pub(crate) async fn value(&self, query: &str) -> Option<f64> {
        match &self.query(query).await[..] {
            [] => None,
            [(_, samples)] => Some(samples[0].1),
            more => panic!("{query} gives more than one series: {more:?}"),
        }
    }
}
