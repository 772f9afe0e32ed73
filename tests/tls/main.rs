//! TLS on real sockets, with rustls as the other side.

#![allow(unreachable_pub)]

mod clients;
mod handshakes;
mod misdirected;
mod reload;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod traffic;
mod upstream;
