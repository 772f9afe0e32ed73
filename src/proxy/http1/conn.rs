//! One of a core's connections to a backend, on this engine.

use crate::{
    live::{Held, Moment, Reason},
    net::Stream,
    proxy::{
        core::Core,
        flight::Flight,
        upstream::{Opened, Upstream, connect},
    },
    routing::Policy,
};
use std::time::Duration;

/// It belongs to one request at a time. Dropping it closes it.
pub(in crate::proxy) struct Conn {
    pub(super) stream: Stream,
    /// Of the backend's TLS, which it was opened with.
    pub(super) epoch: u32,
    /// Its place among the backend's connections.
    pub(super) held: Held,
    /// It has served a request before, so the backend may close it at any moment.
    pub(in crate::proxy) reused: bool,
    /// How long the backend keeps it when idle, if it says so.
    pub(in crate::proxy) announced: Option<Duration>,
}

impl Conn {
    /// A new one for a request in flight.
    ///
    /// # Errors
    /// `ConnectFailed`, `TlsFailed`, `Overloaded`, or the flight's verdict; `BadResponse` when the backend talks before
    /// it was asked: that is no answer.
    pub(in crate::proxy) async fn open(
        core: &Core,
        flight: &Flight,
        policy: &Policy,
    ) -> Result<Self, Reason> {
        Self::new(connect(core, flight, policy).await?)
    }

    /// # Errors
    /// `BadResponse` when the backend talks before it was asked.
    pub(in crate::proxy) fn new(opened: Opened) -> Result<Self, Reason> {
        let Opened { mut stream, epoch, held } = opened;
        if stream.talks() {
            return Err(Reason::BadResponse);
        }
        Ok(Self { stream, epoch, held, reused: false, announced: None })
    }

    /// An idle one that is still good. `delicate`: what will be sent cannot be sent twice, so the kernel is asked
    /// whether the backend has closed it or talks out of turn.
    pub(in crate::proxy) fn take_idle(
        upstream: &Upstream,
        now: Moment,
        delicate: bool,
    ) -> Option<Self> {
        let epoch = upstream.backend.tls_epoch();
        loop {
            let mut conn = upstream.http1.pop(now)?;
            if conn.is_fit(epoch) && (!delicate || conn.stream.is_quiet_now()) {
                conn.reused = true;
                return Some(conn);
            }
        }
    }

    /// Nothing speaks against using it again.
    pub(in crate::proxy) fn is_fit(&mut self, epoch: u32) -> bool {
        self.epoch == epoch && self.stream.is_quiet()
    }
}
