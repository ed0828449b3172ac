//! Option files of the MySQL client (`my.cnf`): text in, the options of one section out. Reads no file itself.
//!
//! What the client would do with a text is done here too: quotes, escapes, comments, `_` for `-` in names, and the
//! last of several equal options wins. What it would look for elsewhere (`!include`) is refused, never skipped.

use std::fmt;

use crate::Secret;

/// The options of one section. Its `Debug` names them without their values: one of them is a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Options(Vec<(String, Option<Secret>)>);

/// Why a text is no option file. It never repeats the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} {}", self.line, self.message)
    }
}

impl std::error::Error for Error {}

impl Options {
    /// Reads one section of the text. None if there is no such section.
    pub fn read(text: &str, section: &str) -> Result<Option<Self>, Error> {
        let mut options: Option<Vec<_>> = None;
        let mut inside = None;
        for (n, line) in text.lines().enumerate() {
            let wrong = |message| Err(Error { line: n + 1, message });
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('!') {
                return wrong("includes another file, which is not read: name that file itself");
            }
            if let Some(name) = line.strip_prefix('[') {
                let Some((name, _)) = name.split_once(']') else {
                    return wrong("begins a section with `[` and has no `]`");
                };
                inside = Some(name.trim() == section);
                if inside == Some(true) {
                    options.get_or_insert_default();
                }
                continue;
            }
            match (inside, &mut options) {
                (None, _) => return wrong("has an option before the first [section]"),
                (Some(true), Some(options)) => options.push(option(without_comment(line))),
                _ => {}
            }
        }
        Ok(options.map(Self))
    }

    /// The value of an option: the last one written, if there is any. The name is written with `-`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(other, _)| other == name)?.1.as_ref().map(Secret::expose)
    }

    /// Whether an option is there at all, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

fn option(line: &str) -> (String, Option<Secret>) {
    let (name, value) = match line.split_once('=') {
        Some((name, value)) => (name, Some(Secret::new(unescaped(unquoted(value.trim()))))),
        None => (line, None),
    };
    (name.trim().replace('_', "-"), value)
}

/// A `#` outside of quotes begins a comment.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (i, c) in line.char_indices() {
        match (c, quote) {
            ('#', None) => return line[..i].trim_end(),
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open && !escaped => quote = None,
            _ => {}
        }
        escaped = quote.is_some() && c == '\\' && !escaped;
    }
    line
}

fn unquoted(value: &str) -> &str {
    let inside = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}

/// A backslash before another character than these is one.
fn unescaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('b') => out.push('\u{8}'),
            Some('s') => out.push(' '),
            Some(c @ ('"' | '\'' | '\\')) => out.push(c),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let options = Options::read(&format!("[client]\n{line}\n"), "client").unwrap().unwrap();
        assert_eq!(options.get("password"), Some(expected), "{line}");
    }

    #[test]
    fn a_value_is_what_the_client_takes_it_for() {
        check("password=secret", "secret");
        check("  password = secret  ", "secret");
        check("password = two words", "two words");
        check("password = 'two words '", "two words ");
        check("password=\"a#b\" # a comment", "a#b");
        check("password=a#b", "a");
        check(r#"password="a\"b#c""#, "a\"b#c");
        check(r"password=a\sb\\c\x", r"a b\c\x");
        check(r"password='C:\new'", "C:\new");
        check("password=a=b", "a=b");
        check("password=", "");
        check("password='", "'");
        check("password=\"half'", "\"half'");
        check("password=first\npassword=last", "last");
        check("password=ours\n[mysqld]\npassword=theirs\n[client]\nuser=u", "ours");
    }

    #[test]
    fn names_take_either_dash() {
        let options = Options::read("[a]\nssl_ca = x\nskip-ssl\n# c\n; c\n", "a").unwrap().unwrap();
        assert_eq!(options.get("ssl-ca"), Some("x"));
        assert!(options.has("skip-ssl") && options.get("skip-ssl").is_none() && !options.has("user"));
    }

    #[test]
    fn what_is_no_option_file_says_the_line_and_never_the_text() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Options::read(text, "client").unwrap_err().to_string(), expected);
        };
        check("password = hunter2\n", "line 1 has an option before the first [section]");
        check("\n[client\n", "line 2 begins a section with `[` and has no `]`");
        check(
            "[client]\n!includedir /etc/hunter2\n",
            "line 2 includes another file, which is not read: name that file itself",
        );
        assert_eq!(Options::read("[mysql]\nuser=x\n", "client"), Ok(None));
        let shown = format!("{:?}", Options::read("[client]\npassword=hunter2", "client"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Options::read(&String::from_utf8_lossy(&bytes), "client");
        }

        #[test]
        fn any_password_comes_back_from_quotes_and_escapes(password: String) {
            let mut text = "[client]\npassword = \"".to_owned();
            for c in password.chars() {
                match c {
                    '\\' | '"' => text.extend(['\\', c]),
                    '\n' => text.push_str("\\n"),
                    '\r' => text.push_str("\\r"),
                    c => text.push(c),
                }
            }
            text.push_str("\"\n");
            let options = Options::read(&text, "client").unwrap().unwrap();
            prop_assert_eq!(options.get("password"), Some(password.as_str()));
        }
    }
}
