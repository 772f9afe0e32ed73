//! What is written down of requests: the access log, on both engines and by both protocols.

#[path = "../support/mod.rs"]
mod support;

mod log;
mod stage;
