//! The way of a request: decide, send, record.

use super::{
    body::{
        ReplyBody, StreamBody, Upload, UploadReader, UploadTimeouts, UpstreamBody, fault_of, millis,
    },
    connection::ClientConnection,
    core::Core,
    decide::{Assignment, Earlier, Issued, Query, decide},
    failure::{self, Failure},
    flight::{Exchange, Flight},
    headers::{self, X_CROSSFADE_VERSION},
    record::{Answerer, Recorder},
    tunnel,
    upstream::{Conn, Upstream},
};
use crate::live::{Fault, Kind, Reason, method_index};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{self, Entry},
    request::Parts,
};
use http_body::Body;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    rc::Rc,
    task::Poll,
    time::Instant,
};

/// Answers a request, whatever happens, and sees to it that it is recorded once.
pub(super) async fn handle(
    connection: Rc<ClientConnection>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Infallible> {
    connection.head_read();
    let core = &connection.core;
    let method = method_index(request.method().as_str());
    let version = request.version();
    let mut recorder =
        Recorder::new(core.clone(), method, Instant::now(), connection.activity.clone());
    let mut response = match forward(&connection, request, &mut recorder).await {
        Ok(answer) => answer.into_response(recorder),
        Err(failure) => refuse(failure, recorder, version),
    };
    if connection.is_leaving() && version <= Version::HTTP_11 && !is_switching(&response) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn is_switching(response: &Response<ReplyBody>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}

fn refuse(failure: Failure, mut recorder: Recorder, version: Version) -> Response<ReplyBody> {
    let reason = failure.reason;
    recorder.set_code(reason.status());
    if !failure.counted {
        recorder.fail(fault_of(reason), reason);
    }
    recorder.finish();
    let mut response = failure::reply(reason);
    let is_muddled = fault_of(reason) == Fault::Downstream && reason != Reason::NoRoute;
    if is_muddled && version <= Version::HTTP_11 {
        // What is left of such a request is not worth reading, or cannot be told from the next one.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A backend's answer.
enum Answer {
    /// Everything that there is has been handed over.
    Whole(Response<ReplyBody>),
    Streaming(Response<ReplyBody>),
}

impl Answer {
    fn into_response(self, mut recorder: Recorder) -> Response<ReplyBody> {
        match self {
            Self::Whole(response) => {
                recorder.set_code(response.status().as_u16());
                recorder.finish();
                response
            }
            Self::Streaming(mut response) => {
                recorder.set_code(response.status().as_u16());
                if let ReplyBody::Stream(stream) = response.body_mut() {
                    stream.recorder = Some(recorder);
                }
                response
            }
        }
    }
}

async fn forward(
    connection: &Rc<ClientConnection>,
    mut request: Request<Incoming>,
    recorder: &mut Recorder,
) -> Result<Answer, Failure> {
    let core = &connection.core;
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, incoming) = request.into_parts();
    headers::check(&parts)?;
    if parts.headers.len() > connection.listener.spec.limits.header_count as usize {
        return Err(Reason::HeadersTooLarge.into());
    }
    let client = connection.client;
    let address = client.address(&parts.headers);
    let secure = client.is_secure(&parts.headers);
    let query = Query { parts: &parts, client: address, secure, earlier: None };
    let assignment = decide(core, &query).map_err(|refusal| {
        if let Some(pool) = refusal.pool {
            recorder.set_answerer(Answerer::Pool(pool));
        }
        refusal.reason
    })?;
    recorder.set_answerer(Answerer::Backend(assignment.ticket.flight.upstream.clone()));

    let upgrade = headers::upgrade(&parts);
    if upgrade.is_some() && !incoming.is_end_stream() {
        return Err(Reason::BadRequest.into());
    }
    headers::to_backend(&mut parts, client, || core.random_id(), upgrade.as_ref())?;
    let upload = upload(incoming, &assignment)?;
    let mut exchange = Sending {
        core,
        parts,
        address,
        secure,
        began_millis: core.now_millis(),
        upload,
        body_timeout: connection.listener.spec.timeouts.body,
        tried: Vec::new(),
        tries: 1,
    };
    let (assignment, conn, response) = exchange.send(assignment, recorder).await?;
    let upgrade = upgrade.map(|protocol| (protocol, on_upgrade));
    answer(connection, &exchange.parts, assignment, conn, response, upgrade)
}

/// # Errors
/// `BodyTooLarge` when the client says so beforehand.
fn upload(
    incoming: Incoming,
    assignment: &Assignment,
) -> Result<Option<Rc<RefCell<Upload>>>, Failure> {
    if incoming.is_end_stream() {
        return Ok(None);
    }
    let policy = &assignment.policy;
    if incoming.size_hint().lower() > policy.limits.body_bytes {
        return Err(Reason::BodyTooLarge.into());
    }
    let keep = policy.retries.buffer as usize;
    Ok(Some(Rc::new(RefCell::new(Upload::new(incoming, keep, policy.limits.body_bytes)))))
}

/// A request on its way to a backend, as often as it takes.
struct Sending<'a> {
    core: &'a Rc<Core>,
    /// As the backend gets them.
    parts: Parts,
    address: IpAddr,
    secure: bool,
    began_millis: u64,
    upload: Option<Rc<RefCell<Upload>>>,
    body_timeout: std::time::Duration,
    /// Slots of the backends that failed.
    tried: Vec<usize>,
    /// The current one included.
    tries: u32,
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
    async fn send(
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
        let now = self.core.now_millis();
        let timeouts = &assignment.policy.timeouts;
        flight.arm(now.saturating_add(millis(timeouts.response)), Reason::ResponseTimeout);
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
        let stats = &upstream.backend.pool.stats;
        stats.record_failure(self.core.index, fault_of(reason), reason);
        let failure = Failure { reason, counted: true };
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
        stats.record_retry(self.core.index);
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

/// Turns a backend's response into the client's.
fn answer(
    connection: &Rc<ClientConnection>,
    request: &Parts,
    assignment: Assignment,
    conn: Conn,
    mut response: Response<Incoming>,
    upgrade: Option<(HeaderValue, OnUpgrade)>,
) -> Result<Answer, Failure> {
    let core = &connection.core;
    let Assignment { ticket, policy, issued, .. } = assignment;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let agreed =
            upgrade.and_then(|(asked, client)| Some((agreed(&asked, response.headers())?, client)));
        let Some((protocol, client)) = agreed else {
            return Err(fail_attempt(core, &ticket.flight.upstream, Reason::BadResponse));
        };
        let backend = hyper::upgrade::on(&mut response);
        let mut headers = std::mem::take(response.headers_mut());
        headers::to_client(&mut headers);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
        let clock = core.live.clock;
        let ends = tunnel::Ends { client, backend, conn, connection: connection.clone() };
        tokio::task::spawn_local(tunnel::run(ends, ticket, clock, policy.timeouts.tunnel_idle));
        return Ok(Answer::Whole(with_head(StatusCode::SWITCHING_PROTOCOLS, headers, None)));
    }
    let (head, incoming) = response.into_parts();
    let mut headers = head.headers;
    headers::to_client(&mut headers);
    if let Some(issued) = issued {
        headers.append(header::SET_COOKIE, issued.cookie);
    }
    if policy.expose_version {
        headers.insert(X_CROSSFADE_VERSION, ticket.flight.upstream.version.clone());
    }
    let flight = ticket.flight.clone();
    if request.method == Method::HEAD || incoming.is_end_stream() {
        if flight.upload_done.get() {
            flight.upstream.park(conn, policy.timeouts.upstream_idle);
        }
        return Ok(Answer::Whole(with_head(head.status, headers, None)));
    }
    ticket.turn(Kind::Stream);
    let stream = StreamBody {
        ticket: Some(ticket),
        recorder: None,
        clock: core.live.clock,
        timeout: policy.timeouts.body,
        awaits_backend: true,
        upstream_idle: policy.timeouts.upstream_idle,
        size: incoming.size_hint(),
    };
    let now = core.now_millis();
    flight.arm(now.saturating_add(millis(policy.timeouts.body)), Reason::IdleTimeout);
    let client = connection.activity.clone();
    flight.exchange.replace(Some(Exchange { incoming, conn, client }));
    Ok(Answer::Streaming(with_head(head.status, headers, Some(stream))))
}

fn with_head(
    status: StatusCode,
    headers: HeaderMap,
    stream: Option<StreamBody>,
) -> Response<ReplyBody> {
    let body = match stream {
        Some(stream) => ReplyBody::Stream(Box::new(stream)),
        None => ReplyBody::Full(None),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// What the backend switches to, if the client asked for all of it (RFC 9110 section 7.8).
fn agreed(asked: &HeaderValue, headers: &HeaderMap) -> Option<HeaderValue> {
    let mut answers = headers.get_all(header::UPGRADE).iter();
    let (answer, None) = (answers.next()?, answers.next()) else { return None };
    let asked = asked.to_str().ok()?;
    let is_asked = |protocol: &str| {
        asked.split(',').any(|known| known.trim().eq_ignore_ascii_case(protocol.trim()))
    };
    answer.to_str().ok()?.split(',').all(is_asked).then(|| answer.clone())
}

fn fail_attempt(core: &Core, upstream: &Upstream, reason: Reason) -> Failure {
    upstream.backend.pool.stats.record_failure(core.index, fault_of(reason), reason);
    Failure { reason, counted: true }
}
