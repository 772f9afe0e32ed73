//! How weights move over time, and on what evidence. PURE: the clock, the counts and the traffic are arguments, what
//! is to be done is returned.
//!
//! - `machine/`: a rollout as state, what happens to it, and what follows
//! - `sequential/`: the statistics
//!
//! The state of a rollout is kept as it is, so its types derive serde's traits: what is renamed in them still has to be
//! read by its old name.

mod machine;
pub mod sequential;

pub use machine::*;
