//! The exporter as its users run it: the real binary with a file.

use std::{
    fs::Permissions,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    Result,
    process::{Killed, guarded, scratch},
};

/// How long the whole fleet may take until each item has been tried.
const READY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Exporter {
    process: Killed,
    port: u16,
    _scratch: TempDir,
}

impl Exporter {
    /// Runs it with this file. Of what it logs, lines from this level on are seen.
    pub fn start(text: &str, log_level: &str) -> Result<Self> {
        let scratch = scratch()?;
        let config = scratch.path().join("fleet.toml");
        std::fs::write(&config, text)?;
        // It holds a password, and the exporter warns of files that others may read.
        std::fs::set_permissions(&config, Permissions::from_mode(0o600))?;
        // Free a moment ago; nothing else here asks for ports.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = guarded(Path::new(env!("CARGO_BIN_EXE_fleet-query-exporter")))?
            .arg("--config")
            .arg(&config)
            .args(["--log-level", log_level, "--bind", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::null())
            .spawn()?;
        let exporter = Self { process: Killed(process), port, _scratch: scratch };
        let until = Instant::now() + READY;
        while exporter.get("/-/healthy").is_err() {
            if Instant::now() > until {
                return Err("the exporter does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(exporter)
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    pub fn wait_until_ready(&self) -> Result<()> {
        let until = Instant::now() + READY;
        while !self.get("/-/ready")?.starts_with("HTTP/1.1 200") {
            if Instant::now() > until {
                return Err("the exporter does not get ready".into());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it says about itself: a page that leaves nothing behind.
    pub fn own(&self) -> Result<Page> {
        self.page_of("/-/metrics")
    }

    pub fn page(&self) -> Result<Page> {
        self.page_of("/metrics")
    }

    fn page_of(&self, path: &str) -> Result<Page> {
        let answer = self.get(path)?;
        let (head, text) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("the page answers {head}").into());
        }
        Ok(Page { text: text.to_owned() })
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// An answer of /metrics.
#[derive(Debug)]
pub struct Page {
    pub text: String,
}

impl Page {
    /// The sum of a family's samples, those whose labels hold `labels`.
    pub fn sum(&self, family: &str, labels: &str) -> f64 {
        self.samples(family).filter(|(series, _)| series.contains(labels)).map(|(_, value)| value).sum()
    }

    /// How many of a family's samples are so.
    pub fn count(&self, family: &str, is_it: impl Fn(f64) -> bool) -> usize {
        self.samples(family).filter(|(_, value)| is_it(*value)).count()
    }

    /// A family's samples: their labels and their values.
    fn samples(&self, family: &str) -> impl Iterator<Item = (&str, f64)> {
        self.text.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(family)?.rsplit_once(' ')?;
            let same = labels.is_empty() || labels.starts_with('{');
            Some((labels, value.parse().ok()?)).filter(|_| same)
        })
    }
}
