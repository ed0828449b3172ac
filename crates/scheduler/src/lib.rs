//! When: due times, permits, back-off, and the owner of every item's task.
