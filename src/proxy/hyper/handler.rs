//! The way of a request through this engine: decide, send, record.

use super::{
    super::{
        connection::ClientConnection,
        decide::{Assignment, Query, Refusal, decide},
        failure::{Failure, Reply},
        fields::Lines,
        grpc,
        head::{Facts, Head, Version},
        headers::Changes,
        http2::Interim,
        mirror::{Copying, Original},
        note::{self, Note, note_refused, note_unreadable},
        queue::Turn,
        record::{Answerer, Recorder},
        tries::Tries,
    },
    activity::Active,
    answer::{Answer, answer},
    body::{ArrivingBody, ReplyBody, Upload},
    sending::Sending,
    serve::Served,
    tunnel::{ClientEnd, Place},
};
use crate::live::{Moment, Reason, method_index};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use std::{cell::RefCell, rc::Rc};

/// What is to be recorded of a request, and the request of the connection that it was.
pub(super) type Record = (Recorder, Active);

/// Answers a request, whatever happens, and sees to it that it is recorded once. A tunnel that is agreed on is left
/// at its `place`; without one hyper has the client's end of it.
pub(in crate::proxy) async fn handle(
    served: Rc<Served>,
    // Boxed, as it would take its place in each that it is handed to.
    request: Box<Request<ArrivingBody>>,
    interim: Option<Interim>,
    place: Option<Place>,
) -> Response<ReplyBody> {
    served.head_read();
    let connection = &served.connection;
    let core = &connection.core;
    let method = method_index(request.method().as_str().as_bytes());
    let is_h1 = request.version() <= http::Version::HTTP_11;
    let is_call = grpc::is_call(request.headers());
    let active = Active::begin(&served.activity, core.live.clock);
    let mut recorder = Recorder::new(core.clone(), method, core.live.clock.now());
    let mut response = match forward(&served, request, interim, place, &mut recorder).await {
        Ok(answer) => answer.into_response((recorder, active)),
        Err(Reply::Failure(failure)) if is_call => refuse_call(failure, recorder),
        Err(reply) => respond(&reply, recorder, is_h1),
    };
    if connection.is_leaving() && is_h1 && !is_switching(&response) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn is_switching(response: &Response<ReplyBody>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// Answers a request that is refused whatever it is for.
pub(in crate::proxy) fn refuse(
    served: &Served,
    method: &Method,
    reason: Reason,
) -> Response<ReplyBody> {
    served.head_read();
    respond(&reason.into(), unread(served, method), false)
}

/// Counts a request that is not even answered.
pub(in crate::proxy) fn turned_away(served: &Served, method: &Method, reason: Reason) {
    served.head_read();
    let mut recorder = unread(served, method);
    recorder.reply(&reason.into());
    recorder.finish();
}

/// The record of a request of which nothing but its method is to be believed.
fn unread(served: &Served, method: &Method) -> Recorder {
    let core = &served.connection.core;
    let index = method_index(method.as_str().as_bytes());
    let mut recorder = Recorder::new(core.clone(), index, core.live.clock.now());
    note_unreadable(&served.connection, Some(method.as_str()), &mut recorder);
    recorder
}

/// Trailers alone: whoever makes calls looks for their status, and takes HTTP's for the transport's.
fn refuse_call(failure: Failure, mut recorder: Recorder) -> Response<ReplyBody> {
    recorder.reply(&failure.into());
    recorder.finish();
    let mut response = Response::new(ReplyBody::Full(None));
    grpc::fields(failure.reason, response.headers_mut());
    response
}

fn respond(reply: &Reply, mut recorder: Recorder, is_h1: bool) -> Response<ReplyBody> {
    let page = reply.page();
    recorder.note_bytes_out(page.len() as u64);
    recorder.reply(reply);
    recorder.finish();
    let mut response = Response::new(ReplyBody::Full(Some(Bytes::from(page))));
    *response.status_mut() =
        StatusCode::from_u16(reply.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.fields(response.headers_mut());
    if reply.muddles() && is_h1 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A request's head as the decision sees it.
pub(super) fn head(parts: &Parts) -> Head<'_, HeaderMap> {
    Head {
        method: parts.method.as_str(),
        version: match parts.version {
            http::Version::HTTP_2 => Version::Http2,
            http::Version::HTTP_11 => Version::Http11,
            _ => Version::Http10,
        },
        authority: parts.uri.authority().map(|authority| authority.as_str()),
        path: match parts.uri.path() {
            // RFC 9112 section 3.2.1.
            "" => "/",
            path => path,
        },
        query: parts.uri.query(),
        lines: &parts.headers,
    }
}

async fn forward(
    served: &Rc<Served>,
    mut request: Box<Request<ArrivingBody>>,
    interim: Option<Interim>,
    place: Option<Place>,
    recorder: &mut Recorder,
) -> Result<Answer, Reply> {
    let connection = &served.connection;
    let client = match place {
        Some(place) => ClientEnd::Http2(place),
        None => ClientEnd::Hyper(hyper::upgrade::on(&mut *request)),
    };
    let (parts, incoming) = request.into_parts();
    let decided = match judge(connection, (&parts, &incoming), recorder).await {
        Ok(decided) => decided,
        Err(reply) => {
            note_refused(connection, Some(&head(&parts)), recorder);
            return Err(reply);
        }
    };
    let upgrade = decided.facts.upgrades.then_some(client);
    Ok(send(served, (&parts, incoming), decided, interim, upgrade, recorder).await?)
}

/// # Errors
/// With what it is answered instead.
async fn judge(
    connection: &ClientConnection,
    (parts, incoming): (&Parts, &ArrivingBody),
    recorder: &mut Recorder,
) -> Result<Decided, Reply> {
    let core = &connection.core;
    let head = head(parts);
    let (mut facts, host) = Facts::of(&head)?;
    if let Some(reply) = connection.steps_in(&head, host.as_ref()) {
        return Err(reply);
    }
    if parts.headers.len() > connection.listener.spec.limits.header_count as usize {
        return Err(Reason::HeadersTooLarge.into());
    }
    let now = core.live.clock.now();
    let query = Query::new(connection, &head, &facts, host, now);
    let tries = Tries::new(head.method);
    let (assignment, at) = admit(query, recorder).await?;
    recorder.set_answerer(Answerer::Backend(assignment.ticket.flight.upstream.clone()));
    if facts.upgrades && !incoming.is_end_stream() {
        return Err(Reason::BadRequest.into());
    }
    let request_id = core.random_id();
    let mut copying = None;
    if assignment.policy.is_attended {
        let (head, request_id, assignment) = (&head, request_id.as_bytes(), &assignment);
        note::Decided { connection, head, request_id, assignment, at }.note(&mut facts, recorder);
        copying = assignment.policy.mirror.as_ref().and_then(|mirror| {
            let (facts, note) = (&facts, recorder.note());
            let original = Original { connection, head, facts, request_id, assignment, note };
            original.mirror(mirror, !incoming.is_end_stream()).map(Box::new)
        });
    }
    Ok(Decided { facts, assignment, tries, request_id, began_millis: now.millis(), copying })
}

/// A request that was judged, and for which it was decided.
pub(in crate::proxy) struct Decided {
    pub(in crate::proxy) facts: Facts,
    pub(in crate::proxy) assignment: Assignment,
    pub(in crate::proxy) tries: Tries,
    /// For a request that has none.
    pub(in crate::proxy) request_id: HeaderValue,
    pub(in crate::proxy) began_millis: u64,
    /// Takes the body too.
    pub(in crate::proxy) copying: Option<Box<Copying>>,
}

/// Answers a request that another engine has read and decided; the record is that of the response. A tunnel that is
/// agreed on is left at its `place`.
///
/// # Errors
/// With what the client is told, and what is to be recorded then.
pub(in crate::proxy) async fn answer_decided(
    connection: Rc<ClientConnection>,
    request: Request<ArrivingBody>,
    decided: Decided,
    interim: Interim,
    place: Place,
    mut recorder: Recorder,
) -> Result<Response<ReplyBody>, (Failure, Recorder)> {
    let served = Served::new(connection);
    let active = Active::begin(&served.activity, served.connection.core.live.clock);
    let (parts, body) = request.into_parts();
    let upgrade = decided.facts.upgrades.then_some(ClientEnd::Http1(place));
    let sent = send(&served, (&parts, body), decided, Some(interim), upgrade, &mut recorder).await;
    match sent {
        Ok(answer) => Ok(answer.into_response((recorder, active))),
        Err(failure) => Err((failure, recorder)),
    }
}

async fn send(
    served: &Rc<Served>,
    (parts, incoming): (&Parts, ArrivingBody),
    decided: Decided,
    interim: Option<Interim>,
    upgrade: Option<ClientEnd>,
    recorder: &mut Recorder,
) -> Result<Answer, Failure> {
    let Decided { facts, assignment, tries, request_id, began_millis, copying } = decided;
    let connection = &served.connection;
    let mut sending = Sending {
        connection,
        tries,
        head: &head(parts),
        parts,
        facts: &facts,
        request_id,
        began_millis,
        client_waits: grpc::timeout(&parts.headers),
        upload: upload(incoming, &facts, &assignment, (copying, recorder.note().cloned()))?,
        interim,
        body_timeout: connection.listener.spec.timeouts.body,
    };
    let answered = sending.send(assignment, recorder).await?;
    answer(served, parts, answered, upgrade)
}

/// Decides, as often as it has to wait for its turn; says when that was.
async fn admit<L: Lines>(
    mut query: Query<'_, L>,
    recorder: &mut Recorder,
) -> Result<(Assignment, Moment), Reply> {
    let mut turn = Turn::First;
    loop {
        match decide(&query, turn) {
            Ok(assignment) => return Ok((assignment, query.now)),
            Err(Refusal::Waits(waiting)) => {
                note_refused(query.connection, Some(query.head), recorder);
                turn = waiting.turn().await;
            }
            Err(refusal) => return Err(recorder.note_refusal(refusal)),
        }
        query.now = query.connection.core.live.clock.now();
    }
}

/// # Errors
/// `BodyTooLarge` when the client says so beforehand.
fn upload(
    incoming: ArrivingBody,
    facts: &Facts,
    assignment: &Assignment,
    (copying, note): (Option<Box<Copying>>, Option<Note>),
) -> Result<Option<Rc<RefCell<Upload>>>, Failure> {
    if incoming.is_end_stream() {
        return Ok(None);
    }
    let policy = &assignment.policy;
    if incoming.size_hint().lower() > policy.limits.body_bytes {
        return Err(Reason::BodyTooLarge.into());
    }
    let changes = Changes::of(policy, assignment.withheld.as_deref());
    // `Connection` may name trailers too (RFC 9110 section 7.6.1), and what stays behind or is set by the route
    // must not come in by them.
    let trailers = !facts.names_fields && !changes.edit_fields();
    let keep = policy.retries.buffer as usize;
    let upload = Upload::new(incoming, trailers, keep, policy.limits.body_bytes, (copying, note));
    Ok(Some(Rc::new(RefCell::new(upload))))
}
