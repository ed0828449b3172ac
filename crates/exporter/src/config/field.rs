//! The pieces that the raw structs are made of: values that remember their place, and that can be wrong without
//! hiding what is wrong elsewhere.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use serde_json::json;

use super::report::{Findings, Place};

/// Something and its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) at: Place,
    pub(super) value: T,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        Ok(Self { at: spanned.span(), value: spanned.into_inner() })
    }
}

/// A place in the file where a string, a table or an array may stand, of which most positions take only one.
#[derive(Debug)]
pub(super) enum Node<T, L> {
    Text(String),
    Table(T),
    List(L),
    Other(&'static str),
}

impl<T, L> Node<T, L> {
    /// What stands there, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Table(_) => "a table",
            Self::List(_) => "an array",
            Self::Other(kind) => kind,
        }
    }
}

struct NodeVisitor<T, L>(PhantomData<(T, L)>);

impl<'de, T: Deserialize<'de>, L: Deserialize<'de>> Visitor<'de> for NodeVisitor<T, L> {
    type Value = Node<T, L>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Node::Table)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        L::deserialize(SeqAccessDeserializer::new(seq)).map(Node::List)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Node::Other("a boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Node::Other("an integer"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Node::Other("a float"))
    }
}

impl<'de, T: Deserialize<'de>, L: Deserialize<'de>> Deserialize<'de> for Node<T, L> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor(PhantomData))
    }
}

/// A place where only a table is right.
pub(super) type Table<T> = At<Node<T, IgnoredAny>>;
/// A place where only an array is right.
pub(super) type List<T> = At<Node<IgnoredAny, Vec<T>>>;

/// In place of a [`Node`]'s array: no array is right there, but a string is, besides the table.
#[derive(Debug)]
pub(super) struct TextToo;

impl<'de> Deserialize<'de> for TextToo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// The table, or an error that says what stands there instead.
pub(super) fn table<T, L>(
    found: &mut Findings,
    key: &str,
    node: Option<At<Node<T, L>>>,
    help: &str,
) -> Option<At<T>> {
    let At { at, value } = node?;
    match value {
        Node::Table(value) => Some(At { at, value }),
        other => {
            found.error(&at, format!("`{key}` takes a table, not {}", other.kind())).help(help);
            None
        }
    }
}

/// The array, or an error that says what stands there instead.
pub(super) fn list<T, L>(
    found: &mut Findings,
    key: &str,
    node: Option<At<Node<T, L>>>,
    help: &str,
) -> Option<At<L>> {
    let At { at, value } = node?;
    match value {
        Node::List(value) => Some(At { at, value }),
        other => {
            found.error(&at, format!("`{key}` takes an array, not {}", other.kind())).help(help);
            None
        }
    }
}

/// A table whose keys the author chose, in the order of the file.
#[derive(Debug)]
pub(super) struct Entries<V>(pub(super) Vec<(At<String>, V)>);

impl<'de, V: DeserializeOwned> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<V>(PhantomData<V>);
        impl<'de, V: DeserializeOwned> Visitor<'de> for EntriesVisitor<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<At<String>, V>()? {
                    entries.push(entry);
                }
                entries.sort_by_key(|(key, _)| key.at.start);
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

/// Why a value cannot be taken, as it follows the name of its key, and what to write instead. It never repeats a
/// value of the wrong type: it may be a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) help: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }

    /// What is wanted, what is there (its kind alone), and an example.
    fn kind(want: &str, value: &toml::Value, help: &str) -> Self {
        Self::new(format!("takes {want}, not {}", kind(value)), help)
    }
}

fn kind(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "a string",
        toml::Value::Integer(_) => "an integer",
        toml::Value::Float(_) => "a float",
        toml::Value::Boolean(_) => "a boolean",
        toml::Value::Datetime(_) => "a date or time",
        toml::Value::Array(_) => "an array",
        toml::Value::Table(_) => "a table",
    }
}

/// What a [`Field`] can hold.
pub(super) trait Value: Sized {
    /// Takes what is written, whatever its type.
    fn from_toml(value: toml::Value) -> Result<Self, Wrong>;

    /// What can be written, as JSON Schema says it.
    fn shape() -> serde_json::Value;
}

/// A value that is one of a few words.
pub(super) trait Word: Copy + 'static {
    /// The words and what they mean.
    const WORDS: &[(&str, Self)];

    /// The word that means this.
    fn word(self) -> &'static str
    where
        Self: PartialEq,
    {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

impl<T: Word> Value for T {
    fn from_toml(value: toml::Value) -> Result<Self, Wrong> {
        choice(value, Self::WORDS)
    }

    fn shape() -> serde_json::Value {
        let words: Vec<_> = Self::WORDS.iter().map(|(word, _)| word).collect();
        json!({ "enum": words })
    }
}

/// One value of a key: right, or wrong by itself.
#[derive(Debug)]
pub(super) struct Field<T>(At<Result<T, Wrong>>);

impl<'de, T: Value> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let At { at, value } = At::<toml::Value>::deserialize(deserializer)?;
        Ok(Self(At { at, value: T::from_toml(value) }))
    }
}

impl<T> Field<T> {
    /// The value, or None after its error was reported.
    pub(super) fn check(self, found: &mut Findings, key: &str) -> At<Option<T>> {
        self.check_as(found, &format!("`{key}`"))
    }

    /// The same for one of the values in the array of a key.
    pub(super) fn check_in(self, found: &mut Findings, key: &str) -> Option<At<T>> {
        good(Some(self.check_as(found, &format!("each of `{key}`"))))
    }

    fn check_as(self, found: &mut Findings, subject: &str) -> At<Option<T>> {
        let At { at, value } = self.0;
        match value {
            Ok(value) => At { at, value: Some(value) },
            Err(wrong) => {
                found.error(&at, format!("{subject} {}", wrong.message)).help(wrong.help);
                At { at, value: None }
            }
        }
    }
}

/// A key's value: absent, or at its place; None there means that it was wrong and has been reported.
pub(super) type Setting<T> = Option<At<Option<T>>>;

/// Reads an optional key.
pub(super) fn read<T>(found: &mut Findings, key: &str, field: Option<Field<T>>) -> Setting<T> {
    field.map(|field| field.check(found, key))
}

/// Reads an optional key and holds its value against a rule.
pub(super) fn read_with<T, U>(
    found: &mut Findings,
    key: &str,
    field: Option<Field<T>>,
    rule: impl FnOnce(T) -> Result<U, Wrong>,
) -> Setting<U> {
    let At { at, value } = field?.check(found, key);
    let value = value.and_then(|value| match rule(value) {
        Ok(value) => Some(value),
        Err(wrong) => {
            found.error(&at, format!("`{key}` {}", wrong.message)).help(wrong.help);
            None
        }
    });
    Some(At { at, value })
}

/// The value of a setting that is there and right.
pub(super) fn good<T>(setting: Setting<T>) -> Option<At<T>> {
    let At { at, value } = setting?;
    value.map(|value| At { at, value })
}

impl Value for String {
    fn from_toml(value: toml::Value) -> Result<Self, Wrong> {
        match value {
            toml::Value::String(text) => Ok(text),
            other => Err(Wrong::kind("a string", &other, "write the text in quotes")),
        }
    }

    fn shape() -> serde_json::Value {
        json!({ "type": "string" })
    }
}

impl Value for bool {
    fn from_toml(value: toml::Value) -> Result<Self, Wrong> {
        match value {
            toml::Value::Boolean(value) => Ok(value),
            other => Err(Wrong::kind("true or false", &other, "write true or false, without quotes")),
        }
    }

    fn shape() -> serde_json::Value {
        json!({ "type": "boolean" })
    }
}

impl Value for usize {
    fn from_toml(value: toml::Value) -> Result<Self, Wrong> {
        match value {
            toml::Value::Integer(n) => Self::try_from(n)
                .map_err(|_| Wrong::new(format!("is {n}, which is below zero"), "write a number above zero")),
            other => Err(Wrong::kind("a whole number", &other, "write a number without quotes, such as 100")),
        }
    }

    fn shape() -> serde_json::Value {
        json!({ "type": "integer", "minimum": 0 })
    }
}

impl Value for Duration {
    fn from_toml(value: toml::Value) -> Result<Self, Wrong> {
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(n) => {
                return Err(Wrong::new(
                    "is a number without a unit",
                    format!(
                        "write \"{n}s\" for {n} seconds, or another unit: \"500ms\", \"15s\", \"1m 30s\""
                    ),
                ));
            }
            other => return Err(Wrong::kind("a duration", &other, "write \"15s\"")),
        };
        humantime_serde::deserialize(toml::Value::String(text.clone())).map_err(|_: toml::de::Error| {
            Wrong::new(
                format!("is {text:?}, which is not a duration"),
                "write numbers and units: \"500ms\", \"15s\", \"1m 30s\", \"2h\"",
            )
        })
    }

    fn shape() -> serde_json::Value {
        json!({ "type": "string", "examples": ["500ms", "15s", "1m 30s", "2h"] })
    }
}

/// A number as it was written: the place of its text says how; the value says what it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Integer(i64),
    Float(f64),
}

impl Value for Number {
    fn from_toml(value: toml::Value) -> Result<Self, Wrong> {
        match value {
            toml::Value::Integer(n) => Ok(Self::Integer(n)),
            toml::Value::Float(n) => Ok(Self::Float(n)),
            other => Err(Wrong::kind("a number", &other, "write a number without quotes, such as 1")),
        }
    }

    fn shape() -> serde_json::Value {
        json!({ "type": "number" })
    }
}

/// One of a few words, each of which means a `T`.
fn choice<T: Copy>(value: toml::Value, words: &[(&str, T)]) -> Result<T, Wrong> {
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let all = names.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    match value {
        toml::Value::String(text) => {
            words.iter().find(|(word, _)| *word == text).map(|(_, t)| *t).ok_or_else(|| {
                let help = match nearest(&text, names.iter().copied()) {
                    Some(word) => format!("did you mean \"{word}\"? It is one of {all}"),
                    None => format!("write one of {all}"),
                };
                Wrong::new(format!("is {text:?}, which it cannot be"), help)
            })
        }
        other => Err(Wrong::kind("a word in quotes", &other, &format!("write one of {all}"))),
    }
}

/// The most similar of some names, if one is similar at all.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    names
        .map(|other| (strsim::jaro_winkler(&lower, &other.to_lowercase()), other))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}
