//! Backends that have left and are probed on for a while, so that an undo finds them proven: it is one swap then,
//! without a wait for a first good probe. Their connections are not kept, since they may be shut down.

use super::parts::{Placed, later};
use crate::{
    live::LiveBackend,
    spec::{BackendAddress, HealthCheck, Name, Spec},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long.
const WHILE: Duration = Duration::from_secs(600);

/// So many at most; those that left first are forgotten first.
const MOST: usize = 256;

#[derive(Default)]
pub(super) struct Warm(Vec<Entry>);

struct Entry {
    backend: Arc<LiveBackend>,
    check: HealthCheck,
    until: Instant,
}

impl Warm {
    /// From the table `before`, whose spec is `spec`, to the one `after`: takes up what has left and is well, and
    /// lets go of what has come back.
    pub(super) fn follow(
        &mut self,
        before: &[Placed],
        after: &[Placed],
        spec: &Spec,
        now: Instant,
    ) {
        let is_back = |address: &BackendAddress, question: &(Name, Option<Name>)| {
            let same =
                |p: &Placed| p.backend.address == *address && p.checked.as_ref() == Some(question);
            after.iter().any(same)
        };
        self.0.retain(|entry| !is_back(&entry.backend.address, &entry.check.question()));
        for Placed { service, backend, .. } in before {
            let service = spec.services.get(service);
            let Some(check) = service.and_then(|it| it.health_check.as_ref()) else { continue };
            if backend.health.is_available() && !is_back(&backend.address, &check.question()) {
                let until = later(now, WHILE);
                self.0.push(Entry { backend: backend.clone(), check: check.clone(), until });
            }
        }
        self.0.drain(..self.0.len().saturating_sub(MOST));
    }

    /// Who is probed, and how.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<LiveBackend>, &HealthCheck)> {
        self.0.iter().map(|entry| (&entry.backend, &entry.check))
    }

    /// A backend at this address passes the same check.
    pub(super) fn is_proven(
        &self,
        address: &BackendAddress,
        question: &(Name, Option<Name>),
    ) -> bool {
        self.0.iter().any(|Entry { backend, check, .. }| {
            backend.address == *address
                && check.question() == *question
                && backend.health.is_available()
        })
    }

    /// Lets go of those whose time is over or that fail. True: there were some.
    pub(super) fn cool(&mut self, now: Instant) -> bool {
        let before = self.0.len();
        self.0.retain(|entry| now < entry.until && entry.backend.health.is_available());
        self.0.len() < before
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.iter().map(|entry| entry.until).min()
    }
}
