//! The way of a request: decide, send, record.

use super::{
    answer::{Answer, answer},
    body::{ReplyBody, Upload, fault_of},
    connection::ClientConnection,
    decide::{Assignment, Query, decide},
    failure::{self, Failure},
    headers,
    record::{Answerer, Recorder},
    sending::Sending,
};
use crate::live::{Fault, Reason, method_index};
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use std::{cell::RefCell, convert::Infallible, rc::Rc, time::Instant};

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
