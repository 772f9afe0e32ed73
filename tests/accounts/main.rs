//! What is written down of requests: the access log, spans and exemplars, on both engines and by both protocols.

#![allow(unreachable_pub)]

#[path = "../support/admin.rs"]
mod api;
mod exemplars;
mod log;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod traces;

use support::{PATIENCE, Proxy};
