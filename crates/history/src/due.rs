//! Which results are to be written when: each item's at most once in its pause, whatever it does.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Due {
    /// Those that changed since they were written, by when they may be written again.
    waiting: BTreeSet<(Instant, Arc<str>)>,
    items: HashMap<Arc<str>, Item>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Item {
    written: Option<Instant>,
    due: Option<Instant>,
}

impl Due {
    /// The item's result has changed; `pause` is the shortest time between two writes of it.
    pub(crate) fn changed(&mut self, item: &Arc<str>, pause: Duration, now: Instant) {
        let known = self.items.entry(Arc::clone(item)).or_default();
        if known.due.is_none() {
            let due = known.written.map_or(now, |written| (written + pause).max(now));
            known.due = Some(due);
            self.waiting.insert((due, Arc::clone(item)));
        }
    }

    /// The first so many that may be written by `until`, or of all. They stay until they are [`done`](Self::done).
    pub(crate) fn first(&self, until: Option<Instant>, most: usize) -> Vec<Arc<str>> {
        let due = self.waiting.iter().take_while(|(due, _)| until.is_none_or(|until| *due <= until));
        due.take(most).map(|(_, item)| Arc::clone(item)).collect()
    }

    /// The item's result of this moment was written, or there is nothing to write.
    pub(crate) fn done(&mut self, item: &Arc<str>, now: Instant) {
        let Some(known) = self.items.get_mut(item) else { return };
        known.written = Some(now);
        if let Some(due) = known.due.take() {
            self.waiting.remove(&(due, Arc::clone(item)));
        }
    }

    /// Forgets the items that are not wanted any more.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.waiting.retain(|(_, item)| wanted(item));
        self.items.retain(|item, _| wanted(item));
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_written_at_once_and_then_once_in_its_pause() {
        let second = Duration::from_secs(1);
        let begun = Instant::now();
        let at = |seconds: u32| begun + second * seconds;
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let pause = 60 * second;
        let mut due = Due::default();
        due.changed(&a, pause, at(0));
        due.changed(&b, pause, at(1));
        assert_eq!(due.first(Some(at(0)), 9), [Arc::clone(&a)]);
        assert_eq!(due.first(Some(at(1)), 9), [Arc::clone(&a), Arc::clone(&b)]);
        assert_eq!(due.first(Some(at(1)), 1), [Arc::clone(&a)]);
        due.done(&a, at(1));
        assert_eq!(due.first(Some(at(1)), 9), [Arc::clone(&b)]);
        // Many changes are one write, when the pause is over.
        due.changed(&a, pause, at(2));
        due.changed(&a, pause, at(30));
        assert_eq!(due.len(), 2);
        assert_eq!(due.first(Some(at(60)), 9), [Arc::clone(&b)]);
        assert_eq!(due.first(Some(at(61)), 9), [Arc::clone(&b), Arc::clone(&a)]);
        // A change after a longer silence is written at once.
        due.done(&a, at(61));
        due.changed(&a, pause, at(300));
        assert_eq!(due.first(Some(at(300)), 9), [Arc::clone(&b), Arc::clone(&a)]);
        due.retain(|item| item == "a");
        assert_eq!((due.len(), due.first(Some(at(300)), 9)), (1, vec![Arc::clone(&a)]));
        due.done(&a, at(300));
        due.changed(&a, pause, at(301));
        assert_eq!((due.first(Some(at(301)), 9), due.first(None, 9)), (vec![], vec![a]));
    }
}
