//! What `make fuzz` has found or kept of web files, read with each change.

use std::fs;

use super::folder;

#[path = "../../../../../tests/fuzz/checks/web_file.rs"]
mod web_file;

#[test]
fn a_web_file_of_any_bytes_is_taken_or_refused_with_a_reason() {
    let scratch = tempfile::tempdir().unwrap();
    let files: Vec<_> = fs::read_dir(folder("tests/fuzz/corpus/web_file")).unwrap().collect();
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        web_file::check(scratch.path(), &fs::read(file.unwrap().path()).unwrap());
    }
}
