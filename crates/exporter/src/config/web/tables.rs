//! What the parts of a web file are made of: tables whose keys are known, texts, lists, flags.

use super::super::{
    field::nearest,
    report::{Findings, Place},
    yaml::{Node, Yaml},
};
use super::{SECTIONS, tls::TLS_KEYS};

/// A key and its value.
#[derive(Clone, Copy)]
pub(super) struct Entry<'n> {
    pub(super) name: &'static str,
    pub(super) key: &'n Node,
    pub(super) value: &'n Node,
}

/// The entries of a table whose keys are known.
pub(super) struct Table<'n>(Vec<Entry<'n>>);

impl<'n> Table<'n> {
    pub(super) fn first(&self) -> Option<Entry<'n>> {
        self.0.first().copied()
    }

    pub(super) fn get(&self, name: &str) -> Option<Entry<'n>> {
        self.0.iter().find(|entry| entry.name == name).copied()
    }
}

/// What reads a web file, and tells what is wrong with it.
pub(super) struct File<'f> {
    pub(super) found: &'f mut Findings,
}

impl File<'_> {
    /// The entries of a table, each of which is one of `keys` and stands once.
    pub(super) fn table<'n>(
        &mut self,
        node: &'n Node,
        title: &str,
        keys: &'static [&'static str],
    ) -> Table<'n> {
        let mut entries: Vec<Entry<'n>> = Vec::new();
        for (name, key, value) in self.entries(node, title) {
            match keys.iter().find(|known| **known == name) {
                Some(name) => entries.push(Entry { name, key, value }),
                None => self.unknown(key, &name, title, keys, node),
            }
        }
        Table(entries)
    }

    /// The entries of a table of any keys, each of which stands once.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, title: &str) -> Vec<(String, &'n Node, &'n Node)> {
        let pairs = match &node.value {
            Yaml::Map(pairs) => pairs.as_slice(),
            Yaml::Null => &[],
            _ => {
                let message = format!("{title} is a table, not {}", node.kind());
                self.found.error(&node.at, message).help("write `key: value` lines, indented below it");
                &[]
            }
        };
        let mut entries: Vec<(String, &'n Node, &'n Node)> = Vec::new();
        for (key, value) in pairs {
            let name = match &key.value {
                Yaml::Text(name) => name.clone(),
                Yaml::Null => String::new(),
                _ => {
                    self.found.error(&key.at, format!("a key is text, not {}", key.kind()));
                    continue;
                }
            };
            match entries.iter().find(|(other, ..)| *other == name) {
                Some((_, first, _)) => {
                    let first = first.at.clone();
                    self.found
                        .error(&key.at, format!("`{name}` is there twice"))
                        .note(&first, "the first is here")
                        .help("leave one of them");
                }
                None => entries.push((name, key, value)),
            }
        }
        entries
    }

    fn unknown(&mut self, key: &Node, name: &str, title: &str, keys: &[&'static str], table: &Node) {
        let home = [("the top level", SECTIONS), ("tls_server_config", TLS_KEYS)];
        let home = home.iter().find(|(_, keys)| keys.contains(&name));
        let meant = keys.iter().copied().find(|known| Some(*known) == nearest(name, keys.iter().copied()));
        if let Some(meant) = meant {
            // The similar key is not missing as well.
            self.found.meant(&table.at, meant);
        }
        let help = match (home, meant) {
            (Some((home, _)), _) => format!("`{name}` belongs in {home}"),
            (None, Some(meant)) => format!("did you mean `{meant}`?"),
            (None, None) => format!("the keys here are {}", keys.join(", ")),
        };
        self.found.error(&key.at, format!("`{name}` is not a key of {title}")).help(help);
    }

    /// Text that is there and not empty.
    pub(super) fn text<'n>(&mut self, entry: Option<Entry<'n>>) -> Option<(&'n str, &'n Place)> {
        let Entry { name, value, .. } = entry?;
        match &value.value {
            Yaml::Text(text) if text.is_empty() => None,
            Yaml::Text(text) => Some((text, &value.at)),
            Yaml::Null => None,
            _ => {
                let message = format!("`{name}` takes text, not {}", value.kind());
                self.found.error(&value.at, message).help(format!("write {name}: value"));
                None
            }
        }
    }

    /// The texts of a list, if there is one.
    pub(super) fn list<'n>(&mut self, entry: Option<Entry<'n>>) -> Option<Vec<(&'n str, &'n Place)>> {
        let Entry { name, value, .. } = entry?;
        let nodes = match &value.value {
            Yaml::List(nodes) => nodes.iter().collect(),
            // As the readers of other exporters take it.
            Yaml::Text(_) => vec![value],
            Yaml::Null => return None,
            Yaml::Map(_) => {
                let message = format!("`{name}` takes a list, not {}", value.kind());
                self.found.error(&value.at, message).help(format!("write {name}: [one, two]"));
                return None;
            }
        };
        let mut texts = Vec::new();
        for node in nodes {
            if let Yaml::Text(text) = &node.value {
                texts.push((text.as_str(), &node.at));
            } else {
                let message = format!("`{name}` lists texts, not {}", node.kind());
                self.found.error(&node.at, message).help(format!("write {name}: [one, two]"));
            }
        }
        Some(texts)
    }

    pub(super) fn flag(&mut self, entry: Option<Entry<'_>>) -> Option<bool> {
        let Entry { name, value, .. } = entry?;
        let flag = match &value.value {
            Yaml::Null => return None,
            Yaml::Text(text) => match text.to_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => Some(true),
                "false" | "no" | "off" | "n" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if flag.is_none() {
            self.found
                .error(&value.at, format!("`{name}` is true or false"))
                .help(format!("write {name}: true"));
        }
        flag
    }
}
