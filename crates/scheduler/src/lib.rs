//! When: due times, permits, back-off, and the owner of every item's task.
//!
//! An item is a [`Job`] with an interval and a timeout, on a target. [`Scheduler::sync`] is given the wanted set
//! and finds the difference; nothing else starts or stops a task. This crate knows tokio's time and an async job;
//! it does not know SQL, samples, configuration or HTTP, and reads no wall clock after [`Timeline`] was made.

// Tests subtract moments that they know the order of; expect-test writes its goldens with a hash, needed or not.
#![cfg_attr(test, allow(clippy::unchecked_time_subtraction, clippy::needless_raw_string_hashes))]

mod facts;
mod gate;
mod item_loop;
mod job;
mod limit;
mod outlook;
mod queue;
mod schedule;
mod scheduler;
#[cfg(test)]
mod tests;
mod timeline;

pub use job::{BackOff, Job, Missed, Start, Verdict, Way};
pub use outlook::{NextTick, NextTry};
pub use schedule::{GRID, Schedule};
pub use scheduler::{Changes, Item, Limits, Scheduler, Stats};
pub use timeline::Timeline;
