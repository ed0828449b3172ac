//! What the tests stand on: real servers, the built program, and ways to look at both.

pub(crate) mod account;
pub(crate) mod bystander;
pub(crate) mod chromium;
pub(crate) mod exporter;
pub(crate) mod forwarder;
pub(crate) mod http;
pub(crate) mod page;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod promtool;
#[path = "../../reader.rs"]
pub(crate) mod reader;
pub(crate) mod servers;
pub(crate) mod slow;
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

/// Tells a figure to whoever runs the tests with `--nocapture`.
macro_rules! note {
    ($($figure:tt)*) => {
        $crate::support::tell(&format!($($figure)*))
    };
}
pub(crate) use note;

#[expect(clippy::print_stdout, reason = "the harness collects it")]
pub(crate) fn tell(figure: &str) {
    println!("{figure}");
}

/// Says loudly that the present test, or a part of it, did not run.
pub(crate) fn not_tested(why: &str) {
    let line = format!("!!! NOT TESTED: {}: {why}\n", thread::current().name().unwrap_or("a test"));
    // Not eprintln, which the harness keeps to itself where a test passes.
    io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Each byte of the text as a URL may hold it.
pub(crate) fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02X}"))
}

/// Text as TOML writes it, quotes included.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// The same test on a MariaDB and on a MySQL server: `check` takes the server.
macro_rules! on_both_servers {
    ($($check:ident),* $(,)?) => {
        mod on_mariadb {
            $(#[tokio::test]
            async fn $check() {
                super::$check($crate::support::servers::mariadb()).await;
            })*
        }
        mod on_mysql {
            $(#[tokio::test]
            async fn $check() {
                if let Some(server) = $crate::support::servers::mysql() {
                    super::$check(server).await;
                }
            })*
        }
    };
}
pub(crate) use on_both_servers;
