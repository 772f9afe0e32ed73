//! The table of keys as a JSON Schema, for editors.

use super::{
    keys::File,
    shape::{Key, Presence, Section, Shape},
};
use serde_json::{Map, Value, json};

/// The JSON Schema (draft 2020-12) of the configuration file.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let root = section(&File::SECTION, &mut definitions);
    let mut schema = Map::from_iter([
        ("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema")),
        ("title".to_owned(), json!("crossfade configuration")),
    ]);
    if let Value::Object(root) = root {
        schema.extend(root);
    }
    schema.insert("$defs".into(), definitions.into());
    schema.into()
}

fn section(section: &'static Section, definitions: &mut Map<String, Value>) -> Value {
    let properties: Map<String, Value> =
        section.keys.iter().map(|key| (key.name.to_owned(), property(key, definitions))).collect();
    let required: Vec<&str> = section
        .keys
        .iter()
        .filter(|key| key.presence == Presence::Required)
        .map(|key| key.name)
        .collect();
    let mut schema = json!({
        "type": "object",
        "description": section.meaning,
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &'static Key, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = shape(&key.shape, definitions);
    schema["description"] = match key.presence {
        Presence::Default(default) => format!("{} Default: {default}.", key.meaning),
        Presence::Absent(words) => format!("{} Default: {words}.", key.meaning),
        Presence::Required => key.meaning.to_owned(),
    }
    .into();
    schema
}

fn shape(shape: &'static Shape, definitions: &mut Map<String, Value>) -> Value {
    match shape {
        Shape::Flag => or_variable(json!({ "type": "boolean" })),
        Shape::Whole { min, max } => {
            or_variable(json!({ "type": "integer", "minimum": min, "maximum": max }))
        }
        Shape::Duration { .. } => {
            or_variable(json!({ "type": "string", "pattern": r"^([0-9]+(d|h|m|s|ms))+$" }))
        }
        Shape::Size { min, max } => or_variable(json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "type": "string", "pattern": "^[0-9]+([KMGT]i?B|kB|B)?$" },
        ] })),
        Shape::Percent => {
            or_variable(json!({ "type": "string", "pattern": "^(100|[0-9]{1,2})%$" }))
        }
        Shape::Part { signed: true, .. } => {
            or_variable(json!({ "type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,4})?%$" }))
        }
        Shape::Part { min, max, signed: false } => or_variable(json!({ "anyOf": [
            { "type": "number", "minimum": percent(*min), "maximum": percent(*max) },
            { "type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,4})?%?$" },
        ] })),
        Shape::Number { .. } => or_variable(json!({ "type": "number" })),
        Shape::Off => json!({ "enum": ["off", null] }),
        // Numbers and booleans are taken as they are written.
        Shape::Text { .. } => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Choice(words) => or_variable(json!({ "enum": words })),
        Shape::List { of, min } => {
            json!({ "type": "array", "items": self::shape(of, definitions), "minItems": min })
        }
        Shape::Map { of, min, .. } => json!({
            "type": "object",
            "additionalProperties": self::shape(of, definitions),
            "minProperties": min,
        }),
        Shape::Section(it) => {
            if !definitions.contains_key(it.name) {
                // Its place is taken first, so that definitions stand in the order of the file.
                definitions.insert(it.name.to_owned(), Value::Null);
                let schema = section(it, definitions);
                definitions.insert(it.name.to_owned(), schema);
            }
            json!({ "$ref": format!("#/$defs/{}", it.name) })
        }
        Shape::Either(shapes) => {
            let any: Vec<Value> = shapes.iter().map(|it| self::shape(it, definitions)).collect();
            json!({ "anyOf": any })
        }
    }
}

fn percent(millionths: u32) -> f64 {
    f64::from(millionths) / 10_000.0
}

/// `schema`, or a text with a variable whose value is known later.
fn or_variable(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "string", "pattern": r"\$\{" }] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(value: &Value, all: &mut Vec<String>) {
        match value {
            Value::Object(keys) => {
                if let Some(Value::String(name)) = keys.get("$ref") {
                    all.push(name.clone());
                }
                keys.values().for_each(|value| references(value, all));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, all)),
            _ => {}
        }
    }

    #[test]
    fn each_reference_leads_somewhere() {
        let schema = schema();
        let mut all = Vec::new();
        references(&schema, &mut all);
        assert!(all.len() > 15);
        for name in all {
            let target = schema.pointer(name.trim_start_matches('#'));
            assert_eq!(target.map(|it| &it["type"]), Some(&json!("object")), "{name}");
        }
    }

    #[test]
    fn what_the_table_says_is_there() {
        let schema = schema();
        assert_eq!(schema["required"], json!(["listeners", "services"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        let pool = &schema["$defs"]["Pool"]["properties"];
        assert_eq!(pool["weight"]["anyOf"][0]["maximum"], json!(1_000_000));
    }
}
