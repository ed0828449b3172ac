//! A statement that may be sent: one, read-only as far as its words say.
//!
//! Text in, a checked [`Statement`] or a [`Refusal`] out. The words are found by a tokenizer that knows quotes,
//! comments and executable comments, never by searching the text. It is one of three guards, beside the account's
//! privileges and a READ ONLY session: none of them is enough alone.

use std::{fmt::Write as _, ops::Range, time::Duration};

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
    pub fn limited(&self, flavour: Flavour, tag: &str, limit: Duration) -> Limited {
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        // A name that could end the comment does not get past the configuration; this does not rely on it.
        let tag = tag.replace("*/", "* /");
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
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    const SECONDS: Duration = Duration::from_millis(2500);

    #[track_caller]
    fn check(sql: &str, expected: &str) {
        let got = match Statement::check(sql) {
            Ok(_) => "ok".to_owned(),
            Err(refusal) => format!("{} [{}]", refusal.message, sql.get(refusal.at).unwrap_or("")),
        };
        assert_eq!(got, expected, "{sql}");
    }

    #[test]
    fn statements_that_read_pass() {
        for sql in [
            "select 1",
            "SELECT 1;",
            " -- a comment\n# another\n/* and one */ select 1 ;; ",
            "(select 1) union (select 2)",
            "with a as (select 1) select * from a",
            "with recursive a as (select 1 as n union all select n + 1 from a where n < 9) select max(n) from a",
            "show global status like 'Threads%'",
            "explain select 1",
            "table t",
            "values row(1)",
            "select ';', \"; drop table x\", `;` from t",
            "select 'it''s'",
            "select substring('abc' from 2 for 1)",
            "select t.into, t.`into`, 'into' from t",
            "select /*! STRAIGHT_JOIN */ 1",
            "select 1 --1",
            "select replace(a, 'x', 'y') from t",
            "select 'größe', größe from t",
        ] {
            check(sql, "ok");
        }
    }

    #[test]
    fn a_second_statement_is_refused_wherever_it_hides() {
        check("select 1; select 2", "a second statement [select]");
        check("select 1; drop table x", "a second statement [drop]");
        check("select 1 /*! ; drop table x */", "a second statement [drop]");
        check("select 1 /*M!100100 ; drop table x */", "a second statement [drop]");
        check("select 1 --\n; drop table x", "a second statement [drop]");
        // One string or two statements: it depends on NO_BACKSLASH_ESCAPES.
        check(r"select '\'; drop table x; -- '", "a second statement [drop]");
        check(r#"select "\"; drop table x; -- ""#, "a second statement [drop]");
    }

    #[test]
    fn only_words_that_read_may_come_first() {
        let refused = "the statement does not start with a word that only reads";
        for sql in
            ["insert into t values (1)", "set @a = 1", "kill 1", "lock tables t read", "handler t open"]
        {
            let first = sql.split(' ').next().unwrap();
            check(sql, &format!("{refused} [{first}]"));
        }
        check("/*!50000 delete */ from t", &format!("{refused} [delete]"));
        check("", "there is no statement []");
        check("-- only a comment", "there is no statement [-]");
        check("with a as (select 1) delete from t", "the statement behind WITH writes [delete]");
        check("with a as (select 1) update t set b = 1", "the statement behind WITH writes [update]");
    }

    #[test]
    fn a_procedure_is_called_only_where_that_is_allowed() {
        check("call p()", "CALL runs a procedure, which may write [call]");
        assert!(Statement::check_with("call p()", Calls::Allowed).is_ok());
        for sql in ["call p(); drop table x", "drop table x", "call p() into @a"] {
            assert!(Statement::check_with(sql, Calls::Allowed).is_err(), "{sql}");
        }
    }

    #[test]
    fn a_plan_is_asked_for_of_what_has_one() {
        for (sql, has_plan) in [
            ("select 1", true),
            ("/* a */ (select 1);", true),
            ("with a as (select 1) select * from a", true),
            ("table t", true),
            ("show tables", false),
            ("explain select 1", false),
        ] {
            let explained = Statement::check(sql).unwrap().explained();
            let expected = format!("EXPLAIN FORMAT=TRADITIONAL {}", sql.trim_end_matches(';'));
            assert_eq!(explained.as_ref().map(Statement::sql), has_plan.then_some(&*expected), "{sql}");
        }
    }

    #[test]
    fn a_setting_is_one_set_of_the_session() {
        for sql in ["set max_statement_time = 5", "SET SESSION sort_buffer_size=1", "set a = default;"] {
            assert_eq!(check_set(sql), Ok(()), "{sql}");
        }
        for sql in [
            "",
            "select 1",
            "set a = 1; drop table x",
            "set global a = 1",
            "set @@global.a = 1",
            "set a = 1, persist b = 2",
            "set password = 'x'",
            "set default role r to u",
            "set statement a = 1 for delete from t",
            "set a = '",
            "/*!50000 delete */ from t",
        ] {
            assert!(check_set(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn clauses_that_write_or_lock_are_refused() {
        check("select 1 into outfile '/tmp/x'", "INTO writes a file or a variable [into]");
        check("select 1 INTO @a", "INTO writes a file or a variable [INTO]");
        check("select 1 /*!into*/ /*! outfile */ '/x'", "INTO writes a file or a variable [into]");
        check("select * from t for update", "the query locks the rows it reads [for]");
        check("select * from t FOR  /* x */ SHARE", "the query locks the rows it reads [FOR]");
        check("select * from t lock in share mode", "the query locks the rows it reads [lock]");
        check("select @a := 1", "an assignment to a variable [:]");
    }

    #[test]
    fn a_number_ends_where_it_cannot_go_on_and_what_follows_is_a_word() {
        for sql in [
            "select 1into outfile '/x'",
            "select 1e5into outfile '/x'",
            "select 1.into outfile '/x'",
            "select 1.5into outfile '/x'",
            "select .5into outfile '/x'",
            "select 1e+5into outfile '/x'",
        ] {
            check(sql, "INTO writes a file or a variable [into]");
        }
        for sql in
            ["select 1.5e10, 0x1f, t.2fa, `t`.into from t", "select 1e5from t", "select 1 from 2fa_tokens"]
        {
            check(sql, "ok");
        }
    }

    #[test]
    fn an_executable_comment_must_pass_where_it_is_run_and_where_it_is_skipped() {
        // Run by one server, so it begins with DELETE; skipped by another, so with SELECT.
        let refused = "the statement does not start with a word that only reads";
        check("/*!50000 delete */ select 1", &format!("{refused} [delete]"));
        check("/*!50000 select */ 1", &format!("{refused} [1]"));
        // Skipped, the comment ends within what is a string where it is run.
        check("select 1 /*!99999 ' */ into outfile '/x' -- ' */", "INTO writes a file or a variable [into]");
        check("select 1 /*M! ' */ ; drop table x -- ' */", "a second statement [drop]");
        check("select 1 /*!99999 -- */ ; drop table x\n */", "a second statement [drop]");
        // Servers disagree on where a comment within a comment ends.
        let nested = "a comment within an executable comment [/*]";
        check("select 1 /*! /*! ; drop table x */ -- */", nested);
        check("select 1 /*!99999 /* */ ' */ into outfile '/x' -- ' */", nested);
        check("select /*! /*+ NO_ICP(t) */ */ 1", nested);
    }

    #[test]
    fn a_comment_begins_with_two_dashes_and_any_control_character() {
        check("select 1 --\u{7f}'\n into outfile '/x' -- '", "INTO writes a file or a variable [into]");
        check("select 1 --\u{1}'\n into outfile '/x' -- '", "INTO writes a file or a variable [into]");
        // One minus and another one.
        check("select 1 --2", "ok");
    }

    #[test]
    fn what_follows_the_semicolon_is_cut_off_with_it() {
        #[track_caller]
        fn check_cut(sql: &str, expected: &str) {
            assert_eq!(Statement::check(sql).unwrap().sql(), expected);
        }
        check_cut("select 1 ; ; -- the end", "select 1");
        check_cut("select ';' /* ; */ ;", "select ';' /* ; */");
        check_cut("  select 1 -- no semicolon;\n", "  select 1 -- no semicolon;");
    }

    /// Pieces of SQL that change how what follows is read.
    fn tricky() -> impl Strategy<Value = String> {
        let piece = select(vec![
            "select ",
            "1",
            "1e5",
            ".",
            "/*",
            "*/",
            "/*!",
            "/*!99999 ",
            "/*M!100 ",
            "/*+ ",
            "--",
            "-- ",
            "#",
            "\n",
            "'",
            "\"",
            "`",
            "\\",
            ";",
            "into ",
            "for ",
            "update ",
            "with ",
            "a",
            " ",
            "(",
            ")",
            ":=",
            "é",
            "\u{7f}",
            "\0",
        ]);
        vec(piece, 0..16).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

        #[test]
        fn any_text_is_accepted_whole_or_refused_at_a_place_within_it(
            sql in prop_oneof![any::<String>(), tricky(), tricky().prop_map(|tail| format!("select 1 {tail}"))],
        ) {
            match Statement::check(&sql) {
                Err(refusal) => prop_assert!(refusal.at.start <= refusal.at.end && refusal.at.start <= sql.len()),
                Ok(statement) => {
                    prop_assert!(sql.starts_with(statement.sql()));
                    prop_assert_eq!(&Statement::check(statement.sql()), &Ok(statement.clone()));
                    for flavour in [Flavour::MariaDb, Flavour::MySql] {
                        let limited = statement.limited(flavour, "q@t */ drop", SECONDS).sql;
                        // Without the hint, as one of its own or within the author's.
                        let plain = [" /*+ MAX_EXECUTION_TIME(2500) */", " MAX_EXECUTION_TIME(2500)"]
                            .map(|hint| limited.replacen(hint, "", 1));
                        prop_assert!(plain.iter().any(|text| text.ends_with(statement.sql())), "{limited}");
                        prop_assert!(flavour == Flavour::MariaDb || Statement::check(&limited).is_ok(), "{limited}");
                    }
                }
            }
        }

        #[test]
        fn nothing_hides_a_second_statement_behind_an_accepted_one(sql in tricky()) {
            // Where `sql` is one whole statement to every server, what follows a semicolon is another.
            let sql = format!("select 1 {sql}");
            if Statement::check(&format!("{sql}\n")).is_ok() && Statement::check(&sql).is_ok_and(|s| s.sql().len() == sql.trim_end().len()) {
                prop_assert!(Statement::check(&format!("{sql}\n; drop table x")).is_err(), "{sql}");
            }
        }
    }

    #[test]
    fn what_does_not_end_is_refused() {
        check("select 'a", "a quote that does not end [']");
        check("select `a", "a quote that does not end [`]");
        check("select 1 /* a", "a comment that does not end [/*]");
        check("select 1 /*! a", "an executable comment that does not end []");
        check("select 1\0", "a NUL character in the SQL [\0]");
    }

    #[track_caller]
    fn check_limited(sql: &str, flavour: Flavour, expected: &str) {
        let limited = Statement::check(sql).unwrap().limited(flavour, "q@t", SECONDS);
        let session = limited.session_limit_ms.map(|ms| format!(" [session {ms}]")).unwrap_or_default();
        assert_eq!(limited.sql + &session, expected);
    }

    #[test]
    fn the_limit_travels_with_the_statement() {
        use Flavour::{MariaDb, MySql};
        check_limited(
            "select 1;",
            MariaDb,
            "SET STATEMENT max_statement_time=2.500 FOR /* fleet-query-exporter q@t */ select 1",
        );
        check_limited(
            "select 1",
            MySql,
            "/* fleet-query-exporter q@t */ select /*+ MAX_EXECUTION_TIME(2500) */ 1",
        );
        check_limited(
            "select\n  /*+ NO_ICP(t) */ 1 from t",
            MySql,
            "/* fleet-query-exporter q@t */ select\n  /*+ MAX_EXECUTION_TIME(2500) NO_ICP(t) */ 1 from t",
        );
        check_limited(
            "with a as (select 1) select * from a",
            MySql,
            "/* fleet-query-exporter q@t */ with a as (select 1) select * from a [session 2500]",
        );
        check_limited(
            "(select 1) union (select 2)",
            MySql,
            "/* fleet-query-exporter q@t */ (select 1) union (select 2) [session 2500]",
        );
        // Behind a comment, too.
        check_limited(
            "/* first */ select 1",
            MySql,
            "/* fleet-query-exporter q@t */ /* first */ select /*+ MAX_EXECUTION_TIME(2500) */ 1",
        );
    }
}
