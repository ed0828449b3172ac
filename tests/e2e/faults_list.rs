//! docs/faults.md and the tests agree: each fault of the list has a test that is named by its number.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::support::repository;

/// The numbers at the beginning of the rows of the list.
fn listed() -> BTreeSet<u32> {
    let list = fs::read_to_string(repository().join("docs/faults.md")).unwrap();
    let rows = list.lines().filter_map(|line| line.strip_prefix("| T"));
    rows.map(|row| row.split(' ').next().unwrap().parse().unwrap()).collect()
}

/// The numbers that names of test functions begin with: `t07_`.
fn tested() -> BTreeSet<u32> {
    let mut files = Vec::new();
    for folder in ["tests/e2e", "crates"] {
        rust_files(&repository().join(folder), &mut files);
    }
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    texts.flat_map(|text| text.split("fn t").skip(1).filter_map(number).collect::<Vec<_>>()).collect()
}

fn number(rest: &str) -> Option<u32> {
    let (digits, _) = rest.split_once('_')?;
    (digits.len() == 2).then(|| digits.parse().ok()).flatten()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn each_fault_of_the_list_has_a_test_and_each_such_test_a_fault() {
    assert_eq!(listed(), tested());
}
