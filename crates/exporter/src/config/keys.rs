//! Tables of known keys, written once: the struct, how it is read, the names of its keys, and its part of the schema.
//!
//! A table may be made of parts that other tables have too (serde's `flatten` would lose the places of values). An
//! unknown key is passed over here: [`super::unknown`] reports all of them at once.

use std::{fmt, marker::PhantomData};

use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::schema::Definitions;

/// A key of a table, as the schema and the messages know it.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// What it is for, in a sentence.
    pub(super) text: &'static str,
    pub(super) required: bool,
    pub(super) shape: fn(&mut Definitions) -> serde_json::Value,
}

/// A table whose keys we chose.
pub(super) trait Keys: Default {
    /// Reads the value of one key, if it is one of this table's.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;

    /// Adds all keys, those of the parts included.
    fn describe(keys: &mut Vec<Key>);
}

/// All keys of a table.
pub(super) fn keys_of<T: Keys>() -> Vec<Key> {
    let mut keys = Vec::new();
    T::describe(&mut keys);
    keys
}

pub(super) struct KeysVisitor<T>(pub(super) PhantomData<T>);

impl<'de, T: Keys> Visitor<'de> for KeysVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut table = T::default();
        while let Some(key) = map.next_key::<String>()? {
            if !table.take(&key, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(table)
    }
}

/// Defines tables: `struct Name { ..part: Part, /// what for \n key: Type, }`. A key that is a word of Rust is written
/// `kind as "type"`; one that the table cannot do without ends with `= required`.
macro_rules! keys {
    ($(
        $(#[doc = $title:literal])+
        struct $name:ident {
            $(..$part:ident: $part_type:ty,)*
            $($(#[doc = $doc:literal])+ $field:ident $(as $key:literal)?: $type:ty $(= $required:ident)?,)*
        }
    )*) => {$(
        $(#[doc = $title])+
        #[derive(Debug, Default)]
        pub(super) struct $name {
            $(pub(super) $part: $part_type,)*
            $($(#[doc = $doc])+ pub(super) $field: Option<$type>,)*
        }

        impl $crate::config::keys::Keys for $name {
            #[allow(unused_variables, reason = "a table may be made of parts alone")]
            fn take<'de, A: serde::de::MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
                $(if self.$part.take(key, map)? {
                    return Ok(true);
                })*
                $(if key == keys!(@name $field $($key)?) {
                    self.$field = Some(map.next_value()?);
                    return Ok(true);
                })*
                Ok(false)
            }

            fn describe(keys: &mut Vec<$crate::config::keys::Key>) {
                $(<$part_type>::describe(keys);)*
                $(keys.push($crate::config::keys::Key {
                    name: keys!(@name $field $($key)?),
                    text: concat!($($doc),+).trim_ascii(),
                    required: keys!(@required $($required)?),
                    shape: <$type as $crate::config::schema::Shape>::shape,
                });)*
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map($crate::config::keys::KeysVisitor(std::marker::PhantomData))
            }
        }

        impl $crate::config::schema::Shape for $name {
            fn shapes(definitions: &mut $crate::config::schema::Definitions) -> Vec<serde_json::Value> {
                let title = concat!($($title),+).trim_ascii();
                vec![definitions.table::<Self>(stringify!($name), title)]
            }
        }
    )*};
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $key:literal) => { $key };
    (@required) => { false };
    (@required required) => { true };
}
pub(super) use keys;
