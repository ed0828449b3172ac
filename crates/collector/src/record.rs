//! What became of the last run of an item, and since when a target is up or down: for a person who looks.
//!
//! Nothing here decides anything. A run exchanges one pointer; a reader follows it and stops nobody.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;

use crate::{BootTime, Failure, Success, clock::wall_ms, hour::Hour};

/// When something was, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) wall_ms: u64,
    pub(crate) boot: BootTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { wall_ms: wall_ms(), boot: BootTime::now() }
    }
}

/// How long a run took, and how late it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Took {
    /// From the tick to the start of the run, the wait for permits included.
    pub lateness: Duration,
    /// From the lane to the published result.
    pub duration: Duration,
}

/// What is known of an item's runs.
#[derive(Debug, Default)]
pub struct ItemRecord(ArcSwapOption<LastRun>);

/// An item's last run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRun {
    /// When it ended, in milliseconds since the epoch.
    pub ended_ms: u64,
    /// How long it took; zero after a panic.
    pub took: Took,
    /// How it went.
    pub outcome: Outcome,
    /// How many runs have failed since one did not, this one included.
    pub failures: u32,
    /// When the first of those ended, or, without any, this one, in milliseconds since the epoch.
    pub since_ms: u64,
    /// The last result that was published.
    pub result: Option<ResultFacts>,
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its result was published; with a value that was no number, if any was left out for it.
    Success(Option<Box<str>>),
    /// The query has no statement for the target's server.
    NotForServer,
    /// It failed.
    Failure(Box<Failure>),
}

/// A published result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultFacts {
    /// Rows of the answer.
    pub rows: usize,
    /// Series made of them.
    pub series: usize,
    /// When it was published.
    pub at: BootTime,
}

impl ItemRecord {
    /// The last run, if there was any.
    pub fn last_run(&self) -> Option<Arc<LastRun>> {
        self.0.load_full()
    }

    /// Goes on from another's runs.
    pub(crate) fn follow(&self, before: &Self) {
        self.0.store(before.0.load_full());
    }

    /// The last run was one of an earlier process, unless there has been one since.
    pub(crate) fn restored(&self, read: Moment, took: Took, rows: usize, series: usize) {
        let last = LastRun {
            ended_ms: read.wall_ms,
            took,
            outcome: Outcome::Success(None),
            failures: 0,
            since_ms: read.wall_ms,
            result: Some(ResultFacts { rows, series, at: read.boot }),
        };
        let none: Option<Arc<LastRun>> = None;
        self.0.compare_and_swap(&none, Some(Arc::new(last)));
    }

    /// Takes note of a run. One item's runs follow each other, so nobody comes between.
    pub(crate) fn note(&self, now: Moment, took: Took, outcome: &Result<Option<Success>, Failure>) {
        let before = self.0.load();
        let before = before.as_deref();
        let (mut failures, mut since_ms) = (0, now.wall_ms);
        let mut result = before.and_then(|before| before.result);
        let outcome = match outcome {
            Ok(Some(Success { rows, series, not_a_number })) => {
                result = Some(ResultFacts { rows: *rows, series: *series, at: now.boot });
                Outcome::Success(not_a_number.as_deref().map(Box::from))
            }
            Ok(None) => {
                result = None;
                Outcome::NotForServer
            }
            Err(failure) => {
                if let Some(before) = before.filter(|before| before.failures > 0) {
                    (failures, since_ms) = (before.failures, before.since_ms);
                }
                failures = failures.saturating_add(1);
                Outcome::Failure(Box::new(failure.clone()))
            }
        };
        let last = LastRun { ended_ms: now.wall_ms, took, outcome, failures, since_ms, result };
        self.0.store(Some(Arc::new(last)));
    }
}

/// What is known of a target's runs.
#[derive(Debug, Default)]
pub struct TargetRecord {
    /// Minute by minute.
    pub hour: Hour,
    state: ArcSwapOption<TargetState>,
}

/// Whether a target is up, and the last time that it was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetState {
    /// Whether the last attempt to get an answer had one, and the login was not refused.
    pub up: bool,
    /// Since when, in milliseconds since the epoch.
    pub since_ms: u64,
    /// Why it is down, or was last, and when the last attempt of then ended.
    pub down: Option<(u64, Failure)>,
}

impl TargetRecord {
    /// The state; None until the first run has ended.
    pub fn state(&self) -> Option<Arc<TargetState>> {
        self.state.load_full()
    }

    /// Takes note of a run. The state of a target that stays up is not touched.
    pub(crate) fn note(&self, now: Moment, took: Took, outcome: &Result<Option<Success>, Failure>) {
        self.hour.ran(now.boot, took.duration, took.lateness, outcome.is_err());
        let down = outcome.as_ref().err().filter(|failure| failure.is_down());
        if down.is_none() && self.state.load().as_ref().is_some_and(|state| state.up) {
            return;
        }
        // Several items of the target may end at once: each then sees what the other has written.
        self.state.rcu(|before| {
            let before = before.as_deref();
            let same = before.filter(|before| before.up == down.is_none());
            Some(Arc::new(TargetState {
                up: down.is_none(),
                since_ms: same.map_or(now.wall_ms, |before| before.since_ms),
                down: match down {
                    Some(failure) => Some((now.wall_ms, failure.clone())),
                    None => before.and_then(|before| before.down.clone()),
                },
            }))
        });
    }

    /// Ticks were missed.
    pub(crate) fn missed(&self, ticks: u64) {
        self.hour.missed(BootTime::now(), ticks);
    }
}

#[cfg(test)]
mod tests {
    // expect-test writes its texts so.
    #![allow(clippy::needless_raw_string_hashes)]

    use std::fmt::Write as _;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::Reason;

    const TOOK: Took = Took { lateness: Duration::from_millis(2), duration: Duration::from_millis(30) };

    /// A moment this many seconds after some start.
    fn at(seconds: u64) -> Moment {
        let boot = BootTime::from_boot(Duration::from_secs(10_000 + seconds));
        Moment { wall_ms: seconds * 1000, boot }
    }

    fn series(series: usize) -> Success {
        Success { rows: series, series, not_a_number: None }
    }

    fn refused() -> Failure {
        Failure::unanswered(Reason::Refused, "nobody listens")
    }

    fn denied() -> Failure {
        Failure::answered(Reason::Denied, "not yours").with_code(1142)
    }

    /// One run each ten seconds, and what is known after each.
    fn check(runs: &[Result<Option<Success>, Failure>], expected: &Expect) {
        let (item, target) = (ItemRecord::default(), TargetRecord::default());
        assert_eq!((item.last_run(), target.state()), (None, None));
        let mut seen = String::new();
        for (run, seconds) in runs.iter().zip((10..).step_by(10)) {
            item.note(at(seconds), TOOK, run);
            target.note(at(seconds), TOOK, run);
            let (last, state) = (item.last_run().unwrap(), target.state().unwrap());
            let outcome = match &last.outcome {
                Outcome::Success(note) => format!("success {note:?}"),
                Outcome::NotForServer => "not for the server".to_owned(),
                Outcome::Failure(failure) => failure.to_string(),
            };
            let result = last.result.map(|r| (r.series, at(seconds).boot.since(r.at).as_secs()));
            let (since, failures) = (last.since_ms / 1000, last.failures);
            let _ = write!(seen, "{seconds}: {outcome}; {failures} since {since}; result {result:?}; ");
            let down = state.down.as_ref().map(|(at_ms, failure)| (at_ms / 1000, failure.reason));
            let _ = writeln!(seen, "up {} since {}, down {down:?}", state.up, state.since_ms / 1000);
        }
        expected.assert_eq(&seen);
        let hour = target.hour.minutes(at(runs.len() as u64 * 10).boot);
        let failed = runs.iter().filter(|run| run.is_err()).count();
        assert_eq!(hour.iter().map(|minute| usize::from(minute.failed)).sum::<usize>(), failed);
    }

    #[test]
    fn a_row_of_failures_has_a_beginning_and_keeps_the_result_before_it() {
        check(
            &[Ok(Some(series(3))), Err(denied()), Err(denied()), Ok(Some(series(4))), Ok(None)],
            &expect![[r#"
                10: success None; 0 since 10; result Some((3, 0)); up true since 10, down None
                20: denied: not yours (error 1142); 1 since 20; result Some((3, 10)); up true since 10, down None
                30: denied: not yours (error 1142); 2 since 20; result Some((3, 20)); up true since 10, down None
                40: success None; 0 since 40; result Some((4, 0)); up true since 10, down None
                50: not for the server; 0 since 50; result None; up true since 10, down None
            "#]],
        );
    }

    #[test]
    fn a_target_keeps_why_it_was_down_and_since_when_it_is_up() {
        check(
            &[
                Err(refused()),
                Err(denied()),
                Err(refused()),
                Err(refused()),
                Ok(Some(series(1))),
                Ok(Some(series(1))),
                Err(refused()),
            ],
            &expect![[r#"
                10: refused: nobody listens; 1 since 10; result None; up false since 10, down Some((10, Refused))
                20: denied: not yours (error 1142); 2 since 10; result None; up true since 20, down Some((10, Refused))
                30: refused: nobody listens; 3 since 10; result None; up false since 30, down Some((30, Refused))
                40: refused: nobody listens; 4 since 10; result None; up false since 30, down Some((40, Refused))
                50: success None; 0 since 50; result Some((1, 0)); up true since 50, down Some((40, Refused))
                60: success None; 0 since 60; result Some((1, 0)); up true since 50, down Some((40, Refused))
                70: refused: nobody listens; 1 since 70; result Some((1, 10)); up false since 70, down Some((70, Refused))
            "#]],
        );
    }

    /// The budget is 2 KB for an item in all.
    #[test]
    fn a_record_is_small() {
        assert_eq!(size_of::<ItemRecord>(), 8);
        // With the two counts of its Arc 128; a failure adds its message.
        assert_eq!(size_of::<LastRun>(), 112);
        assert_eq!(size_of::<TargetRecord>(), 488);
    }
}
