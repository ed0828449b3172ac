//! The history on what it is kept in: files of SQLite, and real MariaDB and MySQL servers.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod faults;
mod intervals;
mod keeping;
mod lock;
mod place;
mod support;
mod tables;
