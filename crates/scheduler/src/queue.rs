//! Permits of the whole fleet, and who holds them or waits for one.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limit::Limit;

/// So many at once, first come, first served.
#[derive(Debug)]
pub(crate) struct Queue {
    permits: Limit,
    waiting: AtomicUsize,
}

impl Queue {
    /// A queue for this many at once, at least one.
    pub(crate) fn new(limit: usize) -> Self {
        Self { permits: Limit::new(limit), waiting: AtomicUsize::new(0) }
    }

    /// This many from now on. Those that are held go on.
    pub(crate) fn resize(&self, limit: usize) {
        self.permits.resize(limit);
    }

    /// How many there are.
    pub(crate) fn limit(&self) -> usize {
        self.permits.size()
    }

    /// Permits that are held.
    pub(crate) fn in_flight(&self) -> usize {
        self.permits.in_use()
    }

    /// Those that wait for one, or for their target's.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The target's permit first, the fleet's second: the other order lets a few hanging targets hold the permits of
    /// all. Both at once where both are free.
    pub(crate) fn try_both(
        &self,
        lanes: &Arc<Semaphore>,
    ) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let lane = Arc::clone(lanes).try_acquire_owned().ok()?;
        Some((lane, Arc::clone(self.permits.permits()).try_acquire_owned().ok()?))
    }

    /// The same, waiting for as long as the caller waits for this.
    pub(crate) async fn both(
        &self,
        lanes: &Arc<Semaphore>,
    ) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let _waiting = Counted::new(&self.waiting);
        // Neither semaphore is ever closed.
        let lane = Arc::clone(lanes).acquire_owned().await.ok()?;
        Some((lane, Arc::clone(self.permits.permits()).acquire_owned().await.ok()?))
    }
}

/// One more in a count, for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
