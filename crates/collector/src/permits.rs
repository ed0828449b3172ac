//! A number of permits that may change while some of them are out.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use futures_util::FutureExt as _;
use tokio::{runtime::Handle, sync::Semaphore};

/// A semaphore and how many permits it has in all.
#[derive(Debug)]
pub(crate) struct Permits {
    semaphore: Arc<Semaphore>,
    size: AtomicUsize,
    /// Permits that there are, free or out: more than the size while a lower one waits for those that are out.
    there: Arc<AtomicUsize>,
    /// What the size is to be.
    wanted: AtomicUsize,
}

impl Permits {
    /// This many.
    pub(crate) fn new(size: usize) -> Self {
        let size = clamped(size);
        let semaphore = Arc::new(Semaphore::new(size));
        let [size, there, wanted] = [size; 3].map(AtomicUsize::new);
        Self { semaphore, size, there: Arc::new(there), wanted }
    }

    /// To acquire from. It is never closed.
    pub(crate) fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }

    /// How many there are.
    pub(crate) fn size(&self) -> usize {
        self.size.load(Relaxed)
    }

    /// How many are out.
    pub(crate) fn in_use(&self) -> usize {
        self.there.load(Relaxed).saturating_sub(self.semaphore.available_permits())
    }

    /// Makes it this many. Where more are out, nobody gets another until enough have come back.
    pub(crate) fn resize(&self, size: usize) {
        self.announce(size);
        self.settle();
    }

    /// Makes it this many if that is more, and else notes it for [`Self::settle`].
    pub(crate) fn announce(&self, size: usize) {
        let size = clamped(size);
        self.wanted.store(size, Relaxed);
        let more = size.saturating_sub(self.size.fetch_max(size, Relaxed));
        self.there.fetch_add(more, Relaxed);
        self.semaphore.add_permits(more);
    }

    /// Makes it as many as was announced.
    pub(crate) fn settle(&self) {
        let size = self.wanted.load(Relaxed);
        let over = self.size.swap(size, Relaxed).saturating_sub(size);
        let forgotten = self.semaphore.forget_permits(over);
        self.there.fetch_sub(forgotten, Relaxed);
        let out = over - forgotten;
        if out == 0 {
            return;
        }
        let (semaphore, there) = (Arc::clone(&self.semaphore), Arc::clone(&self.there));
        // Nobody lowers a limit by more than u32.
        let mut late = Box::pin(async move {
            if let Ok(permits) = semaphore.acquire_many_owned(u32::try_from(out).unwrap_or(u32::MAX)).await {
                there.fetch_sub(out, Relaxed);
                permits.forget();
            }
        });
        // First in the queue of those who wait for a permit, then wherever the runtime has time. Without one nobody asks
        // for permits any more.
        if let (None, Ok(runtime)) = ((&mut late).now_or_never(), Handle::try_current()) {
            runtime.spawn(late);
        }
    }
}

fn clamped(size: usize) -> usize {
    size.min(Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn permits_that_are_out_count_until_they_are_back() {
        let permits = Permits::new(3);
        let take = || Arc::clone(permits.semaphore()).try_acquire_owned();
        let next = || timeout(Duration::from_secs(1), Arc::clone(permits.semaphore()).acquire_owned());
        let (one, two, three) = (take().unwrap(), take().unwrap(), take().unwrap());
        permits.resize(1);
        assert_eq!((permits.size(), permits.in_use()), (1, 3));
        drop((one, two));
        assert!(next().await.is_err(), "one is out, and one there is");
        drop(three);
        let four = next().await.unwrap().unwrap();
        assert!(take().is_err());
        permits.resize(2);
        drop((take().unwrap(), four));
        assert_eq!(permits.semaphore().available_permits(), 2);
        permits.resize(0);
        assert!(take().is_err());
    }

    #[tokio::test]
    async fn a_higher_number_holds_at_once_and_a_lower_one_when_it_is_settled() {
        let permits = Permits::new(2);
        permits.announce(3);
        assert_eq!((permits.size(), permits.semaphore().available_permits()), (3, 3));
        permits.announce(1);
        assert_eq!((permits.size(), permits.semaphore().available_permits()), (3, 3));
        permits.settle();
        permits.settle();
        assert_eq!((permits.size(), permits.semaphore().available_permits()), (1, 1));
    }
}
