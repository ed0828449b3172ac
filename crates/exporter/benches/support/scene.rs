//! A simulated fleet and the exporter that asks it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fleet_scheduler::Timeline;
use tokio::time::Instant;

use super::{
    Result,
    exporter::Exporter,
    simulated::{Shape, Simulated},
};

pub const SECOND: Duration = Duration::from_secs(1);

pub struct Scene {
    pub fleet: Simulated,
    pub exporter: Arc<Exporter>,
}

impl Scene {
    /// A login takes as long as `login`.
    pub fn start(shape: Shape, login: Duration, timeline: Timeline) -> Result<Self> {
        let fleet = Simulated::start(shape, login, timeline)?;
        // What it warns of is known.
        let exporter = Arc::new(Exporter::start(&fleet.config(), "error")?);
        Ok(Self { fleet, exporter })
    }
}

/// The time that exporters started from now on schedule by.
pub fn timeline() -> Result<Timeline> {
    Ok(Timeline::new(Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH)?))
}

/// Runs a bench whose parts are too short to judge by.
pub fn unjudged(bench: impl FnOnce() -> Result<bool>) -> Result<bool> {
    println!("SHORT: parts are too short to judge by, so bars are printed and not judged");
    bench().map(|_| true)
}
