//! A request on its way to a backend, as often as it takes: what is sent again, where to, and what never is.

use super::{
    body::{Upload, UploadReader, UploadTimeouts, UpstreamBody, millis},
    core::Core,
    decide::{Assignment, Earlier, Issued, Query, decide},
    failure::Failure,
    flight::Flight,
    record::{Answerer, Recorder},
    upstream::{Conn, Upstream},
};
use crate::live::Reason;
use http::{
    HeaderValue, Request, Response, Uri,
    header::{self, Entry},
    request::Parts,
};
use hyper::body::Incoming;
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

/// A request on its way to a backend, as often as it takes.
pub(super) struct Sending<'a> {
    pub(super) core: &'a Rc<Core>,
    /// As the backend gets them.
    pub(super) parts: Parts,
    /// Of the user.
    pub(super) address: IpAddr,
    /// The user speaks https.
    pub(super) secure: bool,
    pub(super) began_millis: u64,
    pub(super) upload: Option<Rc<RefCell<Upload>>>,
    /// How long the client may be silent in its body.
    pub(super) body_timeout: Duration,
    /// Slots of the backends that failed.
    pub(super) tried: Vec<usize>,
    /// The current one included.
    pub(super) tries: u32,
}

/// How one attempt ended.
enum Attempt {
    Answered(Conn, Response<Incoming>),
    /// Nothing was written; the request is whole.
    Unsent(Box<Request<UpstreamBody>>),
    /// The connection ended before a byte of the response came.
    Silent {
        reused: bool,
        /// Some of the request had been written to it.
        written: bool,
    },
    Failed(Reason),
}

impl Sending<'_> {
    /// Returns with the response's head.
    ///
    /// # Errors
    /// With what the client is told, once there is no other attempt to make.
    pub(super) async fn send(
        &mut self,
        mut assignment: Assignment,
        recorder: &mut Recorder,
    ) -> Result<(Assignment, Conn, Response<Incoming>), Failure> {
        let mut unsent = None;
        let mut fresh = false;
        loop {
            let flight = assignment.ticket.flight.clone();
            let limit = assignment.policy.timeouts.request;
            if !limit.is_zero() {
                flight.limit(self.began_millis.saturating_add(millis(limit)));
            }
            let conn = match self.connection(&assignment, &flight, fresh).await {
                Ok(conn) => conn,
                Err(reason) => {
                    let retry =
                        reason == Reason::ConnectFailed && assignment.policy.retries.on.connect;
                    assignment = self.next(assignment, recorder, reason, retry)?;
                    (unsent, fresh) = (None, false);
                    continue;
                }
            };
            match self.attempt(&assignment, &flight, conn, unsent.take()).await {
                Attempt::Answered(conn, response) => {
                    if let Some(upload) = &self.upload {
                        upload.borrow_mut().stop_keeping();
                    }
                    return Ok((assignment, conn, response));
                }
                Attempt::Unsent(request) => {
                    unsent = Some(request);
                    fresh = true;
                }
                // The backend closed an idle connection while the request was on its way to it.
                Attempt::Silent { reused: true, written } if self.is_repeatable(written) => {
                    fresh = true;
                }
                Attempt::Silent { written, .. } => {
                    let retry = assignment.policy.retries.on.reset && self.is_repeatable(written);
                    assignment = self.next(assignment, recorder, Reason::UpstreamReset, retry)?;
                    fresh = false;
                }
                Attempt::Failed(reason) => {
                    assignment = self.next(assignment, recorder, reason, false)?;
                }
            }
        }
    }

    /// Sending it again does no harm, and all of it is still there. `written`: the backend may have seen
    /// some of it.
    fn is_repeatable(&self, written: bool) -> bool {
        (!written || self.parts.method.is_idempotent())
            && self.upload.as_ref().is_none_or(|upload| upload.borrow().is_replayable())
    }

    /// Whether an idle connection that turns out to be closed may cost the request.
    fn is_delicate(&self) -> bool {
        self.upload.is_some() || !self.parts.method.is_idempotent()
    }

    /// An idle connection, unless a `fresh` one is wanted; else a new one.
    async fn connection(
        &self,
        assignment: &Assignment,
        flight: &Flight,
        fresh: bool,
    ) -> Result<Conn, Reason> {
        let upstream = &flight.upstream;
        if !fresh && let Some(conn) = upstream.checkout(self.is_delicate()).await {
            return Ok(conn);
        }
        let backend = &upstream.backend;
        let began = Instant::now();
        let connecting = upstream.connect(assignment.policy.timeouts.connect);
        match unless_judged(flight, connecting).await {
            Err(reason) => Err(reason),
            Ok(Ok(conn)) => {
                backend.pool.stats.record_upstream_connect(self.core.index, began.elapsed());
                backend.connect_succeeded(self.core.index);
                Ok(conn)
            }
            Ok(Err(error)) => {
                tracing::debug!(backend = %backend.address, %error, "connect failed");
                self.core.connect_failed(backend, assignment.policy.ejection.consecutive);
                Err(Reason::ConnectFailed)
            }
        }
    }

    async fn attempt(
        &self,
        assignment: &Assignment,
        flight: &Rc<Flight>,
        mut conn: Conn,
        unsent: Option<Box<Request<UpstreamBody>>>,
    ) -> Attempt {
        let request = match unsent {
            Some(request) => *request,
            None => self.request(assignment, flight),
        };
        let timeout = assignment.policy.timeouts.response;
        flight.arm(self.core.live.clock, timeout, Reason::ResponseTimeout);
        let (sent, before) = (Instant::now(), conn.passed());
        match unless_judged(flight, conn.sender.try_send_request(request)).await {
            Err(reason) => Attempt::Failed(reason),
            Ok(Ok(response)) => {
                let stats = &flight.upstream.backend.pool.stats;
                stats.record_upstream_response(self.core.index, sent.elapsed());
                conn.observe(response.headers());
                Attempt::Answered(conn, response)
            }
            Ok(Err(mut failed)) => match failed.take_message() {
                Some(request) if conn.reused => Attempt::Unsent(Box::new(request)),
                _ => {
                    let error = failed.error();
                    tracing::debug!(backend = %flight.upstream.backend.address, %error, "attempt failed");
                    if let Some(reason) = flight.verdict() {
                        Attempt::Failed(reason)
                    } else if conn.passed().received == before.received {
                        let written = conn.passed().written > before.written;
                        Attempt::Silent { reused: conn.reused, written }
                    } else if error.is_incomplete_message() {
                        Attempt::Failed(Reason::UpstreamReset)
                    } else {
                        Attempt::Failed(Reason::BadResponse)
                    }
                }
            },
        }
    }

    /// The request as this attempt sends it.
    fn request(&self, assignment: &Assignment, flight: &Rc<Flight>) -> Request<UpstreamBody> {
        let body = match &self.upload {
            None => UpstreamBody::Empty,
            Some(upload) => {
                let timeouts = UploadTimeouts {
                    clock: self.core.live.clock,
                    body: self.body_timeout,
                    response: assignment.policy.timeouts.response,
                    stream: assignment.policy.timeouts.body,
                };
                UpstreamBody::Upload(UploadReader::new(upload, flight.clone(), timeouts))
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = origin_form(&self.parts.uri);
        *request.headers_mut() = self.parts.headers.clone();
        // HTTP/1.0 knows requests without a host, HTTP/1.1 does not.
        if let Entry::Vacant(host) = request.headers_mut().entry(header::HOST) {
            let address = flight.upstream.backend.address.to_string();
            host.insert(HeaderValue::from_str(&address).unwrap_or(EMPTY));
        }
        request
    }

    /// Counts the failed attempt; decides anew if there may be another one.
    fn next(
        &mut self,
        assignment: Assignment,
        recorder: &mut Recorder,
        reason: Reason,
        retry: bool,
    ) -> Result<Assignment, Failure> {
        let upstream: Rc<Upstream> = assignment.ticket.flight.upstream.clone();
        let failure = Failure::of_attempt(self.core, &upstream, reason);
        let policy = &assignment.policy;
        if !retry
            || self.tries >= policy.retries.attempts
            || !self.core.may_retry(assignment.service_slot, &policy.retries)
        {
            return Err(failure);
        }
        let issued: Option<Issued> = assignment.issued.clone();
        drop(assignment);
        self.tries += 1;
        self.tried.push(upstream.backend.slot.index());
        let earlier = Some(Earlier { last: &upstream, tried: &self.tried, issued });
        let (client, secure) = (self.address, self.secure);
        let query = Query { parts: &self.parts, client, secure, earlier };
        let assignment = decide(self.core, &query).map_err(|_| failure)?;
        upstream.backend.pool.stats.record_retry(self.core.index);
        recorder.set_answerer(Answerer::Backend(assignment.ticket.flight.upstream.clone()));
        Ok(assignment)
    }
}

const EMPTY: HeaderValue = HeaderValue::from_static("");

/// Path and query alone (RFC 9112 section 3.2.1), or `*`.
fn origin_form(uri: &Uri) -> Uri {
    match uri.path_and_query() {
        Some(target) => Uri::from(target.clone()),
        None => Uri::from_static("/"),
    }
}

/// The future's output, unless the flight gets its verdict before.
async fn unless_judged<F: Future>(flight: &Flight, future: F) -> Result<F::Output, Reason> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(reason) = flight.poll_verdict(cx) {
            return Poll::Ready(Err(reason));
        }
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}
