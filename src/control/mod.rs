//! One task owns the desired state; every change goes through it, one at a time: apply, validate, compile,
//! publish, quiesce, answer, drain.

mod command;
mod desired;
mod drain;
mod edit;
mod handle;
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
    Change, ChangeError, Command, Drain, FileStatus, LeftInFlight, Publishes, Receipt, Source, View,
};
pub use handle::Handle;
pub use task::{StartError, Started, start};
