//! A limit of permits that changes while some of them are out.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::{runtime::Handle, sync::Semaphore};

/// Makes `permits`, of which there are `before`, so many. Where more are out, nobody gets another until enough have
/// come back.
pub(crate) fn resize(permits: &Arc<Semaphore>, before: usize, after: usize) {
    permits.add_permits(after.saturating_sub(before));
    let over = before.saturating_sub(after);
    let out = over - permits.forget_permits(over);
    if out == 0 {
        return;
    }
    let out = u32::try_from(out).unwrap_or(u32::MAX);
    // First in the queue of those who wait, and only then wherever the runtime has time.
    let mut late = Box::pin(Arc::clone(permits).acquire_many_owned(out).map(|late| {
        if let Ok(late) = late {
            late.forget();
        }
    }));
    // Without a runtime nobody asks for permits any more.
    if let (None, Ok(runtime)) = ((&mut late).now_or_never(), Handle::try_current()) {
        runtime.spawn(late);
    }
}
