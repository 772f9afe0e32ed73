//! A backend's response as the client gets it.

use super::{
    super::{
        decide::Assignment,
        failure::Failure,
        fields::connection_options,
        framing::Framing,
        grpc,
        headers::{self, Declared, Marks},
    },
    body::{Exchange, Passing, ReplyBody, StreamBody},
    handler::Record,
    sending::Answered,
    serve::Served,
    switch::{Switch, bad_response},
    tunnel::ClientEnd,
};
use crate::live::{Fault, Kind, Reason};
use http::{HeaderMap, Method, Response, StatusCode, header, request::Parts};
use std::rc::Rc;

/// A backend's answer.
pub(super) enum Answer {
    /// Everything that there is has been handed over; it says that a call has failed, or not.
    Whole(Response<ReplyBody>, CallFailed),
    Streaming(Response<ReplyBody>),
}

impl Answer {
    pub(super) fn into_response(self, mut record: Record) -> Response<ReplyBody> {
        match self {
            Self::Whole(response, CallFailed(failed)) => {
                record.0.set_code(response.status().as_u16());
                if failed {
                    record.0.fail(Fault::Upstream, Reason::GrpcStatus);
                }
                record.0.finish();
                response
            }
            Self::Streaming(mut response) => {
                record.0.set_code(response.status().as_u16());
                if let ReplyBody::Stream(stream) = response.body_mut() {
                    stream.record = Some(record);
                }
                response
            }
        }
    }
}

pub(super) struct CallFailed(pub(super) bool);

/// Turns a backend's response into the client's.
///
/// # Errors
/// `BadResponse` when it switches protocols and nobody is there to do so.
pub(super) fn answer(
    served: &Rc<Served>,
    asked: &Parts,
    answered: Answered,
    upgrade: Option<ClientEnd>,
) -> Result<Answer, Failure> {
    let Answered { assignment, link, response } = answered;
    let connection = &served.connection;
    let core = &connection.core;
    let status = response.status();
    if link.has_switched(status)
        && let Some(client) = upgrade
    {
        return Switch { asked, client }.agree(connection, assignment, link, response);
    }
    // To a client of HTTP/2 success would mean that there is a tunnel (RFC 9110 section 9.3.6).
    let means_tunnel = matches!(upgrade, Some(ClientEnd::Http2(_))) && status.is_success();
    if link.has_switched(status) || means_tunnel {
        return Err(bad_response(connection, &assignment));
    }
    let Assignment { ticket, policy, issued, .. } = assignment;
    let (head, incoming) = response.into_parts();
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 1);
    let marks = Marks {
        edits: policy.response.as_ref(),
        cookie: issued.as_ref().map(|issued| &issued.cookie),
        version: policy.expose_version.then_some(&ticket.flight.upstream.version),
    };
    // RFC 9110 section 8.6: not with 204.
    let declared = length(&head.headers).filter(|_| head.status != StatusCode::NO_CONTENT);
    headers::to_client(&head.headers, declared, &marks, &mut headers);
    let flight = ticket.flight.clone();
    // Another status of HTTP says enough.
    let is_call = head.status == StatusCode::OK && grpc::is_call(&asked.headers);
    if asked.method == Method::HEAD || incoming.is_end_stream() {
        link.park(&flight.upstream, core.live.clock.now(), policy.timeouts.upstream_idle);
        let failed = is_call && grpc::has_failed(Some(&head.headers));
        if is_call {
            flight.call_ended(grpc::is_error(Some(&head.headers)));
        }
        let response = with_head(head.status, headers, None);
        return Ok(Answer::Whole(response, CallFailed(failed)));
    }
    ticket.turn(Kind::Stream);
    let size = incoming.size_hint();
    flight.arm(core.live.clock, policy.timeouts.body, Reason::IdleTimeout);
    let exchange = Exchange { incoming, link };
    let stream = StreamBody {
        passing: Passing::start(exchange, &flight, served.activity.clone()),
        ticket: Some(ticket),
        record: None,
        awaits_status: is_call,
        trailers: !names_fields(&head.headers),
        clock: core.live.clock,
        timeout: policy.timeouts.body,
        awaits_backend: false,
        upstream_idle: policy.timeouts.upstream_idle,
        size,
        passed: 0,
    };
    Ok(Answer::Streaming(with_head(head.status, headers, Some(stream))))
}

/// `Connection` names fields of its own, which may come as trailers too (RFC 9110 section 7.6.1).
fn names_fields(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter();
    lines.flat_map(|line| connection_options(line.as_bytes())).any(|option| {
        !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive")
    })
}

/// `Content-Length`, which was judged.
fn length(headers: &HeaderMap) -> Option<Declared> {
    let mut framing = Framing::default();
    for length in headers.get_all(header::CONTENT_LENGTH) {
        framing.content_length(length.as_bytes());
    }
    Declared::of(&framing)
}

pub(super) fn with_head(
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
