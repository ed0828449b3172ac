//! What is to be done for a statement: what the script says, else who the server is, SET, USE and KILL.

use std::{sync::Arc, time::Duration};

use crate::{
    answer::Answer,
    error::ServerError,
    rows::{BINARY, Column, ColumnType, Rows, UNSIGNED},
    script::Script,
    statement::{Statement, find, session_limit, starts_with},
};

/// What is to be done for a statement.
#[derive(Debug)]
pub(crate) enum Task {
    /// It is answered.
    Answer(Arc<Answer>),
    /// A SET: its session's limit from now on, 0 for none.
    Limit(Duration),
    /// A USE: its session's schema from now on.
    Use(Box<str>),
    /// A KILL.
    Kill { session: u64, query_only: bool },
}

impl Task {
    /// What the script has for it, else what is built in.
    pub(crate) fn of(script: &Script, statement: &Statement<'_>, port: u16) -> Self {
        if !statement.mariadb && starts_with(statement.text, "set statement ") {
            return Self::error(1064);
        }
        script.answer(statement).map_or_else(|| Self::built_in(script, statement, port), Self::Answer)
    }

    fn built_in(script: &Script, statement: &Statement<'_>, port: u16) -> Self {
        let body = statement.body();
        let words = body.trim_end_matches([';', ' ']);
        if words.is_empty() {
            return Self::error(1065);
        }
        if starts_with(words, "set ") {
            return set(script, words);
        }
        if starts_with(words, "kill ") {
            return kill(words[5..].trim());
        }
        if starts_with(words, "use ") {
            return Self::Use(words[4..].trim().trim_matches('`').into());
        }
        if starts_with(words, "select ") {
            match introduction(script, statement, &words[7..], port) {
                Ok(Some(rows)) => return Self::Answer(Arc::new(rows.into())),
                Ok(None) => {}
                Err(error) => return Self::error(error),
            }
        }
        let start: String = body.chars().take(200).collect();
        Self::error(ServerError::new(1105, format!("the simulator's script has no answer to: {start}")))
    }

    fn error(error: impl Into<ServerError>) -> Self {
        Self::Answer(Arc::new(Answer::error(error)))
    }
}

fn set(script: &Script, words: &str) -> Task {
    if let Some(error) = script.refusal(words) {
        return Task::error(error.clone());
    }
    session_limit(words).map_or_else(|| Task::Answer(Arc::new(Answer::ok())), Task::Limit)
}

fn kill(words: &str) -> Task {
    let (query_only, number) = match words.split_once(' ') {
        Some((kind, number)) if kind.eq_ignore_ascii_case("query") => (true, number.trim()),
        Some((kind, number)) if kind.eq_ignore_ascii_case("connection") => (false, number.trim()),
        _ => (false, words),
    };
    match number.parse() {
        Ok(session) => Task::Kill { session, query_only },
        Err(_) => Task::error(1064),
    }
}

/// Answers `SELECT @@a, CONNECTION_ID(), ...`; none if something else is asked too.
fn introduction(
    script: &Script,
    statement: &Statement<'_>,
    list: &str,
    port: u16,
) -> Result<Option<Rows>, ServerError> {
    let (mut columns, mut cells) = (Vec::new(), Vec::new());
    for item in list.split(',') {
        let (expression, name) = match find(item, " as ") {
            Some(at) => (item[..at].trim(), item[at + 4..].trim().trim_matches(['`', '\'', '"'])),
            None => (item.trim(), item.trim()),
        };
        let Some((value, kind)) = value(script, statement, expression, port)? else { return Ok(None) };
        columns.push(Column::with(name, kind.0, kind.1, if kind == TEXT { 45 } else { 63 }));
        cells.push(value);
    }
    Ok(Some(Rows::new(columns).row(cells)))
}

/// A column's type and flags.
type Kind = (ColumnType, u16);

const TEXT: Kind = (ColumnType::VAR_STRING, 0);
const COUNT: Kind = (ColumnType::LONG_LONG, BINARY | UNSIGNED);
const SWITCH: Kind = (ColumnType::LONG_LONG, BINARY);
/// What MariaDB takes for what MySQL has a BIGINT for.
const SMALL: ColumnType = ColumnType::LONG;

/// What an expression is, and of which type; none if the simulator cannot tell.
fn value(
    script: &Script,
    statement: &Statement<'_>,
    expression: &str,
    port: u16,
) -> Result<Option<(Option<String>, Kind)>, ServerError> {
    let smaller = |kind: Kind| if statement.mariadb { (SMALL, kind.1) } else { kind };
    let some = |value: &dyn ToString, kind| Ok(Some((Some(value.to_string()), kind)));
    let Some(name) = expression.strip_prefix("@@") else {
        let function = expression.to_ascii_lowercase();
        return match function.as_str() {
            "connection_id()" => some(&statement.connection, smaller(COUNT)),
            "version()" => some(&variable(script, "version").unwrap_or_default(), TEXT),
            "database()" | "schema()" => Ok(Some((statement.database.map(str::to_owned), TEXT))),
            _ if !expression.is_empty() && expression.bytes().all(|b| b.is_ascii_digit()) => {
                some(&expression, smaller(SWITCH))
            }
            _ => Ok(None),
        };
    };
    let scopes = ["global.", "session.", "local."];
    let scope = scopes.iter().find(|scope| starts_with(name, scope));
    let name = scope.map_or(name, |scope| &name[scope.len()..]).to_ascii_lowercase();
    match (variable(script, &name), name.as_str()) {
        (Some(value), _) if is_switch(&name) => some(&value, SWITCH),
        (Some(value), _) => some(&value, if value.parse::<u64>().is_ok() { COUNT } else { TEXT }),
        (None, "port") => some(&port, COUNT),
        (None, "hostname") => some(&script.hostname, TEXT),
        _ => Err(ServerError::new(1193, format!("Unknown system variable '{name}'"))),
    }
}

fn is_switch(name: &str) -> bool {
    name.ends_with("read_only") || name == "autocommit"
}

fn variable<'a>(script: &'a Script, name: &str) -> Option<&'a str> {
    let found = script.variables.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}
