//! Which interval holds: the configuration's, or the one that somebody wrote into the item's row.
//!
//! A row is somebody's if it differs from the configuration and from what we last wrote there. It wins until it is put
//! back: to 0, to NULL, to what the configuration says, or deleted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{Items, KnownItem, Overrides};

/// What a row says of the interval, in seconds; None is NULL.
pub(crate) type Written = Option<i64>;

/// The interval as the table shows it: in seconds, rounded, at least one.
pub(crate) fn seconds(interval: Duration) -> i64 {
    let rounded = (interval + Duration::from_millis(500)).as_secs().max(1);
    i64::try_from(rounded).unwrap_or(i64::MAX).min(i32::MAX.into())
}

/// Which interval holds for one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The configuration's, as the row says too, where there is one.
    Configured,
    /// The configuration's, and the row is to say so as well.
    Follow,
    /// The row's.
    Override(Duration),
    /// The configuration's: what the row says is out of bounds.
    Refused(i64),
}

fn judge(known: &KnownItem, row: Option<Written>, remembered: Option<i64>) -> Verdict {
    let configured = seconds(known.interval);
    match row {
        None => Verdict::Configured,
        Some(Some(value)) if value == configured => Verdict::Configured,
        Some(None | Some(0)) => Verdict::Follow,
        Some(value) if value == remembered => Verdict::Follow,
        Some(Some(value)) => {
            let interval = u64::try_from(value).map(Duration::from_secs);
            match interval {
                Ok(interval) if (known.shortest..=known.longest).contains(&interval) => {
                    Verdict::Override(interval)
                }
                _ => Verdict::Refused(value),
            }
        }
    }
}

/// The rows as last read, and what came of them.
#[derive(Debug, Default)]
pub(crate) struct Intervals {
    /// Each item's row, and the part of the table where it was found.
    rows: HashMap<Arc<str>, (Part, Written)>,
    /// What we last wrote, or would have found right: the configuration's seconds of that time.
    remembered: HashMap<Arc<str>, i64>,
    /// What was refused, so that it is said once.
    refused: HashMap<Arc<str>, i64>,
    /// Rows that name no item of ours, by part.
    unknown: HashMap<Part, u64>,
}

/// A part of the table, which is read anew when something in it has changed.
pub(crate) type Part = u8;

/// What is to be done once the rows are judged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// The intervals that hold in place of the configuration's.
    pub(crate) overrides: Overrides,
    /// Rows that are to follow the configuration: what they say, what they are to say, whose they are.
    pub(crate) follow: BTreeMap<(Written, i64), Vec<Arc<str>>>,
    /// What was refused and not said before.
    pub(crate) refused: Vec<(Arc<str>, i64)>,
}

impl Intervals {
    /// What an earlier session remembered, where the store keeps it.
    pub(crate) fn remember(&mut self, remembered: impl IntoIterator<Item = (Arc<str>, i64)>) {
        self.remembered.extend(remembered);
    }

    /// These parts are read anew: forgets their rows.
    pub(crate) fn forget_parts(&mut self, changed: impl Fn(Part) -> bool) {
        self.rows.retain(|_, (part, _)| !changed(*part));
        self.unknown.retain(|part, _| !changed(*part));
    }

    /// A row was read.
    pub(crate) fn saw(&mut self, item: Option<Arc<str>>, part: Part, written: Written) {
        if let Some(item) = item {
            self.rows.insert(item, (part, written));
        } else {
            *self.unknown.entry(part).or_default() += 1;
        }
    }

    /// Rows that name no item of ours.
    pub(crate) fn unknown(&self) -> u64 {
        self.unknown.values().sum()
    }

    /// Says which interval holds for each item.
    pub(crate) fn judge(&mut self, items: &Items) -> Judged {
        let mut judged = Judged::default();
        let mut refused = HashMap::new();
        for (item, known) in items {
            let row = self.rows.get(item).map(|(_, written)| *written);
            match judge(known, row, self.remembered.get(item).copied()) {
                Verdict::Configured => {}
                Verdict::Follow => {
                    let change = (row.flatten(), seconds(known.interval));
                    judged.follow.entry(change).or_default().push(Arc::clone(item));
                }
                Verdict::Override(interval) => {
                    judged.overrides.insert(Arc::clone(item), interval);
                }
                Verdict::Refused(value) => {
                    if self.refused.get(item) != Some(&value) {
                        judged.refused.push((Arc::clone(item), value));
                    }
                    refused.insert(Arc::clone(item), value);
                }
            }
        }
        self.refused = refused;
        judged
    }

    /// These rows say this now, as far as they said what we thought.
    pub(crate) fn followed(&mut self, items: &[Arc<str>], seconds: i64) {
        for item in items {
            if let Some((_, written)) = self.rows.get_mut(item) {
                *written = Some(seconds);
            }
        }
    }

    /// Brings what is remembered up to the configuration; returns what has changed. To be called when all rows that
    /// are to follow do: a row that still says what was remembered would be taken for somebody's.
    pub(crate) fn settle(&mut self, items: &Items) -> Vec<(Arc<str>, i64)> {
        self.remembered.retain(|item, _| items.contains_key(item));
        let mut changed = Vec::new();
        for (item, known) in items {
            let now = seconds(known.interval);
            if self.remembered.get(item) != Some(&now) {
                self.remembered.insert(Arc::clone(item), now);
                changed.push((Arc::clone(item), now));
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(seconds: u64) -> KnownItem {
        KnownItem {
            interval: Duration::from_secs(seconds),
            shortest: Duration::from_secs(2),
            longest: Duration::from_secs(100),
        }
    }

    #[test]
    fn a_row_wins_until_it_is_put_back() {
        #[track_caller]
        fn check(configured: u64, row: Option<Written>, remembered: Option<i64>, expected: Verdict) {
            assert_eq!(judge(&known(configured), row, remembered), expected);
        }
        let interval = |seconds| Verdict::Override(Duration::from_secs(seconds));
        // No row yet, a deleted one, one that agrees.
        check(10, None, None, Verdict::Configured);
        check(10, None, Some(10), Verdict::Configured);
        check(10, Some(Some(10)), Some(10), Verdict::Configured);
        // Somebody's.
        check(10, Some(Some(3)), Some(10), interval(3));
        check(10, Some(Some(3)), None, interval(3));
        // Put back.
        check(10, Some(Some(0)), Some(10), Verdict::Follow);
        check(10, Some(None), Some(10), Verdict::Follow);
        // The configuration has changed: our own row follows, somebody's stays.
        check(20, Some(Some(10)), Some(10), Verdict::Follow);
        check(20, Some(Some(3)), Some(10), interval(3));
        check(3, Some(Some(3)), Some(10), Verdict::Configured);
        // Out of bounds.
        check(10, Some(Some(1)), Some(10), Verdict::Refused(1));
        check(10, Some(Some(101)), Some(10), Verdict::Refused(101));
        check(10, Some(Some(-5)), Some(10), Verdict::Refused(-5));
        check(10, Some(Some(i64::MIN)), None, Verdict::Refused(i64::MIN));
    }

    #[test]
    fn what_is_refused_is_said_once_for_each_value() {
        let item: Arc<str> = "q@t".into();
        let items = Items::from([(Arc::clone(&item), known(10))]);
        let mut intervals = Intervals::default();
        let mut refused = |value| {
            intervals.saw(Some(Arc::clone(&item)), 0, Some(value));
            intervals.judge(&items).refused.into_iter().map(|(_, value)| value).collect::<Vec<_>>()
        };
        assert_eq!(refused(500), [500]);
        assert_eq!(refused(500), [0; 0]);
        assert_eq!(refused(600), [600]);
        assert_eq!(refused(10), [0; 0]);
        assert_eq!(refused(600), [600]);
    }

    #[test]
    fn a_changed_configuration_takes_its_own_rows_along() {
        let (ours, theirs): (Arc<str>, Arc<str>) = ("ours@t".into(), "theirs@t".into());
        let items = |seconds| {
            Items::from([(Arc::clone(&ours), known(seconds)), (Arc::clone(&theirs), known(seconds))])
        };
        let mut intervals = Intervals::default();
        assert_eq!(intervals.settle(&items(10)).len(), 2);
        intervals.saw(Some(Arc::clone(&ours)), 1, Some(10));
        intervals.saw(Some(Arc::clone(&theirs)), 2, Some(3));
        intervals.saw(None, 2, Some(7));
        let judged = intervals.judge(&items(20));
        assert_eq!(judged.overrides, Overrides::from([(Arc::clone(&theirs), Duration::from_secs(3))]));
        assert_eq!(judged.follow, BTreeMap::from([((Some(10), 20), vec![Arc::clone(&ours)])]));
        intervals.followed(&[Arc::clone(&ours)], 20);
        assert_eq!(intervals.settle(&items(20)).len(), 2);
        assert_eq!(intervals.judge(&items(20)).follow, BTreeMap::new());
        assert_eq!(intervals.settle(&items(20)), []);
        // The part of a row that was deleted is read anew, and the row is not there.
        assert_eq!(intervals.unknown(), 1);
        intervals.forget_parts(|part| part == 2);
        assert_eq!((intervals.judge(&items(20)).overrides, intervals.unknown()), (Overrides::new(), 0));
    }

    #[test]
    fn the_table_shows_seconds() {
        #[track_caller]
        fn check(milliseconds: u64, expected: i64) {
            assert_eq!(seconds(Duration::from_millis(milliseconds)), expected);
        }
        check(1, 1);
        check(1_499, 1);
        check(1_500, 2);
        check(86_400_000, 86_400);
        check(u64::MAX, i32::MAX.into());
    }
}
