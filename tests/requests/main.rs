//! The corpus of raw requests: what a client's bytes become, at the client and at the backend.
//!
//! The cases are the text files in `cases/`; README.md says how to read and add one. Each case goes through
//! both engines, and over TLS, those about targets over HTTP/2 too, on a proxy that it has to itself while it runs.

#![allow(unreachable_pub)]

mod backend;
mod case;
mod client;
mod gateway;
mod lane;
mod read;
#[path = "../support/mod.rs"]
mod support;
mod text;
mod transport;
mod verdict;
mod wire;

use case::Case;
use crossfade::spec::Engine;
use lane::Lane;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use transport::Transport;

/// Proxies that work off the cases of one engine side by side.
const LANES: usize = 12;

fn corpus() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/requests/cases");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        read::read(&name, &std::fs::read_to_string(path).unwrap())
    };
    files.iter().flat_map(|path| read(path)).collect()
}

fn behind_another() -> Vec<Case> {
    corpus().iter().filter_map(Case::behind_another).collect()
}

/// What went otherwise than the cases say, one line each.
async fn run(engine: Engine, cases: Vec<Case>) -> Vec<String> {
    run_over(Transport::Clear, engine, cases).await
}

async fn run_over(transport: Transport, engine: Engine, cases: Vec<Case>) -> Vec<String> {
    // A few cases, to look at them: CROSSFADE_CASE=part-of-the-name cargo test --test requests
    let only = std::env::var("CROSSFADE_CASE").unwrap_or_default();
    let cases: Arc<Vec<Case>> =
        Arc::new(cases.into_iter().filter(|case| case.title().contains(&only)).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let lanes: Vec<_> = (0..LANES.min(cases.len()))
        .map(|_| {
            let (cases, next) = (cases.clone(), next.clone());
            tokio::spawn(async move {
                let mut lane = Lane::start(transport, engine).await;
                let mut complaints = Vec::new();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = lane.run(case).await;
                    let is_bad = !found.is_empty();
                    complaints.extend(told(case, &found));
                    if is_bad {
                        // What it may have left behind is not the next case's fault.
                        lane = Lane::start(transport, engine).await;
                    }
                }
                complaints
            })
        })
        .collect();
    let mut complaints = Vec::new();
    for lane in lanes {
        complaints.extend(lane.await.unwrap());
    }
    complaints.sort();
    complaints
}

fn told(case: &Case, found: &[String]) -> Vec<String> {
    match (case.open, found) {
        (true, []) => vec![format!("{}: holds now; its `open:` can go", case.title())],
        (true, _) => Vec::new(),
        (false, found) => found.iter().map(|what| format!("{}: {what}", case.title())).collect(),
    }
}

fn assert_none(complaints: &[String]) {
    assert!(
        complaints.is_empty(),
        "{} complaints\n\n{}\n",
        complaints.len(),
        complaints.join("\n\n")
    );
}

#[tokio::test]
async fn every_case_on_the_native_engine() {
    assert_none(&run(Engine::Native, corpus()).await);
}

#[tokio::test]
async fn every_case_on_hyper() {
    assert_none(&run(Engine::Hyper, corpus()).await);
}

fn over_tls() -> Vec<Case> {
    corpus().iter().filter_map(Case::over_tls).collect()
}

#[tokio::test]
async fn every_case_over_tls_on_the_native_engine() {
    assert_none(&run_over(Transport::Tls, Engine::Native, over_tls()).await);
}

/// Those whose request HTTP/2 can say too: targets, above all.
fn over_http2() -> Vec<Case> {
    corpus().iter().filter_map(Case::over_http2).collect()
}

#[tokio::test]
async fn every_target_over_http2() {
    let cases = over_http2();
    assert!(cases.len() >= 100, "{}", cases.len());
    assert_none(&run_over(Transport::Http2, Engine::Native, cases).await);
}

/// hyper's parser judges pieces as they fall, so what it refuses and what it waits for depends on them.
#[tokio::test]
async fn every_case_in_pieces_on_the_native_engine() {
    let cases = corpus().iter().filter_map(Case::in_pieces).collect();
    assert_none(&run(Engine::Native, cases).await);
}

/// Cases that are wrong in one thing each.
const WRONG: &str = include_str!("wrong.txt");

#[tokio::test]
async fn what_is_otherwise_than_a_case_says_is_told() {
    for engine in [Engine::Native, Engine::Hyper] {
        let cases = read::read("wrong.txt", WRONG);
        let titles: Vec<_> = cases.iter().map(Case::title).collect();
        let complaints = run(engine, cases).await;
        for title in titles {
            assert!(complaints.iter().any(|what| what.starts_with(&title)), "{title}");
        }
    }
}

#[tokio::test]
async fn every_case_behind_another_request_on_the_native_engine() {
    assert_none(&run(Engine::Native, behind_another()).await);
}

#[tokio::test]
async fn every_case_behind_another_request_on_hyper() {
    assert_none(&run(Engine::Hyper, behind_another()).await);
}

#[test]
fn the_corpus_is_as_large_as_it_says_and_no_two_cases_have_one_name() {
    let cases = corpus();
    assert!(cases.len() >= 1000, "{}", cases.len());
    let mut names: Vec<_> = cases.iter().map(|case| &case.name).collect();
    names.sort();
    for pair in names.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
}
