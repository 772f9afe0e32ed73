//! Every request is recorded exactly once, when its last byte has left or its body was dropped.

use super::{
    core::Core,
    decide::Refusal,
    failure::{Failure, Reply, fault_of},
    note::Note,
    upstream::Upstream,
};
use crate::live::{Fault, LivePool, Moment, PoolStats, Reason};
use std::{rc::Rc, sync::Arc};

/// The record of a reply. Whoever drops it unfinished says that the client has left.
pub(super) struct Recorder {
    core: Rc<Core>,
    /// Index into the label values of `method`.
    method: u8,
    began: Moment,
    answerer: Answerer,
    code: u16,
    failure: Option<(Fault, Reason)>,
    /// Of a request that is written down.
    note: Option<Note>,
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
            // There are few.
            method: method as u8,
            began,
            answerer: Answerer::Nobody,
            code: 0,
            failure: None,
            note: None,
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

    /// It is written down from now on.
    pub(super) fn attach(&mut self, note: Note) -> &Note {
        self.note.insert(note)
    }

    pub(super) fn note(&self) -> Option<&Note> {
        self.note.as_ref()
    }

    pub(super) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    pub(super) fn began(&self) -> Moment {
        self.began
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
        if let Reply::Failure(Failure { reason, counted }) = reply {
            let fault = fault_of(*reason);
            if !counted {
                self.fail(fault, *reason);
            }
            if let Some(note) = self.note() {
                note.failed(fault, *reason);
            }
        }
    }

    /// The reply is complete, and is recorded once. Returns when that was.
    pub(super) fn finish(&mut self) -> Moment {
        self.ended.unwrap_or_else(|| self.record(self.core.live.clock.now()))
    }

    /// The same, with the bytes of both bodies, should somebody want to know.
    pub(super) fn finish_with(&mut self, bytes: impl FnOnce() -> (u64, u64)) -> Moment {
        if let Some(ended) = self.ended {
            return ended;
        }
        let now = self.core.live.clock.now();
        self.finish_at(now, bytes);
        now
    }

    /// The same, by a clock that was just read; with the bytes of both bodies, should somebody want to know.
    pub(super) fn finish_at(&mut self, now: Moment, bytes: impl FnOnce() -> (u64, u64)) {
        if self.ended.is_none() {
            if self.note.is_some() {
                self.note_bytes(bytes);
            }
            self.record(now);
        }
    }

    /// What has passed of both bodies.
    #[cold]
    pub(super) fn note_bytes(&self, bytes: impl FnOnce() -> (u64, u64)) {
        if let Some(note) = self.note() {
            let (incoming, outgoing) = bytes();
            note.set_bytes(incoming, outgoing);
        }
    }

    /// The same of the answer's alone.
    pub(super) fn note_bytes_out(&self, bytes: u64) {
        if let Some(note) = self.note() {
            note.set_out(bytes);
        }
    }

    fn record(&mut self, now: Moment) -> Moment {
        self.ended = Some(now);
        let stats = match &self.answerer {
            Answerer::Nobody => &self.core.live.unrouted.stats,
            Answerer::Pool(pool) => &pool.stats,
            Answerer::Backend(upstream) => &upstream.backend.pool.stats,
        };
        if self.failure.is_some() || self.note.is_some() {
            self.record_more(stats, now);
        } else {
            let taken = now.since(self.began);
            stats.record_reply(self.core.index, self.method.into(), self.code, taken);
        }
        now
    }

    #[cold]
    #[inline(never)]
    fn record_more(&self, stats: &PoolStats, now: Moment) {
        let code = match self.failure {
            Some((Fault::Downstream, Reason::ClientClosed)) => 499,
            _ => self.code,
        };
        stats.record_reply(self.core.index, self.method.into(), code, now.since(self.began));
        if let Some((fault, reason)) = self.failure {
            stats.record_failure(self.core.index, fault, reason);
        }
        let Some(note) = &self.note else { return };
        if let Some((fault, reason)) = self.failure {
            note.failed(fault, reason);
        }
        match &self.answerer {
            Answerer::Nobody => {}
            Answerer::Pool(pool) => note.of_pool(pool),
            Answerer::Backend(upstream) => note.of_pool(&upstream.backend.pool),
        }
        note.ended(now, code);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.failure.get_or_insert((Fault::Downstream, Reason::ClientClosed));
            self.record(self.core.live.clock.now());
        }
    }
}
