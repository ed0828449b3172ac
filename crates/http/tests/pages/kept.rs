//! What `make fuzz` has found or kept, checked with each change.

use std::{fs, path::Path};

#[path = "../../../../tests/fuzz/checks/accept.rs"]
mod accept;
#[path = "../../../../tests/fuzz/checks/fragment.rs"]
mod fragment;

/// Checks each file of a corpus.
fn replay(corpus: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(corpus);
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        check(&fs::read(file).unwrap());
    }
}

#[test]
fn whatever_is_said_to_be_accepted_has_one_meaning() {
    replay("accept", accept::check);
}

#[test]
fn a_fragment_passes_its_check_if_a_strict_reader_reads_it_and_not_otherwise() {
    replay("fragment", fragment::check);
}
