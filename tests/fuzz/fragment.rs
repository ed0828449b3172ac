//! Any bytes as sample lines.

#![no_main]

#[path = "checks/fragment.rs"]
mod fragment;
#[path = "../reader.rs"]
#[allow(dead_code, reason = "others read whole pages with it")]
mod reader;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fragment::check(bytes));
