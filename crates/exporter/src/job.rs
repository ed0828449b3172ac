//! Where the scheduler and the collector meet: an item's run as a scheduler's job, with its metrics and its log.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fleet_collector::{Failure, Item, NotStarted, Reason, Report, Success};
use fleet_scheduler::{BackOff, Missed, Start, Verdict, Way};
use prometheus_client::metrics::histogram::Histogram;

use crate::{history::Keeper, metrics::RunMetrics, news::Change};

/// A target that gives no answer. It may be back within a second, and being asked costs it nothing.
const NO_ANSWER: BackOff = BackOff { first: Duration::from_secs(1), cap: Duration::from_secs(30) };
/// One that refuses the account or the host: trying often may lock us out for good.
const REFUSED: BackOff = BackOff { first: Duration::from_secs(10), cap: Duration::from_mins(5) };
/// One that has no connection left: others need the next one more.
const CROWDED: BackOff = BackOff { first: Duration::from_secs(5), cap: Duration::from_mins(1) };

/// An item as the scheduler runs it.
#[derive(Debug)]
pub(crate) struct Job {
    item: Arc<Item>,
    metrics: Arc<RunMetrics>,
    keeper: Option<Arc<Keeper>>,
    duration: Histogram,
    /// Why the last run failed though the target answered; for the log, which tells changes only.
    trouble: Mutex<Option<Trouble>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Failed(Reason),
    NotANumber,
}

impl Job {
    /// The job of this item, whose runs are noted by `keeper`, if there is one.
    pub(crate) fn new(item: Arc<Item>, metrics: Arc<RunMetrics>, keeper: Option<Arc<Keeper>>) -> Self {
        let duration = metrics.duration(&item.query().name);
        Self { item, metrics, keeper, duration, trouble: Mutex::default() }
    }

    fn log(&self, report: &Report) {
        if report.target_changed {
            self.log_target(&report.outcome);
        }
        match &report.outcome {
            Ok(Some(Success { not_a_number: Some(example), .. })) => {
                self.log_item(Some((Trouble::NotANumber, format!("some values left out: {example}"))));
            }
            Ok(_) => self.log_item(None),
            Err(failure) if failure.is_down() => {}
            Err(failure) => self.log_item(Some((Trouble::Failed(failure.reason), failure.message.clone()))),
        }
    }

    fn log_target(&self, outcome: &Result<Option<Success>, Failure>) {
        let target = self.item.target();
        let (name, group, address) = (&*target.name, &*target.group, &target.address);
        let news = &self.metrics.news;
        match outcome {
            Err(Failure { reason, message, .. }) if !self.item.target_stats().is_up() => {
                if news.may_tell(name, Change::Down(*reason)) {
                    tracing::warn!(target_name = name, group, %address, %reason, error = message, "target is down");
                } else {
                    tracing::debug!(target_name = name, group, %address, %reason, error = message, "target is down");
                }
            }
            // Only what was down before this run can be up again: the first run may fail at a server that answers.
            _ if self.item.target_stats().failures() > u64::from(outcome.is_err()) => {
                if news.may_tell(name, Change::Up) {
                    tracing::info!(target_name = name, group, %address, "target is up again");
                }
            }
            // A fleet that starts is no news target by target.
            _ => tracing::debug!(target_name = name, group, %address, "target is up"),
        }
    }

    fn log_item(&self, trouble: Option<(Trouble, String)>) {
        let mut last = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *last, trouble.as_ref().map(|(trouble, _)| *trouble));
        drop(last);
        let item = self.item.id();
        let after = trouble.as_ref().map(|(trouble, _)| *trouble);
        if after == before {
            return;
        }
        let change = match after {
            Some(Trouble::Failed(reason)) => Change::Fails(reason),
            Some(Trouble::NotANumber) => Change::Incomplete,
            None => Change::Well,
        };
        if !self.metrics.news.may_tell(&item.to_string(), change) {
            return;
        }
        match trouble {
            Some((Trouble::Failed(reason), error)) => tracing::warn!(%item, %reason, error, "item fails"),
            Some((Trouble::NotANumber, error)) => tracing::warn!(%item, error, "item is incomplete"),
            None => tracing::info!(%item, "item is well again"),
        }
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.item, &other.item) || self.item == other.item
    }
}

impl fleet_scheduler::Job for Job {
    async fn run(&self, start: Start) -> Verdict {
        self.metrics.lateness.observe(start.lateness.as_secs_f64());
        let report = match self.item.run(start.lane, start.start_by).await {
            Ok(report) => report,
            Err(NotStarted::NoPermit) => return Verdict::NotStarted(Missed::NoPermit),
            Err(NotStarted::TargetDown) => return Verdict::NotStarted(Missed::TargetDown),
        };
        self.metrics.permit_wait.observe((start.waited + report.waited).as_secs_f64());
        // Where the query is not for the server nothing ran.
        if !matches!(report.outcome, Ok(None)) {
            self.duration.observe(report.duration.as_secs_f64());
        }
        self.item.note(start.lateness + start.waited, &report);
        if let Some(keeper) = &self.keeper {
            keeper.ran(&self.item, &report);
        }
        self.log(&report);
        verdict(&report.outcome)
    }

    fn missed(&self, reason: Missed, ticks: u64) {
        let place = match reason {
            Missed::Running => 0,
            Missed::NoPermit => 1,
            Missed::TargetDown => 2,
            Missed::Stopped => 3,
        };
        self.item.target_stats().missed(place, ticks);
        if reason == Missed::TargetDown {
            self.item.passed_over();
        }
    }

    fn panicked(&self, message: &str) {
        self.metrics.panics.inc();
        let failure = self.item.panicked(message);
        self.log_item(Some((Trouble::Failed(failure.reason), failure.message)));
    }

    fn way_since(&self, before: &Self) -> Way {
        match (self.item.shares_lanes(&before.item), self.item.shares_server(&before.item)) {
            (true, _) => Way::Same,
            (false, true) => Way::Changed,
            (false, false) => Way::OtherServer,
        }
    }
}

fn verdict(outcome: &Result<Option<Success>, Failure>) -> Verdict {
    match outcome {
        Err(failure) if failure.is_down() => Verdict::Down(match failure.reason {
            Reason::Auth | Reason::Blocked => REFUSED,
            Reason::TooManyConnections => CROWDED,
            _ => NO_ANSWER,
        }),
        // What may pass by itself. An error of the query itself does not; it fails at its own pace.
        Err(Failure {
            reason: Reason::Timeout | Reason::Killed | Reason::Lost | Reason::Protocol | Reason::ServerError,
            ..
        }) => Verdict::Failed,
        _ => Verdict::Answered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_without_an_answer_or_a_refused_login_backs_off_and_by_its_class() {
        #[track_caller]
        fn check(failure: Failure, expected: Verdict) {
            assert_eq!(verdict(&Err(failure)), expected);
        }
        check(Failure::unanswered(Reason::Refused, ""), Verdict::Down(NO_ANSWER));
        check(Failure::unanswered(Reason::Timeout, ""), Verdict::Down(NO_ANSWER));
        check(Failure::answered(Reason::Auth, ""), Verdict::Down(REFUSED));
        check(Failure::answered(Reason::Blocked, ""), Verdict::Down(REFUSED));
        check(Failure::answered(Reason::TooManyConnections, ""), Verdict::Down(CROWDED));
        for reason in [Reason::Syntax, Reason::Denied, Reason::Mapping, Reason::TooLarge] {
            check(Failure::answered(reason, ""), Verdict::Answered);
        }
        for reason in [Reason::Timeout, Reason::Killed, Reason::Lost, Reason::ServerError] {
            check(Failure::answered(reason, ""), Verdict::Failed);
        }
    }
}
