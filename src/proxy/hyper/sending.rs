//! A request on its way to a backend through this engine, as often as it takes.

use super::{
    super::{
        connection::ClientConnection,
        decide::Assignment,
        failure::Failure,
        flight::Flight,
        head::{self, Facts, Head, Version},
        headers::{Added, Changes, to_backend},
        http2::{self, Interim, MOST_INTERIM, Sent, Unanswered},
        record::Recorder,
        tries::{Miss, Next, Tries, is_rescued},
        upstream::{Upstream, connect, unless_judged},
    },
    body::{ArrivingBody, Upload, UploadReader, UploadTimeouts, UpstreamBody},
    conn::Conn,
};
use crate::{
    live::{Moment, Reason, millis},
    routing::PathRewrite,
    spec::PoolProtocol,
};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header, request::Parts,
    uri::PathAndQuery,
};
use hyper::ext::on_informational;
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

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
    Http1(Conn),
    /// A stream of a connection that others use too.
    Http2(Sent),
}

impl Link {
    /// All has come and all has been sent: it may serve another request.
    pub(super) fn park(self, upstream: &Upstream, now: Moment, idle: Duration) {
        match self {
            Self::Http1(conn) => {
                conn.read_at_most(usize::MAX);
                let announced = conn.keep_alive;
                upstream.park(&upstream.hyper, conn, now, idle, announced);
            }
            Self::Http2(sent) => drop(sent),
        }
    }
}

impl Link {
    /// So much of the body may be read at once; 0: nothing, until it is asked for again.
    pub(super) fn read_at_most(&self, most: usize) {
        match self {
            Self::Http1(conn) => conn.read_at_most(most),
            // The window is the limit.
            Self::Http2(_) => {}
        }
    }

    /// What comes is no answer any more, but what was asked to be switched to.
    pub(super) fn has_switched(&self, status: StatusCode) -> bool {
        match self {
            Self::Http1(_) => status == StatusCode::SWITCHING_PROTOCOLS,
            Self::Http2(sent) => sent.has_tunnel() && status.is_success(),
        }
    }
}

/// How one attempt ended.
enum Attempt {
    Answered(Link, Response<ArrivingBody>),
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
            let limit = Some(assignment.policy.timeouts.request).filter(|limit| !limit.is_zero());
            if let Some(limit) = limit.into_iter().chain(self.client_waits).min() {
                flight.limit(self.began_millis.saturating_add(millis(limit)));
            }
            let attempt = match flight.upstream.backend.protocol {
                PoolProtocol::H1 => match self.connection(&assignment, &flight, fresh).await {
                    Ok(conn) => self.attempt(&assignment, &flight, conn, unsent.take()).await,
                    Err(reason) => Attempt::Missed(self.failed(reason)),
                },
                // Boxed, as those to the other kind would have to have room for it.
                PoolProtocol::H2 => Box::pin(self.attempt_http2(&assignment, &flight, fresh)).await,
            };
            let missed = match attempt {
                Attempt::Answered(link, response) => {
                    if let Some(upload) = &self.upload {
                        upload.borrow_mut().stop_keeping();
                    }
                    return Ok(Answered { assignment, link, response });
                }
                Attempt::Unsent(request) => {
                    (unsent, fresh) = (Some(request), true);
                    continue;
                }
                Attempt::Missed(miss) => miss,
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
        // Boxed, as every request would have to have room for it.
        let stream = Box::pin(connect(&self.connection.core, flight, &assignment.policy)).await?;
        Conn::new(stream).await.map_err(|_| Reason::ConnectFailed)
    }

    async fn attempt(
        &self,
        assignment: &Assignment,
        flight: &Rc<Flight>,
        mut conn: Conn,
        unsent: Option<Box<Request<UpstreamBody>>>,
    ) -> Attempt {
        let mut request = match unsent {
            Some(request) => *request,
            None => match self.request(assignment, flight) {
                Ok(request) => request,
                Err(reason) => return Attempt::Missed(self.failed(reason)),
            },
        };
        let announced = self.interim.as_ref().map(|_| Announced::of(&mut request));
        let timeout = assignment.policy.timeouts.response;
        let clock = self.connection.core.live.clock;
        flight.arm(clock, timeout, Reason::ResponseTimeout);
        let (sent, before) = (clock.now(), conn.passed());
        let response = self.passing(announced, conn.sender.try_send_request(request));
        let mut failed = match unless_judged(flight, response).await {
            Err(reason) | Ok(Err(reason)) => return Attempt::Missed(self.failed(reason)),
            Ok(Ok(Ok(response))) => {
                if let Some(miss) = self.answered(assignment, flight, response.status(), sent) {
                    return Attempt::Missed(miss);
                }
                conn.observe(response.headers());
                return Attempt::Answered(Link::Http1(conn), response.map(ArrivingBody::Hyper));
            }
            Ok(Ok(Err(failed))) => failed,
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

    async fn attempt_http2(
        &self,
        assignment: &Assignment,
        flight: &Rc<Flight>,
        fresh: bool,
    ) -> Attempt {
        let timeouts = &assignment.policy.timeouts;
        let core = &self.connection.core;
        let clock = core.live.clock;
        // Until there is room on a connection.
        flight.arm(clock, timeouts.response, Reason::Overloaded);
        let times = (timeouts.connect, timeouts.upstream_idle);
        let dial = || connect(core, flight, &assignment.policy);
        let lease =
            flight.upstream.http2.lease(&flight.upstream.backend, clock, fresh, times, dial);
        let lease = match unless_judged(flight, lease).await {
            Ok(Ok(lease)) => lease,
            Err(reason) | Ok(Err(reason)) => return Attempt::Missed(self.failed(reason)),
        };
        let mut request = match self.request(assignment, flight) {
            Ok(request) => request,
            Err(reason) => return Attempt::Missed(self.failed(reason)),
        };
        if self.facts.upgrades && lease.takes_websockets() && self.asks_for_websocket() {
            http2::as_connect(&mut request);
        } else if self.is_connect() {
            return Attempt::Missed(self.failed(Reason::NotSupported));
        }
        http2::translate(&mut request, lease.scheme(), &flight.upstream.authority);
        flight.arm(clock, timeouts.response, Reason::ResponseTimeout);
        let sent = clock.now();
        let (reused, silence) = (lease.reused && !fresh, lease.silence());
        let asked = http2::send(lease, request, self.interim.as_ref());
        let failed = match unless_judged(flight, asked).await {
            Ok(Ok((link, response))) => {
                if let Some(miss) = self.answered(assignment, flight, response.status(), sent) {
                    return Attempt::Missed(miss);
                }
                let response = response.map(ArrivingBody::Http2);
                return Attempt::Answered(Link::Http2(link), response);
            }
            Err(reason) => {
                if reason == Reason::ResponseTimeout {
                    silence.note_timeout();
                }
                return Attempt::Missed(self.failed(reason));
            }
            Ok(Err(failed)) => failed,
        };
        Attempt::Missed(match (flight.verdict(), failed) {
            (Some(reason), _) => self.failed(reason),
            (None, Unanswered::Silent { written }) => {
                Miss::Silent { reused, written, whole: self.is_whole() }
            }
            (None, Unanswered::Failed(reason)) => self.failed(reason),
        })
    }

    fn asks_for_websocket(&self) -> bool {
        head::upgrade(self.head).is_some_and(head::is_websocket)
    }

    /// A client of HTTP/2 asks to switch, and has no use for the answer to anything else.
    fn is_connect(&self) -> bool {
        self.facts.upgrades && self.head.version == Version::Http2
    }

    /// Waits for the response and passes on what announces it.
    ///
    /// # Errors
    /// `BadResponse` when there are more announcements than any backend has to make.
    async fn passing<F: Future>(
        &self,
        announced: Option<Arc<Mutex<Announced>>>,
        response: F,
    ) -> Result<F::Output, Reason> {
        let mut response = pin!(response);
        let mut count = 0;
        poll_fn(|cx| {
            let response = response.as_mut().poll(cx);
            if let (Some(interim), Some(announced)) = (&self.interim, &announced) {
                let announced = Announced::take(announced, cx);
                count += announced.len();
                if count > MOST_INTERIM {
                    return Poll::Ready(Err(Reason::BadResponse));
                }
                for (status, fields) in announced {
                    interim.pass(status, &fields);
                }
            }
            response.map(Ok)
        })
        .await
    }

    /// The backend has answered. A miss if the client had better get another one's answer.
    fn answered(
        &self,
        assignment: &Assignment,
        flight: &Flight,
        status: StatusCode,
        sent: Moment,
    ) -> Option<Miss> {
        let core = &self.connection.core;
        let backend = &flight.upstream.backend;
        let taken = core.live.clock.now().since(sent);
        backend.pool.stats.record_upstream_response(core.index, taken);
        core.answered(backend, status.as_u16(), &assignment.policy.ejection);
        let exchanged = status.is_server_error()
            && is_rescued(core, assignment, self.tries.idempotent, self.is_whole());
        exchanged.then(|| self.failed(Reason::ServerError))
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
        let is_http1 = flight.upstream.backend.protocol == PoolProtocol::H1;
        if self.upload.is_some() && self.facts.framing.declared().is_none() && is_http1 {
            // Without it hyper takes a GET for one without a body, whatever there is.
            request.headers_mut().insert(header::TRANSFER_ENCODING, CHUNKED);
        }
        Ok(request)
    }
}

/// Interim responses, from the task that reads them.
#[derive(Default)]
struct Announced {
    responses: Vec<(StatusCode, HeaderMap)>,
    waits: Option<Waker>,
}

impl Announced {
    /// Has those to a request put here.
    fn of(request: &mut Request<UpstreamBody>) -> Arc<Mutex<Self>> {
        let announced = Arc::<Mutex<Self>>::default();
        let place = announced.clone();
        on_informational(request, move |response| {
            let mut announced = place.lock().unwrap_or_else(PoisonError::into_inner);
            // More than that are too many already.
            if announced.responses.len() <= MOST_INTERIM {
                announced.responses.push((response.status(), response.headers().clone()));
            }
            if let Some(waits) = announced.waits.take() {
                waits.wake();
            }
        });
        announced
    }

    /// What has come; the task is woken when there is more. The lock is never contended: all of it happens on
    /// one core.
    fn take(announced: &Mutex<Self>, cx: &Context<'_>) -> Vec<(StatusCode, HeaderMap)> {
        let mut announced = announced.lock().unwrap_or_else(PoisonError::into_inner);
        announced.waits = Some(cx.waker().clone());
        std::mem::take(&mut announced.responses)
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
