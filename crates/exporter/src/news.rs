//! How much the log tells of targets and items: changes, and no more of them than somebody can read.
//!
//! A change is one line, but of many at once the first ones only, and of who changes again and again the first three
//! in a while; the rest is counted and told in sums. Who stays down is told of every ten minutes.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fleet_collector::{Reason, TargetStats};
use tokio::time::Instant;

/// Lines about changes in one [`WINDOW`].
const LINES: usize = 20;

/// How soon what was too much is told in sums.
const WINDOW: Duration = Duration::from_secs(10);

/// Lines about one target or item in one [`PERIOD`]: that something is wrong, that it has become something else, and that
/// it is over.
const LINES_OF_ONE: u32 = 3;

/// How often the log tells who is down, and who changes again and again.
const PERIOD: Duration = Duration::from_mins(10);

/// Names in one line.
const NAMES: usize = 5;

/// What may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// A target is down.
    Down(Reason),
    /// It is up again.
    Up,
    /// An item fails though its target answers.
    Fails(Reason),
    /// An item's results lack something.
    Incomplete,
    /// An item is well again.
    Well,
}

/// What has been told, and what not yet.
#[derive(Debug)]
pub(crate) struct News(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Of whoever has changed in this period.
    told: BTreeMap<String, Told>,
    window: Instant,
    lines: usize,
    untold: BTreeMap<Change, usize>,
    period: Instant,
}

#[derive(Debug, Default)]
struct Told {
    lines: u32,
    /// Changes beyond them.
    more: usize,
}

impl News {
    /// Nothing has happened yet.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        let (told, untold) = (BTreeMap::new(), BTreeMap::new());
        Self(Mutex::new(State { told, window: now, lines: 0, untold, period: now }))
    }

    /// Whether this change of a target or an item gets a line of its own. What does not is told later.
    pub(crate) fn may_tell(&self, of: &str, change: Change) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).may_tell(of, change)
    }

    /// Writes the sums that are due. To be called each second.
    pub(crate) fn tell(&self, targets: &[Arc<TargetStats>]) {
        let now = Instant::now();
        let (more, period) = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (state.window_over(now), state.period_over(now))
        };
        if let Some(more) = more {
            tracing::warn!("there is more news than lines: {more}");
        }
        let Some(unsteady) = period else { return };
        if !unsteady.is_empty() {
            tracing::warn!("these change again and again, in the last ten minutes: {unsteady}");
        }
        let down = targets.iter().filter(|target| !target.is_up());
        let down = down.filter_map(|target| Some((&**target.name(), target.reason()?)));
        if let Some(down) = who_is_down(&down.collect::<Vec<_>>(), targets.len()) {
            tracing::warn!("{down}");
        }
    }
}

impl State {
    fn may_tell(&mut self, of: &str, change: Change) -> bool {
        let told = self.told.entry(of.to_owned()).or_default();
        if told.lines == LINES_OF_ONE {
            told.more += 1;
            return false;
        }
        told.lines += 1;
        if self.lines == LINES {
            *self.untold.entry(change).or_default() += 1;
            return false;
        }
        self.lines += 1;
        true
    }

    /// What else has changed, if it is time to say so.
    fn window_over(&mut self, now: Instant) -> Option<String> {
        if now.saturating_duration_since(self.window) < WINDOW {
            return None;
        }
        (self.window, self.lines) = (now, 0);
        let untold = std::mem::take(&mut self.untold);
        let parts = untold.iter().map(|(change, n)| match change {
            Change::Down(reason) => format!("{n} more down ({reason})"),
            Change::Up => format!("{n} more up again"),
            Change::Fails(reason) => format!("{n} more items fail ({reason})"),
            Change::Incomplete => format!("{n} more items incomplete"),
            Change::Well => format!("{n} more items well again"),
        });
        (!untold.is_empty()).then(|| parts.collect::<Vec<_>>().join(", "))
    }

    /// Who has changed more often than was told, maybe nobody, if it is time to say so.
    fn period_over(&mut self, now: Instant) -> Option<String> {
        if now.saturating_duration_since(self.period) < PERIOD {
            return None;
        }
        self.period = now;
        let told = std::mem::take(&mut self.told);
        let mut unsteady: Vec<_> = told.iter().filter(|(_, told)| told.more > 0).collect();
        unsteady.sort_by_key(|(_, told)| std::cmp::Reverse(told.more));
        let times = |told: &Told| told.more + LINES_OF_ONE as usize;
        let names = unsteady.iter().map(|(name, told)| format!("{name} ({} times)", times(told)));
        Some(some_of(names))
    }
}

/// How many are down and why, and some of their names; None if nobody is.
fn who_is_down(down: &[(&str, Reason)], targets: usize) -> Option<String> {
    if down.is_empty() {
        return None;
    }
    let mut reasons: BTreeMap<Reason, usize> = BTreeMap::new();
    for (_, reason) in down {
        *reasons.entry(*reason).or_default() += 1;
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let reasons = reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect::<Vec<_>>().join(", ");
    let are = if down.len() == 1 { "is" } else { "are" };
    let names = some_of(down.iter().map(|(name, _)| (*name).to_owned()));
    Some(format!("{} of {targets} targets {are} down: {reasons}; {names}", down.len()))
}

fn some_of(names: impl ExactSizeIterator<Item = String>) -> String {
    let n = names.len();
    let mut text = names.take(NAMES).collect::<Vec<_>>().join(", ");
    if n > NAMES {
        let _ = write!(text, " and {} more", n - NAMES);
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const REFUSED: Change = Change::Down(Reason::Refused);

    /// What is written of these changes, at these seconds.
    #[expect(clippy::needless_pass_by_value, reason = "a case reads as one expression")]
    fn check(changes: &[(u64, &str, Change)], seconds: u64, expected: Expect) {
        let begun = Instant::now();
        let mut state = News::new().0.into_inner().unwrap();
        (state.window, state.period) = (begun, begun);
        let mut text = String::new();
        for second in 0..=seconds {
            let now = begun + Duration::from_secs(second);
            for (_, of, change) in changes.iter().filter(|(at, ..)| *at == second) {
                if state.may_tell(of, *change) {
                    writeln!(text, "{second} {of} {change:?}").unwrap();
                }
            }
            if let Some(more) = state.window_over(now) {
                writeln!(text, "{second} {more}").unwrap();
            }
            if let Some(unsteady) = state.period_over(now).filter(|unsteady| !unsteady.is_empty()) {
                writeln!(text, "{second} unsteady: {unsteady}").unwrap();
            }
        }
        expected.assert_eq(&text);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_a_line() {
        let fails = Change::Fails(Reason::Timeout);
        check(
            &[(1, "db1", REFUSED), (30, "db1", Change::Up), (700, "db1", REFUSED), (701, "q@db2", fails)],
            1300,
            expect![[r"
                1 db1 Down(Refused)
                30 db1 Up
                700 db1 Down(Refused)
                701 q@db2 Fails(Timeout)
            "]],
        );
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_at_once_the_first_have_lines_and_the_rest_is_a_sum() {
        let names: Vec<_> = (0..500).map(|n| format!("db{n:03}")).collect();
        let reason = |n: usize| if n.is_multiple_of(5) { Reason::ConnectTimeout } else { Reason::Refused };
        let mut changes: Vec<_> =
            names.iter().enumerate().map(|(n, name)| (5, &**name, Change::Down(reason(n)))).collect();
        changes.drain(1..19);
        changes.extend(names.iter().map(|name| (12, &**name, Change::Up)).skip(499));
        check(
            &changes,
            30,
            expect![[r"
            5 db000 Down(ConnectTimeout)
            5 db019 Down(Refused)
            5 db020 Down(ConnectTimeout)
            5 db021 Down(Refused)
            5 db022 Down(Refused)
            5 db023 Down(Refused)
            5 db024 Down(Refused)
            5 db025 Down(ConnectTimeout)
            5 db026 Down(Refused)
            5 db027 Down(Refused)
            5 db028 Down(Refused)
            5 db029 Down(Refused)
            5 db030 Down(ConnectTimeout)
            5 db031 Down(Refused)
            5 db032 Down(Refused)
            5 db033 Down(Refused)
            5 db034 Down(Refused)
            5 db035 Down(ConnectTimeout)
            5 db036 Down(Refused)
            5 db037 Down(Refused)
            10 370 more down (refused), 92 more down (connect_timeout)
            12 db499 Up
        "]],
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_changes_again_and_again_is_told_of_thrice_and_then_in_sum() {
        let changes: Vec<_> =
            (0..100).map(|n| (n * 5, "db1", if n % 2 == 0 { REFUSED } else { Change::Up })).collect();
        check(
            &changes,
            700,
            expect![[r"
                0 db1 Down(Refused)
                5 db1 Up
                10 db1 Down(Refused)
                600 unsteady: db1 (100 times)
            "]],
        );
    }

    #[test]
    fn a_summary_says_how_many_are_down_why_and_who() {
        #[track_caller]
        fn check(refused: usize, mute: usize, expected: Option<&str>) {
            let names: Vec<_> = (0..refused + mute).map(|n| format!("db{n}")).collect();
            let reason = |n| if n < refused { Reason::Refused } else { Reason::ConnectTimeout };
            let down: Vec<_> = names.iter().enumerate().map(|(n, name)| (&**name, reason(n))).collect();
            assert_eq!(who_is_down(&down, 500).as_deref(), expected);
        }
        check(0, 0, None);
        check(0, 1, Some("1 of 500 targets is down: 1 connect_timeout; db0"));
        check(2, 1, Some("3 of 500 targets are down: 2 refused, 1 connect_timeout; db0, db1, db2"));
        check(
            7,
            30,
            Some(
                "37 of 500 targets are down: 30 connect_timeout, 7 refused; db0, db1, db2, db3, db4 and 32 more",
            ),
        );
    }
}
