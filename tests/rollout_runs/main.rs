//! Whole rollouts of the real binary, with real backends and clients: to the end, back, and through a crash.

#[path = "../state/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "../support/mod.rs"]
mod support;

mod ends;
mod shop;
mod tutorials;
