//! The web file while the exporter runs: read again every ten seconds, so that certificates are renewed without anybody
//! asking for a reload.
//!
//! The files are read whole, and compared by what they say: they are small, and neither their times nor their numbers
//! tell for sure that nothing has changed.

use std::{path::PathBuf, time::Duration};

use fleet_http::WebSettings;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    config::{Port, Problem, Report, WebFile, read_web},
    reload::READ_WITHIN,
};

/// How often the files are read.
const EVERY: Duration = Duration::from_secs(10);

/// Problems that are told of one reading.
const TOLD: usize = 20;

/// What a reading came to.
#[derive(Debug)]
pub(crate) enum Read {
    /// It can be put in force.
    Right {
        /// What the files say.
        settings: Box<WebSettings>,
        /// What their author should look at.
        warnings: Vec<String>,
        /// Whether the reading before was wrong.
        is_recovered: bool,
    },
    /// It cannot.
    Wrong {
        /// Why; nothing where that was told before.
        news: Vec<String>,
    },
}

/// Reads a web file again and again.
#[derive(Debug)]
pub(crate) struct WebWatch {
    file: Option<(PathBuf, Port)>,
    due: Instant,
    /// A reading, and when it has taken too long. Nobody can end it, and there is no other beside it.
    reading: Option<(JoinHandle<Outcome>, Instant)>,
    /// What was wrong with the last reading.
    told: Vec<String>,
}

type Outcome = Result<(WebSettings, Report), Report>;

impl WebWatch {
    /// Of a file that was read just now.
    pub(crate) fn new(file: &WebFile) -> Self {
        let port = file.port;
        Self {
            file: file.path.clone().map(|path| (path, port)),
            due: Instant::now() + EVERY,
            reading: None,
            told: Vec::new(),
        }
    }

    /// Reads it as soon as possible.
    pub(crate) fn hurry(&mut self) {
        self.due = Instant::now();
    }

    /// The next reading. Dropped, it goes on; where there is no file there is none.
    pub(crate) async fn read(&mut self) -> Read {
        let Some((path, port)) = self.file.clone() else { return std::future::pending().await };
        let (reading, late) = match &mut self.reading {
            Some(reading) => reading,
            none => {
                sleep_until(self.due).await;
                let late = Instant::now() + READ_WITHIN;
                none.insert((spawn_blocking(move || read_web(&path, port)), late))
            }
        };
        let Ok(ended) = timeout_at(*late, reading).await else {
            *late += READ_WITHIN;
            let why = format!("it could not be read within {READ_WITHIN:?}: its file system hangs");
            return self.wrong(vec![why]);
        };
        self.reading = None;
        self.due = Instant::now() + EVERY;
        match ended {
            Ok(Ok((settings, warnings))) => self.right(settings, lines(&warnings)),
            Ok(Err(report)) => self.wrong(lines(&report)),
            Err(panic) => self.wrong(vec![format!("checking it failed: {panic}")]),
        }
    }

    fn right(&mut self, settings: WebSettings, warnings: Vec<String>) -> Read {
        let is_recovered = !self.told.is_empty();
        self.told.clear();
        Read::Right { settings: Box::new(settings), warnings, is_recovered }
    }

    fn wrong(&mut self, problems: Vec<String>) -> Read {
        let news = if problems == self.told { Vec::new() } else { problems.clone() };
        self.told = problems;
        Read::Wrong { news }
    }
}

fn lines(report: &Report) -> Vec<String> {
    report.iter().take(TOLD).map(Problem::one_line).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    fn watch(path: PathBuf) -> WebWatch {
        let mut watch = WebWatch::new(&WebFile { path: Some(path), ..WebFile::default() });
        watch.hurry();
        watch
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_once_and_what_is_right_again_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        let mut watch = watch(path.clone());
        // What is wrong with it, or whether it has recovered.
        for (text, expected) in [
            ("rate_limit: { interval: 1s, burst: 2 }", Ok(false)),
            ("rate_limit: { interval: 1s, bursts: 2 }", Err(1)),
            ("rate_limit: { interval: 1s, bursts: 2 }", Err(0)),
            ("tls_server_confg: {}", Err(1)),
            ("rate_limit: { interval: 1s, burst: 3 }", Ok(true)),
            ("rate_limit: { interval: 1s, burst: 3 }", Ok(false)),
        ] {
            fs::write(&path, text).unwrap();
            watch.hurry();
            let seen = match watch.read().await {
                Read::Right { is_recovered, .. } => Ok(is_recovered),
                Read::Wrong { news } => Err(news.len()),
            };
            assert_eq!(seen, expected, "{text}");
        }
        fs::remove_file(&path).unwrap();
        watch.hurry();
        let Read::Wrong { news } = watch.read().await else { panic!("it is gone") };
        assert!(news[0].contains("cannot read the web file"), "{news:?}");
    }

    /// A FIFO that nobody writes to is a file system that hangs.
    #[tokio::test]
    async fn a_reading_that_hangs_is_told_and_holds_one_thread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let mut watch = watch(path.clone());
        assert!(tokio::time::timeout(Duration::from_millis(50), watch.read()).await.is_err());
        let (_, late) = watch.reading.as_mut().unwrap();
        *late = Instant::now();
        let Read::Wrong { news } = watch.read().await else { panic!("it hangs") };
        assert!(news[0].contains("its file system hangs"), "{news:?}");
        // The same reading, which ends now.
        let written = tokio::task::spawn_blocking(move || fs::write(&path, "rate_limit: {}"));
        assert!(matches!(watch.read().await, Read::Right { .. }));
        written.await.unwrap().unwrap();
    }
}
