//! The rate limit of the web file: a bucket of tokens, one for each request.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How often requests may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// One request in this time, in the long run; not zero.
    pub interval: Duration,
    /// Requests at once, after a silence; at least 1.
    pub burst: u32,
}

/// The tokens of a limit. It is full at the start.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) limit: RateLimit,
    state: Mutex<(f64, Instant)>,
}

impl Bucket {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self { limit, state: Mutex::new((f64::from(limit.burst), Instant::now())) }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&self) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, since) = *state;
        let new = now.duration_since(since).as_secs_f64() / self.limit.interval.as_secs_f64();
        let tokens = (tokens + new).min(f64::from(self.limit.burst));
        let taken = tokens >= 1.0;
        *state = (if taken { tokens - 1.0 } else { tokens }, now);
        taken
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_one_for_each_interval() {
        let bucket = Bucket::new(RateLimit { interval: Duration::from_secs(2), burst: 3 });
        let taken = |n: usize| (0..n).filter(|_| bucket.take()).count();
        assert_eq!(taken(10), 3);
        advance(Duration::from_secs(1)).await;
        assert_eq!(taken(10), 0);
        advance(Duration::from_secs(1)).await;
        assert_eq!(taken(10), 1);
        advance(Duration::from_secs(4)).await;
        assert_eq!(taken(10), 2);
        // A long silence saves up no more than a burst.
        advance(Duration::from_secs(600)).await;
        assert_eq!(taken(10), 3);
    }
}
