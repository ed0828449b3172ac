//! What `query_exporter_build_info` says of the build: revision, branch and compiler.

use std::{env, path::Path, process::Command};

fn main() {
    // An image is built without the history; whoever builds it says what it is built from.
    for (variable, git) in [
        ("FLEET_QUERY_EXPORTER_REVISION", ["rev-parse", "--short=12", "HEAD"].as_slice()),
        ("FLEET_QUERY_EXPORTER_BRANCH", &["rev-parse", "--abbrev-ref", "HEAD"]),
    ] {
        println!("cargo::rerun-if-env-changed={variable}");
        let said = env::var(variable).ok().filter(|value| !value.is_empty());
        let value = said.or_else(|| output("git", git)).unwrap_or_else(|| "unknown".to_owned());
        println!("cargo::rustc-env={variable}={value}");
    }
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = output(&rustc, &["--version"]);
    let version = version.as_deref().and_then(|text| text.split(' ').nth(1)).unwrap_or("unknown");
    println!("cargo::rustc-env=FLEET_QUERY_EXPORTER_RUSTVERSION={version}");
    let log = "../../.git/logs/HEAD";
    if Path::new(log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
