//! What an item does at its ticks, and what it says of it.

use std::{future::Future, time::Duration};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

/// What an item does at each tick.
pub trait Job: Send + Sync + 'static {
    /// One run. It bounds itself by its own timeout, and must bear being dropped at any await: whatever it
    /// publishes, it publishes in one synchronous call.
    fn run(&self, start: Start) -> impl Future<Output = Verdict> + Send;

    /// This many ticks were missed, for one reason.
    fn missed(&self, reason: Missed, ticks: u64);

    /// The run panicked, with this message. The item goes on with its next tick.
    fn panicked(&self, message: &str);

    /// How the way to the target has changed since the job `before`, of any item of the target.
    fn way_since(&self, _before: &Self) -> Way {
        Way::Same
    }
}

/// What two configurations of one target have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// All that matters: what is known of its state holds.
    Same,
    /// The server alone: what still runs there counts, and whether it is down has to be seen anew.
    Changed,
    /// Its name alone.
    OtherServer,
}

/// What a run is given.
#[derive(Debug)]
pub struct Start {
    /// When it was due.
    pub due: Instant,
    /// How long after that the item woke.
    pub lateness: Duration,
    /// How long it then waited for permits.
    pub waited: Duration,
    /// Until when it may wait for more of our own, such as the turn to connect; the timeout counts from then on.
    pub start_by: Instant,
    /// The target's lane. The run may keep it beyond its end, while the server still works for it.
    pub lane: OwnedSemaphorePermit,
}

/// What a run says about its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The server answered, if only with an error that the next run would meet as well.
    Answered,
    /// The server answered, but there is no result, and soon there may be: the item runs again before its next tick
    /// if it has time for that.
    Failed,
    /// The run asked nothing, for a reason of our own: the tick is missed, and nothing is known about the target.
    NotStarted(Missed),
    /// It did not, or it refused the login. The next try comes after a back-off.
    Down(BackOff),
}

/// How a target is left alone that gave no answer: for a random time below a bound that doubles with each try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// The bound after the first failure. No back-off is shorter than half of it.
    pub first: Duration,
    /// The largest bound; where the target's shortest interval is longer, that is.
    pub cap: Duration,
}

/// Why a tick was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missed {
    /// The item's last run was still going.
    Running,
    /// The exporter could not start the run in time: no permit was free, or the whole process stood still.
    NoPermit,
    /// The target is down and it was not this item's turn to try it.
    TargetDown,
    /// The item was changed, taken out or begun anew before its run had ended: the run was given up.
    Stopped,
}
