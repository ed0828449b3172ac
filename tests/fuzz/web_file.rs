//! Any bytes as a web file.

#![no_main]
#![allow(dead_code, unused_imports, unreachable_pub, reason = "of the program's configuration this uses a part")]

#[path = "checks/web_file.rs"]
mod check;
#[path = "../../crates/exporter/src/config/mod.rs"]
mod config;

use std::path::Path;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(Path::new("../../target/fuzz"), bytes));
