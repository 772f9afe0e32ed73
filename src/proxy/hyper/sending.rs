//! A request on its way to a backend through this engine, as often as it takes.

use super::{
    super::{
        connection::ClientConnection,
        decide::Assignment,
        failure::Failure,
        flight::Flight,
        framing::Length,
        grpc,
        head::{self, Facts, Head},
        headers::{Added, Changes, to_backend},
        http1::{self, Asking, Conn},
        http2::{self, Interim, Unanswered},
        record::Recorder,
        tries::{Miss, Next, Tries, is_rescued},
        upstream::{Upstream, connect, unless_judged},
    },
    body::{ArrivingBody, Upload, UploadReader, UploadTimeouts, UpstreamBody},
};
use crate::{
    live::{Moment, Reason, millis},
    routing::{self, PathRewrite},
    spec::PoolProtocol,
};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, request::Parts,
    uri::PathAndQuery,
};
use std::{cell::RefCell, rc::Rc, time::Duration};

pub(super) struct Sending<'a> {
    pub(super) connection: &'a ClientConnection,
    pub(super) parts: &'a Parts,
    pub(super) head: &'a Head<'a, HeaderMap>,
    pub(super) facts: &'a Facts,
    /// For a request that has none.
    pub(super) request_id: HeaderValue,
    pub(super) began_millis: u64,
    /// How long the client waits for all of it, if it says so.
    pub(super) client_waits: Option<Duration>,
    pub(super) upload: Option<Rc<RefCell<Upload>>>,
    /// Takes the responses that announce others; without it they stay behind.
    pub(super) interim: Option<Interim>,
    /// How long the client may be silent in its body.
    pub(super) body_timeout: Duration,
    pub(super) tries: Tries,
}

/// The head of a backend's response, and what it came by.
pub(super) struct Answered {
    pub(super) assignment: Assignment,
    pub(super) link: Link,
    pub(super) response: Response<ArrivingBody>,
}

/// What a response comes by; dropping it gives the response up.
pub(super) enum Link {
    Http1(http1::Sent),
    /// A stream of a connection that others use too.
    Http2(http2::Sent),
}

impl Link {
    /// All has come: if all has been sent too, it may serve another request.
    pub(super) fn park(self, upstream: &Upstream, now: Moment, idle: Duration) {
        match self {
            Self::Http1(sent) => sent.park(upstream, now, idle),
            Self::Http2(sent) => drop(sent),
        }
    }
}

impl Link {
    /// What comes is no answer any more, but what was asked to be switched to.
    pub(super) fn has_switched(&self, status: StatusCode) -> bool {
        match self {
            Self::Http1(_) => status == StatusCode::SWITCHING_PROTOCOLS,
            Self::Http2(sent) => sent.has_tunnel() && status.is_success(),
        }
    }
}

/// How one attempt ended.
type Attempt = Result<(Link, Response<ArrivingBody>), Miss>;

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
        let mut fresh = false;
        loop {
            let flight = assignment.ticket.flight.clone();
            let limit = Some(assignment.policy.timeouts.request).filter(|limit| !limit.is_zero());
            if let Some(limit) = limit.into_iter().chain(self.client_waits).min() {
                flight.limit(self.began_millis.saturating_add(millis(limit)));
            }
            let attempt = match flight.upstream.backend.protocol {
                PoolProtocol::H1 => match self.connection(&assignment, &flight, fresh).await {
                    Ok(conn) => self.attempt(&assignment, &flight, conn, recorder).await,
                    Err(reason) => Err(self.failed(reason)),
                },
                // Boxed, as those to the other kind would have to have room for it.
                PoolProtocol::H2 => {
                    Box::pin(self.attempt_http2(&assignment, &flight, fresh, recorder)).await
                }
            };
            let missed = match attempt {
                Ok((link, response)) => {
                    if let Some(upload) = &self.upload {
                        upload.borrow_mut().stop_keeping();
                    }
                    return Ok(Answered { assignment, link, response });
                }
                Err(miss) => miss,
            };
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
        let core = &self.connection.core;
        let idle = match fresh {
            true => None,
            false => Conn::take_idle(&flight.upstream, core.live.clock.now(), self.is_delicate()),
        };
        match idle {
            Some(conn) => Ok(conn),
            // Boxed, as every request would have to have room for it.
            None => Box::pin(Conn::open(core, flight, &assignment.policy)).await,
        }
    }

    async fn attempt(
        &self,
        assignment: &Assignment,
        flight: &Rc<Flight>,
        conn: Conn,
        recorder: &Recorder,
    ) -> Attempt {
        let core = &self.connection.core;
        let clock = core.live.clock;
        let asking = Asking::new(
            self.head,
            self.facts,
            &self.added(assignment, flight, recorder),
            self.length(),
            // Where nobody passes it on, hyper has said 100 of its own accord.
            self.body(assignment, flight, self.facts.expects_continue && self.interim.is_some()),
        );
        flight.arm(clock, assignment.policy.timeouts.response, Reason::ResponseTimeout);
        let (sent, reused) = (clock.now(), conn.reused);
        let limits = &self.connection.listener.spec.limits;
        let announce = |status, fields: &HeaderMap| self.announce(flight, status, fields);
        let asked = http1::ask(core.clone(), limits, conn, asking, announce);
        match unless_judged(flight, asked).await {
            Ok(Ok((link, response))) => {
                let response = response.map(ArrivingBody::Http1);
                self.answered(assignment, flight, (Link::Http1(link), response), sent)
            }
            Err(reason) => Err(self.failed(reason)),
            Ok(Err(failed)) => Err(self.unanswered(flight, failed, reused)),
        }
    }

    /// Another response is to come.
    fn announce(&self, flight: &Flight, status: StatusCode, fields: &HeaderMap) {
        if let Some(upload) = &self.upload
            && status == StatusCode::CONTINUE
            && upload.borrow().awaits_continue()
        {
            upload.borrow_mut().go_on();
            flight.arm(self.connection.core.live.clock, self.body_timeout, Reason::RequestTimeout);
        }
        if let Some(interim) = &self.interim {
            interim.pass(status, fields);
        }
    }

    fn unanswered(&self, flight: &Flight, failed: Unanswered, reused: bool) -> Miss {
        match (flight.verdict(), failed) {
            (Some(reason), _) => self.failed(reason),
            (None, Unanswered::Silent { written }) => {
                Miss::Silent { reused, written, whole: self.is_whole() }
            }
            (None, Unanswered::Failed(reason)) => self.failed(reason),
        }
    }

    /// All of the request is still there.
    fn is_whole(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.borrow().is_replayable())
    }

    async fn attempt_http2(
        &self,
        assignment: &Assignment,
        flight: &Rc<Flight>,
        fresh: bool,
        recorder: &Recorder,
    ) -> Attempt {
        let timeouts = &assignment.policy.timeouts;
        let core = &self.connection.core;
        let clock = core.live.clock;
        // Until there is room on a connection.
        flight.arm(clock, timeouts.response, Reason::Overloaded);
        let most = assignment.policy.limits.backend_connections;
        let dial = || connect(core, flight, &assignment.policy);
        let lease = flight.upstream.http2.lease(
            &flight.upstream.backend,
            clock,
            fresh,
            timeouts,
            most,
            dial,
        );
        let lease = match unless_judged(flight, lease).await {
            Ok(Ok(lease)) => lease,
            Err(reason) | Ok(Err(reason)) => return Err(self.failed(reason)),
        };
        let mut request = match self.request(assignment, flight, recorder) {
            Ok(request) => request,
            Err(reason) => return Err(self.failed(reason)),
        };
        if self.asks_for_websocket() {
            if !lease.takes_websockets() {
                return Err(self.failed(Reason::NotSupported));
            }
            http2::as_connect(&mut request);
        }
        http2::translate(&mut request, lease.scheme(), &flight.upstream.authority);
        flight.arm(clock, timeouts.response, Reason::ResponseTimeout);
        let sent = clock.now();
        let (reused, silence) = (lease.reused && !fresh, lease.silence());
        let asked = http2::send(lease, request, self.interim.as_ref());
        match unless_judged(flight, asked).await {
            Ok(Ok((link, response))) => {
                let response = response.map(ArrivingBody::Http2);
                self.answered(assignment, flight, (Link::Http2(link), response), sent)
            }
            Err(reason) => {
                if reason == Reason::ResponseTimeout {
                    silence.note_timeout();
                }
                Err(self.failed(reason))
            }
            Ok(Err(failed)) => Err(self.unanswered(flight, failed, reused)),
        }
    }

    /// It is a handshake as RFC 6455 section 4.1 has it. All else that a client would switch to is not known in HTTP/2,
    /// and may as well be answered in HTTP.
    fn asks_for_websocket(&self) -> bool {
        self.facts.upgrades
            && self.head.method == "GET"
            && self.parts.headers.contains_key(header::SEC_WEBSOCKET_KEY)
            && head::upgrade(self.head).is_some_and(head::is_websocket)
    }

    /// The backend has answered; a miss if the client had better get another one's answer.
    fn answered(
        &self,
        assignment: &Assignment,
        flight: &Flight,
        (link, response): (Link, Response<ArrivingBody>),
        sent: Moment,
    ) -> Attempt {
        let core = &self.connection.core;
        let backend = &flight.upstream.backend;
        let status = response.status();
        let now = core.live.clock.now();
        backend.pool.stats.record_upstream_response(core.index, now.since(sent));
        flight.answered(now, sent, status.as_u16(), || grpc::is_call(&self.parts.headers));
        core.answered(backend, status.as_u16(), &assignment.policy.ejection);
        let exchanged = status.is_server_error()
            && is_rescued(core, assignment, self.tries.idempotent, self.is_whole());
        if exchanged { Err(self.failed(Reason::ServerError)) } else { Ok((link, response)) }
    }

    fn failed(&self, reason: Reason) -> Miss {
        Miss::Failed { reason, whole: self.is_whole() }
    }

    /// The request as this attempt sends it to a backend that speaks HTTP/2.
    ///
    /// # Errors
    /// `BadRequest` when the path that its route makes of it cannot be sent.
    fn request(
        &self,
        assignment: &Assignment,
        flight: &Rc<Flight>,
        recorder: &Recorder,
    ) -> Result<Request<UpstreamBody>, Reason> {
        let added = self.added(assignment, flight, recorder);
        let mut request = Request::new(self.body(assignment, flight, false));
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() = origin_form(&self.parts.uri, added.changes.rewrite)?;
        to_backend(self.head, self.facts, &added, request.headers_mut());
        Ok(request)
    }

    fn added<'b>(
        &'b self,
        assignment: &'b Assignment,
        flight: &'b Flight,
        recorder: &'b Recorder,
    ) -> Added<'b> {
        Added {
            client: &self.connection.client,
            request_id: self.request_id.as_bytes(),
            backend: flight.upstream.authority.as_bytes(),
            changes: Changes::of(&assignment.policy, assignment.withheld.as_deref()),
            note: recorder.note(),
        }
    }

    /// Its body, from the beginning.
    fn body(
        &self,
        assignment: &Assignment,
        flight: &Rc<Flight>,
        awaits_continue: bool,
    ) -> UpstreamBody {
        let Some(upload) = &self.upload else { return UpstreamBody::Empty };
        let timeouts = UploadTimeouts {
            clock: self.connection.core.live.clock,
            body: self.body_timeout,
            response: assignment.policy.timeouts.response,
            stream: assignment.policy.timeouts.body,
        };
        UpstreamBody::Upload(UploadReader::new(upload, flight.clone(), timeouts, awaits_continue))
    }

    /// How long the body is that a head of HTTP/1 announces.
    fn length(&self) -> Length {
        match (&self.upload, self.facts.framing.declared()) {
            (None, _) => Length::Exact(0),
            (Some(_), Some(length)) => Length::Exact(length),
            (Some(_), None) => Length::Chunked,
        }
    }
}

/// Path and query alone (RFC 9112 section 3.2.1), or `*`.
fn origin_form(uri: &Uri, rewrite: Option<&PathRewrite>) -> Result<Uri, Reason> {
    let Some(target) = uri.path_and_query() else { return Ok(Uri::from_static("/")) };
    let Some(rewrite) = rewrite else { return Ok(Uri::from(target.clone())) };
    let target = routing::target(Some(rewrite), target.path(), target.query());
    let target = PathAndQuery::try_from(target).map_err(|_| Reason::BadRequest)?;
    Ok(Uri::from(target))
}
