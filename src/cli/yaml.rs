//! JSON values as YAML, for people to put into a file.

use serde_json::{Map, Value};
use std::fmt::Write;

/// In block style; what a plain scalar could be mistaken for is in quotes.
pub(super) fn write(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => members(map, 0, &mut text),
        Value::Array(items) if !items.is_empty() => list(items, 0, &mut text),
        other => scalar(other, &mut text),
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn members(map: &Map<String, Value>, depth: usize, text: &mut String) {
    for (index, (key, value)) in map.iter().enumerate() {
        // The first member of an item stands behind its dash.
        if index > 0 || text.is_empty() || text.ends_with('\n') {
            indent(depth, text);
        }
        string(key, text);
        text.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                text.push('\n');
                members(map, depth + 1, text);
            }
            Value::Array(items) if !items.is_empty() => {
                text.push('\n');
                list(items, depth + 1, text);
            }
            other => {
                text.push(' ');
                scalar(other, text);
                text.push('\n');
            }
        }
    }
}

fn list(items: &[Value], depth: usize, text: &mut String) {
    for item in items {
        indent(depth, text);
        text.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => members(map, depth + 1, text),
            // Rare, and JSON is YAML.
            other => {
                scalar(other, text);
                text.push('\n');
            }
        }
    }
}

fn indent(depth: usize, text: &mut String) {
    text.extend(std::iter::repeat_n("  ", depth));
}

fn scalar(value: &Value, text: &mut String) {
    match value {
        Value::String(it) => string(it, text),
        // JSON is YAML.
        other => drop(write!(text, "{other}")),
    }
}

fn string(it: &str, text: &mut String) {
    if is_plain(it) {
        text.push_str(it);
    } else {
        let _ = write!(text, "{}", Value::from(it));
    }
}

/// Nobody takes it for something else: words and addresses. Strict on purpose.
fn is_plain(it: &str) -> bool {
    let mut bytes = it.bytes();
    let Some(first) = bytes.next() else { return false };
    let begins = first.is_ascii_alphabetic() || first == b'/';
    let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-./:".contains(&byte))
        && !it.ends_with(':');
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    begins && goes_on && !words.iter().any(|word| it.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use proptest::prelude::*;
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn blocks() {
        let value = json!({
            "threads": 2,
            "listeners": [{"address": "0.0.0.0:80", "timeouts": {"body": "1s"}}, {"address": "[::]:80"}],
            "services": {"a b": {"pins": [], "on": [["x", "y"]], "is": true, "none": {}}},
        });
        let text = "threads: 2\nlisteners:\n  - address: \"0.0.0.0:80\"\n    timeouts:\n      body: \"1s\"\n  \
            - address: \"[::]:80\"\nservices:\n  \"a b\":\n    pins: []\n    \"on\":\n      - [\"x\",\"y\"]\n    \
            is: true\n    none: {}\n";
        assert_eq!(write(&value), text);
        assert_eq!(write(&json!({})), "{}\n");
    }

    #[test]
    fn plain_words() {
        for plain in ["shop", "v1.0", "/a/b", "dns:shop:80", "shop.example.com"] {
            assert!(is_plain(plain), "{plain}");
        }
        for quoted in
            ["", "1", "1e3", "No", "~", "a: b", "a:", "-a", "a b", "é", "$a", "*.a", "0x1f", ".."]
        {
            assert!(!is_plain(quoted), "{quoted}");
        }
    }

    #[test]
    fn a_whole_file_is_read_as_the_same() {
        let text = include_str!("../../tests/config/full.yaml");
        // Certificates need files: those parts are left out.
        let read = |text: &str| {
            let own = config::Surroundings { own: true, ..config::Surroundings::of_clients() };
            config::parse(text, Path::new("f"), own).spec
        };
        let spec = read(text).expect("a good file");
        let written = write(&config::document(&spec));
        assert_eq!(read(&written).as_ref(), Some(&spec), "{written}");
    }

    proptest! {
        #[test]
        fn strings_come_back(key in "[ -~é]{1,8}", value in "[ -~é\\n\\t]{0,12}") {
            let document = json!({ "services": { key: { "x": value, "l": [value] } } });
            let text = write(&document);
            // What the file's reader says of it depends on both in the same way.
            let say = |text: &str| {
                let outcome = config::parse(text, Path::new("f"), config::Surroundings::of_clients());
                let mut said: Vec<_> = outcome.errors.into_iter().map(|it| it.message).collect();
                said.sort();
                said
            };
            prop_assert_eq!(say(&text), say(&document.to_string()), "{}", text);
        }
    }
}
