//! Replies of the proxy itself.

use super::{
    body::{ReplyBody, fault_of},
    core::Core,
    headers::X_CROSSFADE_ERROR,
    upstream::Upstream,
};
use crate::live::Reason;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

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
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, counted: false }
    }
}

/// What a client is told. Seconds of `Retry-After` with every 503.
pub(super) fn reply(reason: Reason) -> Response<ReplyBody> {
    let text = format!("{}: {}\n", reason.as_str(), explain(reason));
    let mut response = Response::new(ReplyBody::Full(Some(Bytes::from(text))));
    *response.status_mut() =
        StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CROSSFADE_ERROR, HeaderValue::from_static(reason.as_str()));
    if reason.status() == 503 {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
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
        Reason::Draining => "what served this request is shutting down",
        Reason::ResponseTimeout => "the backend did not answer in time",
        Reason::RequestDeadline => "the request took longer than allowed",
        Reason::ClientClosed => "the client has left",
        Reason::IdleTimeout => "nothing was sent for too long",
    }
}
