//! One task owns the desired state; every change goes through it, one at a time: apply, validate, compile,
//! publish, quiesce, answer, drain.
//!
//! - `command`, `handle`: what others say to it and hear from it
//! - `holds`: which services are held, and until when
//! - `issuance`: what whoever orders certificates says to it
//! - `desired` (with `edit`, `merge`, `validate`): what a command makes of the desired state; PURE
//! - `parts`, `listeners`, `connectors`: from a spec to the live parts, sockets and TLS of its snapshot
//! - `discovery`: which addresses names stand for
//! - `leaving`, `drain`: what a publish leaves behind, and its way out
//! - `prober`, `probe`: which backends are well
//! - `ejector`: which backends are left out because their requests fail
//! - `traffic`: which pools gain traffic, and whether they can serve it
//! - `task`: the loop that holds it all together

mod command;
mod connectors;
mod desired;
mod discovery;
mod drain;
mod edit;
mod ejector;
mod handle;
mod holds;
mod issuance;
mod leaving;
mod listeners;
mod merge;
mod parts;
mod probe;
mod prober;
mod task;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod traffic;
mod validate;

pub use command::{
    Change, ChangeError, Command, Drain, FileStatus, Ledger, LeftInFlight, Lookups, NameStatus,
    Publishes, Receipt, Source, View,
};
pub use handle::Handle;
pub use holds::HoldStatus;
pub use issuance::{Issuance, OrderStatus};
pub use task::{StartError, Started, start};
