//! YAML with the place of everything: text to a tree, or the first thing in it that is no YAML.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::report::Place;

/// Values in a tree, those that aliases repeat included. A file that people write has some dozens.
const MAX_NODES: usize = 10_000;

/// Values within values.
const MAX_DEPTH: usize = 16;

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Yaml,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Yaml {
    /// Nothing, or the word for it.
    Null,
    /// Text; numbers and flags are text that means something to a key.
    Text(String),
    List(Vec<Node>),
    /// Keys and values, in the order of the file. A key may be there twice.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// What stands there, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Yaml::Null => "nothing",
            Yaml::Text(_) => "text",
            Yaml::List(_) => "a list",
            Yaml::Map(_) => "a table",
        }
    }

    fn count(&self) -> usize {
        1 + match &self.value {
            Yaml::Null | Yaml::Text(_) => 0,
            Yaml::List(nodes) => nodes.iter().map(Self::count).sum(),
            Yaml::Map(pairs) => pairs.iter().map(|(key, value)| key.count() + value.count()).sum(),
        }
    }
}

/// Why a text is not what can be read here.
#[derive(Debug)]
pub(super) struct NoYaml {
    pub(super) at: Place,
    pub(super) message: String,
}

/// Reads a text of one document; none if it is empty. Places are counted from `base`.
pub(super) fn parse(text: &str, base: usize) -> Result<Option<Node>, NoYaml> {
    let places = Places::of(text, base);
    let mut tree = Tree { places: &places, open: Vec::new(), anchors: HashMap::new(), count: 0, root: None };
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = places.byte(error.marker());
            NoYaml { at: at..at, message: error.info().to_owned() }
        })?;
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
        }
        if documents > 1 {
            return Err(places.refuse(span, "a second document begins here: the file is one"));
        }
        tree.take(event, span)?;
    }
    Ok(tree.root)
}

/// Where lines begin, to find the byte of a line and column.
struct Places<'t> {
    text: &'t str,
    base: usize,
    lines: Vec<usize>,
}

impl<'t> Places<'t> {
    fn of(text: &'t str, base: usize) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Self { text, base, lines }
    }

    /// The marker's own index counts characters in one place and bytes in another.
    fn byte(&self, marker: &Marker) -> usize {
        let line = self.lines.get(marker.line().saturating_sub(1)).copied().unwrap_or(self.text.len());
        let column =
            self.text[line..].char_indices().nth(marker.col()).map_or(self.text.len(), |(i, _)| line + i);
        self.base + column
    }

    fn place(&self, span: Span) -> Place {
        let (start, end) = (self.byte(&span.start), self.byte(&span.end));
        start..end.max(start)
    }

    /// The parser counts a comment behind a quoted text as its part.
    fn end_of_quoted(&self, at: &Place) -> usize {
        let text = &self.text[at.start - self.base..at.end - self.base];
        let Some(quote) = text.chars().next() else { return at.end };
        let mut chars = text.char_indices().skip(1).peekable();
        while let Some((i, c)) = chars.next() {
            let is_escape = c == '\\' && quote == '"';
            let is_double =
                c == quote && quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == quote);
            if is_escape || is_double {
                chars.next();
            } else if c == quote {
                return at.start + i + 1;
            }
        }
        at.end
    }

    fn refuse(&self, span: Span, message: &str) -> NoYaml {
        NoYaml { at: self.place(span), message: message.to_owned() }
    }
}

/// A list or a table whose end has not come yet.
struct Open {
    at: Place,
    anchor: usize,
    is_map: bool,
    /// Of a table: keys and values in turn.
    nodes: Vec<Node>,
}

struct Tree<'t> {
    places: &'t Places<'t>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    count: usize,
    root: Option<Node>,
}

impl Tree<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), NoYaml> {
        let mut at = self.places.place(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if tag.is_some() {
                    return Err(self.places.refuse(span, "no value here takes a tag"));
                }
                if matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted) {
                    at.end = self.places.end_of_quoted(&at);
                }
                let is_null =
                    style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null { Yaml::Null } else { Yaml::Text(text.into_owned()) };
                self.put(Node { at, value }, anchor, span)
            }
            Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                Err(self.places.refuse(span, "no value here takes a tag"))
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if self.open.len() >= MAX_DEPTH => {
                Err(self.places.refuse(span, "this is nested too deeply"))
            }
            Event::SequenceStart(anchor, _) => {
                self.open.push(Open { at, anchor, is_map: false, nodes: Vec::new() });
                Ok(())
            }
            Event::MappingStart(anchor, _) => {
                self.open.push(Open { at, anchor, is_map: true, nodes: Vec::new() });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { at: start, anchor, is_map, nodes }) = self.open.pop() else { return Ok(()) };
                let end = nodes.last().map_or(at.end, |last| last.at.end);
                let value = if is_map { Yaml::Map(pairs(nodes)) } else { Yaml::List(nodes) };
                self.put(Node { at: start.start..end.max(start.start), value }, anchor, span)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(self.places.refuse(span, "this alias is within what it stands for"));
                };
                let value = node.value.clone();
                self.put(Node { at, value }, 0, span)
            }
            _ => Ok(()),
        }
    }

    fn put(&mut self, node: Node, anchor: usize, span: Span) -> Result<(), NoYaml> {
        // Aliases of aliases make a tree of any size out of a few lines.
        self.count += node.count();
        if self.count > MAX_NODES * MAX_DEPTH {
            return Err(self.places.refuse(span, "there are too many values"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.nodes.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }
}

fn pairs(nodes: Vec<Node>) -> Vec<(Node, Node)> {
    let mut nodes = nodes.into_iter();
    std::iter::from_fn(|| Some((nodes.next()?, nodes.next()?))).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn each_value_has_its_place() {
        let text =
            "# ein Schlüssel\na: \"ü \\\" #\" # é\nüb: [x, 'y ''z']\nc:\n  d: |\n    one\n    two\ne:\n";
        let tree = parse(text, 100).unwrap().unwrap();
        let Yaml::Map(pairs) = tree.value else { panic!() };
        let shown: Vec<_> = pairs
            .iter()
            .map(|(key, value)| (&text[key.at.start - 100..key.at.end - 100], value))
            .map(|(key, value)| (key, &text[value.at.start - 100..value.at.end - 100], value.kind()))
            .collect();
        assert_eq!(shown[0], ("a", "\"ü \\\" #\"", "text"));
        assert_eq!(shown[1], ("üb", "[x, 'y ''z'", "a list"));
        assert_eq!((shown[2].0, shown[2].2), ("c", "a table"));
        assert_eq!((shown[3].0, shown[3].2), ("e", "nothing"));
    }

    #[test]
    fn an_empty_text_is_nothing() {
        for text in ["", "# a comment\n", "---\n"] {
            assert!(parse(text, 0).unwrap().is_none_or(|node| matches!(node.value, Yaml::Null)), "{text:?}");
        }
    }

    #[test]
    fn what_grows_without_end_is_refused() {
        #[track_caller]
        fn check(text: &str, message: &str) {
            assert_eq!(parse(text, 0).unwrap_err().message, message);
        }
        check(&"[".repeat(20), "this is nested too deeply");
        check("a: &a [*a]", "this alias is within what it stands for");
        check("a: 1\n---\nb: 2\n", "a second document begins here: the file is one");
        check("a: !!binary x", "no value here takes a tag");
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..10 {
            let all = vec![format!("*a{}", n - 1); 10].join(", ");
            writeln!(laughs, "a{n}: &a{n} [{all}]").unwrap();
        }
        check(&laughs, "there are too many values");
    }
}
