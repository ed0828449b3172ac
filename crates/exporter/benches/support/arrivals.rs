//! Statements as they arrive at servers, beside the ticks at which they are due.

use std::time::Duration;

use fleet_scheduler::{Schedule, Timeline};
use tokio::time::Instant;

/// The exporter has read its clocks a moment earlier or later than the bench, so that an arrival may seem to come before
/// its tick. Ticks are at least 25 ms from each other.
const CLOCKS: Duration = Duration::from_millis(10);

/// A statement of an item.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub at: Instant,
    pub target: usize,
    pub query: usize,
}

/// What became of the ticks of some items within a span.
#[derive(Debug, Default)]
pub struct Ticks {
    pub due: usize,
    /// Those with an arrival before the next one.
    pub kept: usize,
    /// Arrivals beside the first of a tick: retries.
    pub extra: usize,
    /// How long after its tick each first arrival came, sorted.
    pub lateness: Vec<Duration>,
}

impl Ticks {
    /// Of one item: its arrivals, in their order, against its ticks from `from` on before `to`.
    pub fn add(&mut self, schedule: Schedule, timeline: Timeline, span: (Instant, Instant), at: &[Instant]) {
        let [from, to] = [span.0, span.1].map(|at| schedule.tick_from(timeline.since_epoch(at)));
        self.due += usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        let mut last = None;
        for at in at {
            let since_epoch = timeline.since_epoch(*at);
            let tick = schedule.tick_from(since_epoch + CLOCKS).saturating_sub(1);
            if !(from..to).contains(&tick) {
                continue;
            }
            if last.replace(tick) == Some(tick) {
                self.extra += 1;
            } else {
                self.kept += 1;
                self.lateness.push(since_epoch.saturating_sub(schedule.due(tick)));
            }
        }
    }

    pub fn finish(mut self) -> Self {
        self.lateness.sort();
        self
    }

    pub fn kept_share(&self) -> f64 {
        self.kept as f64 / self.due.max(1) as f64
    }
}

/// The value below which this share of sorted values lies.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index, rounded down")]
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// The most of these moments, in their order, that lie within a window of this length, wherever it begins.
pub fn fullest(moments: impl IntoIterator<Item = Instant>, window: Duration) -> usize {
    let moments: Vec<_> = moments.into_iter().collect();
    let mut first = 0;
    let counts = moments.iter().enumerate().map(|(last, at)| {
        while at.saturating_duration_since(moments[first]) >= window {
            first += 1;
        }
        last + 1 - first
    });
    counts.max().unwrap_or_default()
}

/// How evenly moments are spread over whole bins.
#[derive(Debug, Clone, Copy)]
pub struct Flatness {
    pub mean: f64,
    pub largest: usize,
    /// The number of the largest bin.
    pub place: usize,
}

impl Flatness {
    /// Of these moments since `from`, in whole bins of this length; the last one is not over, and does not count.
    pub fn of(moments: impl IntoIterator<Item = Instant>, from: Instant, bin: Duration) -> Self {
        let mut counts = Vec::new();
        for at in moments {
            let Some(since) = at.checked_duration_since(from) else { continue };
            let place = usize::try_from(since.as_nanos() / bin.as_nanos()).unwrap_or_default();
            if counts.len() <= place {
                counts.resize(place + 1, 0_usize);
            }
            counts[place] += 1;
        }
        counts.pop();
        Self {
            mean: counts.iter().sum::<usize>() as f64 / counts.len().max(1) as f64,
            largest: counts.iter().copied().max().unwrap_or_default(),
            place: (0..counts.len()).max_by_key(|place| counts[*place]).unwrap_or_default(),
        }
    }

    pub fn ratio(self) -> f64 {
        self.largest as f64 / self.mean
    }
}
