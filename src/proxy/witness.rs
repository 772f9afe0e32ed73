//! Who is told what becomes of an attempt. Most have nobody.

use super::{
    booking::{Booking, Waits},
    note::{Note, NotedAttempt},
};
use crate::live::{Moment, Reason};
use std::rc::Rc;

#[derive(Default)]
pub(super) struct Witness {
    /// It counts in a comparison of versions.
    booking: Option<Booking>,
    /// It is written down.
    attempt: Option<NotedAttempt>,
}

impl From<Booking> for Box<Witness> {
    fn from(booking: Booking) -> Self {
        Box::new(Witness { booking: Some(booking), attempt: None })
    }
}

impl Witness {
    /// Nothing more is to be told.
    pub(super) fn is_done(&self) -> bool {
        self.booking.is_none() && self.attempt.is_none()
    }

    pub(super) fn attend(&mut self, attempt: NotedAttempt) {
        self.attempt = Some(attempt);
    }

    pub(super) fn note(&self) -> Option<&Rc<Note>> {
        self.attempt.as_ref().map(NotedAttempt::note)
    }

    /// There is no backend that could be asked, and `reason` is why.
    pub(super) fn refused(self, reason: Reason) {
        if let Some(booking) = self.booking {
            booking.refused(reason);
        }
    }

    /// A connection was opened for it, in so many nanoseconds.
    pub(super) fn connected(&mut self, taken: u64) {
        if let Some(attempt) = &self.attempt {
            attempt.connected(taken);
        }
    }

    /// The head of a final response has come, `now`, that was asked for when it was `sent`.
    pub(super) fn answered(
        &mut self,
        now: Moment,
        sent: Moment,
        status: u16,
        is_call: impl FnOnce() -> bool,
    ) {
        if let Some(attempt) = &self.attempt {
            attempt.answered(now, sent, status);
        }
        if let Some(booking) = self.booking.take() {
            let is_call = status == 200 && is_call();
            self.booking = booking.answered(now, sent, status, is_call);
        }
    }

    /// It has failed. `awaits_head`: nothing but the backend was waited for.
    pub(super) fn failed(&mut self, now: Moment, reason: Reason, awaits_head: bool) {
        if let Some(attempt) = &self.attempt {
            attempt.failed(now, reason);
        }
        if let Some(booking) = self.booking.take() {
            booking.failed(now, reason, awaits_head);
        }
    }

    /// The rest of an answer has not come.
    pub(super) fn cut(&mut self) {
        if let Some(booking) = self.booking.take() {
            booking.cut();
        }
    }

    /// A call of gRPC has said how it ended.
    pub(super) fn call_ended(&mut self, failed: bool) {
        if let Some(booking) = self.booking.take() {
            booking.call_ended(failed);
        }
    }

    /// Whatever it counts as is known.
    pub(super) fn settle(&mut self) {
        if let Some(booking) = self.booking.take() {
            booking.settle();
        }
    }

    /// Looked at now and then.
    pub(super) fn look(&mut self, now_millis: u64, waits: &Waits) {
        if let Some(booking) = self.booking.take() {
            self.booking = booking.look(now_millis, waits);
        }
    }
}
