//! One of a core's connections to a backend, on this engine.

use crate::{live::Held, net::Stream, proxy::upstream::Opened};
use std::time::Duration;

/// It belongs to one request at a time. Dropping it closes it.
pub(in crate::proxy) struct Conn {
    pub(super) stream: Stream,
    /// Of the backend's TLS, which it was opened with.
    pub(super) epoch: u32,
    /// Its place among the backend's connections.
    pub(super) held: Held,
    /// It has served a request before, so the backend may close it at any moment.
    pub(super) reused: bool,
    /// How long the backend keeps it when idle, if it says so.
    pub(super) announced: Option<Duration>,
}

impl Conn {
    pub(super) fn new(Opened { stream, epoch, held }: Opened) -> Self {
        Self { stream, epoch, held, reused: false, announced: None }
    }

    /// Nothing speaks against using it again.
    pub(in crate::proxy) fn is_fit(&mut self, epoch: u32) -> bool {
        self.epoch == epoch && self.stream.is_quiet()
    }
}
