//! The faults of docs/faults.md that are mistakes of the file, by their numbers.

use super::{folder, fs, parse};

/// The mistakes of a file of the corpus, each with its places.
#[track_caller]
fn check(file: &str, says: &[&str]) {
    let path = folder("tests/config").join(file);
    let report = parse(&path, &fs::read_to_string(&path).unwrap(), None).unwrap_err().to_string();
    for message in says {
        assert!(report.contains(message), "no {message:?} in\n{report}");
    }
}

#[test]
fn t30_a_label_that_is_reserved_or_taken_is_a_mistake_of_the_file() {
    check(
        "label-collisions.toml",
        &[
            "label-collisions.toml:6:42: error: `le` is a label that Prometheus keeps for itself",
            "label-collisions.toml:6:65: error: `__x` is a label that Prometheus keeps for itself",
            "label-collisions.toml:23:11: error: `env` is a label of targets that this query reaches",
            "label-collisions.toml:23:34: error: the label `host` is there twice",
            "label-collisions.toml:23:42: error: `instance` is the label of the target's name",
            "label-collisions.toml:23:54: error: \"quantile\" is a label that Prometheus keeps for itself",
        ],
    );
}

#[test]
fn t34_a_family_of_two_types_or_helps_is_a_mistake_of_the_file_with_both_places() {
    const FAMILY: &str = "the family `query_exporter_history_list_length` is fed twice, with another";
    check(
        "families.toml",
        &[
            &format!("families.toml:33:8: error: {FAMILY} type"),
            "families.toml:21:8: note: the first is here",
            &format!("families.toml:34:8: error: {FAMILY} help"),
            "families.toml:22:8: note: the first is here",
        ],
    );
}
