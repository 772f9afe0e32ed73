//! What is sent again, where to, and what never is.

use super::{
    connection::ClientConnection,
    decide::{Assignment, Earlier, Query, decide},
    failure::Failure,
    fields::Lines,
    head::{self, Facts, Head},
    record::{Answerer, Recorder},
    upstream::Upstream,
};
use crate::live::Reason;
use std::{net::IpAddr, rc::Rc};

/// The attempts to get a request answered.
pub(super) struct Tries {
    /// Of the user.
    pub(super) address: IpAddr,
    /// The user speaks https.
    pub(super) secure: bool,
    /// Sending the request again does no harm (RFC 9110 section 9.2.2).
    pub(super) idempotent: bool,
    /// Slots of the backends that failed.
    tried: Vec<usize>,
    /// The current one included.
    tries: u32,
    /// It was sent again to the same backend.
    replayed: bool,
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
    Failed(Reason),
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
    pub(super) fn new(address: IpAddr, secure: bool, method: &str) -> Self {
        let idempotent = is_idempotent(method);
        Self { address, secure, idempotent, tried: Vec::new(), tries: 1, replayed: false }
    }

    /// Nothing has failed yet, and nothing has taken its time.
    pub(super) fn is_first(&self) -> bool {
        self.tries == 1 && !self.replayed
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
        let on = assignment.policy.retries.on;
        let (reason, again) = match miss {
            Miss::Silent { reused, written, whole } => {
                let repeatable = whole && (!written || self.idempotent);
                // The backend closed an idle connection while the request was on its way to it.
                if reused && repeatable {
                    self.replayed = true;
                    return Ok(Next::Fresh(assignment));
                }
                (Reason::UpstreamReset, on.reset && repeatable)
            }
            Miss::Failed(reason) => {
                // Nothing of the request has been sent.
                let unsent = matches!(reason, Reason::ConnectFailed | Reason::TlsFailed);
                (reason, unsent && on.connect)
            }
        };
        let upstream: Rc<Upstream> = assignment.ticket.flight.upstream.clone();
        let failure = Failure::of_attempt(core, &upstream, reason);
        let retries = &assignment.policy.retries;
        if !again
            || self.tries >= retries.attempts
            || !core.may_retry(assignment.service_slot, retries)
        {
            return Err(failure);
        }
        let issued = assignment.issued.clone();
        drop(assignment);
        self.tries += 1;
        self.tried.push(upstream.backend.slot.index());
        let host = head::host(head)?;
        let query = Query {
            connection,
            head,
            facts,
            host,
            client: self.address,
            secure: self.secure,
            now: core.now_millis(),
            earlier: Some(Earlier { last: &upstream, tried: &self.tried, issued }),
        };
        let assignment = decide(core, &query).map_err(|_| failure)?;
        upstream.backend.pool.stats.record_retry(core.index);
        recorder.set_answerer(Answerer::Backend(assignment.ticket.flight.upstream.clone()));
        Ok(Next::Elsewhere(assignment))
    }
}
