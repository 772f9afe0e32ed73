//! What the system expects of a process that it runs as a service.
//!
//! - `notify`: the service manager is told how it stands
//! - `activation`: it has opened sockets for us
//! - `first`: as the first process of a container, we are the one that looks after the others

mod activation;
mod first;
mod notify;

pub use activation::Activated;
pub use first::{is_first, look_after};
pub use notify::Notifier;
