//! Tests of the whole way, and what the tests of this room share.

mod admin;
mod generated;
mod mutated;
mod observing;
mod plans;
mod rollout;
mod round_trips;
mod table;
mod tls;
mod values;

use super::*;
use std::{sync::LazyLock, time::SystemTime};

/// A file with every key that is read.
pub(super) const FULL: &str = include_str!("../../../tests/config/full.yaml");

/// The spec of a text without errors.
pub(super) fn parsed(text: &str) -> Spec {
    let outcome = read_text(text);
    assert_eq!(lines(&outcome.errors), "", "{text}");
    outcome.spec.expect("a spec")
}

pub(super) fn read_text(text: &str) -> Outcome {
    parse(text, Path::new("f"), MADE_UP)
}

/// A certificate of its own authority and its key, valid for centuries.
pub(super) fn a_certificate(name: &str) -> (String, String) {
    let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// No variables, and whatever a file is asked for, by its ending, there is one good one.
pub(super) const MADE_UP: Surroundings = Surroundings {
    variable: |_| None,
    file: made_up_file,
    others_read: |_| false,
    now: SystemTime::now,
    own: false,
};

fn made_up_file(path: &Path) -> Result<Vec<u8>, String> {
    static PAIR: LazyLock<(String, String)> = LazyLock::new(|| a_certificate("shop.example.com"));
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("crt") => Ok(PAIR.0.clone().into_bytes()),
        Some("key") => Ok(PAIR.1.clone().into_bytes()),
        // Each says something else.
        Some("token") => Ok(format!("{:?}-0123456789abcdef", path).replace(' ', "-").into_bytes()),
        _ => Err("made up to be missing".into()),
    }
}

pub(super) fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// That the document of `spec` is read as the same spec, in the same order.
pub(super) fn assert_comes_back(spec: &Spec) {
    let written = document(spec);
    let outcome = parse(&format!("{written:#}"), Path::new(""), MADE_UP);
    assert_eq!(lines(&outcome.errors), "", "{written:#}");
    // A plan may be odd.
    let is_of_another = |it: &&Problem| !it.path.contains(".rollout");
    assert_eq!(outcome.warnings.iter().find(is_of_another), None);
    let read = outcome.spec.expect("a spec");
    assert_eq!(&read, spec, "{written:#}");
    assert_eq!(document(&read).to_string(), written.to_string());
    assert_eq!(changes(spec, &read), []);
}
