//! A statement that may be sent: one, read-only as far as its words say.
//!
//! Text in, a checked [`Statement`] or a [`Refusal`] out. The words are found by a tokenizer that knows quotes,
//! comments and executable comments, never by searching the text. It is one of three guards, beside the account's
//! privileges and a READ ONLY session: none of them is enough alone.

use std::{
    fmt::{self, Write as _},
    ops::Range,
    time::Duration,
};

use crate::driver::Flavour;

/// One checked, read-only statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    sql: String,
    /// Where an optimizer hint of the leading SELECT goes.
    hint: Option<Hint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// Behind the leading SELECT, which ends here, in a hint comment of its own.
    New(usize),
    /// Into the hint comment that the author wrote there, whose `/*+` ends here.
    Existing(usize),
}

/// Whether a statement may be a CALL. What a procedure does cannot be seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// It may not; the usual case.
    Refused,
    /// Its author has said that it may.
    Allowed,
}

/// Why a statement is refused, where, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The bytes of the SQL text that are at fault.
    pub at: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// How a server is told the time limit of one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// The text to send.
    pub sql: String,
    /// The session's `max_execution_time` in milliseconds that this text needs, where it cannot carry its limit
    /// itself (MySQL, with another first word than SELECT).
    pub session_limit_ms: Option<u64>,
}

impl Statement {
    /// Checks the text: one statement, whose first keyword only reads, without a clause that writes or locks.
    ///
    /// How quotes are read depends on the server's `sql_mode` (`NO_BACKSLASH_ESCAPES`, `ANSI_QUOTES`), and whether
    /// an executable comment is run on its version. Neither is known here, so the text must pass under every reading.
    pub fn check(sql: &str) -> Result<Self, Refusal> {
        Self::check_with(sql, Calls::Refused)
    }

    /// The same where a procedure may be called, whatever it does.
    pub fn check_with(sql: &str, calls: Calls) -> Result<Self, Refusal> {
        let mut places = Vec::new();
        for executable in [true, false] {
            for single in [true, false] {
                for double in [true, false] {
                    let tokens = tokens(sql, Reading { single, double, executable })?;
                    let end = check_tokens(sql, &tokens, calls)?;
                    places.push((hint_place(sql, &tokens), end));
                }
            }
        }
        // Where the readings differ, nothing is put in and nothing cut off.
        let (hint, end) = places[0];
        let hint = hint.filter(|_| places.iter().all(|(other, _)| *other == hint));
        let end = end.filter(|_| places.iter().all(|(_, other)| *other == end));
        Ok(Self { sql: sql[..end.unwrap_or(sql.len())].trim_end().to_owned(), hint })
    }

    /// The statement that asks a server how it would run this one, as a table. None where there is no plan: of SHOW,
    /// DESCRIBE, EXPLAIN and CALL.
    pub fn explained(&self) -> Option<Self> {
        // Where the readings differ it does not matter here: the whole is checked again under each of them.
        let tokens = tokens(&self.sql, Reading { single: true, double: true, executable: true }).ok()?;
        let first = tokens.iter().position(|token| token.kind != Kind::Symbol(b'('))?;
        let has_plan =
            matches!(word(&self.sql, &tokens, first).as_str(), "select" | "with" | "table" | "values");
        // Servers have their own ideas of the usual format.
        has_plan.then(|| Self::check(&format!("EXPLAIN FORMAT=TRADITIONAL {}", self.sql)).ok())?
    }

    /// The text as the author wrote it, without the semicolon and what follows it: a comment there would be a second,
    /// empty statement.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The text as it is sent to a server of this flavour, with a comment that tells its DBA who asks (`tag`) and,
    /// where a `limit` is given, the time after which the server is to end it.
    pub fn limited(&self, flavour: Flavour, tag: impl fmt::Display, limit: Duration) -> Limited {
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        // A name that could end the comment does not get past the configuration; this does not rely on it.
        let mut tag = tag.to_string();
        if tag.contains("*/") {
            tag = tag.replace("*/", "* /");
        }
        let mut sql = String::with_capacity(self.sql.len() + tag.len() + 80);
        let mut session_limit_ms = None;
        match flavour {
            Flavour::MariaDb => {
                let _ = write!(sql, "SET STATEMENT max_statement_time={}.{:03} FOR ", ms / 1000, ms % 1000);
                let _ = write!(sql, "/* fleet-query-exporter {tag} */ {}", self.sql);
            }
            Flavour::MySql => {
                let _ = write!(sql, "/* fleet-query-exporter {tag} */ ");
                match self.hint {
                    Some(Hint::New(at)) => {
                        let _ = write!(
                            sql,
                            "{} /*+ MAX_EXECUTION_TIME({ms}) */{}",
                            &self.sql[..at],
                            &self.sql[at..]
                        );
                    }
                    Some(Hint::Existing(at)) => {
                        let _ =
                            write!(sql, "{} MAX_EXECUTION_TIME({ms}){}", &self.sql[..at], &self.sql[at..]);
                    }
                    None => {
                        sql.push_str(&self.sql);
                        session_limit_ms = Some(ms);
                    }
                }
            }
        }
        Limited { sql, session_limit_ms }
    }
}

/// Checks a setting of a session: one SET of variables of the session, under every reading of its text.
pub fn check_set(sql: &str) -> Result<(), Refusal> {
    for executable in [true, false] {
        for single in [true, false] {
            for double in [true, false] {
                check_set_tokens(sql, &tokens(sql, Reading { single, double, executable })?)?;
            }
        }
    }
    Ok(())
}

fn check_set_tokens(sql: &str, tokens: &[Token]) -> Result<(), Refusal> {
    const HELP: &str = "write one SET of the session's variables, such as \"set max_statement_time = 5\"";
    one_statement(tokens)?;
    let Some(first) = tokens.first() else { return refuse(0..=0, "there is no statement", HELP) };
    if word(sql, tokens, 0) != "set" {
        return refuse_at(first, "the statement does not start with SET", HELP);
    }
    // These words change the server or its accounts, and STATEMENT runs another statement.
    let harmful = ["global", "persist", "persist_only", "password", "statement"];
    let found = (1..tokens.len()).find(|n| {
        let word = word(sql, tokens, *n);
        // SET DEFAULT ROLE; behind a variable's name DEFAULT is a value.
        harmful.contains(&word.as_str()) || (*n == 1 && word == "default")
    });
    found.map_or(Ok(()), |n| refuse_at(&tokens[n], "this SET reaches beyond the session", HELP))
}

/// One way in which a server may read the text.
#[derive(Clone, Copy)]
struct Reading {
    /// Whether the backslash escapes in single quotes.
    single: bool,
    /// Whether it does in double quotes, which may be those of a name.
    double: bool,
    /// Whether executable comments are run, or are comments like any other.
    executable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A keyword or an unquoted name.
    Word,
    /// A quoted name, a string or a number: nothing that could be a keyword.
    Value,
    /// One character of punctuation.
    Symbol(u8),
}

#[derive(Debug, Clone)]
struct Token {
    kind: Kind,
    at: Range<usize>,
}

/// The tokens of the text, comments left out and executable comments looked into.
fn tokens(sql: &str, reading: Reading) -> Result<Vec<Token>, Refusal> {
    let bytes = sql.as_bytes();
    let mut tokens = Vec::new();
    let mut executable = false;
    let mut i = 0;
    while i < bytes.len() {
        let start = i;
        let rest = &bytes[i..];
        match rest[0] {
            0 => {
                return refuse(
                    i..=i,
                    "a NUL character in the SQL",
                    "take it out: the server would end there",
                );
            }
            b if b.is_ascii_whitespace() || b == 0x0b => i += 1,
            b'#' => i += line_length(rest),
            b'-' if rest.starts_with(b"--") && rest.get(2).is_none_or(|b| *b <= b' ' || *b == 0x7f) => {
                i += line_length(rest);
            }
            b'*' if executable && rest.starts_with(b"*/") => {
                executable = false;
                i += 2;
            }
            b'/' if rest.starts_with(b"/*") => {
                if executable {
                    return nested_comment(i);
                }
                let prefix = executable_prefix(rest);
                if let Some(length) = prefix.filter(|_| reading.executable) {
                    executable = true;
                    i += length;
                    continue;
                }
                let Some(end) = find(&rest[2..], b"*/") else {
                    return refuse(i..=i + 1, "a comment that does not end", "end it with */");
                };
                if let Some(inner) = prefix.and_then(|_| find(&rest[2..end + 2], b"/*")) {
                    return nested_comment(i + 2 + inner);
                }
                i += end + 4;
            }
            quote @ (b'\'' | b'"' | b'`') => {
                let backslash = (quote == b'\'' && reading.single) || (quote == b'"' && reading.double);
                let Some(length) = quoted_length(rest, quote, backslash) else {
                    return refuse(
                        i..=i,
                        "a quote that does not end",
                        "close it; write a quote within quotes twice, not with a backslash, whose meaning depends on \
                         the server's sql_mode",
                    );
                };
                i += length;
                tokens.push(Token { kind: Kind::Value, at: start..i });
            }
            b'0'..=b'9' => {
                i += number_length(rest);
                tokens.push(Token { kind: Kind::Value, at: start..i });
            }
            b if is_word(b) => {
                i += rest.iter().take_while(|b| is_word(**b)).count();
                tokens.push(Token { kind: Kind::Word, at: start..i });
            }
            b => {
                i += 1;
                tokens.push(Token { kind: Kind::Symbol(b), at: start..i });
            }
        }
    }
    if executable {
        return refuse(
            bytes.len()..=bytes.len(),
            "an executable comment that does not end",
            "end it with */",
        );
    }
    Ok(tokens)
}

/// Gives the place of the semicolon, if there is one.
fn check_tokens(sql: &str, tokens: &[Token], calls: Calls) -> Result<Option<usize>, Refusal> {
    let end = one_statement(tokens)?;
    first_keyword(sql, tokens, calls)?;
    for (n, token) in tokens.iter().enumerate() {
        if token.kind == Kind::Symbol(b':') && symbol(tokens, n + 1) == Some(b'=') {
            return refuse_at(
                token,
                "an assignment to a variable",
                "take the := out: a query here only reads",
            );
        }
        if token.kind != Kind::Word || is_column(sql, tokens, n) {
            continue;
        }
        let next = word(sql, tokens, n + 1);
        match word(sql, tokens, n).as_str() {
            "into" => {
                return refuse_at(
                    token,
                    "INTO writes a file or a variable",
                    "take INTO out: the rows are the result",
                );
            }
            "for" if next == "update" || next == "share" => {
                return refuse_at(
                    token,
                    "the query locks the rows it reads",
                    "take FOR UPDATE or FOR SHARE out",
                );
            }
            "lock" if next == "in" => {
                return refuse_at(token, "the query locks the rows it reads", "take LOCK IN SHARE MODE out");
            }
            _ => {}
        }
    }
    Ok(end)
}

/// A name behind a dot is a column, whatever it is called; but the dot may be that of a number, as in `1.into`.
fn is_column(sql: &str, tokens: &[Token], n: usize) -> bool {
    let is_number = |token: &Token| sql.as_bytes()[token.at.start].is_ascii_digit();
    n > 1 && symbol(tokens, n - 1) == Some(b'.') && !is_number(&tokens[n - 2])
}

/// Nothing but further semicolons after the first, whose place this gives.
fn one_statement(tokens: &[Token]) -> Result<Option<usize>, Refusal> {
    let is_end = |token: &Token| token.kind == Kind::Symbol(b';');
    let Some(end) = tokens.iter().position(is_end) else { return Ok(None) };
    match tokens[end..].iter().find(|token| !is_end(token)) {
        Some(second) => refuse_at(
            second,
            "a second statement",
            "write one statement; make a query of its own out of each further one",
        ),
        None => Ok(Some(tokens[end].at.start)),
    }
}

fn first_keyword(sql: &str, tokens: &[Token], calls: Calls) -> Result<(), Refusal> {
    const HELP: &str = "start with SELECT, WITH, TABLE, VALUES, SHOW, EXPLAIN or DESCRIBE";
    const CALL_HELP: &str = "if it only reads, say so with allow_call = true";
    let Some(first) = tokens.iter().position(|token| token.kind != Kind::Symbol(b'(')) else {
        return refuse(0..=0, "there is no statement", HELP);
    };
    match word(sql, tokens, first).as_str() {
        "select" | "table" | "values" | "show" | "explain" | "describe" | "desc" => Ok(()),
        "with" => with_reads(sql, &tokens[first..]),
        "call" if calls == Calls::Allowed => Ok(()),
        "call" => refuse_at(&tokens[first], "CALL runs a procedure, which may write", CALL_HELP),
        _ => refuse_at(&tokens[first], "the statement does not start with a word that only reads", HELP),
    }
}

/// The statement behind the common table expressions, which stand in parentheses, must read too.
fn with_reads(sql: &str, tokens: &[Token]) -> Result<(), Refusal> {
    let mut depth = 0_usize;
    for (n, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Symbol(b'(') => depth += 1,
            Kind::Symbol(b')') => depth = depth.saturating_sub(1),
            Kind::Word if depth == 0 => match word(sql, tokens, n).as_str() {
                "select" | "table" | "values" => return Ok(()),
                "update" | "delete" | "insert" | "replace" => {
                    return refuse_at(token, "the statement behind WITH writes", "use SELECT behind WITH");
                }
                _ => {}
            },
            _ => {}
        }
    }
    // In parentheses as a whole, or not SQL: the server will say.
    Ok(())
}

/// Behind a SELECT that is the very first token. One inside parentheses is not the whole statement.
fn hint_place(sql: &str, tokens: &[Token]) -> Option<Hint> {
    let end = tokens.first()?.at.end;
    if word(sql, tokens, 0) != "select" {
        return None;
    }
    let behind = sql[end..].trim_ascii_start();
    match behind.strip_prefix("/*+") {
        Some(rest) => Some(Hint::Existing(sql.len() - rest.len())),
        None => Some(Hint::New(end)),
    }
}

fn word(sql: &str, tokens: &[Token], n: usize) -> String {
    match tokens.get(n) {
        Some(Token { kind: Kind::Word, at }) => sql[at.clone()].to_ascii_lowercase(),
        _ => String::new(),
    }
}

fn symbol(tokens: &[Token], n: usize) -> Option<u8> {
    match tokens.get(n)?.kind {
        Kind::Symbol(b) => Some(b),
        _ => None,
    }
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80
}

/// The length of a number. It ends where it cannot go on, in the middle of a word too: `1e5into` is 1e5 and INTO.
/// A name that begins with digits is so taken for a number and a name, which refuses a little too much.
fn number_length(rest: &[u8]) -> usize {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(rest);
    match &rest[whole..] {
        [b'e' | b'E', exponent @ ..] if digits(exponent) > 0 => whole + 1 + digits(exponent),
        _ => whole,
    }
}

fn line_length(rest: &[u8]) -> usize {
    rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |end| end + 1)
}

/// The length of `/*!`, `/*M!` and the version number behind, where a comment's content is run.
fn executable_prefix(rest: &[u8]) -> Option<usize> {
    let prefix = if rest.starts_with(b"/*!") {
        3
    } else if rest.starts_with(b"/*M!") {
        4
    } else {
        return None;
    };
    Some(prefix + rest[prefix..].iter().take_while(|b| b.is_ascii_digit()).count())
}

/// The length of a quoted text, quotes included; `None` if it does not end.
fn quoted_length(rest: &[u8], quote: u8, backslash: bool) -> Option<usize> {
    let mut i = 1;
    while i < rest.len() {
        if rest[i] == b'\\' && backslash {
            i += 2;
        } else if rest[i] != quote {
            i += 1;
        } else if rest.get(i + 1) == Some(&quote) {
            i += 2;
        } else {
            return Some(i + 1);
        }
    }
    None
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn nested_comment<T>(at: usize) -> Result<T, Refusal> {
    refuse(
        at..=at + 1,
        "a comment within an executable comment",
        "take one of them out: servers disagree on where they end",
    )
}

fn refuse<T>(at: std::ops::RangeInclusive<usize>, message: &str, help: &str) -> Result<T, Refusal> {
    Err(Refusal { at: *at.start()..at.end() + 1, message: message.to_owned(), help: help.to_owned() })
}

fn refuse_at<T>(token: &Token, message: &str, help: &str) -> Result<T, Refusal> {
    Err(Refusal { at: token.at.clone(), message: message.to_owned(), help: help.to_owned() })
}

#[cfg(test)]
mod tests;
