//! The JSON Schema of the file, from the same types that read it.
//!
//! It says which keys there are and what kind of value each takes. What a value means, and whether it fits the others,
//! only the loader knows.

use serde_json::{Map, Value, json};

use super::{
    field::{At, Entries, Field, Node, TextToo, Value as FieldValue},
    keys::{Key, Keys, keys_of},
    raw::RawFile,
};

/// The schema of a configuration file.
pub(crate) fn schema() -> Value {
    let mut definitions = Definitions::default();
    let root = RawFile::shape(&mut definitions);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fleet-query-exporter",
        "$ref": root["$ref"],
        "$defs": definitions.0,
    })
}

/// The tables met so far, by name.
#[derive(Default)]
pub(super) struct Definitions(Map<String, Value>);

impl Definitions {
    /// The reference to a table's definition, which is made when it is first met.
    pub(super) fn table<T: Keys>(&mut self, name: &str, title: &str) -> Value {
        let name = name.trim_start_matches("Raw").to_lowercase();
        let reference = json!({ "$ref": format!("#/$defs/{name}") });
        if self.0.contains_key(&name) {
            return reference;
        }
        self.0.insert(name.clone(), Value::Null);
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for Key { name, text, required: is_required, shape } in keys_of::<T>() {
            let mut shape = shape(self);
            if let Some(shape) = shape.as_object_mut() {
                shape.insert("description".to_owned(), text.into());
            }
            properties.insert(name.to_owned(), shape);
            required.extend(is_required.then_some(name));
        }
        let mut table = json!({
            "description": title,
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        });
        if let (Some(table), false) = (table.as_object_mut(), required.is_empty()) {
            table.insert("required".to_owned(), required.into());
        }
        self.0.insert(name, table);
        reference
    }
}

/// What may stand in a place.
pub(super) trait Shape {
    /// The ways to write it. None: there is no such way.
    fn shapes(definitions: &mut Definitions) -> Vec<Value>;

    /// All of them as one.
    fn shape(definitions: &mut Definitions) -> Value {
        let mut shapes = Self::shapes(definitions);
        if shapes.len() == 1 { shapes.remove(0) } else { json!({ "anyOf": shapes }) }
    }
}

impl<T: FieldValue> Shape for Field<T> {
    fn shapes(_: &mut Definitions) -> Vec<Value> {
        vec![T::shape()]
    }
}

impl<T: Shape> Shape for At<T> {
    fn shapes(definitions: &mut Definitions) -> Vec<Value> {
        T::shapes(definitions)
    }
}

impl<T: Shape, L: Shape> Shape for Node<T, L> {
    fn shapes(definitions: &mut Definitions) -> Vec<Value> {
        let mut shapes = L::shapes(definitions);
        shapes.extend(T::shapes(definitions));
        shapes
    }
}

impl<V: Shape> Shape for Entries<V> {
    fn shapes(definitions: &mut Definitions) -> Vec<Value> {
        vec![json!({ "type": "object", "additionalProperties": V::shape(definitions) })]
    }
}

impl<T: Shape> Shape for Vec<T> {
    fn shapes(definitions: &mut Definitions) -> Vec<Value> {
        vec![json!({ "type": "array", "items": T::shape(definitions) })]
    }
}

impl Shape for serde::de::IgnoredAny {
    fn shapes(_: &mut Definitions) -> Vec<Value> {
        Vec::new()
    }
}

impl Shape for TextToo {
    fn shapes(_: &mut Definitions) -> Vec<Value> {
        vec![json!({ "type": "string" })]
    }
}
