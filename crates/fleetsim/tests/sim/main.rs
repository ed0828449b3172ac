//! The simulator seen by clients: a real one, and one that looks at bytes.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod answers;
mod client;
mod connects;
mod fleets;
mod kills;
mod logins;
mod raw;
mod records;
