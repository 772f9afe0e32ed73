//! Who may use the admin API: tokens, users of a unix socket, and what is told to whom.

#![allow(unreachable_pub)]

#[path = "../support/admin.rs"]
mod api;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod unix;

use support::{PATIENCE, Proxy};
