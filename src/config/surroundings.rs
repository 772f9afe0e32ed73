//! What a configuration is read with beside its own text.

use super::load;
use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Where the values of variables and the files that a configuration names come from.
#[derive(Clone, Copy)]
pub struct Surroundings {
    pub variable: fn(&str) -> Option<String>,
    /// The bytes of a file, or why there are none.
    pub file: fn(&Path) -> Result<Vec<u8>, String>,
    /// Whether everybody on this machine can read a file.
    pub others_read: fn(&Path) -> bool,
    pub now: fn() -> SystemTime,
    /// The text was written by crossfade itself, from a spec that was in force: what it may become by the API is
    /// no error, nor is a certificate whose file has gone (see [`KeyPair::absent`](crate::spec::KeyPair::absent)).
    pub own: bool,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self { variable: |name| std::env::var(name).ok(), ..Self::of_clients() }
    }

    /// For what comes over the network: the environment is not the client's.
    pub fn of_clients() -> Self {
        Self {
            variable: |_| None,
            file: load::read,
            others_read: load::others_read,
            now: SystemTime::now,
            own: false,
        }
    }

    /// For what crossfade wrote itself.
    pub fn of_state() -> Self {
        Self { own: true, ..Self::of_clients() }
    }
}

/// A file that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    pub path: PathBuf,
    /// The same for the same content, in every process; `None`: it could not be read.
    pub hash: Option<u64>,
}
