//! What is read from the databases: targets, their lanes, SQL, rows, and the snapshot of results.
//!
//! One direction: a [`run`] sends a [`statement`] over one of a target's [`lanes`], collects the answer as
//! [`Rows`], turns it into validated text by way of [`mapping`] and [`fragment`], and publishes that in the
//! [`Snapshot`] with one synchronous call. This crate knows no intervals, no configuration format and no HTTP.

pub mod arrange;
mod cell;
pub mod certificates;
pub mod clock;
mod connects;
pub mod defaults_file;
pub mod deflate;
pub mod driver;
pub mod failure;
pub mod fragment;
pub mod hour;
pub mod lanes;
pub mod login;
pub mod mapping;
pub mod mysql;
mod permits;
pub mod query;
pub mod record;
pub mod rollup;
pub mod rows;
pub mod run;
mod seconds;
mod share;
pub mod snapshot;
pub mod statement;
pub mod target;
#[cfg(test)]
mod testing;
pub mod version;

pub use arrange::{Arranged, Collector};
pub use clock::BootTime;
pub use failure::{Failure, Reason};
pub use query::{Family, Kind, Metric, OnNull, Query, ResultLimits, ValueSource, Variant};
pub use rollup::TargetStats;
pub use rows::Rows;
pub use run::trial;
pub use run::{Item, ItemSpec, NotStarted, Report, Success};
pub use snapshot::{Cut, FamilyText, ItemId, NotRestored, Snapshot};
pub use target::{Address, Isolation, Password, Secret, SessionSettings, Target, Tls, TlsMode};
pub use version::{VersionRange, When};
