//! Tests of the whole way, and what the tests of this room share.

mod generated;
mod mutated;
mod table;
mod values;

use super::*;

/// A file with every key that is read.
pub(super) const FULL: &str = include_str!("../../../tests/config/full.yaml");

/// The spec of a text without errors.
pub(super) fn parsed(text: &str) -> Spec {
    let outcome = read_text(text);
    assert_eq!(lines(&outcome.errors), "", "{text}");
    outcome.spec.expect("a spec")
}

pub(super) fn read_text(text: &str) -> Outcome {
    parse(text, Path::new("f"), &|_| None)
}

pub(super) fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// That the document of `spec` is read as the same spec, in the same order.
pub(super) fn assert_comes_back(spec: &Spec) {
    let written = document(spec);
    let outcome = parse_value(&written);
    assert_eq!(lines(&outcome.errors), "", "{written:#}");
    assert_eq!(lines(&outcome.warnings), "");
    let read = outcome.spec.expect("a spec");
    assert_eq!(&read, spec, "{written:#}");
    assert_eq!(document(&read).to_string(), written.to_string());
    assert_eq!(changes(spec, &read), []);
}
