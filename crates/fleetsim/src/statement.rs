//! A statement as the server reads it: its text, and the few things around it that a server minds.

use std::time::Duration;

/// A statement that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The whole text.
    pub text: &'a str,
    /// The number of the session that sent it.
    pub connection: u64,
    /// How long it may run: what its own text says, else what its session was set to.
    pub limit: Option<Duration>,
    /// The schema of its session.
    pub database: Option<&'a str>,
    /// Whether its session is one of MariaDB.
    pub(crate) mariadb: bool,
}

impl<'a> Statement<'a> {
    /// Reads the limit from the text, in the server's dialect.
    pub(crate) fn read(text: &'a str, connection: u64, settings: &'a Settings) -> Self {
        let session_limit = Some(settings.limit).filter(|limit| !limit.is_zero());
        let mariadb = settings.mariadb;
        let limit = own_limit(text, mariadb).or(session_limit);
        Self { text, connection, limit, database: settings.database.as_deref(), mariadb }
    }

    /// The comment before its first word, without its signs: who asks. Empty where there is none.
    pub fn tag(&self) -> &'a str {
        let text = self.text.get(prefix_length(self.text)..).unwrap_or_default().trim_start();
        let comment = text.strip_prefix("/*").and_then(|rest| rest.split_once("*/"));
        comment.map_or("", |(tag, _)| tag.trim())
    }

    /// The text without `SET STATEMENT .. FOR` and without the comment before its first word.
    pub fn body(&self) -> &'a str {
        let text = self.text.get(prefix_length(self.text)..).unwrap_or_default().trim_start();
        let comment = text.strip_prefix("/*").and_then(|rest| rest.split_once("*/"));
        comment.map_or(text, |(_, body)| body.trim_start())
    }
}

/// What a session is set to.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Whether it is one of MariaDB: as its server was when it began, since no server changes its dialect in mid-session.
    pub(crate) mariadb: bool,
    /// Its time limit for a statement; 0 for none.
    pub(crate) limit: Duration,
    /// Its schema.
    pub(crate) database: Option<Box<str>>,
}

/// The length of `SET STATEMENT .. FOR ` where the text begins with it.
fn prefix_length(text: &str) -> usize {
    const SET: &str = "set statement ";
    const FOR: &str = " for ";
    if !starts_with(text, SET) {
        return 0;
    }
    find(text, FOR).map_or(0, |at| at + FOR.len())
}

/// The limit that the text itself carries: in MariaDB's way (seconds) or in MySQL's (milliseconds, in a hint).
fn own_limit(text: &str, mariadb: bool) -> Option<Duration> {
    const HINT: &str = "max_execution_time(";
    if mariadb {
        return limit(value_after(&text[..prefix_length(text)], "max_statement_time")?, 1.0);
    }
    limit(&text[find(text, HINT)? + HINT.len()..], 1000.0)
}

/// The limit to which a SET sets its session, if it sets one: 0 for no limit.
pub(crate) fn session_limit(set: &str) -> Option<Duration> {
    if let Some(ms) = value_after(set, "max_execution_time") {
        return Some(limit(ms, 1000.0).unwrap_or_default());
    }
    value_after(set, "max_statement_time").map(|seconds| limit(seconds, 1.0).unwrap_or_default())
}

/// What stands behind `name =`.
fn value_after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = text[find(text, name)? + name.len()..].trim_start();
    rest.strip_prefix('=').map(str::trim_start)
}

/// The number at the start of the text, of which a second has `per_second`; none for 0, which is no limit.
fn limit(text: &str, per_second: f64) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let limit = Duration::try_from_secs_f64(number / per_second).ok()?;
    (!limit.is_zero()).then_some(limit)
}

/// Whether the text begins with this, without regard to ASCII case.
pub(crate) fn starts_with(text: &str, start: &str) -> bool {
    text.as_bytes().get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
}

/// Where the text contains this, without regard to ASCII case.
pub(crate) fn find(text: &str, part: &str) -> Option<usize> {
    text.as_bytes().windows(part.len()).position(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, tag: &str, body: &str, limit_ms: Option<u64>) {
        let mariadb = starts_with(text, "set");
        let settings = Settings { mariadb, limit: Duration::from_secs(9), database: None };
        let statement = Statement::read(text, 1, &settings);
        assert_eq!((statement.tag(), statement.body()), (tag, body), "{text}");
        let limit = limit_ms.map_or(Duration::from_secs(9), Duration::from_millis);
        assert_eq!(statement.limit, Some(limit), "{text}");
    }

    #[test]
    fn the_tag_the_limit_and_the_statement_itself_are_told_apart() {
        check("select 1", "", "select 1", None);
        check("/* fleet q@t */ show tables", "fleet q@t", "show tables", None);
        check(
            "SET STATEMENT max_statement_time=1.500 FOR /* fleet q@t */ select 1 for x",
            "fleet q@t",
            "select 1 for x",
            Some(1500),
        );
        check(
            "/* a */ select /*+ MAX_EXECUTION_TIME(250) */ 1",
            "a",
            "select /*+ MAX_EXECUTION_TIME(250) */ 1",
            Some(250),
        );
        check("/* open", "", "/* open", None);
    }

    #[test]
    fn a_session_is_set_to_a_limit_and_to_none() {
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(session_limit("SET SESSION max_execution_time = 1500"), ms(1500));
        assert_eq!(session_limit("set max_statement_time=0.25"), ms(250));
        assert_eq!(session_limit("SET SESSION max_execution_time = 0"), ms(0));
        assert_eq!(session_limit("SET SESSION wait_timeout = 5"), None);
    }
}
