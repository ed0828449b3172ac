//! What holds for any `Accept` and `Accept-Encoding`, however odd.

use fleet_http::negotiate::{Encoding, Format, encoding, format};

/// The bytes are the values of the headers, one a line.
///
/// # Panics
/// If something does not hold.
pub(crate) fn check(bytes: &[u8]) {
    // What is no text never gets this far: the scrape leaves such a header out.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let values: Vec<_> = text.split('\n').collect();
    let both = |values: &[&str]| (format(values.iter().copied()), encoding(values.iter().copied()));
    let answer = both(&values);

    assert_eq!(both(&[&values.join(",")]), answer, "several headers are one");
    assert_eq!(both(&[&text.to_ascii_uppercase().replace('\n', ",")]), answer, "case means nothing");
    let with_more = [values.as_slice(), &["chemical/x-pdb", "", "sdch;q=0.4"]].concat();
    assert_eq!(both(&with_more), answer, "what is not on offer changes nothing");

    let classic_first = [&["text/plain;version=0.0.4"], values.as_slice()].concat();
    assert_eq!(format(classic_first), Format::Classic, "nothing can be liked better");
    let no_gzip_first = [&["gzip;q=0"], values.as_slice()].concat();
    assert_eq!(encoding(no_gzip_first), Encoding::Identity, "who does not want gzip gets none");
    let names = |name: &str| text.to_ascii_lowercase().contains(name) || text.contains('*');
    assert!(names("openmetrics-text") || answer.0 == Format::Classic, "nobody gets what he does not know");
    assert!(names("gzip") || answer.1 == Encoding::Identity, "nobody gets what he does not know");
}
