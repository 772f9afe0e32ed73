//! Replies of the proxy itself.

use super::{
    core::Core,
    headers::{Sink, X_CROSSFADE_ERROR},
    upstream::Upstream,
};
use crate::live::{Fault, Reason};
use std::sync::Arc;

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
    fn muddles(&self) -> bool {
        let is_whole = matches!(self.reason, Reason::NoRoute | Reason::Misdirected);
        fault_of(self.reason) == Fault::Downstream && !is_whole
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, counted: false }
    }
}

/// The place that a client is sent to.
#[derive(Debug)]
pub(super) struct Redirected {
    pub(super) code: u16,
    pub(super) location: String,
}

/// What the proxy itself answers.
#[derive(Debug)]
pub(super) enum Reply {
    Failure(Failure),
    Redirect(Redirected),
    /// What proves a name to who issues certificates.
    Proof(Arc<str>),
}

impl Reply {
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Failure(failure) => failure.reason.status(),
            Self::Redirect(redirected) => redirected.code,
            Self::Proof(_) => 200,
        }
    }

    pub(super) fn page(&self) -> String {
        match self {
            Self::Failure(failure) => page(failure.reason),
            Self::Redirect(_) => String::new(),
            Self::Proof(proof) => proof.to_string(),
        }
    }

    pub(super) fn fields(&self, sink: &mut impl Sink) {
        match self {
            Self::Failure(failure) => fields(failure.reason, sink),
            Self::Redirect(redirected) => {
                sink.line(b"location", redirected.location.as_bytes());
            }
            // RFC 8555 section 8.3.
            Self::Proof(_) => sink.line(b"content-type", b"application/octet-stream"),
        }
    }

    /// What is left of such a request is not worth reading, or cannot be told from the next one.
    pub(super) fn muddles(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.muddles())
    }
}

impl<T: Into<Failure>> From<T> for Reply {
    fn from(failure: T) -> Self {
        Self::Failure(failure.into())
    }
}

/// What a client is told.
pub(super) fn page(reason: Reason) -> String {
    format!("{}: {}\n", reason.as_str(), explain(reason))
}

/// The fields of a reply. Seconds of `Retry-After` with every 503.
fn fields(reason: Reason, sink: &mut impl Sink) {
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
        Reason::Misdirected => "the name asked for by TLS is not for this host",
        Reason::NotSupported => "this is not supported here",
        Reason::ConnectFailed => "the backend could not be connected to",
        Reason::UpstreamReset => "the backend closed the connection before it answered",
        Reason::BadResponse => "the backend's answer is not valid HTTP",
        Reason::TlsFailed => "no TLS connection to the backend",
        Reason::NoBackend => "no healthy backend",
        Reason::Overloaded => "too many connections or requests at once",
        Reason::QueueFull => "too many requests wait already",
        Reason::Held => "the service is held and was not released in time",
        Reason::Draining => "what served this request is shutting down",
        Reason::ResponseTimeout => "the backend did not answer in time",
        Reason::RequestDeadline => "the request took longer than allowed",
        Reason::ClientClosed => "the client has left",
        Reason::IdleTimeout => "nothing was sent for too long",
        Reason::GrpcStatus => "the call has failed",
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
        | Reason::Misdirected
        | Reason::NotSupported
        | Reason::ClientClosed => Fault::Downstream,
        Reason::ConnectFailed
        | Reason::GrpcStatus
        | Reason::UpstreamReset
        | Reason::BadResponse
        | Reason::TlsFailed
        | Reason::NoBackend
        | Reason::IdleTimeout
        | Reason::ServerError
        | Reason::ResponseTimeout => Fault::Upstream,
        Reason::Overloaded
        | Reason::QueueFull
        | Reason::Held
        | Reason::Draining
        | Reason::RequestDeadline => Fault::Proxy,
    }
}
