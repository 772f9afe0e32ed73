//! A backend's response as the client gets it.

use super::{
    body::{ReplyBody, StreamBody},
    connection::ClientConnection,
    decide::Assignment,
    failure::Failure,
    flight::Exchange,
    headers::{self, X_CROSSFADE_VERSION},
    record::Recorder,
    tunnel,
    upstream::Conn,
};
use crate::live::{Kind, Reason};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body::Body;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::rc::Rc;

/// A backend's answer.
pub(super) enum Answer {
    /// Everything that there is has been handed over.
    Whole(Response<ReplyBody>),
    Streaming(Response<ReplyBody>),
}

impl Answer {
    pub(super) fn into_response(self, mut recorder: Recorder) -> Response<ReplyBody> {
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

/// Turns a backend's response into the client's.
///
/// # Errors
/// `BadResponse` when it switches to what the client did not ask for.
pub(super) fn answer(
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
            let upstream = &ticket.flight.upstream;
            return Err(Failure::of_attempt(core, upstream, Reason::BadResponse));
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
    flight.arm(core.live.clock, policy.timeouts.body, Reason::IdleTimeout);
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
