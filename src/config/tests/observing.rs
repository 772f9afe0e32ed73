//! What is written down of requests: any settings come back, and mistakes are told.

use super::{generated::file, *};
use crate::spec::{AccessLog, LogField, LogFormat, LogTarget, PlainField, Share, Tracing};
use proptest::prelude::*;
use std::sync::Arc;

fn share() -> impl Strategy<Value = Share> {
    (0..=1_000_000u32).prop_map(|it| Share::of_millionths(it).unwrap())
}

pub(super) fn access_log() -> impl Strategy<Value = Arc<AccessLog>> {
    let to = prop_oneof![
        Just(LogTarget::Stdout),
        Just(LogTarget::Stderr),
        file(".log").prop_map(|it| LogTarget::File(it.into())),
    ];
    let format = prop_oneof![Just(LogFormat::Json), Just(LogFormat::Text)];
    let field = prop_oneof![
        prop::sample::select(PlainField::ALL).prop_map(LogField::Plain),
        "x-[a-b$]{1,3}".prop_map(|name| LogField::Header(name.into())),
    ];
    let fields = prop_oneof![
        Just(LogField::by_default()),
        prop::collection::hash_set(field, 1..5).prop_map(|set| set.into_iter().collect()),
    ];
    (to, format, fields, share(), 16u32..=1_000_000).prop_map(
        |(to, format, fields, sample, queue)| {
            Arc::new(AccessLog { to, format, fields, sample, queue })
        },
    )
}

pub(super) fn tracing() -> impl Strategy<Value = Arc<Tracing>> {
    let otlp = prop::sample::select(vec!["http://127.0.0.1:4318", "https://otel.internal/${a}"]);
    (otlp, share(), 16u32..=1_000_000)
        .prop_map(|(otlp, sample, queue)| Arc::new(Tracing { otlp: otlp.into(), sample, queue }))
}

/// The only mistake in a file with this among its keys.
fn mistake(keys: &str) -> String {
    let outcome = read_text(&format!(
        "{{ listeners: [{{ address: '127.0.0.1:1' }}], {keys}, services: {{ s: {{ pools: {{ p: {{ \
         backends: ['a:1'] }} }} }} }} }}"
    ));
    let [error] = &outcome.errors[..] else { panic!("{keys}: {}", lines(&outcome.errors)) };
    error.message.clone()
}

#[test]
fn what_lets_somebody_in_is_not_logged() {
    for name in ["authorization", "Cookie", "x-api-key", "X-Auth-Token", "x-forwarded-client-cert"]
    {
        let said = mistake(&format!("access_log: {{ fields: [header.{name}] }}"));
        assert_eq!(said, format!("`{name}` may hold what lets somebody in"));
    }
}

#[test]
fn shares_are_fractions_or_percentages() {
    let sample = |text: &str| {
        let spec = parsed(&format!(
            "{{ listeners: [{{ address: '127.0.0.1:1' }}], access_log: {{ sample: {text} }}, services: {{ s: {{ \
             pools: {{ p: {{ backends: ['a:1'] }} }} }} }} }}"
        ));
        spec.access_log.unwrap().sample.millionths()
    };
    assert_eq!(
        ["1", "0", "0.01", "5%", "0.1%", "100%"].map(sample),
        [1_000_000, 0, 10_000, 50_000, 1000, 1_000_000]
    );
    for (text, said) in [
        ("5", "`5` is more than all, which is 1"),
        ("0.0000001", "`0.0000001` is finer than one in a million"),
        ("101%", "`101%` is out of range"),
    ] {
        assert_eq!(mistake(&format!("tracing: {{ otlp: 'http://a', sample: {text} }}")), said);
    }
}
