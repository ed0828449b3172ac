//! `fleet-query-exporter health`: asks the exporter that runs here, as a container's health check does.

use std::time::Duration;

use crate::client::Base;

/// An exporter that takes longer than this for a word from memory is not healthy.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks `listen` for `/-/healthy`. The error says what came instead.
pub(crate) async fn ask(listen: &str) -> Result<(), String> {
    let answer = Base::of_listener(listen).ask("GET", "/-/healthy", TIMEOUT).await?;
    match answer.status {
        200 => Ok(()),
        status => Err(format!("it answered {status}: {}", answer.text.trim_end())),
    }
}
