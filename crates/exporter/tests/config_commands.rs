//! What the program says about a configuration, and with which exit code.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// The exit code, standard output and standard error.
fn run(config: &str, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_fleet-query-exporter"))
        .args(arguments)
        .arg("--config")
        .arg(file(config))
        .env("EXPORTER_PASSWORD", "hunter2")
        .env("LAB_PASSWORD", "hunter2")
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!out.contains("hunter2") && !err.contains("hunter2"), "{out}{err}");
    (output.status.code().unwrap(), out, err)
}

#[test]
fn a_clean_check_ends_with_the_summary() {
    let (code, out, err) = run("docs/examples/conditions.toml", &["--check"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.ends_with(
            "at most 70000 series; paused: 1 of the targets, with 2 more items; disabled: 1 more item\n"
        ),
        "{out}"
    );
}

#[test]
fn a_missing_secret_fails_the_check_and_hides_no_summary() {
    let (code, out, err) = run("docs/examples/first.toml", &["--check"]);
    assert_eq!(code, 2);
    assert!(out.contains("3 targets, 1 query, 3 items"), "{out}");
    assert!(err.contains("secrets/orders-1 cannot be read"), "{err}");
}

#[test]
fn every_mistake_is_told_on_standard_error() {
    let (code, out, err) = run("tests/config/twelve-mistakes.toml", &["--check"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.ends_with("12 errors\n"), "{err}");
}

#[test]
fn a_setting_is_shown_with_its_place() {
    let config = "docs/examples/levels.toml";
    let (code, out, _) = run(config, &["config", "show", "--target", "weak", "--query", "sessions"]);
    assert_eq!(code, 0);
    let line = out.lines().find(|line| line.contains("  interval")).unwrap();
    assert!(line.contains("1m") && line.ends_with("levels.toml:15"), "{out}");
    let (code, out, err) = run(config, &["config", "show", "--target", "week"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("there is no target `week`; did you mean `weak`?"), "{err}");
}

#[test]
fn the_schema_is_json_and_needs_no_file() {
    let (code, out, _) = run("none.toml", &["schema"]);
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(schema["$defs"]["tls"]["required"], serde_json::json!(["mode"]));
}
