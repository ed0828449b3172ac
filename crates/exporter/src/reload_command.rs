//! `fleet-query-exporter reload`: makes a running exporter read its configuration anew, or shows what that would change.

use std::time::Duration;

use crate::{
    client::{Answer, Base},
    config::Config,
    effective::Effective,
};

/// A reload reads files, and gives up after 30 s.
const RELOADING: Duration = Duration::from_secs(45);

/// What the exporter tells is made from memory, and may be large.
const TELLING: Duration = Duration::from_secs(20);

/// Makes the exporter read its configuration anew, and gives what it says about that.
///
/// # Errors
/// What it says where it did not take it, or why it could not be asked.
pub(crate) async fn reload(exporter: &Base) -> Result<String, String> {
    match exporter.ask("POST", "/-/reload", RELOADING).await? {
        Answer { status: 200, text } => Ok(text),
        Answer { status, text } => Err(format!("it answered {status}: {text}")),
    }
}

/// What would change if the exporter's configuration were this one.
///
/// # Errors
/// Why it could not be asked.
pub(crate) async fn dry_run(exporter: &Base, config: &Config) -> Result<Vec<String>, String> {
    let answer = exporter.ask("GET", "/-/config/items", TELLING).await?;
    if answer.status != 200 {
        return Err(format!("it answered {}: {}", answer.status, answer.text));
    }
    let running = Effective::from_json(&answer.text)
        .ok_or("what it tells is of another kind: is it an exporter of this version?")?;
    Ok(running.difference(&Effective::of(config)).lines)
}
