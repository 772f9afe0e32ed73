//! Rollouts and the world outside: whom they ask and whom they tell. The control task waits for nothing of it.
//!
//! - `outside`: the way there, by HTTP
//! - `prometheus`, `webhook`: gates that are asked elsewhere
//! - `telling`, `teller`: what hooks are told of a rollout, and that they hear it
//! - `signature`: by which others know that it was crossfade

mod outside;
mod prometheus;
mod signature;
mod teller;
mod telling;
mod webhook;

pub use outside::Outside;
pub use teller::{Patience, Tally, Teller, Told};
pub use telling::Telling;
