//! What differs between two specs, value by value.

use super::document::{Detail, write};
use crate::spec::{Name, Route, Spec};
use indexmap::{IndexMap, IndexSet};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// One value that differs. `null` is absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Such as `services.shop.pools.green.weight`. Listeners and backends are named by their address,
    /// routes by their name; other lists are one value.
    pub path: String,
    pub from: Value,
    pub to: Value,
}

/// The differences in the order of the file; what only the old one has comes last.
pub fn changes(old: &Spec, new: &Spec) -> Vec<Change> {
    let reordered = route_order(old, new);
    // Most changes are of one service among many.
    let (old, new) = (&without_common(old, new), &without_common(new, old));
    // What is by default in both is in neither of these; what a default stands against is in the full ones.
    let mut paths = flat(new, Detail::Brief);
    for (path, value) in flat(old, Detail::Brief) {
        paths.entry(path).or_insert(value);
    }
    let (from, to) = (flat(old, Detail::Full), flat(new, Detail::Full));
    let mut changes: Vec<Change> = paths
        .into_keys()
        .filter_map(|path| {
            let from = from.get(&path).cloned().unwrap_or_default();
            let to = to.get(&path).cloned().unwrap_or_default();
            (from != to).then_some(Change { path, from, to })
        })
        .collect();
    changes.extend(reordered);
    changes
}

/// The same as JSON: a list of `path`, `from` and `to`.
pub fn changes_text(old: &Spec, new: &Spec) -> String {
    let changes = changes(old, new).into_iter();
    let list: Vec<Value> =
        changes.map(|it| json!({ "path": it.path, "from": it.from, "to": it.to })).collect();
    Value::from(list).to_string()
}

/// `spec` without the services and routes that are the same in `other`.
pub(super) fn without_common(spec: &Spec, other: &Spec) -> Spec {
    let theirs: HashMap<&Name, &Route> = other.routes.iter().map(|it| (&it.name, it)).collect();
    let services = spec.services.iter().filter(|(name, it)| other.services.get(*name) != Some(it));
    let routes = spec.routes.iter().filter(|it| theirs.get(&it.name) != Some(it));
    Spec {
        services: services.map(|(name, it)| (name.clone(), it.clone())).collect(),
        routes: routes.cloned().collect(),
        listeners: spec.listeners.clone(),
        acme: spec.acme.clone(),
        admin: spec.admin.clone(),
        state: spec.state.clone(),
        resolver: spec.resolver.clone(),
        access_log: spec.access_log.clone(),
        tracing: spec.tracing.clone(),
        ..*spec
    }
}

/// Between equally specific routes the first wins, so their order counts.
fn route_order(old: &Spec, new: &Spec) -> Option<Change> {
    let names = |spec: &Spec| -> IndexSet<Name> {
        spec.routes.iter().map(|route| route.name.clone()).collect()
    };
    let (old, new) = (names(old), names(new));
    if old.intersection(&new).eq(new.intersection(&old)) {
        return None;
    }
    let list = |names: &IndexSet<Name>| names.iter().map(|name| &**name).collect::<Vec<_>>().into();
    Some(Change { path: "routes".into(), from: list(&old), to: list(&new) })
}

/// Every value by its path.
fn flat(spec: &Spec, detail: Detail) -> IndexMap<String, Value> {
    let mut leaves = IndexMap::new();
    flatten(String::new(), write(spec, detail), &mut leaves);
    leaves
}

fn flatten(path: String, value: Value, leaves: &mut IndexMap<String, Value>) {
    let members = match value {
        Value::Object(members) if !members.is_empty() => members,
        Value::Array(items) => match named(&path, items) {
            Ok(members) => members,
            Err(items) => {
                leaves.insert(path, items.into());
                return;
            }
        },
        leaf => {
            leaves.insert(path, leaf);
            return;
        }
    };
    for (key, value) in members {
        let below = if path.is_empty() { key } else { format!("{path}.{key}") };
        flatten(below, value, leaves);
    }
}

/// The items of a list that have names of their own, by these names.
fn named(path: &str, items: Vec<Value>) -> Result<Map<String, Value>, Vec<Value>> {
    let list = path.rsplit('.').next().unwrap_or_default();
    let name = match list {
        "backends" | "listeners" => "address",
        "routes" => "name",
        _ => return Err(items),
    };
    let item = |item| match item {
        // A backend may be its address alone.
        Value::String(address) => Some((address, json!({ "weight": 1 }))),
        Value::Object(mut keys) => {
            let name = keys.get(name)?.as_str()?.to_owned();
            match list {
                "backends" => {
                    keys.shift_remove("address");
                    keys.entry("weight").or_insert(json!(1));
                }
                "routes" => {
                    keys.shift_remove("name");
                }
                // A listener with every default has nothing else to show.
                _ => {}
            }
            Some((name, keys.into()))
        }
        _ => None,
    };
    Ok(items.into_iter().filter_map(item).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::parsed;

    const BEFORE: &str = "
listeners: [{ address: 0.0.0.0:8080 }]
services:
  shop:
    pools:
      blue: { weight: 95, backends: [127.0.0.1:9001, 127.0.0.1:9002] }
      green: { weight: 5, backends: [127.0.0.1:9011] }
    timeouts: { drain: 10s }
routes: [{ name: a, service: shop, match: { path: /a } }, { name: b, service: shop }]
";

    fn lines(before: &str, after: &str) -> Vec<String> {
        let changes = changes(&parsed(before), &parsed(after));
        changes.iter().map(|it| format!("{} {} {}", it.path, it.from, it.to)).collect()
    }

    #[test]
    fn nothing_changed() {
        assert_eq!(lines(BEFORE, BEFORE), [""; 0]);
    }

    #[test]
    fn each_value_is_a_change() {
        let after = BEFORE
            .replace("weight: 95", "weight: 0")
            .replace("weight: 5", "weight: 100")
            .replace("127.0.0.1:9002", "{ address: 127.0.0.1:9002, weight: 3 }, 127.0.0.1:9003")
            .replace("timeouts: { drain: 10s }", "timeouts: { connect: 2s }")
            .replace("path: /a", "path: /c");
        assert_eq!(
            lines(BEFORE, &after),
            [
                "services.shop.pools.blue.weight 95 0",
                "services.shop.pools.blue.backends.127.0.0.1:9002.weight 1 3",
                "services.shop.pools.blue.backends.127.0.0.1:9003.weight null 1",
                "services.shop.pools.green.weight 5 100",
                "services.shop.timeouts.connect \"1s\" \"2s\"",
                "routes.a.match.path \"/a\" \"/c\"",
                "services.shop.timeouts.drain \"10s\" \"30s\"",
            ]
        );
    }

    #[test]
    fn what_comes_and_goes() {
        let after = BEFORE
            .replace("[{ address: 0.0.0.0:8080 }]", "[{ address: \"[::]:8080\" }]")
            .replace("      green: { weight: 5, backends: [127.0.0.1:9011] }\n", "")
            .replace("    timeouts", "    pins: [{ path: /p, pool: blue }]\n    timeouts");
        assert_eq!(
            lines(BEFORE, &after),
            [
                "listeners.[::]:8080.address null \"[::]:8080\"",
                "services.shop.pins [] [{\"path\":\"/p\",\"pool\":\"blue\"}]",
                "listeners.0.0.0.0:8080.address \"0.0.0.0:8080\" null",
                "services.shop.pools.green.weight 5 null",
                "services.shop.pools.green.backends.127.0.0.1:9011.weight 1 null",
            ]
        );
    }

    #[test]
    fn the_order_of_routes_is_a_value() {
        let routes = |list: &str| {
            let start = BEFORE.find("routes:").unwrap();
            format!("{}routes: [{list}]", &BEFORE[..start])
        };
        let (a, b) = ("{ name: a, service: shop }", "{ name: b, service: shop }");
        let c = "{ name: c, service: shop }";
        let (before, after) = (routes(&format!("{a}, {b}")), routes(&format!("{b}, {a}")));
        assert_eq!(lines(&before, &after), [r#"routes ["a","b"] ["b","a"]"#]);
        let more = routes(&format!("{c}, {a}, {b}"));
        assert_eq!(lines(&before, &more), [r#"routes.c.service null "shop""#]);
    }
}
