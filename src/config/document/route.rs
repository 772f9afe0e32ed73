use super::{Detail, Keys, matching::conditions, text};
use crate::spec::{Action, FieldChanges, Forward, Name, Redirect, RedirectCode, Route};
use serde_json::{Map, Value};

pub(super) fn route(route: &Route, detail: Detail) -> Value {
    let mut keys = Keys::new(detail);
    keys.set("name", text(&route.name));
    let conditions = conditions(&route.matches);
    if !conditions.is_empty() {
        keys.set("match", conditions);
    }
    match &route.action {
        Action::Forward(it) => forward(it, &mut keys),
        Action::Redirect(it) => keys.section("redirect", redirect(it, detail)),
    }
    keys.into_value()
}

fn forward(forward: &Forward, keys: &mut Keys) {
    keys.set("service", text(&forward.service));
    if let Some(rewrite) = &forward.rewrite {
        let prefix = if rewrite.prefix.is_empty() { "/" } else { &rewrite.prefix };
        keys.set("rewrite", Map::from_iter([("prefix".to_owned(), text(prefix))]));
    }
    keys.section("request_headers", changes(&forward.request_headers, keys.detail));
    keys.section("response_headers", changes(&forward.response_headers, keys.detail));
    let value = &forward.timeouts;
    let mut timeouts = Keys::new(keys.detail);
    for (key, duration) in [
        ("connect", value.connect),
        ("response", value.response),
        ("body", value.body),
        ("request", value.request),
        ("tunnel_idle", value.tunnel_idle),
    ] {
        if let Some(duration) = duration {
            timeouts.set(key, super::format_duration(duration));
        }
    }
    keys.section("timeouts", timeouts);
    let mut limits = Keys::new(keys.detail);
    if let Some(bytes) = forward.limits.body_bytes {
        limits.set("body_bytes", super::format_size(bytes));
    }
    keys.section("limits", limits);
}

fn changes(changes: &FieldChanges, detail: Detail) -> Keys {
    let pairs = |pairs: &[(Name, Name)]| -> Map<String, Value> {
        pairs.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
    };
    let mut keys = Keys::new(detail);
    for (key, fields) in [("set", &changes.set), ("add", &changes.add)] {
        if !fields.is_empty() {
            keys.set(key, pairs(fields));
        }
    }
    if !changes.remove.is_empty() {
        let names: Vec<Value> = changes.remove.iter().map(|name| text(name)).collect();
        keys.set("remove", names);
    }
    keys
}

fn redirect(redirect: &Redirect, detail: Detail) -> Keys {
    let mut keys = Keys::new(detail);
    keys.set("url", text(redirect.url.source()));
    keys.other("code", &redirect.code, &RedirectCode::default(), |code| code.status().into());
    keys
}
