//! The whole program against real servers: started as its users start it, and seen only from outside.
//!
//! One binary, so that all tests share one MariaDB and one MySQL server. The test that takes longest, a minute beside
//! a real Prometheus, is in the module that comes first by name: the harness starts tests in that order.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod alongside_prometheus;
mod cells;
mod command_line;
mod down;
mod faults;
mod faults_list;
mod guards;
mod hangs;
mod history_demo;
mod history_store;
mod logs;
mod open_files;
mod pages;
mod process_count;
mod query_command;
mod read_only;
mod reload;
mod results;
mod rotation;
mod rules;
mod scraping;
mod secrets;
mod session;
mod shutdown;
mod simulator;
mod status;
mod steady_state;
mod support;
mod tls;
mod variants;
mod warm_start;
mod web;
mod workspace;
