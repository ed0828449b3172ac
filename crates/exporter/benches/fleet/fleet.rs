//! The fleets that both sides play: their names, and with them their due times; their statement; their configuration.

use std::{fmt::Write as _, time::Duration};

use fleet_scheduler::Schedule;

/// Rows of the table that each query reads whole: two labels and a value.
pub const ROWS: usize = 20;

pub const USER: &str = "fleet_bench";
pub const PASSWORD: &str = "fleet_bench";
pub const SQL: &str = "select place, kind, amount from fleet_bench.stock";

#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    pub targets: u16,
    pub queries: u16,
    pub interval: Duration,
    pub max_connections: u16,
}

impl Fleet {
    pub fn describe(&self) -> String {
        let Self { targets, queries, interval, .. } = self;
        format!("{targets} targets x {queries} items every {interval:?}")
    }

    pub fn items(&self) -> usize {
        usize::from(self.targets) * usize::from(self.queries)
    }

    pub fn runs_per_second(&self) -> f64 {
        self.items() as f64 / self.interval.as_secs_f64()
    }

    /// The ticks of an item, as the exporter finds them.
    pub fn schedule(&self, target: u16, query: u16) -> Schedule {
        Schedule::new(&target_name(target), &query_name(query), self.interval)
    }

    /// The statement of an item, as the exporter sends it to MariaDB.
    pub fn statement(&self, target: u16, query: u16) -> String {
        let (target, query, limit) = (target_name(target), query_name(query), self.timeout().as_secs_f64());
        format!(
            "SET STATEMENT max_statement_time={limit:.3} FOR /* fleet-query-exporter {query}@{target} */ {SQL}"
        )
    }

    /// A second is as long as a timeout may be where an interval is one.
    fn timeout(&self) -> Duration {
        self.interval.min(Duration::from_secs(5))
    }

    /// The configuration file.
    pub fn config(&self, port: u16) -> String {
        let (interval, timeout) = (self.interval.as_secs(), self.timeout().as_secs());
        let mut text = format!(
            "[defaults]\nnamespace = \"bench\"\ninterval = \"{interval}s\"\ntimeout = \"{timeout}s\"\n\n\
             [groups.bench]\nuser = \"{USER}\"\npassword = \"{PASSWORD}\"\ntls = {{ mode = \"disabled\" }}\n\
             max_connections = {}\n\n[groups.bench.targets]\n",
            self.max_connections
        );
        for target in 0..self.targets {
            let _ = writeln!(text, "{} = \"127.0.0.1:{port}\"", target_name(target));
        }
        for query in 0..self.queries {
            let query = query_name(query);
            let _ = write!(
                text,
                "\n[queries.{query}]\nsql = \"{SQL}\"\n[queries.{query}.metrics.{query}_amount]\ntype = \"gauge\"\n\
                 help = \"amount in stock\"\nlabels = [\"place\", \"kind\"]\nvalue = \"amount\"\n"
            );
        }
        text
    }
}

fn target_name(target: u16) -> String {
    format!("db{target:03}")
}

fn query_name(query: u16) -> String {
    format!("query_{query}")
}
