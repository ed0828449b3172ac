//! A limit of permits that changes while some of them are out.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::FutureExt as _;
use tokio::{runtime::Handle, sync::Semaphore};

/// So many permits.
#[derive(Debug)]
pub(crate) struct Limit {
    permits: Arc<Semaphore>,
    size: AtomicUsize,
    /// Permits that there are, free or out: more than the limit while a lower one waits for those that are out.
    there: Arc<AtomicUsize>,
}

impl Limit {
    /// At least one.
    pub(crate) fn new(size: usize) -> Self {
        let size = clamped(size);
        let there = Arc::new(AtomicUsize::new(size));
        Self { permits: Arc::new(Semaphore::new(size)), size: AtomicUsize::new(size), there }
    }

    /// To acquire from. Never closed.
    pub(crate) fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }

    /// How many there may be.
    pub(crate) fn size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// How many are out.
    pub(crate) fn in_use(&self) -> usize {
        self.there.load(Ordering::Relaxed).saturating_sub(self.permits.available_permits())
    }

    /// Makes it so many, at least one. Where more are out, nobody gets another until enough have come back.
    pub(crate) fn resize(&self, size: usize) {
        let after = clamped(size);
        let before = self.size.swap(after, Ordering::Relaxed);
        self.there.fetch_add(after.saturating_sub(before), Ordering::Relaxed);
        self.permits.add_permits(after.saturating_sub(before));
        let over = before.saturating_sub(after);
        let forgotten = self.permits.forget_permits(over);
        self.there.fetch_sub(forgotten, Ordering::Relaxed);
        let out = over - forgotten;
        if out == 0 {
            return;
        }
        let (permits, there) = (Arc::clone(&self.permits), Arc::clone(&self.there));
        let mut late = Box::pin(async move {
            if let Ok(late) = permits.acquire_many_owned(u32::try_from(out).unwrap_or(u32::MAX)).await {
                there.fetch_sub(out, Ordering::Relaxed);
                late.forget();
            }
        });
        // First in the queue of those who wait, and only then wherever the runtime has time. Without one nobody asks for
        // permits any more.
        if let (None, Ok(runtime)) = ((&mut late).now_or_never(), Handle::try_current()) {
            runtime.spawn(late);
        }
    }
}

fn clamped(size: usize) -> usize {
    size.clamp(1, Semaphore::MAX_PERMITS)
}
