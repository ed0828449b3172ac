//! Reloads, one after the other: who asks for one, and the reading of the file, which may take for ever and is not
//! waited for that long.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};

use crate::config::{self, Config, Given, Loaded, Report};

/// How long reading the configuration may take. Longer is a file system that hangs.
pub(crate) const READ_WITHIN: Duration = Duration::from_secs(30);

/// The reloads that were asked for. One more than the one that goes on is kept in mind, however many ask for it.
#[derive(Debug)]
pub(crate) struct Reloads {
    /// Counts those who asked.
    asked: watch::Sender<u64>,
    done: watch::Sender<Done>,
    over_http: AtomicBool,
}

/// What the last reload came to.
#[derive(Debug, Clone)]
struct Done {
    /// How many had asked when it began to read.
    asked: u64,
    answer: Answer,
}

/// What a reload says to those who asked for it: what it did, or why it did nothing.
pub(crate) type Answer = Result<String, String>;

impl Reloads {
    /// None asked for. `over_http` says whether a request may.
    pub(crate) fn new(over_http: bool) -> Self {
        let done = Done { asked: 0, answer: Ok(String::new()) };
        Self {
            asked: watch::Sender::new(0),
            done: watch::Sender::new(done),
            over_http: AtomicBool::new(over_http),
        }
    }

    /// Says whether a request over HTTP may ask.
    pub(crate) fn allow_over_http(&self, allow: bool) {
        self.over_http.store(allow, Relaxed);
    }

    /// Whether it may.
    pub(crate) fn is_allowed_over_http(&self) -> bool {
        self.over_http.load(Relaxed)
    }

    /// Asks for one. It reads the file after this, so it sees what the caller wrote before it. The answer comes with
    /// that reload; nobody need wait for it.
    pub(crate) fn ask(self: &Arc<Self>) -> impl Future<Output = Answer> + Send + use<> {
        let mut mine = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            mine = *asked;
        });
        let mut done = self.done.subscribe();
        let all = Arc::clone(self);
        async move {
            let answer = done.wait_for(|done| done.asked >= mine).await.map(|done| done.answer.clone());
            drop(all);
            // They are kept here, so the other end is there.
            answer.unwrap_or_else(|_| Err(String::new()))
        }
    }

    /// Waits until somebody has asked who has no answer yet, and gives how many have asked by now.
    pub(crate) async fn next(&self) -> u64 {
        let answered = self.done.borrow().asked;
        let mut asked = self.asked.subscribe();
        // They are kept here, so the other end is there.
        asked.wait_for(|asked| *asked > answered).await.map_or(answered, |asked| *asked)
    }

    /// Gives the answer to as many as had asked when the reload began.
    pub(crate) fn answer(&self, asked: u64, answer: Answer) {
        self.done.send_replace(Done { asked, answer });
    }

    /// Nobody reloads any more: all who wait or will ask are told so.
    pub(crate) fn close(&self) {
        self.answer(u64::MAX, Err("the exporter is stopping".to_owned()));
    }
}

/// A configuration as it was read, and what its author should look at.
pub(crate) type Read = Result<(Config, Report), Unread>;

/// Why there is none.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It has mistakes.
    Wrong(Report),
    /// It could not be read to the end, or there is no room for its fleet.
    Stuck(String),
}

impl Unread {
    /// One line for a person who looks in passing: the first mistake and how many there are.
    pub(crate) fn in_short(&self) -> String {
        match self {
            Self::Wrong(report) => report.in_short(),
            Self::Stuck(why) => why.clone(),
        }
    }
}

/// Reads and checks the configuration, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Reader {
    read: fn(&Source) -> Read,
    source: Arc<Source>,
    within: Duration,
    /// A reading that took too long. Nobody can end it.
    stuck: Option<JoinHandle<Read>>,
}

/// Where the configuration is.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    bind: Option<String>,
    web_config: Option<PathBuf>,
}

impl Reader {
    /// Of this file, and of what the command line says in its place.
    pub(crate) fn new(path: PathBuf, given: Option<Given<'_>>) -> Self {
        let Given { bind, web_config } = given.unwrap_or_default();
        let (bind, web_config) = (bind.map(str::to_owned), web_config.map(Path::to_owned));
        Self { read, source: Arc::new(Source { path, bind, web_config }), within: READ_WITHIN, stuck: None }
    }

    /// Reads it as it is now. Dropped, it leaves the reading to its thread.
    pub(crate) async fn read(&mut self) -> Read {
        let deadline = Instant::now() + self.within;
        let late =
            |what: &str| Unread::Stuck(format!("{what} within {:?}: its file system hangs", self.within));
        if let Some(stuck) = &mut self.stuck {
            // One thread at most waits for a file system, however many ask for a reload.
            if timeout_at(deadline, stuck).await.is_err() {
                return Err(late("an earlier reading of the configuration did not end"));
            }
        }
        let (source, read) = (Arc::clone(&self.source), self.read);
        let reading = self.stuck.insert(spawn_blocking(move || read(&source)));
        let Ok(ended) = timeout_at(deadline, reading).await else {
            return Err(late("the configuration could not be read"));
        };
        self.stuck = None;
        ended
            .unwrap_or_else(|panic| Err(Unread::Stuck(format!("checking the configuration failed: {panic}"))))
    }
}

fn read(source: &Source) -> Read {
    let given = Given { bind: source.bind.as_deref(), web_config: source.web_config.as_deref() };
    let Loaded { config, warnings } = config::load(&source.path, Some(given)).map_err(Unread::Wrong)?;
    let problems = warnings.and(config::missing_secrets(&config));
    Ok((config, problems))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, OpenOptions},
        io::Write as _,
        process::Command,
    };

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_asks_while_one_goes_on_is_answered_by_the_next_one() {
        let reloads = Arc::new(Reloads::new(true));
        assert!(reloads.next().now_or_never().is_none(), "nobody has asked");
        let (first, second) = (reloads.ask(), reloads.ask());
        let asked = reloads.next().now_or_never().unwrap();
        let mut third = Box::pin(reloads.ask());
        reloads.answer(asked, Ok("one".to_owned()));
        assert_eq!((first.await, second.await), (Ok("one".to_owned()), Ok("one".to_owned())));
        assert!((&mut third).now_or_never().is_none(), "it asked after that one had begun");
        let asked = reloads.next().now_or_never().unwrap();
        reloads.answer(asked, Err("two".to_owned()));
        assert_eq!(third.await, Err("two".to_owned()));
        assert!(reloads.next().now_or_never().is_none(), "everybody has an answer");
    }

    #[tokio::test]
    async fn a_storm_is_one_more_reload() {
        let reloads = Arc::new(Reloads::new(true));
        for _ in 0..1000 {
            drop(reloads.ask());
        }
        let asked = reloads.next().await;
        reloads.answer(asked, Ok(String::new()));
        assert!(reloads.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn the_end_answers_all() {
        let reloads = Arc::new(Reloads::new(true));
        let before = reloads.ask();
        reloads.close();
        for answer in [before.await, reloads.ask().await] {
            assert_eq!(answer, Err("the exporter is stopping".to_owned()));
        }
    }

    /// A FIFO that nobody writes to is a file system that hangs.
    #[tokio::test]
    async fn a_reading_that_hangs_is_left_alone_and_holds_one_thread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.toml");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let mut reader = Reader::new(path.clone(), None);
        reader.within = Duration::from_millis(50);
        for expected in ["could not be read", "an earlier reading"] {
            let Err(Unread::Stuck(why)) = reader.read().await else { panic!("it was read") };
            assert!(why.contains(expected), "{why}");
        }
        // The reading that hung ends after another file is there; what it read is too old to be of use.
        let mut old = OpenOptions::new().write(true).open(&path).unwrap();
        fs::write(folder.path().join("new"), "[new").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        old.write_all(b"[old").unwrap();
        drop(old);
        reader.within = Duration::from_secs(20);
        let Err(Unread::Wrong(report)) = reader.read().await else { panic!("it is no TOML") };
        assert!(report.to_string().contains("[new"), "{report}");
    }
}
