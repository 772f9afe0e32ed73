//! What is sent again, where to, and what never is.

use super::{
    connection::ClientConnection,
    core::Core,
    decide::{Assignment, Earlier, Issued, Query, decide, has_rescuer},
    failure::{Failure, fault_of},
    fields::Lines,
    head::{self, Facts, Head},
    queue::Turn,
    record::{Answerer, Recorder},
    retry::Again,
    upstream::Upstream,
};
use crate::live::{Fault, Permit, Reason};
use std::rc::Rc;

/// The attempts to get a request answered.
pub(super) struct Tries {
    /// Sending the request again does no harm (RFC 9110 section 9.2.2).
    pub(super) idempotent: bool,
    /// Slots of the backends that failed.
    tried: Vec<usize>,
    /// The current one included.
    tries: u32,
    /// It was sent again to the same backend.
    replayed: bool,
    /// It was sent to the pool that rescues.
    rescued: bool,
}

/// How an attempt ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// The connection ended before a byte of the response came.
    Silent {
        /// It had served another request before, so the backend was free to close it.
        reused: bool,
        /// Some of the request had been written to it.
        written: bool,
        /// All of the request is still there.
        whole: bool,
    },
    Failed {
        reason: Reason,
        /// All of the request is still there.
        whole: bool,
    },
}

/// What comes after it.
pub(super) enum Next {
    /// The same once more, on a connection of its own.
    Fresh(Assignment),
    Elsewhere(Assignment),
}

/// Safe to send twice (RFC 9110 section 9.2.2).
pub(super) fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
}

impl Tries {
    #[inline]
    pub(super) fn new(method: &str) -> Self {
        Self {
            idempotent: is_idempotent(method),
            tried: Vec::new(),
            tries: 1,
            replayed: false,
            rescued: false,
        }
    }

    /// Nothing has failed yet, and nothing has taken its time.
    pub(super) fn is_first(&self) -> bool {
        self.tries == 1 && !self.replayed && !self.rescued
    }

    /// # Errors
    /// With what the client is told, once there is no other attempt to make.
    pub(super) fn after<L: Lines>(
        &mut self,
        miss: Miss,
        connection: &ClientConnection,
        head: &Head<'_, L>,
        facts: &Facts,
        assignment: Assignment,
        recorder: &mut Recorder,
    ) -> Result<Next, Failure> {
        let core = &connection.core;
        let policy = assignment.policy.clone();
        let (reason, repeatable, again) = match miss {
            Miss::Silent { reused, written, whole } => {
                let repeatable = whole && (!written || self.idempotent);
                // The backend closed an idle connection while the request was on its way to it.
                if reused && repeatable {
                    self.replayed = true;
                    return Ok(Next::Fresh(assignment));
                }
                (Reason::UpstreamReset, repeatable, policy.retries.on.reset && repeatable)
            }
            // Nothing of the request has been sent.
            Miss::Failed {
                reason: reason @ (Reason::ConnectFailed | Reason::TlsFailed | Reason::Overloaded),
                whole,
            } => (reason, whole, policy.retries.on.connect),
            Miss::Failed { reason, whole } => (reason, whole && self.idempotent, false),
        };
        let failed: Rc<Upstream> = assignment.ticket.flight.upstream.clone();
        let failure = Failure::of_attempt(core, &failed, reason);
        assignment.ticket.flight.failed(core.live.clock, reason);
        // A valid answer was judged when it came.
        if fault_of(reason) == Fault::Upstream && reason != Reason::ServerError {
            core.attempt_failed(&failed.backend, &policy.ejection);
        }
        if self.rescued {
            return Err(failure);
        }
        let (slot, rescuable) = (assignment.service_slot, assignment.rescuable && repeatable);
        let issued = assignment.issued.clone();
        let mut permit = assignment.ticket.take_permit();
        drop(assignment);
        let stats = &failed.backend.pool.stats;
        let retries = &policy.retries;
        if again
            && self.tries < retries.attempts
            && core.spend(slot, Again::Retry, retries.budget_percent)
        {
            self.tries += 1;
            self.tried.push(failed.backend.slot.index());
            let earlier = self.earlier(&failed, issued.clone());
            if let Some(next) = self.decide(connection, head, facts, earlier, permit.take()) {
                stats.record_retry(core.index);
                return Ok(next.noted(recorder, self.rescued));
            }
        }
        if let Some(rescue) = policy.rescue
            && rescuable
            && match reason {
                Reason::ServerError => rescue.on.server_error,
                _ => rescue.on.failure && fault_of(reason) == Fault::Upstream,
            }
            && core.spend(slot, Again::Rescue, rescue.budget_percent)
        {
            self.rescued = true;
            let earlier = self.earlier(&failed, issued);
            if let Some(next) = self.decide(connection, head, facts, earlier, permit) {
                stats.record_rescue(core.index);
                return Ok(next.noted(recorder, self.rescued));
            }
        }
        Err(failure)
    }

    fn earlier<'a>(&'a self, failed: &'a Rc<Upstream>, issued: Option<Box<Issued>>) -> Earlier<'a> {
        Earlier { last: failed, tried: &self.tried, issued, rescue: self.rescued }
    }

    /// Decides anew. A request that was let in need not wait again.
    fn decide<L: Lines>(
        &self,
        connection: &ClientConnection,
        head: &Head<'_, L>,
        facts: &Facts,
        earlier: Earlier<'_>,
        permit: Option<Permit>,
    ) -> Option<Next> {
        // It was good before.
        let host = head::host(head).ok()?;
        let now = connection.core.live.clock.now();
        let mut query = Query::new(connection, head, facts, host, now);
        query.earlier = Some(earlier);
        decide(&query, Turn::Again(permit)).ok().map(Next::Elsewhere)
    }
}

impl Next {
    fn noted(self, recorder: &mut Recorder, is_rescue: bool) -> Self {
        if let Self::Elsewhere(assignment) = &self {
            if let Some(note) = recorder.note() {
                note.attempt(assignment, is_rescue, recorder.core().live.clock.now());
            }
            recorder.set_answerer(Answerer::Backend(assignment.ticket.flight.upstream.clone()));
        }
        self
    }
}

/// The backend has answered 500 to 599, and the client had better get the answer of the pool that rescues,
/// which there is one for. `whole`: all of the request is still there.
pub(super) fn is_rescued(
    core: &Core,
    assignment: &Assignment,
    idempotent: bool,
    whole: bool,
) -> bool {
    let slot = assignment.service_slot;
    let has_budget = || {
        assignment.policy.rescue.is_some_and(|rescue| {
            rescue.on.server_error && core.can_rescue(slot, rescue.budget_percent)
        })
    };
    assignment.rescuable && idempotent && whole && has_budget() && has_rescuer(core, assignment)
}
