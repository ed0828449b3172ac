//! Servers and waiting, as the whole-program tests have them.

#[expect(dead_code, reason = "the whole-program tests use more of it")]
#[path = "../../../../tests/e2e/support/process.rs"]
pub(crate) mod process;
#[expect(dead_code, reason = "the whole-program tests use more of it")]
#[path = "../../../../tests/e2e/support/servers.rs"]
pub(crate) mod servers;
#[path = "../../../../tests/e2e/support/wait.rs"]
pub(crate) mod wait;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    thread,
};

/// The top of the repository.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Says loudly that the present test did not run.
pub(crate) fn not_tested(why: &str) {
    let line = format!("!!! NOT TESTED: {}: {why}\n", thread::current().name().unwrap_or("a test"));
    io::stderr().write_all(line.as_bytes()).unwrap();
}
