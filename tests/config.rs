//! The configuration as its users meet it.

use crossfade::config;
use std::path::Path;

fn lines(problems: &[config::Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// Each mistake is numbered in the file. After a deliberate change of words, UPDATE_GOLDEN=1 writes the
/// expected lines anew.
#[test]
fn every_mistake_is_reported_at_its_place() {
    let text = include_str!("config/mistakes.yaml");
    let outcome =
        config::parse(text, Path::new("mistakes.yaml"), config::Surroundings::of_clients());
    let found = lines(&outcome.errors);
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/mistakes.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &found).unwrap();
    }
    assert!(outcome.spec.is_none());
    assert_eq!(found, std::fs::read_to_string(golden).unwrap());
    assert_eq!(outcome.errors.len(), 53, "as many as the file numbers");
}

#[test]
fn every_example_is_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut strategies: Vec<&str> = files
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap();
            let outcome = config::parse(&text, &file, config::Surroundings::of_clients());
            assert_eq!(lines(&outcome.errors) + &lines(&outcome.warnings), "");
            let spec = outcome.spec.unwrap();
            spec.services["shop"].rollout.as_ref().expect("a plan").strategy.as_str()
        })
        .collect();
    strategies.sort_unstable();
    assert_eq!(strategies, ["blue_green", "canary", "canary", "rolling"]);
}
