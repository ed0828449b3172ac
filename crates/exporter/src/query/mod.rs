//! `fleet-query-exporter query`: a query is tried once, as the exporter would run it, and shown whole.
//!
//! What is asked for ([`Attempt::new`]), the trials side by side ([`trials`]), and then either all about one target
//! ([`show`]) or a line for each of many and where they differ ([`compare`]).

mod advice;
mod compare;
mod show;
mod skeleton;
mod table;
mod terminal;
mod trials;

#[cfg(test)]
mod tests;

use std::{
    fmt::{self, Display},
    fs,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use fleet_collector::{Collector, mysql::MySql, query::Query, statement::Statement};

use crate::{
    cli::QueryArgs,
    config::{Candidate, Config, Report, Selection, Unknown, Wanted, check_sql},
};
use terminal::Look;
use trials::{Ended, Tried};

/// What the comment before a statement calls one that is no query of the configuration.
const NO_NAME: &str = "query";

/// A query to try, and where.
#[derive(Debug)]
pub(crate) struct Attempt {
    query: Arc<Query>,
    view: View,
    candidates: Vec<Candidate>,
    n_paused: usize,
    rows: usize,
}

/// What is to be seen of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// What a query of the configuration publishes.
    Published,
    /// The rows of a statement that has no metrics yet.
    Rows,
    /// How the server would run it.
    Plan,
}

/// Why nothing can be tried: the statement or what was asked for is wrong.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// The statement is refused.
    Statement(Report),
    /// There is no such thing, or it cannot be read.
    Usage(String),
}

impl Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement(report) => write!(f, "the statement is refused\n{report}"),
            Self::Usage(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Wrong {}

impl From<Unknown> for Wrong {
    fn from(unknown: Unknown) -> Self {
        Self::Usage(unknown.to_string())
    }
}

impl Attempt {
    /// What the command line asks for, in this configuration.
    pub(crate) fn new(config: &Config, args: &QueryArgs) -> Result<Self, Wrong> {
        let statement = match (&args.sql, &args.sql_file) {
            (Some(sql), _) => Some(checked(Path::new("--sql"), sql)?),
            (None, Some(file)) => {
                let sql = fs::read_to_string(file)
                    .map_err(|error| Wrong::Usage(format!("cannot read {}: {error}", file.display())))?;
                Some(checked(file, &sql)?)
            }
            (None, None) => None,
        };
        let wanted = Wanted { query: args.name.as_deref(), targets: &args.targets, groups: &args.groups };
        let Selection { query, mut candidates, n_paused } = config.select(wanted)?;
        let mut view = if query.is_some() { View::Published } else { View::Rows };
        let mut query = query.unwrap_or_else(|| {
            Arc::new(Query { name: NO_NAME.into(), statement, variants: Vec::new(), metrics: Vec::new() })
        });
        if args.explain {
            (query, view) = (Arc::new(explained(&query)?), View::Plan);
        }
        if let Some(timeout) = args.timeout {
            for candidate in &mut candidates {
                candidate.timeout = timeout;
            }
        }
        Ok(Self { query, view, candidates, n_paused, rows: args.rows })
    }

    /// Tries it everywhere and shows what came. Returns whether all went well; the error is for a person.
    pub(crate) async fn run(self, config: &Config) -> Result<bool, String> {
        let Self { query, view, candidates, n_paused, rows } = self;
        let look = Look::of_stdout(rows);
        if n_paused > 0 {
            tell(format!(
                "{n_paused} of the targets are paused and left out; name them with --target to try them too"
            ));
        }
        let collector = Arc::new(Collector::new(Arc::new(MySql), config.max_connects, Arc::default()));
        // No more at once than the exporter itself would have.
        let at_once = config.max_connects.min(config.max_runs);
        let name = Arc::clone(&query.name);
        let work = |candidates| trials::Work { collector, query, candidates, at_once };
        let (well, page, errors) = match <[Candidate; 1]>::try_from(candidates) {
            Ok(only) => {
                let mut tried = trials::all(work(only.into()), |tried| tried).await.map_err(interrupted)?;
                let Some(tried) = tried.pop() else { return Ok(true) };
                let error = tried.trial.failure.as_ref().map(|failure| advice::of_one(&tried, failure));
                (error.is_none(), show::page(&tried, view, look), error.unwrap_or_default())
            }
            Err(many) => {
                let line = move |tried: Tried| compare::Line::new(&tried, view, rows);
                let lines = trials::all(work(many), line).await.map_err(interrupted)?;
                let well = lines.iter().all(|line| line.failed.is_none());
                (well, compare::page(&name, &lines, view, look), compare::failures(&lines))
            }
        };
        let mut stdout = io::stdout().lock();
        // Nobody reads a closed pipe, and there is nobody else to tell.
        let _ = stdout.write_all(page.as_bytes()).and_then(|()| stdout.flush());
        if !errors.is_empty() {
            tell(errors.trim_end());
        }
        Ok(well)
    }
}

fn checked(name: &Path, sql: &str) -> Result<Statement, Wrong> {
    check_sql(name, sql).map_err(Wrong::Statement)
}

/// The query that asks for the plans of this one.
fn explained(query: &Query) -> Result<Query, Wrong> {
    let explain = |statement: &Statement| {
        let none = || {
            Wrong::Usage(
                "there is no plan of SHOW, DESCRIBE, EXPLAIN and CALL: leave --explain away".to_owned(),
            )
        };
        statement.explained().ok_or_else(none)
    };
    let mut explained = Query { metrics: Vec::new(), ..query.clone() };
    explained.statement = query.statement.as_ref().map(explain).transpose()?;
    for variant in &mut explained.variants {
        variant.statement = explain(&variant.statement)?;
    }
    Ok(explained)
}

fn interrupted(ended: Ended) -> String {
    match ended {
        Ended::Interrupted { confirmed: true } => "interrupted: what was running has ended at the servers too".to_owned(),
        Ended::Interrupted { confirmed: false } => {
            "interrupted: some servers did not confirm in time that the query ended; their own limits will end it"
                .to_owned()
        }
        Ended::NoSignals(error) => format!("cannot wait for signals: {error}"),
    }
}

/// Says something that is no result.
fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A number and its noun.
fn count(n: usize, one: &str) -> String {
    match (n, one) {
        (1, _) | (_, "series") => format!("{n} {one}"),
        _ => format!("{n} {one}s"),
    }
}
