//! What a process leaves to the one that takes over from it.

use crate::{
    rollout::Rollout,
    routing::Salts,
    spec::{Name, Spec},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

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

/// What the process is told, or asked, from which this one has taken over.
#[derive(Debug)]
pub enum Word {
    /// This is in force from now on; and whom to tell when it is in force there too.
    Changed(Estate, oneshot::Sender<()>),
    /// What is in flight there?
    Open(oneshot::Sender<Vec<Open>>),
}

pub type Lead = mpsc::Receiver<Word>;

/// Requests in flight on a backend of another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    pub service: String,
    pub pool: String,
    pub backend: String,
    pub requests: u64,
}
