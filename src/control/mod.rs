//! One task owns the desired state; every change goes through it, one at a time: apply, validate, compile,
//! publish, quiesce, answer, drain.

mod command;
mod handle;

pub use command::{
    Change, ChangeError, Command, Drain, FileStatus, LeftInFlight, Publishes, Receipt, Source, View,
};
pub use handle::Handle;
