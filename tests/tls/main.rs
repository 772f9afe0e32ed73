//! TLS on real sockets, with rustls as the other side.

#![allow(unreachable_pub)]

mod acme;
#[path = "../support/admin.rs"]
mod api;
mod clients;
mod files;
mod handshakes;
mod misdirected;
mod pebble;
mod redirect;
mod reload;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod traffic;
mod upstream;

use support::{PATIENCE, Proxy};
