//! What a server answers by itself: who it is, SET, and KILL.

use std::time::Duration;

use crate::{
    answer::Answer,
    error::ServerError,
    rows::{BINARY, Column, ColumnType, Rows, UNSIGNED},
    script::Script,
    statement::{Statement, find, session_limit, starts_with},
};

/// What a statement without a rule of the script is.
#[derive(Debug)]
pub(crate) enum BuiltIn {
    /// It has this answer.
    Answer(Answer),
    /// A SET that is taken. Within: the limit that its session has from now on, 0 for none, where it is about that.
    Set(Option<Duration>),
    /// A KILL.
    Kill { session: u64, query_only: bool },
}

impl BuiltIn {
    pub(crate) fn of(script: &Script, statement: &Statement<'_>, port: u16) -> Self {
        let body = statement.body();
        let words = body.trim_end_matches([';', ' ']);
        if starts_with(words, "set ") {
            return script
                .refusal(words)
                .map_or_else(|| Self::Set(session_limit(words)), |error| Self::Answer(error.clone().into()));
        }
        if starts_with(words, "kill ") {
            return kill(&words[5..]);
        }
        if starts_with(words, "use ") {
            return Self::Answer(Answer::ok());
        }
        if starts_with(words, "select ") {
            match introduction(script, statement, &words[7..], port) {
                Ok(Some(rows)) => return Self::Answer(rows.into()),
                Ok(None) => {}
                Err(error) => return Self::Answer(error.into()),
            }
        }
        let start: String = body.chars().take(200).collect();
        let message = format!("the simulator's script has no answer to: {start}");
        Self::Answer(ServerError::new(1105, message).into())
    }
}

fn kill(words: &str) -> BuiltIn {
    let words = words.trim();
    let (query_only, number) = match words.split_once(' ') {
        Some((kind, number)) if kind.eq_ignore_ascii_case("query") => (true, number.trim()),
        Some((kind, number)) if kind.eq_ignore_ascii_case("connection") => (false, number.trim()),
        _ => (false, words),
    };
    match number.parse() {
        Ok(session) => BuiltIn::Kill { session, query_only },
        Err(_) => BuiltIn::Answer(Answer::error(1064)),
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
        let Some((value, number)) = value(script, statement, expression, port)? else { return Ok(None) };
        columns.push(if number {
            Column::with(name, ColumnType::LONG_LONG, BINARY | UNSIGNED, 63)
        } else {
            Column::text(name)
        });
        cells.push(value);
    }
    Ok(Some(Rows::new(columns).row(cells)))
}

/// What an expression is, and whether that is a number; none if the simulator cannot tell.
fn value(
    script: &Script,
    statement: &Statement<'_>,
    expression: &str,
    port: u16,
) -> Result<Option<(Option<String>, bool)>, ServerError> {
    let text = |text: &str| Ok(Some((Some(text.to_owned()), false)));
    let number = |number: &dyn ToString| Ok(Some((Some(number.to_string()), true)));
    let Some(name) = expression.strip_prefix("@@") else {
        let function = expression.to_ascii_lowercase();
        return match function.as_str() {
            "connection_id()" => number(&statement.connection),
            "version()" => variable(script, "version").map_or(Ok(None), text),
            "database()" | "schema()" => Ok(Some((None, false))),
            "user()" | "current_user()" | "current_user" => text("monitor@localhost"),
            _ if !expression.is_empty() && expression.bytes().all(|b| b.is_ascii_digit()) => {
                number(&expression)
            }
            _ => Ok(None),
        };
    };
    let scopes = ["global.", "session.", "local."];
    let scope = scopes.iter().find(|scope| starts_with(name, scope));
    let name = scope.map_or(name, |scope| &name[scope.len()..]).to_ascii_lowercase();
    if let Some(value) = variable(script, &name) {
        let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        return Ok(Some((Some(value.to_owned()), is_number)));
    }
    match name.as_str() {
        "port" => number(&port),
        "hostname" => text(&script.hostname),
        _ => Err(ServerError::new(1193, format!("Unknown system variable '{name}'"))),
    }
}

fn variable<'a>(script: &'a Script, name: &str) -> Option<&'a str> {
    let found = script.variables.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}
