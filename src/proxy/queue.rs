//! Waiting for a place among the requests in flight. Whoever has waited is decided anew, on the snapshot of
//! that moment.

use crate::live::{Entry, Full, Gate, Permit, Reason};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// How a request comes to the limit of its service.
pub(super) enum Turn {
    First,
    /// It has waited and may go on.
    Granted(Permit),
    /// It has waited in vain, or could not.
    Late(Reason),
    /// Another attempt of a request that was let in, and that does not wait again.
    Again(Option<Permit>),
}

/// For whom there is no place now.
pub(super) struct Waiting {
    pub(super) gate: Arc<Gate>,
    pub(super) limit: u64,
    pub(super) queue: usize,
    pub(super) timeout: Duration,
}

impl Waiting {
    /// Queues. Returns when it is its turn, or there is nothing more to wait for. Dropping it leaves the queue.
    pub(super) async fn turn(self) -> Turn {
        let place = match self.gate.enter(self.limit, self.queue) {
            Entry::Open(permit) => return Turn::Granted(permit),
            Entry::Full(Full::Here) => return Turn::Late(Reason::QueueFull),
            Entry::Full(Full::Everywhere) => return Turn::Late(Reason::Overloaded),
            Entry::Wait(place) => place,
        };
        match timeout(self.timeout, place).await {
            Ok(permit) => Turn::Granted(permit),
            Err(_) => Turn::Late(Reason::Overloaded),
        }
    }
}
