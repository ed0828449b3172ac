//! Any bytes as headers that say what a client can read.

#![no_main]

#[path = "checks/accept.rs"]
mod accept;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| accept::check(bytes));
