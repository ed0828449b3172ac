//! The dirty map: the newest run of each item that the store does not have yet. One note for each item, however many runs
//! there were and however long the store is away.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::Run;

#[derive(Debug, Default)]
pub(crate) struct Dirty {
    notes: HashMap<Arc<str>, Note>,
    /// The items in the order in which they are to be written.
    order: BTreeMap<u64, Arc<str>>,
    /// Counts notes; the next place in the order.
    count: u64,
}

#[derive(Debug, Clone, Copy)]
struct Note {
    run: Run,
    place: u64,
    /// The count when its run was noted, which tells this run from an earlier one.
    version: u64,
    /// Since when something of the item is not written.
    since: Instant,
    /// When its run was noted.
    noted: Instant,
}

/// A run that is being written.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) item: Arc<str>,
    pub(crate) run: Run,
    version: u64,
}

impl Dirty {
    /// Notes a run in place of an earlier one of the item.
    pub(crate) fn note(&mut self, item: &Arc<str>, run: Run, now: Instant) {
        self.count += 1;
        let version = self.count;
        if let Some(note) = self.notes.get_mut(item) {
            let has_result = run.has_result || note.run.has_result;
            note.run = Run { has_result, ..run };
            note.version = version;
            note.noted = now;
        } else {
            let note = Note { run, place: version, version, since: now, noted: now };
            self.notes.insert(Arc::clone(item), note);
            self.order.insert(version, Arc::clone(item));
        }
    }

    /// The first so many in the order. They stay until they are [`written`](Self::written).
    pub(crate) fn first(&self, most: usize) -> Vec<Pending> {
        let pending = |item: &Arc<str>| {
            let note = &self.notes[item];
            Pending { item: Arc::clone(item), run: note.run, version: note.version }
        };
        self.order.values().take(most).map(pending).collect()
    }

    /// These are in the store. Who ran again meanwhile goes to the end of the order.
    pub(crate) fn written(&mut self, batch: &[Pending]) {
        for Pending { item, version, .. } in batch {
            let Some(note) = self.notes.get_mut(item) else { continue };
            self.order.remove(&note.place);
            if note.version == *version {
                self.notes.remove(item);
            } else {
                self.count += 1;
                note.place = self.count;
                note.since = note.noted;
                self.order.insert(note.place, Arc::clone(item));
            }
        }
    }

    /// Forgets the items that are not wanted any more.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.notes.retain(|item, _| wanted(item));
        self.order.retain(|_, item| self.notes.contains_key(item));
    }

    pub(crate) fn len(&self) -> usize {
        self.notes.len()
    }

    /// How long the oldest has waited.
    pub(crate) fn oldest(&self, now: Instant) -> Duration {
        let oldest = self.notes.values().map(|note| note.since).min();
        oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;

    /// What may happen to the map.
    #[derive(Debug, Clone)]
    enum Step {
        Ran {
            item: u8,
            value: i32,
            has_result: bool,
        },
        /// A batch of so many is begun.
        Begin(usize),
        /// The batch that is under way is in the store, or failed.
        End {
            written: bool,
        },
        /// Items from this one on are no longer configured.
        Retain(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..8_u8, any::<i32>(), any::<bool>())
                .prop_map(|(item, value, has_result)| Step::Ran { item, value, has_result }),
            2 => (1..5_usize).prop_map(Step::Begin),
            2 => any::<bool>().prop_map(|written| Step::End { written }),
            1 => (4..9_u8).prop_map(Step::Retain),
        ]
    }

    fn name(item: u8) -> Arc<str> {
        format!("q{item}@t").into()
    }

    fn run(value: i32, has_result: bool) -> Run {
        Run { at: SystemTime::UNIX_EPOCH, value: Some(value.into()), has_result }
    }

    proptest! {
        /// The model: every run that was noted, in order, and how many of each item's are in the store.
        #[test]
        fn what_is_not_written_is_pending_and_nothing_else(steps in prop::collection::vec(step(), 0..80)) {
            let mut dirty = Dirty::default();
            let mut noted: BTreeMap<Arc<str>, Vec<Run>> = BTreeMap::new();
            let mut stored: HashMap<Arc<str>, usize> = HashMap::new();
            let mut under_way: Option<Vec<(Pending, usize)>> = None;
            let now = Instant::now();
            for step in steps {
                match step {
                    Step::Ran { item, value, has_result } => {
                        dirty.note(&name(item), run(value, has_result), now);
                        noted.entry(name(item)).or_default().push(run(value, has_result));
                    }
                    Step::Begin(most) => {
                        let batch = dirty.first(most);
                        prop_assert_eq!(batch.len(), most.min(dirty.len()));
                        let so_far = |pending: Pending| {
                            let runs = noted[&pending.item].len();
                            (pending, runs)
                        };
                        under_way = Some(batch.into_iter().map(so_far).collect());
                    }
                    Step::End { written } => {
                        let Some(batch) = under_way.take() else { continue };
                        if !written {
                            continue;
                        }
                        let (batch, runs): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                        dirty.written(&batch);
                        for (pending, runs) in batch.iter().zip(runs) {
                            stored.insert(Arc::clone(&pending.item), runs);
                        }
                    }
                    Step::Retain(from) => {
                        let wanted = |item: &str| item < &*name(from);
                        dirty.retain(wanted);
                        noted.retain(|item, _| wanted(item));
                        stored.retain(|item, _| wanted(item));
                        if let Some(batch) = &mut under_way {
                            batch.retain(|(pending, _)| wanted(&pending.item));
                        }
                    }
                }
                let mut expected: Vec<(Arc<str>, Option<f64>, bool)> = Vec::new();
                for (item, runs) in &noted {
                    let unwritten = &runs[stored.get(item).copied().unwrap_or(0)..];
                    if let Some(last) = unwritten.last() {
                        // A result that was written with an earlier run may be asked for once more, never once less.
                        let has_result = unwritten.iter().any(|run| run.has_result);
                        expected.push((Arc::clone(item), last.value, has_result));
                    }
                }
                let mut found = dirty.first(usize::MAX);
                found.sort_by(|a, b| a.item.cmp(&b.item));
                prop_assert_eq!(found.len(), expected.len());
                prop_assert_eq!(dirty.len(), expected.len());
                for (pending, (item, value, has_result)) in found.iter().zip(&expected) {
                    prop_assert_eq!(&pending.item, item);
                    prop_assert_eq!(pending.run.value, *value);
                    prop_assert!(pending.run.has_result || !has_result);
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_is_the_one_that_has_waited_longest_since_it_was_written() {
        let mut dirty = Dirty::default();
        let second = Duration::from_secs(1);
        let begun = Instant::now();
        assert_eq!(dirty.oldest(begun), Duration::ZERO);
        dirty.note(&name(1), run(1, false), begun);
        let batch = dirty.first(1);
        dirty.note(&name(1), run(2, false), begun + 2 * second);
        assert_eq!(dirty.oldest(begun + 3 * second), 3 * second);
        dirty.written(&batch);
        assert_eq!(dirty.oldest(begun + 3 * second), second);
        dirty.written(&dirty.first(1));
        assert_eq!((dirty.len(), dirty.oldest(begun + 3 * second)), (0, Duration::ZERO));
    }

    #[test]
    fn who_runs_while_it_is_written_lets_the_others_go_first() {
        let now = Instant::now();
        let mut dirty = Dirty::default();
        for item in 0..3 {
            dirty.note(&name(item), run(1, false), now);
        }
        let batch = dirty.first(1);
        dirty.note(&name(0), run(2, false), now);
        dirty.written(&batch);
        let order: Vec<_> = dirty.first(9).into_iter().map(|pending| pending.item).collect();
        assert_eq!(order, [name(1), name(2), name(0)]);
    }
}
