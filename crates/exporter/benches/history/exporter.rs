//! The exporter as its users run it, and its page.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use crate::{
    Result,
    support::process::{Killed, guarded, scratch},
};

/// A configuration that exporters are started on, one after the other, at one address.
#[derive(Debug)]
pub struct Place {
    port: u16,
    folder: TempDir,
}

impl Place {
    pub fn new(config: &str) -> Result<Self> {
        let folder = scratch()?;
        let path = folder.path().join("fleet.toml");
        fs::write(&path, config)?;
        // It holds passwords, and the exporter warns of files that others may read.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        // Free a moment ago; nothing else here asks for ports.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        Ok(Self { port, folder })
    }

    /// Starts an exporter, and waits until it listens.
    pub async fn start(&self) -> Result<Exporter> {
        let begun = Instant::now();
        let process = guarded(Path::new(env!("CARGO_BIN_EXE_fleet-query-exporter")))?
            .arg("--config")
            .arg(self.folder.path().join("fleet.toml"))
            .args(["--log-level", "error", "--bind", &format!("127.0.0.1:{}", self.port)])
            .stdin(Stdio::null())
            .spawn()?;
        let exporter = Exporter { process: Killed(process), port: self.port };
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if begun.elapsed() > Duration::from_secs(30) {
                return Err("the exporter does not listen".into());
            }
            sleep(Duration::from_millis(2)).await;
        }
        Ok(exporter)
    }
}

/// Killed when dropped.
#[derive(Debug)]
pub struct Exporter {
    process: Killed,
    port: u16,
}

impl Exporter {
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    pub async fn page(&self) -> Result<Page> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(Page { text: answer })
    }

    /// Looks at the page until something holds of it.
    pub async fn wait(&self, what: &str, within: Duration, holds: impl Fn(&Page) -> bool) -> Result<Page> {
        let begun = Instant::now();
        loop {
            let page = self.page().await?;
            if holds(&page) {
                return Ok(page);
            }
            if begun.elapsed() > within {
                return Err(format!("waited {within:?} for this: {what}").into());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// An answer of /metrics.
#[derive(Debug)]
pub struct Page {
    text: String,
}

impl Page {
    /// The samples of a family, by their labels.
    pub fn samples(&self, family: &str) -> HashMap<&str, f64> {
        let samples = self.text.lines().filter_map(|line| {
            let (series, value) = line.strip_prefix(family)?.rsplit_once(' ')?;
            let same = series.is_empty() || series.starts_with('{');
            same.then(|| Some((series, value.parse().ok()?))).flatten()
        });
        samples.collect()
    }

    /// What it says of the history, but for what is zero.
    pub fn history(&self) -> Vec<&str> {
        let told = |line: &&str| line.starts_with("query_exporter_history_") && !line.ends_with(" 0");
        self.text.lines().filter(told).collect()
    }

    pub fn sum(&self, family: &str) -> f64 {
        self.samples(family).values().sum()
    }
}
