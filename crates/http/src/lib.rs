//! What is shown: the page, the health answers, and the server around them.
//!
//! A scrape reads memory: the [`State`] holds the snapshot and the registry of the process, [`exposition`] joins
//! them into one page, [`respond`] wraps it into an answer and [`serve`] sends it. Nothing in this crate can
//! cause a query or wait for one.

// expect-test writes its goldens with a hash, needed or not.
#![cfg_attr(test, allow(clippy::needless_raw_string_hashes))]

mod auth;
pub mod body;
mod brief;
mod builds;
mod chunks;
mod cut;
pub mod exposition;
mod form;
mod gzip;
mod kept;
pub mod negotiate;
mod plain;
mod rate_limit;
pub mod registry;
pub mod routes;
mod scrape;
mod sd;
mod segments;
pub mod server;
pub mod state;
pub mod status;
pub mod tls;
pub mod web;
mod write_progress;

pub use auth::{NoHash, PasswordHash};
pub use body::Page;
pub use rate_limit::RateLimit;
pub use routes::respond;
pub use server::{MAX_CONNECTIONS, bind, serve};
pub use state::{HttpMetrics, Reload, Reloading, Rollups, Scope, Sources, State};
pub use web::{ExtraHeader, Web, WebSettings};
