//! The JSON is what docs/status.md says.

use std::collections::BTreeSet;

use expect_test::expect_file;

use super::*;

/// docs/status.md describes this; a change here is a change for those who read it by program.
#[test]
fn the_json_is_of_the_documented_shape() {
    let shown = |query| format!("{:#}\n", json(mixed(), query));
    expect_file!["overview.json"].assert_eq(&shown(""));
    expect_file!["group.json"].assert_eq(&shown("group=dev"));
    expect_file!["target.json"].assert_eq(&shown("target=db2"));
    expect_file!["missing.json"].assert_eq(&shown("target=db9"));
}

#[test]
fn the_docs_name_each_key_of_the_json_and_no_other() {
    fn keys(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    // What the user or the closed list of reasons names is no key of ours.
                    found.insert(key.clone());
                    if !["labels", "down_reasons"].contains(&key.as_str()) {
                        keys(value, found);
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let mut ours = BTreeSet::new();
    for query in ["", "group=prod", "target=db2", "target=db3", "target=db9"] {
        keys(&json(mixed(), query), &mut ours);
    }
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/status.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let cells = docs.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let listed = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).flat_map(|path| path.split('.'));
    let listed: BTreeSet<_> = listed.map(|key| key.trim_end_matches("[]").to_owned()).collect();
    assert_eq!(listed, ours);
}
