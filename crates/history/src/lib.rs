//! What is kept: when each item last ran, at what interval it runs and what came of it, in a table of SQLite or MySQL.
//!
//! The table follows, it never leads: a [`History`] notes runs in memory and one task of its own writes them down in
//! batches, when the store lets it. Nobody waits for the store, and what it loses is counted. This crate knows names,
//! times, intervals, a number and opaque bytes for each item; it knows nothing of the schedule, of SQL that is run on
//! targets, of configuration files and of HTTP.

mod dirty;
mod due;
mod history;
mod intervals;
mod items;
mod keeper;
mod settings;
mod stats;
mod store;

pub use history::{History, KeptItem, KeptResult, Loaded, Loading, Results, Run};
pub use items::{Items, KnownItem, Overrides};
pub use settings::{
    Address, BadTableName, BoxFuture, Limits, Login, MySql, ReadLogin, Settings, Store, TableName, TlsMode,
};
pub use stats::{Reason, State, Stats};
