//! What the reader sees with: how wide it is, whether it has colours, and what must not reach it.

use std::{
    env,
    io::{self, IsTerminal as _},
};

use unicode_width::UnicodeWidthChar as _;

/// How a page is to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) colours: bool,
    /// Columns of the terminal; where there is none a line may be of any length.
    pub(super) width: usize,
    /// Rows and series to show at most.
    pub(super) rows: usize,
}

/// What a piece of text is marked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Title,
    Good,
    Bad,
    Faint,
}

impl Look {
    /// That of standard output.
    pub(super) fn of_stdout(rows: usize) -> Self {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0);
        let width = size.map_or(usize::MAX, |size| usize::from(size.ws_col));
        Self { colours: io::stdout().is_terminal() && wants_colours(), width, rows }
    }

    /// The text, marked where there are colours.
    pub(super) fn mark(&self, mark: Mark, text: &str) -> String {
        if !self.colours || text.is_empty() {
            return text.to_owned();
        }
        let code = match mark {
            Mark::Title => 1,
            Mark::Good => 32,
            Mark::Bad => 31,
            Mark::Faint => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// <https://no-color.org>
fn wants_colours() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The text on one line, as a terminal may get it: what could move its cursor or colour it is spelled out.
pub(super) fn visible(text: &str) -> String {
    // The marks that turn the direction of what follows would let a cell rewrite the line around it.
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() || turns(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// The beginning of the text that is at most this wide; the last character of what was cut is `…`.
pub(super) fn cut(text: &str, width: usize) -> String {
    let wide = |c: char| c.width().unwrap_or(0);
    if text.len() <= width || text.chars().map(wide).sum::<usize>() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let kept = text.chars().take_while(|c| {
        let fits = wide(*c) <= left;
        left = left.saturating_sub(wide(*c));
        fits
    });
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_spelled_out() {
        assert_eq!(visible("a\x1b[31mb\r\n\tc"), "a\\u{1b}[31mb\\r\\n\\tc");
        assert_eq!(visible("é \u{202e}gpj"), "é \\u{202e}gpj");
    }

    #[test]
    fn a_text_is_cut_by_what_the_reader_sees() {
        for (text, width, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("数据库", 6, "数据库"),
            ("数据库", 5, "数据…"),
            ("é", 1, "é"),
            ("ab", 0, "…"),
        ] {
            assert_eq!(cut(text, width), expected, "{text} {width}");
        }
    }

    #[test]
    fn without_colours_nothing_is_marked() {
        let look = Look { colours: false, width: 80, rows: 20 };
        assert_eq!(look.mark(Mark::Bad, "x"), "x");
        assert_eq!(Look { colours: true, ..look }.mark(Mark::Bad, "x"), "\x1b[31mx\x1b[0m");
    }
}
