//! Every request is recorded exactly once, when its last byte has left or its body was dropped.

use super::{
    core::Core,
    decide::Refusal,
    failure::{Failure, Reply, fault_of},
    upstream::Upstream,
};
use crate::live::{Fault, LivePool, Moment, Reason};
use std::{rc::Rc, sync::Arc};

/// The record of a reply. Whoever drops it unfinished says that the client has left.
pub(super) struct Recorder {
    core: Rc<Core>,
    /// Index into the label values of `method`.
    method: usize,
    began: Moment,
    answerer: Answerer,
    code: u16,
    failure: Option<(Fault, Reason)>,
    /// When it was recorded.
    ended: Option<Moment>,
}

/// Under whose name a reply is recorded.
pub(super) enum Answerer {
    /// No service was found.
    Nobody,
    /// The pool that would have had to, without a backend.
    Pool(Arc<LivePool>),
    Backend(Rc<Upstream>),
}

impl Recorder {
    pub(super) fn new(core: Rc<Core>, method: usize, began: Moment) -> Self {
        Self {
            core,
            method,
            began,
            answerer: Answerer::Nobody,
            code: 0,
            failure: None,
            ended: None,
        }
    }

    pub(super) fn set_answerer(&mut self, answerer: Answerer) {
        self.answerer = answerer;
    }

    pub(super) fn set_code(&mut self, code: u16) {
        self.code = code;
    }

    /// Why the request failed, where no attempt has counted it.
    pub(super) fn fail(&mut self, fault: Fault, reason: Reason) {
        self.failure = Some((fault, reason));
    }

    /// It goes to no backend; says what it is answered.
    pub(super) fn note_refusal(&mut self, refusal: Refusal) -> Reply {
        match refusal {
            Refusal::Failed { reason, pool } => {
                if let Some(pool) = pool {
                    self.answerer = Answerer::Pool(pool);
                }
                reason.into()
            }
            // Who does not wait is told as much.
            Refusal::Waits(_) => Reason::Overloaded.into(),
            Refusal::Redirected(redirected) => Reply::Redirect(redirected),
        }
    }

    /// The proxy answers it.
    pub(super) fn reply(&mut self, reply: &Reply) {
        self.code = reply.status();
        if let Reply::Failure(Failure { reason, counted: false }) = reply {
            self.fail(fault_of(*reason), *reason);
        }
    }

    /// The reply is complete, and is recorded once. Returns when that was.
    pub(super) fn finish(&mut self) -> Moment {
        self.ended.unwrap_or_else(|| self.record(self.core.live.clock.now()))
    }

    /// The same, by a clock that was just read.
    pub(super) fn finish_at(&mut self, now: Moment) {
        if self.ended.is_none() {
            self.record(now);
        }
    }

    fn record(&mut self, now: Moment) -> Moment {
        self.ended = Some(now);
        let code = match self.failure {
            Some((Fault::Downstream, Reason::ClientClosed)) => 499,
            _ => self.code,
        };
        let stats = match &self.answerer {
            Answerer::Nobody => &self.core.live.unrouted.stats,
            Answerer::Pool(pool) => &pool.stats,
            Answerer::Backend(upstream) => &upstream.backend.pool.stats,
        };
        stats.record_reply(self.core.index, self.method, code, now.since(self.began));
        if let Some((fault, reason)) = self.failure {
            stats.record_failure(self.core.index, fault, reason);
        }
        now
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.failure = self.failure.or(Some((Fault::Downstream, Reason::ClientClosed)));
            self.record(self.core.live.clock.now());
        }
    }
}
