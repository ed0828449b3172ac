//! HTML in which nothing can be forgotten to be escaped: what is written as it is, is known at compile time.

use std::fmt::{self, Display, Write as _};

/// A page being written.
#[derive(Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    /// Markup of our own, as it is.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Anything else, as text or as the value of an attribute in quotes.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing to a String cannot fail, and the types that are shown here write without fail.
        let _ = write!(Escaped(&mut self.0), "{text}");
        self
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Not allowed in HTML, and nothing to see; a line end is as good as a space.
                c if c.is_control() && !c.is_ascii_whitespace() => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_text_whatever_it_says() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let mut markup = Markup::default();
            markup.raw("<b>").text(text).raw("</b>");
            assert_eq!(markup.finish(), format!("<b>{expected}</b>"));
        }
        check("db1", "db1");
        check("<script>alert('1')</script>", "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;");
        check("\" onload=\"x", "&quot; onload=&quot;x");
        check("&lt;", "&amp;lt;");
        check("größer 日本", "größer 日本");
        check("a\u{0}b\u{1b}[31m\u{85}", "a\u{fffd}b\u{fffd}[31m\u{fffd}");
    }
}
