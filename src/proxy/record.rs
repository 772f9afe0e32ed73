//! Every request is recorded exactly once, when its last byte has left or its body was dropped.

use super::{core::Core, upstream::Upstream};
use crate::live::{Fault, LivePool, Reason};
use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// The record of a reply. Whoever drops it unfinished says that the client has left.
pub(super) struct Recorder {
    core: Rc<Core>,
    /// Index into the label values of `method`.
    method: usize,
    began: Instant,
    answerer: Answerer,
    code: u16,
    failure: Option<(Fault, Reason)>,
    finished: bool,
    /// Requests of the same client connection that are not yet recorded.
    connection: Rc<ConnectionActivity>,
}

/// Under whose name a reply is recorded.
pub(super) enum Answerer {
    /// No service was found.
    Nobody,
    /// The pool that would have had to, without a backend.
    Pool(Arc<LivePool>),
    Backend(Rc<Upstream>),
}

/// What a client connection is doing, for its idle deadline.
#[derive(Default)]
pub(super) struct ConnectionActivity {
    pub(super) active: Cell<u32>,
    /// When the last request ended, in milliseconds of the process's clock.
    pub(super) quiet_since: Cell<u64>,
    /// Responses that were given up without the client having taken note of it; when there are no others,
    /// it is closed.
    pub(super) given_up: Cell<u32>,
    /// When a request head began to arrive; 0: none is on its way.
    pub(super) head_since: Arc<AtomicU64>,
    /// Bytes that have passed, either way.
    pub(super) passed: Arc<AtomicU64>,
}

impl Recorder {
    pub(super) fn new(
        core: Rc<Core>,
        method: usize,
        began: Instant,
        connection: Rc<ConnectionActivity>,
    ) -> Self {
        connection.active.set(connection.active.get() + 1);
        Self {
            core,
            method,
            began,
            answerer: Answerer::Nobody,
            code: 0,
            failure: None,
            finished: false,
            connection,
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

    /// The reply is complete.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let activity = &self.connection;
        activity.active.set(activity.active.get().saturating_sub(1));
        let now = Instant::now();
        activity.quiet_since.set(self.core.live.clock.millis(now));
        // What came meanwhile belonged to this request's body.
        activity.head_since.store(0, Ordering::Relaxed);
        if !self.finished && self.failure.is_none() {
            self.failure = Some((Fault::Downstream, Reason::ClientClosed));
        }
        let code = match self.failure {
            Some((Fault::Downstream, Reason::ClientClosed)) => 499,
            _ => self.code,
        };
        let stats = match &self.answerer {
            Answerer::Nobody => &self.core.live.unrouted.stats,
            Answerer::Pool(pool) => &pool.stats,
            Answerer::Backend(upstream) => &upstream.backend.pool.stats,
        };
        stats.record_reply(self.core.index, self.method, code, now - self.began);
        if let Some((fault, reason)) = self.failure {
            stats.record_failure(self.core.index, fault, reason);
        }
    }
}
