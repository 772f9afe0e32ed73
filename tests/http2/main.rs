//! A corpus of HTTP/2 frames after RFC 9113, section by section, and of what attacks on proxies that turn
//! HTTP/2 into HTTP/1 are made of: what the client sees, and what the backend saw, byte for byte. To add one, write
//! it in the room that it belongs to:
//!
//! ```text
//! case("a ping on a stream", "RFC 9113 section 6.7: a connection error of type PROTOCOL_ERROR")
//!     .sends(&[frame(PING, 0, 1, [0; 8])])      // behind preface and SETTINGS, unless it is `raw`
//!     .goaway(&[PROTOCOL_ERROR])                // what the client sees
//!     .forwards("GET /x")                       // what reaches the backend; nothing, if nothing is said
//! ```
//!
//! After each case one more request is sent on the same connection, unless it ends, and one on another; both must be
//! answered well. Nothing may stay in flight. `CASE=part-of-a-name cargo test --test http2` plays some of them.

#![allow(unreachable_pub)]

// Written for another suite, which asks more of them.
#[allow(dead_code)]
#[path = "../requests/backend.rs"]
mod backend;
mod backends;
mod bodies;
mod case;
mod fields;
mod floods;
mod frame;
mod frames;
mod hpack;
mod neighbours;
mod pass;
mod peer;
mod pseudo;
mod stage;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod websockets;
#[allow(dead_code)]
#[path = "../requests/wire.rs"]
mod wire;

use case::Case;
use stage::Stage;
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Proxies that work off the cases side by side.
const STAGES: usize = 6;

fn cases() -> Vec<Case> {
    let rooms = [
        frames::cases(),
        streams::cases(),
        pseudo::cases(),
        fields::cases(),
        bodies::cases(),
        neighbours::cases(),
        pass::cases(),
    ];
    rooms.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case() {
    let wanted = std::env::var("CASE").unwrap_or_default();
    let cases: Vec<_> = cases().into_iter().filter(|case| case.name.contains(&wanted)).collect();
    assert!(!cases.is_empty(), "no case has {wanted:?} in its name");
    let (cases, next) = (Arc::new(cases), Arc::new(AtomicUsize::new(0)));
    let stages: Vec<_> = (0..STAGES.min(cases.len()))
        .map(|_| {
            let (cases, next) = (cases.clone(), next.clone());
            tokio::spawn(async move {
                let mut stage = Stage::start().await;
                let mut complaints = Vec::new();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(what) = stage.play(case).await {
                        complaints.push(format!("{}\n    ({})\n    {what}\n", case.name, case.why));
                        // What it may have left behind is not the next case's fault.
                        stage = Stage::start().await;
                    }
                }
                complaints
            })
        })
        .collect();
    let mut complaints = Vec::new();
    for stage in stages {
        complaints.extend(stage.await.unwrap());
    }
    assert!(
        complaints.is_empty(),
        "{} of {}:\n{}",
        complaints.len(),
        cases.len(),
        complaints.join("\n")
    );
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let cases = cases();
    let mut names = HashSet::new();
    let twice: Vec<_> = cases.iter().map(|case| &case.name).filter(|n| !names.insert(*n)).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(cases.len() >= 200, "{}", cases.len());
}
