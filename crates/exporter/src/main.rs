//! The `fleet-query-exporter` binary.
fn main() {}
