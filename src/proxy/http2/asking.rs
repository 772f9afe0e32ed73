//! A request to a backend that speaks HTTP/2.

use super::{
    body::Received,
    outflow::{Outflow, Stop},
    stream::Interim,
    upstream::Lease,
};
use crate::{live::Reason, proxy::hyper::UpstreamBody};
use bytes::Bytes;
use h2::{Reason as Code, SendStream, client::ResponseFuture};
use http::{
    Method, Request, Response, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;
use std::{future::poll_fn, pin::pin, task::Poll};
use tokio::task::{JoinHandle, spawn_local};

/// More interim responses than any backend has to send before it answers.
const MOST_INTERIM: usize = 16;

/// A request that was sent. Dropping it takes it back, if it is not answered whole.
pub(in crate::proxy) struct Sent {
    _lease: Lease,
    _upload: Option<Uploading>,
    /// The way to the backend, if what was asked for is a tunnel.
    tunnel: Option<SendStream<Bytes>>,
}

impl Sent {
    pub(in crate::proxy) fn has_tunnel(&self) -> bool {
        self.tunnel.is_some()
    }

    pub(in crate::proxy) fn take_tunnel(&mut self) -> Option<SendStream<Bytes>> {
        self.tunnel.take()
    }
}

/// What sends the body; without this it would go on after its response has ended.
struct Uploading(JoinHandle<()>);

impl Drop for Uploading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why there is no response.
pub(in crate::proxy) enum Unanswered {
    /// Nothing of it has come. Not `written`: the backend has not acted on the request, and says so.
    Silent {
        written: bool,
    },
    Failed(Reason),
}

/// Makes a request of HTTP/1 one of HTTP/2 (RFC 9113 section 8.2.2). `authority` is the backend's, for a
/// request without a host; `scheme` is that of the connection.
pub(in crate::proxy) fn translate<B>(request: &mut Request<B>, scheme: Scheme, authority: &str) {
    let fields = request.headers_mut();
    for name in [header::CONNECTION, header::UPGRADE] {
        fields.remove(name);
    }
    let host = fields.remove(header::HOST);
    let authority = host
        .and_then(|host| Authority::try_from(host.as_bytes()).ok())
        .or_else(|| authority.parse().ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(scheme);
    parts.authority = authority;
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    // Each part is there and was a part of a target before.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
}

/// Sends a request and waits for the head of its response.
///
/// # Errors
/// When there is none.
pub(in crate::proxy) async fn send(
    lease: Lease,
    request: Request<UpstreamBody>,
    interim: Option<&Interim>,
) -> Result<(Sent, Response<Received>), Unanswered> {
    let unsent = |_| Unanswered::Silent { written: false };
    let mut sender = lease.session.sender.clone();
    poll_fn(|cx| sender.poll_ready(cx)).await.map_err(unsent)?;
    let (head, body) = request.into_parts();
    let is_tunnel = head.method == Method::CONNECT;
    let is_end = body.is_end_stream() && !is_tunnel;
    let request = Request::from_parts(head, ());
    let (response, stream) = sender.send_request(request, is_end).map_err(unsent)?;
    let (upload, tunnel) = match is_tunnel {
        true => (None, Some(stream)),
        false => ((!is_end).then(|| Uploading(spawn_local(upload(stream, body)))), None),
    };
    let response = answer(response, interim).await?;
    let (head, body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // RFC 9113 section 8.6.
        return Err(Unanswered::Failed(Reason::BadResponse));
    }
    let body = Received::new(body, &head.headers);
    let sent = Sent { _lease: lease, _upload: upload, tunnel };
    Ok((sent, Response::from_parts(head, body)))
}

async fn answer(
    mut response: ResponseFuture,
    interim: Option<&Interim>,
) -> Result<Response<h2::RecvStream>, Unanswered> {
    let mut count = 0;
    poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(announced))) = response.poll_informational(cx) {
            count += 1;
            if count > MOST_INTERIM || announced.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(Unanswered::Failed(Reason::BadResponse)));
            }
            if let Some(interim) = interim {
                interim.pass(announced.status(), announced.headers());
            }
        }
        pin!(&mut response).poll(cx).map_err(|error| unanswered(&error))
    })
    .await
}

/// RFC 9113 sections 6.8 and 8.7: what was refused, or stood above the last stream of a GOAWAY, was not acted on.
fn unanswered(error: &h2::Error) -> Unanswered {
    if error.is_remote() && error.is_go_away()
        || error.is_remote() && error.reason() == Some(Code::REFUSED_STREAM)
    {
        Unanswered::Silent { written: false }
    } else if error.is_remote() {
        Unanswered::Failed(Reason::UpstreamReset)
    } else if error.is_io() {
        Unanswered::Silent { written: true }
    } else {
        // The library does not take what the backend says.
        Unanswered::Failed(Reason::BadResponse)
    }
}

async fn upload(stream: SendStream<Bytes>, body: UpstreamBody) {
    let mut outflow = Outflow::new(stream, body, None);
    // A verdict takes all of the request with it.
    let sent = poll_fn(|cx| outflow.poll(cx, |_, _| Poll::Pending)).await;
    if let Err(Stop::Broken(_)) = sent {
        outflow.stream.send_reset(Code::CANCEL);
    }
}
