//! Whether a page will be made briefly, as far as the last ones of its kind can tell.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::negotiate::{Encoding, Format};

/// What counts as brief: publishing a large result takes as long.
const BRIEF: Duration = Duration::from_millis(2);

/// In this time little changes, however short it was between the last pages.
const SOON: Duration = Duration::from_millis(100);

/// What whole pages took, of each kind.
#[derive(Debug, Default)]
pub(crate) struct Made(Mutex<HashMap<(Format, Encoding), Last>>);

/// The last page of a kind.
#[derive(Debug, Clone, Copy)]
struct Last {
    began: Instant,
    /// How long that was after the one before it.
    gap: Duration,
    took: Duration,
    /// The items that were on it.
    layout: u64,
}

impl Made {
    /// A page with the items of this layout was begun then and is there now.
    pub(crate) fn note(&self, kind: (Format, Encoding), layout: u64, began: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = all.get(&kind).map_or(Duration::ZERO, |last| began - last.began);
        all.insert(kind, Last { began, gap, took: began.elapsed(), layout });
    }

    /// Whether one that is begun now will likely take no longer than [`BRIEF`]: the last one did, of the same items, and
    /// not much more can have changed since it than between it and the one before.
    pub(crate) fn promises_brief(&self, kind: (Format, Encoding), layout: u64) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&kind).is_some_and(|last| {
            last.took <= BRIEF && last.layout == layout && last.began.elapsed() <= (last.gap * 2).max(SOON)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const KIND: (Format, Encoding) = (Format::Classic, Encoding::Gzip);

    /// Pages that begin so many milliseconds after the last one and take so many; then whether one is promised to be
    /// brief so much later.
    async fn check(pages: &[(u64, u64)], later: u64, expected: bool) {
        let made = Made::default();
        for (after, takes) in pages {
            advance(Duration::from_millis(*after)).await;
            let began = Instant::now();
            advance(Duration::from_millis(*takes)).await;
            made.note(KIND, 1, began);
        }
        advance(Duration::from_millis(later)).await;
        assert_eq!(made.promises_brief(KIND, 1), expected, "{pages:?} {later}");
        assert!(!made.promises_brief(KIND, 2), "other items");
        assert!(!made.promises_brief((Format::OpenMetrics, Encoding::Gzip), 1), "another kind");
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_is_brief_if_the_last_one_was_and_little_has_changed_since() {
        check(&[], 0, false).await;
        check(&[(0, 1)], 99, true).await;
        check(&[(0, 1)], 100, false).await;
        check(&[(0, 3)], 1, false).await;
        check(&[(0, 30), (15_000, 1)], 15_000, true).await;
        check(&[(0, 30), (15_000, 1)], 30_059, true).await;
        check(&[(0, 30), (15_000, 1)], 30_060, false).await;
        check(&[(0, 1), (15_000, 3)], 15_000, false).await;
        check(&[(0, 1), (15_000, 1), (1, 1)], 110, false).await;
    }
}
