//! Rollouts and the world outside: whom they ask and whom they tell. The control task waits for nothing of it.
//!
//! - `way`: the way there, by HTTP
//! - `prometheus`, `webhook`: gates that are asked elsewhere
//! - `telling`, `teller`: what hooks are told of a rollout, and that they hear it
//! - `signature`: by which others know that it was crossfade

mod prometheus;
mod signature;
mod teller;
mod telling;
mod way;
mod webhook;

pub use teller::{Patience, Tally, Teller, Told};
pub use telling::Telling;
pub use way::Outside;
