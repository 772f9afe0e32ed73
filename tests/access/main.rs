//! Who may use the admin API: tokens, client certificates, users of a unix socket, and what is told to whom.

#![allow(unreachable_pub)]

#[path = "../support/admin.rs"]
mod api;
mod audit;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod tokens;
mod unix;

use support::{PATIENCE, Proxy};
