//! What hyper makes of the same bytes, as a server and as a client.

use crate::reader::Fields;
use bytes::Bytes;
use futures_util::task::noop_waker_ref;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
    service::service_fn,
};
use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::Future,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

/// Bytes to read, and a place for what is written.
struct Wire {
    bytes: Vec<u8>,
    at: usize,
    /// Nothing is there to be read before this is set.
    begins: Rc<Cell<bool>>,
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.begins.get() {
            return Poll::Pending;
        }
        let length = into.remaining().min(self.bytes.len() - self.at);
        into.put_slice(&self.bytes[self.at..self.at + length]);
        self.at += length;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begins.set(true);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn wire(bytes: &[u8], begins: bool) -> Wire {
    Wire { bytes: bytes.to_vec(), at: 0, begins: Rc::new(Cell::new(begins)) }
}

/// Nothing of this waits for anything but itself. `None`: it does after all.
fn run<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(noop_waker_ref());
    for _ in 0..10_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
    }
    None
}

/// A request that hyper's server has read.
pub(crate) struct Seen {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) fields: Fields,
    /// `None`: its end did not come, or was not good.
    pub(crate) body: Option<Vec<u8>>,
}

/// The requests that hyper's server reads, and whether it refused something.
pub(crate) fn read_requests(bytes: &[u8]) -> (Vec<Seen>, bool) {
    let seen = RefCell::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| {
        let seen = &seen;
        async move {
            let (parts, body) = request.into_parts();
            let place = {
                let mut seen = seen.borrow_mut();
                seen.push(Seen {
                    method: parts.method.as_str().into(),
                    target: parts.uri.to_string().into_bytes(),
                    fields: fields_of(&parts.headers),
                    body: None,
                });
                seen.len() - 1
            };
            if let Ok(body) = body.collect().await {
                seen.borrow_mut()[place].body = Some(body.to_bytes().to_vec());
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let served = run(hyper::server::conn::http1::Builder::new()
        .max_headers(400)
        .half_close(true)
        .serve_connection(wire(bytes, true), service));
    let refused = !matches!(served, Some(Ok(())));
    (seen.into_inner(), refused)
}

/// The response that hyper's client reads as the answer to a request: status, fields, body.
pub(crate) fn read_response(bytes: &[u8], to_head: bool) -> Option<(u16, Fields, Vec<u8>)> {
    run(async {
        let mut client = hyper::client::conn::http1::Builder::new();
        client.max_headers(400);
        let (mut sender, connection) =
            client.handshake::<_, Empty<Bytes>>(wire(bytes, false)).await.ok()?;
        let method = if to_head { "HEAD" } else { "GET" };
        let request = Request::builder().method(method).uri("/").header("host", "a");
        let request = request.body(Empty::new()).ok()?;
        let response = async {
            let response = sender.send_request(request).await.ok()?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.ok()?.to_bytes().to_vec();
            Some((parts.status.as_u16(), fields_of(&parts.headers), body))
        };
        let mut connection = pin!(connection);
        let mut response = pin!(response);
        std::future::poll_fn(|context| {
            let ended = connection.as_mut().poll(context).is_ready();
            match response.as_mut().poll(context) {
                Poll::Pending if !ended => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
                ready => ready,
            }
        })
        .await
    })
    .flatten()
}

fn fields_of(map: &hyper::HeaderMap) -> Fields {
    map.iter().map(|(name, value)| (name.as_str().into(), value.as_bytes().to_vec())).collect()
}
