//! Rollouts: who starts and steers them, and what is to be seen of them.
//!
//! - `view`: how a rollout is shown
//! - `start`: one begins, or is only thought of
//! - `steer`: the verbs
//! - `past`: those that are over

mod past;
mod start;
mod steer;
mod view;

pub(super) use past::*;
pub(super) use start::*;
pub(super) use steer::*;
pub(super) use view::{RolloutSummary, RolloutView};
