//! The trials of a query on all its targets, a bounded number at a time, with progress for whoever waits, and an end
//! that leaves nothing at the servers.

use std::{
    io::{self, IsTerminal as _, Write as _},
    panic,
    sync::Arc,
    time::Duration,
};

use fleet_collector::{Collector, ItemSpec, query::Query, trial::Trial};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{app::FAREWELL, config::Candidate, signals::Signals};

/// After this long somebody who looks at the terminal wants to know what is going on.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is said anew.
const PROGRESS: Duration = Duration::from_millis(200);

/// What is to be tried.
pub(super) struct Work {
    pub(super) collector: Arc<Collector>,
    pub(super) query: Arc<Query>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) at_once: usize,
}

/// A trial, and what was tried.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) query: Arc<Query>,
    pub(super) candidate: Candidate,
    pub(super) trial: Trial,
}

/// Why there are no trials.
#[derive(Debug)]
pub(super) enum Ended {
    /// By a signal; `confirmed` if each server has said that nothing of ours is left.
    Interrupted { confirmed: bool },
    /// Without signals an interrupt would leave queries at the servers.
    NoSignals(io::Error),
}

/// Tries it on all candidates. Of each trial only what `look` takes from it is kept, in the order of the candidates.
pub(super) async fn all<T: Send + 'static>(
    work: Work,
    look: impl Fn(Tried) -> T + Clone + Send + 'static,
) -> Result<Vec<T>, Ended> {
    let Work { collector, query, candidates, at_once } = work;
    let mut signals = Signals::new().map_err(Ended::NoSignals)?;
    let mut progress = Progress::new(&candidates);
    let permits = Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)));
    let mut tasks = JoinSet::new();
    for (n, candidate) in candidates.into_iter().enumerate() {
        let (collector, query, permits) = (Arc::clone(&collector), Arc::clone(&query), Arc::clone(&permits));
        let look = look.clone();
        tasks.spawn(async move {
            // Never closed; and without it the bound would be missed, not the trial.
            let _permit = permits.acquire_owned().await;
            let trial = collector.try_once(spec(&query, &candidate)).await;
            (n, look(Tried { query, candidate, trial }))
        });
    }
    let mut found = Vec::with_capacity(tasks.len());
    let mut ticks = interval_at(Instant::now() + PATIENCE, PROGRESS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            done = tasks.join_next() => match done {
                None => break,
                Some(Ok(done)) => found.push(done),
                // Nobody aborts one: a defect of ours, to be seen as it is.
                Some(Err(error)) => panic::resume_unwind(error.into_panic()),
            },
            _ = signals.next() => {
                progress.clear();
                tasks.shutdown().await;
                return Err(Ended::Interrupted { confirmed: farewell(&collector).await });
            }
            _ = ticks.tick() => progress.show(found.len()),
        }
    }
    progress.clear();
    farewell(&collector).await;
    found.sort_by_key(|(n, _)| *n);
    Ok(found.into_iter().map(|(_, look)| look).collect())
}

/// Waits for the KILLs and goodbyes that are under way.
async fn farewell(collector: &Collector) -> bool {
    collector.shutdown(FAREWELL).await
}

fn spec(query: &Arc<Query>, candidate: &Candidate) -> ItemSpec {
    ItemSpec {
        query: Arc::clone(query),
        target: Arc::clone(&candidate.target),
        timeout: candidate.timeout,
        // Nothing is kept that could grow old.
        expire_after: Duration::ZERO,
        drop_on_failure: false,
        limits: candidate.limits,
    }
}

/// A line on the terminal that is written over and over, if anybody is there to read it.
struct Progress {
    begun: Instant,
    of: usize,
    /// The longest that a single trial may take.
    timeout: Duration,
    on_terminal: bool,
    shown: bool,
}

impl Progress {
    fn new(candidates: &[Candidate]) -> Self {
        Self {
            begun: Instant::now(),
            of: candidates.len(),
            timeout: candidates.iter().map(|candidate| candidate.timeout).max().unwrap_or_default(),
            on_terminal: io::stderr().is_terminal(),
            shown: false,
        }
    }

    fn show(&mut self, done: usize) {
        if self.on_terminal {
            write(&line(self.begun.elapsed(), done, self.of, self.timeout));
            self.shown = true;
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            write("");
        }
    }
}

/// Writes over the line that the cursor is on.
fn write(line: &str) {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
}

/// What is said while there is nothing else to say.
fn line(elapsed: Duration, done: usize, of: usize, timeout: Duration) -> String {
    let (seconds, limit) = (elapsed.as_secs(), humantime::format_duration(timeout));
    match of {
        1 => format!("{seconds} s; the time limit is {limit}"),
        _ => format!("{seconds} s, {done} of {of} targets; the time limit is {limit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_many_are_done_and_how_long_it_may_take() {
        let line = |of| line(Duration::from_millis(3100), 12, of, Duration::from_secs(5));
        assert_eq!(line(1), "3 s; the time limit is 5s");
        assert_eq!(line(300), "3 s, 12 of 300 targets; the time limit is 5s");
    }
}
