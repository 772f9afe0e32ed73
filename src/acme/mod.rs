//! Certificates that are ordered and renewed by themselves (RFC 8555).
//!
//! One task beside the control task, to which it tells all that it knows ([`Issuance`]): the data plane sees nothing
//! but what that publishes.
//!
//! - `task`: the loop: what is due, what became of it
//! - `order`: one order, from its first request to the certificate
//! - `proof`: what is shown to who issues them
//! - `account`: who orders
//! - `https`: the way to who issues them
//! - `store`: what a restart finds again
//! - `schedule`: when to renew, when to try again; PURE
//!
//! [`Issuance`]: crate::control::Issuance

mod account;
mod failure;
mod https;
mod order;
mod proof;
mod schedule;
mod store;
mod task;

pub use task::start;
