//! The data plane: one thread a core. It reads snapshots, holds tickets and writes its own core's
//! counters; it never waits for the control plane.

mod answer;
mod body;
mod connection;
mod core;
mod decide;
mod failure;
#[allow(dead_code)]
mod fields;
mod flight;
mod handler;
mod headers;
#[allow(dead_code)]
mod http1;
mod record;
mod retry;
mod sending;
mod tunnel;
mod upstream;
mod worker;

pub use worker::spawn;
