//! Another process, of a newer binary or with other settings of those that need a restart, takes over: first the
//! listening sockets, then, once it is ready, what is in force, in one step. Until then nothing has changed.
//!
//! ```text
//! old                                   new
//!  | starts it ------------------------> | its standard input is the channel
//!  | offer: sockets, what is in force -> | binds what is missing, probes the backends
//!  | <---------------------------- ready |
//!  | changes nothing any more            |
//!  | go: what is in force now ---------> | puts it in force, accepts
//!  | <-------------------------- serving |
//!  | accepts no more, drains             |
//!  | <-------------------- each change   | before it is answered
//! ```
//!
//! - `channel`, `messages`: what passes between the two, and how
//! - `launch`: starts a process and listens to what it says
//! - `giving`: the old one's side
//! - `taking`: the new one's side

mod channel;
mod giving;
mod launch;
mod messages;
mod taking;

pub use giving::{Subject, Succession, Upgraded, Upgrader, Upgrades, upgrades};
pub use launch::Unusable;
pub use taking::{Predecessor, Taking};

use std::{fmt, time::Duration};

/// How long a new process may take to become ready, unless somebody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Why another process has not taken over. Nothing has changed then.
#[derive(Debug)]
pub enum UpgradeError {
    /// Not in this state.
    Refused(String),
    Unusable(Unusable),
    /// The new process was not ready in time, has ended or could not take over; with the last lines that it said.
    Failed {
        why: String,
        said: Vec<String>,
    },
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::Failed { why, .. } => f.write_str(why),
            Self::Unusable(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for UpgradeError {}
