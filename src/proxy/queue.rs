//! Waiting for a place among the requests in flight, or for a held service to be released. Whoever has waited is
//! decided anew, on the snapshot of that moment.

use crate::live::{Entry, Full, Gate, Hold, Permit, Reason};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// How a request comes to the limit of its service.
pub(super) enum Turn {
    First,
    /// It has waited and may go on.
    Granted(Permit),
    /// Its service was held, and is not any more.
    Released,
    /// It has waited in vain, or could not.
    Late(Reason),
    /// Another attempt of a request that was let in, and that does not wait again.
    Again(Option<Permit>),
}

/// For whom it is not the time now.
pub(super) enum Waiting {
    /// For a place.
    Queue(Queue),
    /// For who holds the service.
    Hold(Arc<Hold>),
}

pub(super) struct Queue {
    pub(super) gate: Arc<Gate>,
    pub(super) limit: u64,
    pub(super) places: usize,
    pub(super) timeout: Duration,
}

impl Waiting {
    /// Returns when it is its turn, or there is nothing more to wait for. Dropping it leaves the queue.
    pub(super) async fn turn(self) -> Turn {
        match self {
            Self::Queue(queue) => queue.turn().await,
            Self::Hold(hold) => {
                let released = match hold.enter() {
                    Some(place) => place.released().await,
                    None => false,
                };
                if released { Turn::Released } else { Turn::Late(Reason::Held) }
            }
        }
    }
}

impl Queue {
    async fn turn(self) -> Turn {
        let place = match self.gate.enter(self.limit, self.places) {
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
