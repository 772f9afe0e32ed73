//! What left the table and still has requests in flight. Only after quiesce: from then on the number of
//! open requests of what left can only fall, and 0 is final.

use super::{Drain, leaving::Left, parts::later};
use crate::{
    live::{Clock, LiveBackend},
    spec::Name,
};
use jiff::Timestamp;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How often drains are looked at while there are any.
pub(super) const TICK: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(super) struct Drains {
    begun: u64,
    active: Vec<Active>,
}

struct Active {
    drain: Drain,
    until: Instant,
}

/// What a look at the drains found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Drains have ended.
    pub(super) ended: bool,
    /// Deadlines have passed: the workers must cancel what is in flight.
    pub(super) cut: bool,
}

impl Drains {
    /// Begins to drain a backend that gets no new requests any more, and returns the drain's id. The
    /// workers must be told to close its idle connections.
    pub(super) fn begin(
        &mut self,
        left: &Left,
        timeout: Duration,
        now: Instant,
        clock: Clock,
    ) -> Name {
        self.begun += 1;
        let id: Name = format!("d-{}", self.begun).into();
        let since = Timestamp::now();
        let from = clock.at(now);
        left.backend.leave(from.millis(), (from + timeout).millis());
        self.active.push(Active {
            drain: Drain {
                id: id.clone(),
                backend: left.backend.clone(),
                whole_pool: left.whole_pool,
                since,
                deadline: since.checked_add(timeout).unwrap_or(Timestamp::MAX),
            },
            until: later(now, timeout),
        });
        id
    }

    /// Ends the drain of a backend that shall get requests again.
    pub(super) fn take_back(&mut self, backend: &Arc<LiveBackend>) {
        self.active.retain(|active| !Arc::ptr_eq(&active.drain.backend, backend));
    }

    /// Ends the drains with nothing in flight and cuts those whose deadline has passed.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let mut step = Step::default();
        self.active.retain(|Active { drain, until }| {
            if drain.backend.open() == 0 {
                step.ended = true;
                tracing::info!(
                    id = %drain.id,
                    service = %drain.backend.pool.service,
                    pool = %drain.backend.pool.name,
                    backend = %drain.backend.address,
                    cut = drain.backend.cut_count(),
                    "drained"
                );
                return false;
            }
            if now >= *until && !drain.backend.is_cut() {
                step.cut = true;
                tracing::warn!(
                    id = %drain.id,
                    service = %drain.backend.pool.service,
                    pool = %drain.backend.pool.name,
                    backend = %drain.backend.address,
                    open = drain.backend.open(),
                    "the deadline of a drain has passed; what is in flight is cancelled"
                );
                drain.backend.set_cut();
            }
            true
        });
        step
    }

    pub(super) fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    pub(super) fn backends(&self) -> impl Iterator<Item = &Arc<LiveBackend>> {
        self.active.iter().map(|active| &active.drain.backend)
    }

    pub(super) fn list(&self) -> Vec<Drain> {
        self.active.iter().map(|active| active.drain.clone()).collect()
    }
}
