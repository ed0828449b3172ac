//! Plays MySQL-protocol servers for tests and benchmarks: many in one process, each scripted, well or badly.
//!
//! A [`Sim`] is one server on a port of its own on the loopback; its [`Script`] says how it greets, whom it lets in,
//! what it answers and where it goes wrong; it records what it sees. A [`Fleet`] is many of them.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use fleetsim::{Answer, Event, Preset, Script, Sim};
//!
//! let script = Script::new(Preset::MySql84)
//!     .on("from t", Answer::integer("n", 42))
//!     .on("from slow", Answer::hang());
//! let sim = Sim::start(script).await?;
//! // ... something connects to sim.port() ...
//! sim.wait_for("the question", |record| matches!(&record.event, Event::Statement(sql) if sql.contains("from t"))).await;
//! assert!(sim.counts().most_threads <= 3);
//! # Ok(())
//! # }
//! ```
//!
//! What is not there: SQL. A statement is matched by its text; only `SELECT @@name, CONNECTION_ID(), ...`, `SET`, `USE`
//! and `KILL` are understood. No prepared statements, no compression, no Unix sockets, no data.

mod answer;
mod builtin;
mod command;
mod delivery;
mod error;
mod fleet;
mod greet;
mod listener;
mod login;
mod preset;
mod record;
mod results;
mod rows;
mod script;
mod send;
mod server;
mod session;
mod sim;
mod statement;
mod stream;
mod wire;

pub use answer::{Answer, Malformed};
pub use delivery::{At, Delivery, Then};
pub use error::ServerError;
pub use fleet::{Fleet, Sickness};
pub use login::Plugin;
pub use preset::Preset;
pub use record::{Counts, Event, LoginSeen, MAX_RECORDS, Record, StatementEnd, WAIT};
pub use rows::{BINARY, Column, ColumnType, ENUM, Row, Rows, SET, UNSIGNED};
pub use script::{Connect, Kill, Script};
pub use sim::Sim;
pub use statement::Statement;
/// For the configuration of a server that speaks TLS.
pub use tokio_rustls::rustls;
