//! One request of an HTTP/2 connection and its answer.

use super::{
    body::Received,
    connect, guard,
    heads::Held,
    outflow::{Brake, Outflow, Stop},
};
use crate::{
    live::Reason,
    proxy::{
        headers::{Marks, to_client},
        hyper::{Agreed, ArrivingBody, Place, ReplyBody, Served, handle, refuse, run_tunnel},
    },
};
use bytes::Bytes;
use h2::{Reason as Code, RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use std::{
    cell::RefCell,
    future::{poll_fn, ready},
    rc::Rc,
    task::Poll,
};

/// Takes interim responses (RFC 9110 section 15.2) to a client.
#[derive(Clone)]
pub(in crate::proxy) enum Interim {
    /// The native engine writes them.
    Http1(Rc<RefCell<Vec<(StatusCode, HeaderMap)>>>),
    Http2(Rc<RefCell<SendResponse<Bytes>>>),
}

impl Interim {
    pub(in crate::proxy) fn pass(&self, status: StatusCode, fields: &HeaderMap) {
        match self {
            Self::Http1(announced) => announced.borrow_mut().push((status, fields.clone())),
            Self::Http2(respond) => {
                let mut response = Response::new(());
                *response.status_mut() = status;
                to_client(fields, None, &Marks::default(), response.headers_mut());
                // A client that is gone needs none.
                let _ = respond.borrow_mut().send_informational(response);
            }
        }
    }
}

/// Answers a request, unless the client takes it back: then all that was done for it is let go at once.
pub(super) async fn serve(
    served: Rc<Served>,
    (request, held): (Box<Request<RecvStream>>, Held),
    fault: Option<Reason>,
    respond: SendResponse<Bytes>,
) {
    let respond = Rc::new(RefCell::new(respond));
    let core = &served.connection.core;
    let is_head = request.method() == Method::HEAD;
    let tunnel = Opening::default();
    let answer = async {
        let _held = held;
        if let Some(reason) = fault {
            return refuse(&served, request.method(), reason);
        }
        let mut request = request;
        let asks_for_tunnel = match connect::as_upgrade(&mut request, || core.nonce()) {
            Ok(asks) => asks,
            Err(reason) => return refuse(&served, request.method(), reason),
        };
        let place = asks_for_tunnel.then(|| tunnel.place.clone());
        let request = Box::new(tunnel.arriving(*request, asks_for_tunnel));
        let interim = Some(Interim::Http2(respond.clone()));
        handle(served.clone(), request, interim, place).await
    };
    // Boxed, as what it holds is let go before the body flows, which may take long.
    let mut answer = Box::pin(answer);
    let answered = poll_fn(|cx| {
        if respond.borrow_mut().poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        answer.as_mut().poll(cx).map(Some)
    });
    let answered = answered.await;
    drop(answer);
    if let Some(mut response) = answered {
        let mut line = Vec::with_capacity(40);
        core.desk.add_date(core.now_millis(), &mut line);
        date(response.headers_mut(), &line);
        match tunnel.place.take() {
            Some(agreed) => tunnel.open(&served, &respond, response, agreed).await,
            None => deliver(&served, &respond, response, is_head).await,
        }
    }
}

/// The client's part of a tunnel that is asked for.
#[derive(Default)]
struct Opening {
    place: Place,
    client: RefCell<Option<Received>>,
}

impl Opening {
    /// The request as it is handled: what comes behind one that asks for a tunnel is none of its body.
    fn arriving(&self, request: Request<RecvStream>, asks: bool) -> Request<ArrivingBody> {
        let (head, body) = request.into_parts();
        let body = Received::new(body, &head.headers);
        let body = if asks {
            self.client.replace(Some(body));
            ArrivingBody::None
        } else {
            ArrivingBody::Http2(body)
        };
        Request::from_parts(head, body)
    }

    /// Says that it is open, and keeps it so.
    async fn open(
        &self,
        served: &Rc<Served>,
        respond: &RefCell<SendResponse<Bytes>>,
        response: Response<ReplyBody>,
        agreed: Box<Agreed>,
    ) {
        let sent = respond.borrow_mut().send_response(response.map(drop), false);
        let (Ok(send), Some(received)) = (sent, self.client.take()) else { return };
        let _active = served.active();
        let client = ready(Some(received.with(send)));
        // Boxed: every stream would have to have room for it.
        Box::pin(run_tunnel(served.connection.clone(), *agreed, client)).await;
    }
}

/// What the guard has found wrong with a request, of which it has let nothing else through.
pub(super) fn fault<B>(request: &Request<B>) -> Option<Reason> {
    match request.uri().path() {
        guard::MALFORMED | guard::ODD => Some(Reason::BadRequest),
        guard::TOO_LARGE => Some(Reason::HeadersTooLarge),
        _ => None,
    }
}

/// The size of its fields.
pub(super) fn head_size<B>(request: &Request<B>) -> usize {
    let fields = request.headers();
    // RFC 9113 section 6.5.2: 32 bytes for each beside its name and value.
    let size = |name: usize, value: usize| name + value + 32;
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let authority = request.uri().authority().map_or(0, |authority| authority.as_str().len());
    let pseudo = size(7, request.method().as_str().len()) + size(5, target) + size(10, authority);
    let regular: usize =
        fields.iter().map(|(name, value)| size(name.as_str().len(), value.len())).sum();
    pseudo + regular
}

/// RFC 9110 section 6.6.1, where the backend has said nothing.
fn date(headers: &mut HeaderMap, line: &[u8]) {
    let value = line.strip_prefix(b"date: ").and_then(|value| value.strip_suffix(b"\r\n"));
    if let Some(Ok(value)) = value.map(HeaderValue::from_bytes)
        && !headers.contains_key(header::DATE)
    {
        headers.insert(header::DATE, value);
    }
}

async fn deliver(
    served: &Served,
    respond: &RefCell<SendResponse<Bytes>>,
    response: Response<ReplyBody>,
    is_head: bool,
) {
    let (mut head, body) = response.into_parts();
    if let ReplyBody::Full(Some(page)) = &body {
        head.headers.insert(header::CONTENT_LENGTH, page.len().into());
    }
    let is_end = body.is_end_stream() || (is_head && matches!(body, ReplyBody::Full(_)));
    let head = Response::from_parts(head, ());
    let sent = respond.borrow_mut().send_response(head, is_end);
    // A client that is gone has no use for the rest.
    let Ok(stream) = sent else { return };
    if !is_end {
        let core = &served.connection.core;
        let brake = served.watch().map(|watch| Brake::new(watch.clone(), core.clone()));
        let mut outflow = Outflow::new(stream, body, brake);
        let ended = poll_fn(|cx| outflow.poll(cx, ReplyBody::poll_verdict)).await;
        if let Err(Stop::Broken(error)) = ended {
            // The client must see that the rest is missing.
            outflow.stream.send_reset(match error.0 {
                Reason::IdleTimeout | Reason::RequestDeadline | Reason::Draining => Code::CANCEL,
                _ => Code::INTERNAL_ERROR,
            });
        }
    }
}
