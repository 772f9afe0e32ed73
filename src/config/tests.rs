//! Tests of the whole way, and what the tests of this room share.

use super::*;

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
