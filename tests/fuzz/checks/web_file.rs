//! What holds for any web file: it is taken, or refused with a reason; and nothing in it drives the terminal that shows
//! the reason.

use std::{fs, path::Path};

use crate::config::{Port, read_web};

/// The bytes are a web file, written to this folder.
///
/// # Panics
/// If something does not hold.
pub(crate) fn check(folder: &Path, bytes: &[u8]) {
    let path = folder.join("web.yml");
    fs::write(&path, bytes).unwrap();
    let read = read_web(&path, Port { is_local: bytes.len().is_multiple_of(2), reloads: true });
    let is_good = read.is_ok();
    let report = read.map_or_else(|report| report, |(_, warnings)| warnings);
    assert!(is_good || !report.is_empty(), "it is refused without a reason");
    let text = report.to_string();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}
