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
        }
    }
}

/// A file that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    pub path: PathBuf,
    /// The same for the same content, in every process; `None`: it could not be read.
    pub hash: Option<u64>,
}
