//! Replies of the proxy itself.

use super::{
    core::Core,
    headers::{Sink, X_CROSSFADE_ERROR},
    upstream::Upstream,
};
use crate::live::{Fault, Reason};

/// Why a request gets no backend's answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    /// An attempt has counted it already.
    pub(super) counted: bool,
}

impl Failure {
    /// Counts the failed attempt under the pool that it was made on.
    pub(super) fn of_attempt(core: &Core, upstream: &Upstream, reason: Reason) -> Self {
        upstream.backend.pool.stats.record_failure(core.index, fault_of(reason), reason);
        Self { reason, counted: true }
    }

    /// What is left of such a request is not worth reading, or cannot be told from the next one.
    pub(super) fn muddles(&self) -> bool {
        fault_of(self.reason) == Fault::Downstream && self.reason != Reason::NoRoute
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, counted: false }
    }
}

/// What a client is told.
pub(super) fn page(reason: Reason) -> String {
    format!("{}: {}\n", reason.as_str(), explain(reason))
}

/// The fields of a reply. Seconds of `Retry-After` with every 503.
pub(super) fn fields(reason: Reason, sink: &mut impl Sink) {
    sink.line(b"content-type", b"text/plain; charset=utf-8");
    sink.line(X_CROSSFADE_ERROR.as_bytes(), reason.as_str().as_bytes());
    if reason.status() == 503 {
        sink.line(b"retry-after", b"1");
    }
}

fn explain(reason: Reason) -> &'static str {
    match reason {
        Reason::BadRequest => "the request is malformed or ambiguous",
        Reason::NoRoute => "no route matches this request",
        Reason::RequestTimeout => "the request did not arrive in time",
        Reason::BodyTooLarge => "the request body is larger than allowed",
        Reason::TargetTooLong => "the request target is longer than allowed",
        Reason::Expectation => "only the expectation 100-continue can be met",
        Reason::HeadersTooLarge => "the header fields are larger than allowed",
        Reason::NotSupported => "this is not supported here",
        Reason::ConnectFailed => "the backend could not be connected to",
        Reason::UpstreamReset => "the backend closed the connection before it answered",
        Reason::BadResponse => "the backend's answer is not valid HTTP",
        Reason::NoBackend => "no healthy backend",
        Reason::Overloaded => "too many connections or requests at once",
        Reason::QueueFull => "too many requests wait already",
        Reason::Draining => "what served this request is shutting down",
        Reason::ResponseTimeout => "the backend did not answer in time",
        Reason::RequestDeadline => "the request took longer than allowed",
        Reason::ClientClosed => "the client has left",
        Reason::IdleTimeout => "nothing was sent for too long",
        Reason::ServerError => "the backend answered that it has failed",
    }
}

/// Who is to blame for what ends a request in flight.
pub(super) fn fault_of(reason: Reason) -> Fault {
    match reason {
        Reason::BadRequest
        | Reason::NoRoute
        | Reason::RequestTimeout
        | Reason::BodyTooLarge
        | Reason::TargetTooLong
        | Reason::Expectation
        | Reason::HeadersTooLarge
        | Reason::NotSupported
        | Reason::ClientClosed => Fault::Downstream,
        Reason::ConnectFailed
        | Reason::UpstreamReset
        | Reason::BadResponse
        | Reason::NoBackend
        | Reason::IdleTimeout
        | Reason::ServerError
        | Reason::ResponseTimeout => Fault::Upstream,
        Reason::Overloaded | Reason::QueueFull | Reason::Draining | Reason::RequestDeadline => {
            Fault::Proxy
        }
    }
}
