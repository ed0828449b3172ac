//! Connects over the whole fleet: so many at once, half of them for targets that are not known to be down.

use std::sync::Arc;

use tokio::{
    select,
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
};

/// Permits to open a connection.
#[derive(Debug)]
pub(crate) struct Connects {
    /// For whoever comes first.
    open: Arc<Semaphore>,
    /// For targets that are not down: they connect within milliseconds, and those may hang for seconds each.
    kept: Arc<Semaphore>,
    n_open: usize,
    n_kept: usize,
}

impl Connects {
    /// This many at once, at least one; half of them is kept.
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        let (n_open, n_kept) = (limit - limit / 2, limit / 2);
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { open: semaphore(n_open), kept: semaphore(n_kept), n_open, n_kept }
    }

    /// How many there may be at once.
    pub(crate) fn limit(&self) -> usize {
        self.n_open + self.n_kept
    }

    /// How many of them may be to targets that are down.
    pub(crate) fn open_to_all(&self) -> usize {
        self.n_open
    }

    /// How many there are.
    pub(crate) fn in_flight(&self) -> usize {
        self.limit() - self.open.available_permits() - self.kept.available_permits()
    }

    /// One permit, for a target that is known to be down or for another; first come, first served.
    pub(crate) async fn acquire(&self, down: bool) -> Result<OwnedSemaphorePermit, AcquireError> {
        let open = Arc::clone(&self.open).acquire_owned();
        if down {
            return open.await;
        }
        select! {
            biased;
            permit = open => permit,
            permit = Arc::clone(&self.kept).acquire_owned() => permit,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn targets_that_are_down_leave_half_to_the_others() {
        #[track_caller]
        fn check(limit: usize, down: usize) {
            let connects = Connects::new(limit);
            let take = |down| connects.acquire(down).now_or_never().map(Result::unwrap);
            let mut held: Vec<_> = std::iter::from_fn(|| take(true)).collect();
            assert_eq!((held.len(), connects.open_to_all()), (down, down));
            held.extend(std::iter::from_fn(|| take(false)));
            assert_eq!((held.len(), connects.in_flight()), (limit.max(1), connects.limit()));
            held.clear();
            let held: Vec<_> = std::iter::from_fn(|| take(false)).collect();
            assert_eq!(held.len(), limit.max(1), "the others may have all");
        }
        check(0, 1);
        check(1, 1);
        check(3, 2);
        check(32, 16);
    }
}
