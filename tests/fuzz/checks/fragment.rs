//! What the check of fragments lets through is what a strict reader reads.

use std::str;

use fleet_collector::fragment::is_valid;

use crate::reader;

/// The bytes are a fragment.
///
/// # Panics
/// If the check and the reader disagree.
pub(crate) fn check(bytes: &[u8]) {
    let valid = is_valid(bytes);
    let read = str::from_utf8(bytes).ok().filter(|text| text.is_empty() || text.ends_with('\n'));
    let samples =
        read.map(|text| text.split_terminator('\n').map(reader::sample).collect::<Result<Vec<_>, _>>());
    match samples {
        Some(Ok(samples)) => {
            // The reader takes some numbers that other readers do not, and that no fragment of ours has.
            let plain = samples.iter().all(|(.., value)| value.bytes().all(|byte| byte.is_ascii_digit()));
            assert!(valid || !plain, "the check refuses what can be read: {samples:?}");
        }
        Some(Err(why)) => assert!(!valid, "the check takes what cannot be read: {why}"),
        None => assert!(!valid, "the check takes what are no lines of text"),
    }
}
