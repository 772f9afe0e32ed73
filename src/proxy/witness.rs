//! What becomes of an attempt that counts in a comparison of versions. Most do not.

use super::booking::{Booking, Waits};
use crate::live::{Moment, Reason};

pub(super) struct Witness {
    booking: Option<Booking>,
}

impl From<Booking> for Box<Witness> {
    fn from(booking: Booking) -> Self {
        Box::new(Witness { booking: Some(booking) })
    }
}

impl Witness {
    /// Nothing more is to be told.
    pub(super) fn is_done(&self) -> bool {
        self.booking.is_none()
    }

    /// There is no backend that could be asked, and `reason` is why.
    pub(super) fn refused(self, reason: Reason) {
        if let Some(booking) = self.booking {
            booking.refused(reason);
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
        if let Some(booking) = self.booking.take() {
            let is_call = status == 200 && is_call();
            self.booking = booking.answered(now, sent, status, is_call);
        }
    }

    /// It has failed. `awaits_head`: nothing but the backend was waited for.
    pub(super) fn failed(&mut self, now: Moment, reason: Reason, awaits_head: bool) {
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
