//! Connects over the whole fleet: so many at once, half of them for targets that are not known to be down.

use std::sync::Arc;

use tokio::{
    select,
    sync::{AcquireError, OwnedSemaphorePermit},
};

use crate::permits::Permits;

/// Permits to open a connection.
#[derive(Debug)]
pub(crate) struct Connects {
    /// For whoever comes first.
    open: Permits,
    /// For targets that are not down: they connect within milliseconds, and those may hang for seconds each.
    kept: Permits,
}

impl Connects {
    /// This many at once, at least one; half of them is kept.
    pub(crate) fn new(limit: usize) -> Self {
        let (open, kept) = shared_out(limit);
        Self { open: Permits::new(open), kept: Permits::new(kept) }
    }

    /// This many from now on. Those under way go on.
    pub(crate) fn resize(&self, limit: usize) {
        let (open, kept) = shared_out(limit);
        self.open.resize(open);
        self.kept.resize(kept);
    }

    /// How many there may be at once.
    pub(crate) fn limit(&self) -> usize {
        self.open.size() + self.kept.size()
    }

    /// How many of them may be to targets that are down.
    pub(crate) fn open_to_all(&self) -> usize {
        self.open.size()
    }

    /// How many there are.
    pub(crate) fn in_flight(&self) -> usize {
        self.open.in_use() + self.kept.in_use()
    }

    /// One permit, for a target that is known to be down or for another; first come, first served.
    pub(crate) async fn acquire(&self, down: bool) -> Result<OwnedSemaphorePermit, AcquireError> {
        let open = Arc::clone(self.open.semaphore()).acquire_owned();
        if down {
            return open.await;
        }
        select! {
            biased;
            permit = open => permit,
            permit = Arc::clone(self.kept.semaphore()).acquire_owned() => permit,
        }
    }
}

/// How many of so many are for whoever comes first, and how many are kept.
fn shared_out(limit: usize) -> (usize, usize) {
    let limit = limit.max(1);
    (limit - limit / 2, limit / 2)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn targets_that_are_down_leave_half_to_the_others() {
        #[track_caller]
        fn check(limit: usize, down: usize) {
            let connects = Connects::new(7);
            connects.resize(limit);
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
