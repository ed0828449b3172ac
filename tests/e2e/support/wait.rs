//! Waiting for a value, never for time: a probe is asked until it has what is waited for, within a bound.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How often a probe is asked.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks `probe` until it has what is waited for, and gives that. Its error is what it saw instead.
///
/// # Panics
/// After `within`, with what was seen last.
pub(crate) async fn wait_for<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(seen) if start.elapsed() >= within => {
                panic!("waited {within:?} for this: {what}\nseen last: {seen}")
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// A probe's answer: `value` if `ok`, else what was seen.
pub(crate) fn seen_if<T: std::fmt::Debug>(ok: bool, value: T) -> Result<T, String> {
    if ok { Ok(value) } else { Err(format!("{value:?}")) }
}
