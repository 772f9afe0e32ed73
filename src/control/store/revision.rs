use super::super::{Known, Once, Source};
use crate::{
    rollout::Rollout,
    routing::Salts,
    spec::{Name, Spec},
};
use jiff::Timestamp;
use std::sync::Arc;

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub number: u64,
    pub at: Timestamp,
    pub author: Name,
    pub source: Source,
    pub cause: Option<String>,
    /// All revisions of one rollout count as one change.
    pub rollout: Option<Name>,
    /// What differs from the revision before, as JSON; nothing for the first.
    pub changed: Arc<str>,
}

/// What a revision put in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub spec: Spec,
    /// History too: which users go first.
    pub salts: Salts,
}

/// Which revisions are asked for.
#[derive(Clone, Debug)]
pub struct Page {
    /// Those with a lower number; `None`: from the newest on.
    pub before: Option<u64>,
    /// So many at most.
    pub limit: u32,
    /// Those that changed this service.
    pub service: Option<Name>,
}

/// A revision to be kept.
#[derive(Debug)]
pub(in crate::control) struct Entry {
    pub(in crate::control) number: u64,
    pub(in crate::control) at: Timestamp,
    pub(in crate::control) author: Name,
    pub(in crate::control) source: Source,
    pub(in crate::control) cause: Option<String>,
    /// `None`: there was nothing before.
    pub(in crate::control) before: Option<Arc<Spec>>,
    pub(in crate::control) after: Arc<Spec>,
    pub(in crate::control) salts: Salts,
    pub(in crate::control) rollout: Option<Name>,
    /// So many revisions are kept from then on.
    pub(in crate::control) most: u32,
}

/// What is kept together, or not at all.
#[derive(Debug, Default)]
pub(in crate::control) struct Step {
    pub(in crate::control) entry: Option<Entry>,
    /// The file, when it is another than the one last loaded.
    pub(in crate::control) file: Option<Arc<Spec>>,
    pub(in crate::control) once: Option<OnceEntry>,
    /// Rollouts as they are from then on.
    pub(in crate::control) rollouts: Vec<Rollout>,
}

impl Step {
    pub(in crate::control) fn is_empty(&self) -> bool {
        self.entry.is_none()
            && self.file.is_none()
            && self.once.is_none()
            && self.rollouts.is_empty()
    }
}

/// That a change with this key was made.
#[derive(Debug)]
pub(in crate::control) struct OnceEntry {
    pub(in crate::control) author: Name,
    pub(in crate::control) once: Once,
    pub(in crate::control) at: Timestamp,
    /// In force after it.
    pub(in crate::control) revision: u64,
}

/// What must be known before a change is made.
#[derive(Debug)]
pub(in crate::control) struct Question {
    pub(in crate::control) once: Option<(Name, Once)>,
    /// Service and revision of an undo.
    pub(in crate::control) undo: Option<(Option<Name>, Option<u64>)>,
    pub(in crate::control) now: Timestamp,
}

#[derive(Debug, Default)]
pub(in crate::control) struct Found {
    pub(in crate::control) known: Option<Known>,
    pub(in crate::control) target: Option<Target>,
}

/// What an undo goes back to.
#[derive(Debug)]
pub(in crate::control) struct Target {
    pub(in crate::control) content: Content,
    /// Only their part of it; `None`: all.
    pub(in crate::control) services: Option<Vec<Name>>,
}

/// What was in force when the state was last written to.
#[derive(Debug)]
pub(in crate::control) struct Kept {
    pub(in crate::control) revision: u64,
    pub(in crate::control) content: Content,
    /// The file as last loaded.
    pub(in crate::control) file: Option<Spec>,
    /// Those that are not over, and the last one of each service.
    pub(in crate::control) rollouts: Vec<Rollout>,
}
