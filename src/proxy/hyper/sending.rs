//! A request on its way to a backend through this engine, as often as it takes.

use super::{
    super::{
        connection::ClientConnection,
        decide::Assignment,
        failure::Failure,
        flight::Flight,
        head::{Facts, Head},
        headers::{Added, Changes, to_backend},
        record::Recorder,
        tries::{Miss, Next, Tries, is_rescued},
        upstream::{connect, unless_judged},
    },
    body::{Upload, UploadReader, UploadTimeouts, UpstreamBody},
    conn::Conn,
};
use crate::{
    live::{Reason, millis},
    routing::PathRewrite,
};
use http::{
    HeaderMap, HeaderValue, Request, Response, Uri, header, request::Parts, uri::PathAndQuery,
};
use hyper::body::Incoming;
use std::{cell::RefCell, rc::Rc, time::Duration};

pub(super) struct Sending<'a> {
    pub(super) connection: &'a ClientConnection,
    pub(super) parts: &'a Parts,
    pub(super) head: &'a Head<'a, HeaderMap>,
    pub(super) facts: &'a Facts,
    /// For a request that has none.
    pub(super) request_id: HeaderValue,
    pub(super) began_millis: u64,
    pub(super) upload: Option<Rc<RefCell<Upload>>>,
    /// How long the client may be silent in its body.
    pub(super) body_timeout: Duration,
    pub(super) tries: Tries,
}

/// The head of a backend's response, and what it came by.
pub(super) struct Answered {
    pub(super) assignment: Assignment,
    pub(super) conn: Conn,
    pub(super) response: Response<Incoming>,
}

/// How one attempt ended.
enum Attempt {
    Answered(Conn, Response<Incoming>),
    /// Nothing was written; the request is whole.
    Unsent(Box<Request<UpstreamBody>>),
    Missed(Miss),
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
    ) -> Result<Answered, Failure> {
        let mut unsent = None;
        let mut fresh = false;
        loop {
            let flight = assignment.ticket.flight.clone();
            let limit = assignment.policy.timeouts.request;
            if !limit.is_zero() {
                flight.limit(self.began_millis.saturating_add(millis(limit)));
            }
            let missed = match self.connection(&assignment, &flight, fresh).await {
                Err(reason) => self.failed(reason),
                Ok(conn) => match self.attempt(&assignment, &flight, conn, unsent.take()).await {
                    Attempt::Answered(conn, response) => {
                        if let Some(upload) = &self.upload {
                            upload.borrow_mut().stop_keeping();
                        }
                        return Ok(Answered { assignment, conn, response });
                    }
                    Attempt::Unsent(request) => {
                        (unsent, fresh) = (Some(request), true);
                        continue;
                    }
                    Attempt::Missed(miss) => miss,
                },
            };
            unsent = None;
            let next = self.tries.after(
                missed,
                self.connection,
                self.head,
                self.facts,
                assignment,
                recorder,
            );
            (assignment, fresh) = match next? {
                Next::Fresh(assignment) => (assignment, true),
                Next::Elsewhere(assignment) => (assignment, false),
            };
        }
    }

    /// Whether an idle connection that turns out to be closed may cost the request.
    fn is_delicate(&self) -> bool {
        self.upload.is_some() || !self.tries.idempotent
    }

    /// An idle connection, unless a `fresh` one is wanted; else a new one.
    async fn connection(
        &self,
        assignment: &Assignment,
        flight: &Flight,
        fresh: bool,
    ) -> Result<Conn, Reason> {
        let idle = &flight.upstream.hyper;
        if !fresh
            && let Some(conn) = Conn::checkout(
                idle,
                self.connection.core.live.clock,
                flight.upstream.backend.tls_epoch(),
                self.is_delicate(),
            )
            .await
        {
            return Ok(conn);
        }
        let stream = connect(&self.connection.core, flight, &assignment.policy).await?;
        Conn::new(stream).await.map_err(|_| Reason::ConnectFailed)
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
            None => match self.request(assignment, flight) {
                Ok(request) => request,
                Err(reason) => return Attempt::Missed(self.failed(reason)),
            },
        };
        let timeout = assignment.policy.timeouts.response;
        let clock = self.connection.core.live.clock;
        flight.arm(clock, timeout, Reason::ResponseTimeout);
        let (sent, before) = (clock.now(), conn.passed());
        let mut failed = match unless_judged(flight, conn.sender.try_send_request(request)).await {
            Err(reason) => return Attempt::Missed(self.failed(reason)),
            Ok(Ok(response)) => {
                let stats = &flight.upstream.backend.pool.stats;
                let taken = clock.now().since(sent);
                let core = &self.connection.core;
                stats.record_upstream_response(core.index, taken);
                let status = response.status().as_u16();
                let ejection = &assignment.policy.ejection;
                core.answered(&flight.upstream.backend, status, ejection);
                let whole = self.is_whole();
                if response.status().is_server_error()
                    && is_rescued(core, assignment, self.tries.idempotent, whole)
                {
                    return Attempt::Missed(self.failed(Reason::ServerError));
                }
                conn.observe(response.headers());
                return Attempt::Answered(conn, response);
            }
            Ok(Err(failed)) => failed,
        };
        if conn.reused
            && let Some(request) = failed.take_message()
        {
            return Attempt::Unsent(Box::new(request));
        }
        let error = failed.error();
        tracing::debug!(backend = %flight.upstream.backend.address, %error, "attempt failed");
        Attempt::Missed(if let Some(reason) = flight.verdict() {
            self.failed(reason)
        } else if conn.passed().received == before.received {
            let whole = self.is_whole();
            let written = conn.passed().written > before.written;
            Miss::Silent { reused: conn.reused, written, whole }
        } else if error.is_incomplete_message() {
            self.failed(Reason::UpstreamReset)
        } else {
            self.failed(Reason::BadResponse)
        })
    }

    /// All of the request is still there.
    fn is_whole(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.borrow().is_replayable())
    }

    fn failed(&self, reason: Reason) -> Miss {
        Miss::Failed { reason, whole: self.is_whole() }
    }

    /// The request as this attempt sends it.
    ///
    /// # Errors
    /// `BadRequest` when the path that its route makes of it cannot be sent.
    fn request(
        &self,
        assignment: &Assignment,
        flight: &Rc<Flight>,
    ) -> Result<Request<UpstreamBody>, Reason> {
        let body = match &self.upload {
            None => UpstreamBody::Empty,
            Some(upload) => {
                let timeouts = UploadTimeouts {
                    clock: self.connection.core.live.clock,
                    body: self.body_timeout,
                    response: assignment.policy.timeouts.response,
                    stream: assignment.policy.timeouts.body,
                };
                UpstreamBody::Upload(UploadReader::new(upload, flight.clone(), timeouts))
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        let added = Added {
            client: &self.connection.client,
            request_id: self.request_id.as_bytes(),
            backend: flight.upstream.authority.as_bytes(),
            changes: Changes::of(&assignment.policy, assignment.withheld.as_deref()),
        };
        *request.uri_mut() = origin_form(&self.parts.uri, added.changes.rewrite)?;
        to_backend(self.head, self.facts, &added, request.headers_mut());
        if self.upload.is_some() && self.facts.framing.declared().is_none() {
            // Without it hyper takes a GET for one without a body, whatever there is.
            request.headers_mut().insert(header::TRANSFER_ENCODING, CHUNKED);
        }
        Ok(request)
    }
}

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// Path and query alone (RFC 9112 section 3.2.1), or `*`.
fn origin_form(uri: &Uri, rewrite: Option<&PathRewrite>) -> Result<Uri, Reason> {
    let Some(target) = uri.path_and_query() else { return Ok(Uri::from_static("/")) };
    let Some(rewrite) = rewrite else { return Ok(Uri::from(target.clone())) };
    let (start, rest) = rewrite.of(target.path());
    let target = match target.query() {
        Some(query) => format!("{start}{rest}?{query}"),
        None => format!("{start}{rest}"),
    };
    let target = PathAndQuery::try_from(target).map_err(|_| Reason::BadRequest)?;
    Ok(Uri::from(target))
}
