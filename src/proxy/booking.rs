//! A request that counts in a comparison of versions, from its first attempt's decision until it is known what that
//! has come to. Other attempts of it have none of this: they move no count.

use super::failure::fault_of;
use crate::{
    live::{Assigned, Fault, Finding, Moment, Reason, Trial, millis},
    spec::ServiceTimeouts,
};
use std::{rc::Rc, sync::Arc, time::Duration};

/// What has no response's head for so long, or for as long as it may take, hangs: who waits for it longer would see
/// it too late.
const HANGS: Duration = Duration::from_secs(10);

/// A core's hold on what a publish counts by: see [`super::core::CorePolicy`].
pub(super) type CoreTrial = Rc<Arc<Trial>>;

/// Dropping it counts nothing: the client has left, or what happened says nothing about the version.
pub(super) struct Booking {
    trial: CoreTrial,
    core: usize,
    assigned: Assigned,
    began: Moment,
    /// How long a backend may take for the head.
    response: Duration,
    answered: Option<Answered>,
}

/// The head of a good response has come.
struct Answered {
    at: Moment,
    /// Nanoseconds since it was asked for.
    ns: u64,
    /// How a call of gRPC ended comes last.
    is_call: bool,
}

/// What a flight waits for, as far as it concerns what hangs.
pub(super) enum Waits {
    /// For the response's head, which must be there by then, in milliseconds.
    ForHead(u64),
    /// For its client, a connection, or the rest of a response.
    ForOthers,
}

impl Booking {
    pub(super) fn new(
        trial: CoreTrial,
        core: usize,
        assigned: Assigned,
        began: Moment,
        timeouts: &ServiceTimeouts,
    ) -> Box<Self> {
        let response = timeouts.response;
        Box::new(Self { trial, core, assigned, began, response, answered: None })
    }

    /// There is no backend that could be asked, and `reason` is why.
    pub(super) fn refused(self, reason: Reason) {
        let now = self.began;
        self.failed(now, reason, false);
    }

    /// The response's head is there. Returns what is to be counted when the response has ended.
    pub(super) fn answered(
        mut self: Box<Self>,
        now: Moment,
        sent: Moment,
        status: u16,
        is_call: bool,
    ) -> Option<Box<Self>> {
        let ns = now.since(sent);
        if status >= 500 || status == 101 {
            self.count(Finding { failed: status >= 500, hung: false, ns });
            return None;
        }
        self.answered = Some(Answered { at: now, ns, is_call });
        Some(self)
    }

    /// The attempt has failed. `awaits_head`: nothing but the backend was waited for.
    pub(super) fn failed(self, now: Moment, reason: Reason, awaits_head: bool) {
        let ns = self.answered.as_ref().map_or_else(|| now.since(self.began), |it| it.ns);
        // What limits the whole of a request is up when the backend does not answer.
        let is_its_fault = fault_of(reason) == Fault::Upstream
            || (reason == Reason::RequestDeadline && awaits_head);
        if is_its_fault {
            self.count(Finding { failed: true, hung: false, ns });
        } else {
            self.settle();
        }
    }

    /// The backend has cut its response short, or let the time for it pass.
    pub(super) fn cut(self) {
        if let Some(Answered { ns, .. }) = self.answered {
            self.count(Finding { failed: true, hung: false, ns });
        }
    }

    /// A call of gRPC has said how it ended.
    pub(super) fn call_ended(self, failed: bool) {
        if let Some(Answered { ns, .. }) = self.answered {
            self.count(Finding { failed, hung: false, ns });
        }
    }

    /// The request is over. A call that has not said how it ended was left by its client.
    pub(super) fn settle(self) {
        if let Some(Answered { ns, is_call: false, .. }) = self.answered {
            self.count(Finding { failed: false, hung: false, ns });
        }
    }

    /// Looked at now and then. Returns what is still to be counted.
    pub(super) fn look(self: Box<Self>, now_millis: u64, waits: &Waits) -> Option<Box<Self>> {
        let hangs = millis(HANGS.min(self.response));
        match (&self.answered, waits) {
            (None, Waits::ForHead(until)) => {
                let left = millis(self.response) - hangs;
                if now_millis < until.saturating_sub(left) {
                    return Some(self);
                }
                let ns = hangs.saturating_mul(1_000_000);
                self.count(Finding { failed: true, hung: true, ns });
                None
            }
            // It flows: whatever comes of it, there was an answer.
            (Some(Answered { at, ns, is_call: false }), _) if now_millis >= at.millis() + hangs => {
                self.count(Finding { failed: false, hung: false, ns: *ns });
                None
            }
            _ => Some(self),
        }
    }

    fn count(&self, finding: Finding) {
        self.trial.count(self.core, self.assigned, finding);
    }
}
