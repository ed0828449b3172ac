//! The schema and the loader agree: what one refuses for its shape, the other does too.

use std::fs;

use serde_json::{Value, json};

use super::{super::schema, corpus, examples, shown};

/// A file as an editor with a schema sees it. None if it is not TOML.
fn as_json(text: &str) -> Option<Value> {
    fn convert(value: toml::Value) -> Value {
        match value {
            toml::Value::String(text) => text.into(),
            toml::Value::Integer(n) => n.into(),
            // inf and nan are numbers of TOML and not of JSON.
            toml::Value::Float(n) => json!(if n.is_finite() { n } else { 0.5 }),
            toml::Value::Boolean(value) => value.into(),
            toml::Value::Datetime(date) => json!({ "date": date.to_string() }),
            toml::Value::Array(values) => values.into_iter().map(convert).collect(),
            toml::Value::Table(table) => {
                table.into_iter().map(|(key, value)| (key, convert(value))).collect()
            }
        }
    }
    toml::from_str::<toml::Table>(text).ok().map(|table| convert(toml::Value::Table(table)))
}

/// What of a value a schema refuses: as much of JSON Schema as ours uses, and nothing else is let through.
fn refusals(root: &Value, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    let Some(schema) = schema.as_object() else { panic!("no schema at {at}") };
    for (keyword, rule) in schema {
        let mut refuse = |why: String| out.push(format!("{at}: {why}"));
        match keyword.as_str() {
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                refusals(root, &root["$defs"][name], value, at, out);
            }
            "type" => {
                let fits = match rule.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64(),
                    "number" => value.is_number(),
                    other => panic!("the type {other}"),
                };
                if !fits {
                    refuse(format!("not of type {rule}"));
                }
            }
            "enum" if !rule.as_array().unwrap().contains(value) => refuse(format!("not one of {rule}")),
            "minimum" if value.as_i64().is_some_and(|n| n < rule.as_i64().unwrap()) => {
                refuse("too small".into());
            }
            "required" => {
                for key in rule.as_array().unwrap() {
                    if value.is_object() && value.get(key.as_str().unwrap()).is_none() {
                        refuse(format!("without {key}"));
                    }
                }
            }
            "properties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = rule.get(key) {
                        refusals(root, schema, value, &format!("{at}.{key}"), out);
                    }
                }
            }
            "additionalProperties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if schema.get("properties").is_some_and(|known| known.get(key).is_some()) {
                        continue;
                    }
                    match rule {
                        Value::Bool(false) => out.push(format!("{at}.{key}: unknown")),
                        rule => refusals(root, rule, value, &format!("{at}.{key}"), out),
                    }
                }
            }
            "items" => {
                for value in value.as_array().into_iter().flatten() {
                    refusals(root, rule, value, &format!("{at}[]"), out);
                }
            }
            "anyOf" => {
                let fits = |schema: &Value| {
                    let mut out = Vec::new();
                    refusals(root, schema, value, at, &mut out);
                    out.is_empty()
                };
                if !rule.as_array().unwrap().iter().any(fits) {
                    refuse("fits none of the ways".into());
                }
            }
            "enum" | "minimum" | "description" | "examples" | "title" | "$schema" | "$defs" => {}
            other => panic!("the keyword {other}"),
        }
    }
}

fn refused(text: &str) -> Option<Vec<String>> {
    let schema = schema();
    let mut out = Vec::new();
    refusals(&schema, &schema, &as_json(text)?, "", &mut out);
    Some(out)
}

/// The loader's words for what is wrong in shape: a key, a kind, a word, a table that lacks what it cannot be without.
fn is_of_shape(message: &str) -> bool {
    let key = message.contains(" is not a key of ") || message.contains("stands in quotes: this is key");
    let kind = message.contains("` takes ") || message.contains("is a number without a unit");
    let word = message.contains("which it cannot be")
        && !message.contains("`time_zone`")
        && !message.contains("`sql_mode`");
    let lacks = ["has no `type`", "has no `help`", "has no `mode`", "has no `when`", "has no `path`"];
    key || kind || word || message.contains("below zero") || lacks.iter().any(|lack| message.contains(lack))
}

#[test]
fn the_schema_refuses_what_the_loader_refuses_for_its_shape_and_nothing_that_loads() {
    let (mut agreed, mut loaded) = (0, 0);
    for path in corpus() {
        let text = fs::read_to_string(&path).unwrap();
        let Some(refused) = refused(&text) else { continue };
        let shown = shown(&path, &text);
        // What stands in an included file is that file's own business.
        let own = format!("{}:", path.display());
        let errors = shown.lines().filter(|line| line.starts_with(&own) && line.contains(": error: "));
        let of_shape: Vec<_> = errors.filter(|line| is_of_shape(line)).collect();
        assert_eq!(!of_shape.is_empty(), !refused.is_empty(), "{of_shape:#?}\n{refused:#?}");
        agreed += usize::from(!refused.is_empty());
        loaded += usize::from(!shown.contains(": error: "));
    }
    assert!(agreed >= 20 && loaded >= 5, "{agreed} refused by both, {loaded} load");
}

#[test]
fn every_example_validates() {
    for path in examples() {
        let refused = refused(&fs::read_to_string(&path).unwrap());
        assert_eq!(refused, Some(Vec::new()), "{}", path.display());
    }
}

#[test]
fn every_key_has_a_description() {
    fn check(schema: &Value, at: &str) {
        for (key, property) in schema["properties"].as_object().unwrap() {
            let text = property["description"].as_str().unwrap_or_default();
            assert!(text.len() > 10 && text.ends_with('.'), "{at}.{key}: {text:?}");
        }
    }
    let schema = schema();
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        check(definition, name);
    }
}
