//! The way of a request through this engine: decide, send, record.

use super::{
    super::{
        core::Core,
        decide::{Assignment, Query, Refusal, decide},
        failure::{Failure, Reply},
        fields::Lines,
        head::{Facts, Head, Version},
        queue::Turn,
        record::{Answerer, Recorder},
        tries::Tries,
    },
    activity::Active,
    answer::{Answer, answer},
    body::{ReplyBody, Upload},
    sending::Sending,
    serve::Served,
};
use crate::live::{Reason, method_index};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;
use hyper::body::Incoming;
use std::{cell::RefCell, convert::Infallible, rc::Rc};

/// What is to be recorded of a request, and the request of the connection that it was.
pub(super) type Record = (Recorder, Active);

/// Answers a request, whatever happens, and sees to it that it is recorded once.
pub(super) async fn handle(
    served: Rc<Served>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Infallible> {
    served.head_read();
    let connection = &served.connection;
    let core = &connection.core;
    let method = method_index(request.method().as_str().as_bytes());
    let is_h1 = request.version() <= http::Version::HTTP_11;
    let active = Active::begin(&served.activity, core.live.clock);
    let mut recorder = Recorder::new(core.clone(), method, core.live.clock.now());
    let mut response = match forward(&served, request, &mut recorder).await {
        Ok(answer) => answer.into_response((recorder, active)),
        Err(reply) => refuse(&reply, recorder, is_h1),
    };
    if connection.is_leaving() && is_h1 && !is_switching(&response) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

fn is_switching(response: &Response<ReplyBody>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}

fn refuse(reply: &Reply, mut recorder: Recorder, is_h1: bool) -> Response<ReplyBody> {
    recorder.reply(reply);
    recorder.finish();
    let mut response = Response::new(ReplyBody::Full(Some(Bytes::from(reply.page()))));
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
        path: parts.uri.path(),
        query: parts.uri.query(),
        lines: &parts.headers,
    }
}

async fn forward(
    served: &Rc<Served>,
    mut request: Request<Incoming>,
    recorder: &mut Recorder,
) -> Result<Answer, Reply> {
    let connection = &served.connection;
    let core = &connection.core;
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (parts, incoming) = request.into_parts();
    let head = head(&parts);
    let (facts, host) = Facts::of(&head)?;
    if let Some(reply) = connection.turns_away(&head, host.as_ref()) {
        return Err(reply);
    }
    if parts.headers.len() > connection.listener.spec.limits.header_count as usize {
        return Err(Reason::HeadersTooLarge.into());
    }
    let client = &connection.client;
    let address = client.address(&parts.headers, &connection.listener.spec);
    let secure = client.is_secure(&parts.headers);
    let now = core.now_millis();
    let query = Query {
        connection,
        head: &head,
        facts: &facts,
        host,
        client: address,
        secure,
        now,
        earlier: None,
    };
    let assignment = admit(core, query, recorder).await?;
    recorder.set_answerer(Answerer::Backend(assignment.ticket.flight.upstream.clone()));
    if facts.upgrades && !incoming.is_end_stream() {
        return Err(Reason::BadRequest.into());
    }
    let upload = upload(incoming, &assignment)?;
    let mut sending = Sending {
        connection,
        tries: Tries::new(address, secure, head.method),
        head: &head,
        parts: &parts,
        facts: &facts,
        request_id: core.random_id(),
        began_millis: now,
        upload,
        body_timeout: connection.listener.spec.timeouts.body,
    };
    let answered = sending.send(assignment, recorder).await?;
    let upgrade = if facts.upgrades { parts.headers.get(header::UPGRADE).cloned() } else { None };
    let upgrade = upgrade.map(|protocol| (protocol, on_upgrade));
    Ok(answer(served, &parts.method, answered, sending.upload.take(), upgrade)?)
}

/// Decides, as often as it has to wait for its turn.
async fn admit<L: Lines>(
    core: &Rc<Core>,
    mut query: Query<'_, L>,
    recorder: &mut Recorder,
) -> Result<Assignment, Reply> {
    let mut turn = Turn::First;
    loop {
        match decide(core, &query, turn) {
            Ok(assignment) => return Ok(assignment),
            Err(Refusal::Waits(waiting)) => turn = waiting.turn().await,
            Err(refusal) => return Err(recorder.note_refusal(refusal)),
        }
        query.now = core.now_millis();
    }
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
