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
//! - `warm`: which of those that have left are probed on, for an undo
//! - `prober`, `probe`: which backends are well
//! - `ejector`: which backends are left out because their requests fail
//! - `preview`: what a change would do to the requests of the last hour; PURE
//! - `traffic`: which pools gain traffic, and whether they can serve it
//! - `trials`: which services' requests are counted, so that their versions can be compared
//! - `estate`, `predecessor`: what a process leaves to the one that takes over, and what the two say to each other then
//! - `rollout`: rollouts that run
//! - `outside`: whom they ask and tell
//! - `store`: what is kept of changes, on disk or in memory
//! - `start`: the first snapshot, from the file and what was kept
//! - `making`: how a change is made
//! - `task`: the loop that holds it all together

mod command;
mod connectors;
mod desired;
mod discovery;
mod drain;
mod edit;
mod ejector;
mod estate;
mod handle;
mod holds;
mod issuance;
mod leaving;
mod listeners;
mod making;
mod merge;
pub mod outside;
mod parts;
mod predecessor;
mod preview;
mod probe;
mod prober;
mod rollout;
mod start;
mod store;
mod task;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod traffic;
mod trials;
mod validate;
mod warm;

pub use command::{
    Change, ChangeError, Command, Drain, FileStatus, Known, Ledger, LeftInFlight, Lookups,
    NameStatus, Once, Publishes, Receipt, Reply, Source, StateStatus, View,
};
pub use estate::{Estate, Held, Open};
pub use handle::Handle;
pub use holds::HoldStatus;
pub use issuance::{Issuance, OrderStatus};
pub use predecessor::{Lead, Question, Word};
pub use preview::{Forecast, Preview};
pub use rollout::{News, Outcomes, Outlook};
pub use start::{Inheritance, StartError, Started, start, start_from};
pub use store::{Content, Format, Page, Revision, RolloutPage, Store, StoreError};
pub use trials::{RouteSides, Trials, busiest_routes, effective_share, side};
