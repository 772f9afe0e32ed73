//! Backends that misbehave, and what the client gets of it. Each case runs for clients of HTTP/1 on both engines, and
//! for clients of HTTP/2; where hyper's server does otherwise, the case says so. To add one, write it in the room that it belongs to:
//!
//! ```text
//! case("a short body", "RFC 9112 section 6.3, rule 6: fewer bytes than announced are incomplete")
//!     .answers_and_closes("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")  // what the backend does
//!     .gets(reply(200, "hello").cut())                                           // what the client gets
//!     .leaves()                               // the connection is not used again (`keeps`: it is)
//!     .fails(UpstreamReset)                   // counted once, for this reason
//! ```
//!
//! After each case one more request is sent, which must be answered well. What else is always checked:
//! every request is recorded once, nothing stays in flight, no POST is sent twice, and no failure but the
//! one that is named is counted. `CASE=part-of-a-name cargo test --test misbehaving` plays some of them.

#![allow(unreachable_pub)]

mod board;

mod bodiless;
mod case;
mod chunks;
mod early;
mod endings;
mod fields;
mod flow;
mod heads;
mod http2;
mod informational;
mod lengths;
mod message;
mod reuse;
mod silence;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod surplus;
mod upgrades;
mod wire;

use case::{Case, Lane};
use futures_util::{StreamExt, stream};
use std::collections::HashSet;
use tokio::sync::Mutex;

/// Cases that are played at the same time.
const AT_ONCE: usize = 24;

fn cases() -> Vec<Case> {
    let rooms = [
        heads::cases(),
        fields::cases(),
        lengths::cases(),
        chunks::cases(),
        bodiless::cases(),
        endings::cases(),
        informational::cases(),
        surplus::cases(),
        reuse::cases(),
        early::cases(),
        silence::cases(),
        flow::cases(),
        upgrades::cases(),
    ];
    rooms.into_iter().flatten().collect()
}

/// The lanes take turns, so that what must happen soon can.
static TURN: Mutex<()> = Mutex::const_new(());

async fn play_all(lane: Lane) {
    let _turn = TURN.lock().await;
    let wanted = std::env::var("CASE").unwrap_or_default();
    let cases: Vec<_> = cases()
        .into_iter()
        .filter(|case| case.name.contains(&wanted))
        .filter_map(|case| case.on(lane))
        .collect();
    let count = cases.len();
    assert!(count > 0, "no case has {wanted:?} in its name");
    let wrongs: Vec<String> = stream::iter(cases)
        .map(|case| async move {
            let (name, why) = (case.name.clone(), case.why);
            let played = tokio::spawn(stage::play(case, lane)).await;
            let played = played.unwrap_or_else(|panic| Err(panic.to_string()));
            played.err().map(|wrong| format!("{name}\n    ({why})\n    {wrong}\n"))
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |wrong| wrong)
        .collect()
        .await;
    assert!(wrongs.is_empty(), "{} of {count} on {lane:?}:\n{}", wrongs.len(), wrongs.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_hyper() {
    play_all(Lane::Hyper).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_http2() {
    play_all(Lane::Http2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_native() {
    play_all(Lane::Native).await;
}

#[test]
fn the_corpus_is_whole_and_every_case_has_a_name_of_its_own() {
    let cases = cases();
    let mut names = HashSet::new();
    let twice: Vec<_> = cases.iter().map(|case| &case.name).filter(|n| !names.insert(*n)).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(cases.len() >= 600, "{}", cases.len());
    let for_http2 = cases.into_iter().filter_map(|case| case.on(Lane::Http2)).count();
    assert!(for_http2 >= 550, "{for_http2}");
}
