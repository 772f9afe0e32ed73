//! What a process leaves to the one that takes over from it.

use crate::{
    rollout::Rollout,
    routing::Salts,
    spec::{Name, Spec},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Everything that later changes start from: what is in force, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Estate {
    pub revision: u64,
    pub spec: Arc<Spec>,
    /// The file as last loaded; `None` when there was none.
    pub file_base: Option<Arc<Spec>>,
    pub salts: Salts,
    pub holds: Vec<Held>,
    /// Those that run, and the last one of each service.
    pub rollouts: Vec<Rollout>,
}

/// A service whose requests wait.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub service: Name,
    pub until: Timestamp,
    pub author: Name,
    pub cause: Option<String>,
}

/// Requests in flight on a backend of another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub service: String,
    pub pool: String,
    pub backend: String,
    /// The name that the address was found by.
    #[serde(default)]
    pub source: Option<String>,
    pub requests: u64,
}
