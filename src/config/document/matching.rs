use super::text;
use crate::spec::{FieldMatch, HostPattern, Match, PathMatch, Pin, ValueMatch};
use serde_json::{Map, Value, json};

pub(super) fn pin(pin: &Pin) -> Value {
    let mut keys = conditions(&pin.matches);
    if !pin.from.is_empty() {
        let networks: Vec<Value> = pin.from.iter().map(|it| it.to_string().into()).collect();
        keys.insert("from".into(), networks.into());
    }
    keys.insert("pool".into(), text(&pin.pool));
    keys.into()
}

pub(super) fn conditions(matches: &Match) -> Map<String, Value> {
    let mut keys = Map::new();
    if !matches.hosts.is_empty() {
        let hosts: Vec<Value> = matches.hosts.iter().map(host).collect();
        keys.insert("hosts".into(), hosts.into());
    }
    match &matches.path {
        PathMatch::Any => {}
        PathMatch::Exact(path) => {
            keys.insert("path".into(), text(path));
        }
        PathMatch::Prefix(prefix) => {
            let prefix = if prefix.is_empty() { "/" } else { prefix };
            keys.insert("path_prefix".into(), text(prefix));
        }
        PathMatch::Regex(regex) => {
            keys.insert("path_regex".into(), text(regex.source()));
        }
    }
    if !matches.methods.is_empty() {
        let methods: Vec<Value> = matches.methods.iter().map(|method| text(method)).collect();
        keys.insert("methods".into(), methods.into());
    }
    let fields =
        [("headers", &matches.headers), ("cookies", &matches.cookies), ("query", &matches.query)];
    for (key, fields) in fields {
        if !fields.is_empty() {
            keys.insert(key.into(), fields.iter().map(field).collect::<Map<_, _>>().into());
        }
    }
    keys
}

fn host(host: &HostPattern) -> Value {
    match host {
        HostPattern::Exact(name) => text(name),
        HostPattern::Suffix(suffix) => text(&format!("*.{suffix}")),
    }
}

fn field(field: &FieldMatch) -> (String, Value) {
    let value = match &field.value {
        ValueMatch::Exact(value) => text(value),
        ValueMatch::Regex(regex) => json!({ "regex": text(regex.source()) }),
        ValueMatch::Present => json!({ "present": true }),
    };
    (field.name.to_string(), value)
}
