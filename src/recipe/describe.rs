//! The tables told to others: JSON Schema for editors, and the reference for people.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{
    Kind,
    schema::{Field, Type, paths},
    tables,
};

/// The JSON Schema (draft 2020-12) of a kind of recipe.
pub fn json_schema(kind: Kind) -> Value {
    let mut schema = object(tables::fields(kind));
    schema.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    schema.insert(
        "title".to_owned(),
        json!(format!("aif {} recipe", kind.name())),
    );
    Value::Object(schema)
}

fn object(fields: &[Field]) -> Map<String, Value> {
    let properties: Map<String, Value> = fields
        .iter()
        .map(|field| {
            let mut value = of_type(&field.kind);
            if let Value::Object(entries) = &mut value {
                let default = field
                    .default
                    .map_or_else(String::new, |text| format!("; default: {text}"));
                entries.insert(
                    "description".to_owned(),
                    json!(format!("{}{default}", field.doc)),
                );
            }
            (field.name.to_owned(), value)
        })
        .collect();
    let required: Vec<&str> = fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("required".to_owned(), json!(required));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

fn of_type(kind: &Type) -> Value {
    match *kind {
        Type::Text => json!({"type": ["string", "number", "boolean"]}),
        Type::Name => json!({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}),
        Type::Bool => json!({"type": "boolean"}),
        Type::Whole { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Type::Number { min, above, max } => {
            let bound = if above { "exclusiveMinimum" } else { "minimum" };
            json!({"type": "number", bound: min, "maximum": max})
        }
        Type::Duration { .. } | Type::Memory => json!({"type": ["number", "string"]}),
        Type::Port => {
            json!({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 65535}]})
        }
        Type::PortPlace => {
            json!({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string", "pattern": "^\\{port[2-4]?\\}$"}]})
        }
        Type::One(_) => json!({"const": 1}),
        Type::Choice { now, .. } => json!({"enum": now}),
        Type::List(item) => json!({"type": "array", "items": of_type(item)}),
        Type::Arguments => {
            json!({"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1})
        }
        Type::TextMap => {
            json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}})
        }
        Type::Any => json!({}),
        Type::OneOrMore(item) => {
            json!({"anyOf": [of_type(item), {"type": "array", "items": of_type(item), "minItems": 1}]})
        }
        Type::AnyMap => json!({"type": "object"}),
        Type::DurationMap => {
            json!({"type": "object", "additionalProperties": {"type": ["number", "string"]}})
        }
        Type::Map(fields) => Value::Object(object(fields)),
        Type::Or(plain, fields) => json!({"anyOf": [of_type(plain), object(fields)]}),
    }
}

/// The reference of a kind of recipe: one line a key, with type, default and meaning.
pub fn reference(kind: Kind) -> String {
    let mut text = format!("Keys of a {} recipe\n\n", kind.name());
    let list = paths(tables::fields(kind));
    let width = list.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    for (path, field) in list {
        let mut notes = Vec::new();
        if field.required {
            notes.push("required".to_owned());
        }
        if !matches!(
            field.kind,
            Type::Map(_) | Type::List(Type::Map(_)) | Type::Text | Type::Name | Type::Any
        ) {
            notes.push(field.kind.wanted());
        }
        if let Some(default) = field.default {
            notes.push(format!("default: {default}"));
        }
        if field.expanded {
            notes.push("${VARIABLES} are expanded".to_owned());
        }
        let notes = if notes.is_empty() {
            String::new()
        } else {
            format!(" ({})", notes.join("; "))
        };
        let _ = writeln!(text, "{path:width$}  {}{notes}", field.doc);
    }
    text
}
