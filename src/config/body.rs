//! Parts of a configuration in the bodies of API requests.

use super::{
    Outcome, Problem,
    keys::{BackendSection, Pool as PoolSection, Rollout},
    parse,
    problem::Problems,
    read::{self, Around},
    reader::{At, Kind, Reader},
    surroundings::Surroundings,
    tree::Tree,
};
use crate::spec::{Backend, BackendAddress, Pool, RolloutPlan, Service, Weight};
use serde_json::{Map, Value};
use std::path::Path;

/// What problems name instead of a file.
const BODY: &str = "request body";

/// A whole configuration. Places are those in the value as indented JSON; where the text is at hand,
/// [`parse`] tells the real ones. Variables are not replaced: the environment is not the client's.
pub fn parse_value(value: &Value) -> Outcome {
    parse(&format!("{value:#}"), Path::new(BODY), Surroundings::of_clients())
}

/// One pool in the keys of the file. `weight` is what it gets if it does not say.
///
/// # Errors
/// Every problem, with its place in the value as indented JSON.
pub fn parse_pool(value: &Value, name: &str, weight: Weight) -> Result<Pool, Vec<Problem>> {
    read_body(value, |reader| {
        let value = PoolSection::read(reader, Tree::ROOT)?;
        Some(read::pool(reader, At { value, node: Tree::ROOT }, name.into(), weight))
    })
}

/// One backend in the keys of the file, whose address is known already.
///
/// # Errors
/// Every problem, with its place in the value as indented JSON.
pub fn parse_backend(
    value: &Value,
    address: &str,
) -> Result<(BackendAddress, Backend), Vec<Problem>> {
    let mut whole = Map::from_iter([("address".to_owned(), Value::from(address))]);
    match value {
        Value::Object(keys) => whole.extend(keys.clone()),
        other => return read_body(other, read_backend),
    }
    read_body(&whole.into(), read_backend)
}

/// The plan of a rollout of `service`: its own, or the default one, with the keys of `rollout` that `overrides` has instead.
/// Each of those replaces what is there whole, but for `gates`, whose keys do so one by one; steps that belong to another
/// strategy are gone with it.
///
/// # Errors
/// Every problem, with its place in the value as indented JSON.
pub fn rollout_plan(service: &Service, overrides: &Value) -> Result<RolloutPlan, Vec<Problem>> {
    let default = RolloutPlan::default();
    let base = service.rollout.as_ref().unwrap_or(&default);
    read_body(overrides, |reader| {
        let value = Rollout::read(reader, Tree::ROOT)?;
        let around = Around { base, is_sticky: service.sticky.is_some() };
        Some(read::plan(reader, At { value, node: Tree::ROOT }, &around))
    })
}

fn read_backend(reader: &mut Reader<'_>) -> Option<(BackendAddress, Backend)> {
    read::backend(BackendSection::read(reader, Tree::ROOT)?)
}

fn read_body<T>(
    value: &Value,
    read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Result<T, Vec<Problem>> {
    let file = Path::new(BODY);
    let (mut errors, mut warnings) = (Problems::new(file), Problems::new(file));
    let read = Tree::read(&format!("{value:#}"), &mut errors).and_then(|tree| {
        let (surroundings, directory) = (Surroundings::of_clients(), Path::new(""));
        read(&mut Reader::new(&tree, surroundings, directory, &mut errors, &mut warnings))
    });
    match read {
        Some(value) if errors.is_empty() => Ok(value),
        _ => Err(errors.into_sorted()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines<T>(result: Result<T, Vec<Problem>>) -> Vec<String> {
        result.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pool() {
        let body = json!({ "version": "v3", "backends": ["127.0.0.1:1", { "address": "b:2" }] });
        let pool = parse_pool(&body, "green", Weight::ZERO).unwrap();
        assert_eq!((&*pool.version, pool.weight, pool.backends.len()), ("v3", Weight::ZERO, 2));
        let body = json!({ "weight": 7, "backends": ["127.0.0.1:1"] });
        let pool = parse_pool(&body, "green", Weight::ZERO).unwrap();
        assert_eq!((&*pool.version, pool.weight.get()), ("green", 7));
    }

    #[test]
    fn each_problem_of_a_pool() {
        let body = json!({ "wait": 1, "backends": ["a"], "tls": [], "drained": "x" });
        let lines = lines(parse_pool(&body, "green", Weight::ZERO));
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert!(lines[0].starts_with("request body:2:3: wait: the key `wait` is unknown"));
        assert!(lines[1].starts_with("request body:4:5: backends[0]: `a` is not the address"));
        assert_eq!(self::lines(parse_pool(&json!(null), "x", Weight::ZERO)).len(), 1);
        assert_eq!(self::lines(parse_pool(&json!([1]), "x", Weight::ZERO)).len(), 1);
    }

    #[test]
    fn a_backend() {
        let (address, backend) = parse_backend(&json!({}), "LOCALHOST:80").unwrap();
        assert_eq!((address.to_string().as_str(), backend), ("localhost:80", Backend::default()));
        let (_, backend) = parse_backend(&json!({ "weight": 0 }), "[::1]:80").unwrap();
        assert_eq!(backend.weight, Weight::ZERO);
        assert_eq!(lines(parse_backend(&json!({ "weight": -1 }), "nowhere")).len(), 2);
        assert_eq!(lines(parse_backend(&json!(5), "a:1")).len(), 1);
    }

    #[test]
    fn the_environment_is_not_for_clients() {
        let outcome = parse_value(&json!({ "threads": "${HOME}" }));
        assert!(outcome.errors.iter().any(|it| it.message.contains("`HOME` is not set")));
    }
}
