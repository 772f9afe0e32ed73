//! Asking a backend whether it is well: one request, one connection, the way a client's would go.

mod grpc;

use crate::{
    live::{BackendTls, LiveBackend},
    net::{self, DialError, Stream, proxy_protocol},
    spec::{HealthCheck, PoolProtocol},
};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rand::RngExt;
use rustls_pki_types::ServerName;
use std::{pin::pin, time::Duration};

const USER_AGENT: &str = concat!("crossfade-probe/", env!("CARGO_PKG_VERSION"));

/// The first and the longest pause between attempts to reach an ejected backend.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// One probe, in what the backend speaks. Good is a response head with a status of 200 to 399; the body is not
/// read. Where a service of gRPC is asked after, good is what its protocol calls so.
///
/// # Errors
/// Why it was bad.
pub(super) async fn probe(backend: &LiveBackend, check: &HealthCheck) -> Result<(), String> {
    match tokio::time::timeout(check.timeout, ask(backend, check)).await {
        Ok(Ok(200..=399)) => Ok(()),
        Ok(Ok(status)) => Err(format!("it answered {status}")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("no answer within {:?}", check.timeout)),
    }
}

async fn ask(backend: &LiveBackend, check: &HealthCheck) -> Result<u16, String> {
    let stream =
        dial(backend, check.timeout).await.map_err(|error| format!("no connection: {error}"))?;
    match (&check.grpc, backend.protocol) {
        (Some(service), _) => grpc::ask(stream, &authority(backend), service).await.map(|()| 200),
        (None, PoolProtocol::H1) => ask_http1(stream, &host(backend), check).await,
        (None, PoolProtocol::H2) => ask_http2(stream, &authority(backend), check).await,
    }
}

async fn ask_http1(stream: Stream, host: &str, check: &HealthCheck) -> Result<u16, String> {
    let request = Request::get(&*check.path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| no_request(&error))?;
    let no_http = |error: hyper::Error| format!("no HTTP response: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_http)?;
    let mut connection = pin!(connection);
    let mut response = pin!(sender.send_request(request));
    let response = tokio::select! {
        response = &mut response => response,
        // It tells the response why it ended.
        _ = &mut connection => response.await,
    };
    response.map(|response| response.status().as_u16()).map_err(no_http)
}

async fn ask_http2(stream: Stream, authority: &str, check: &HealthCheck) -> Result<u16, String> {
    let request = Request::get(format!("{authority}{}", check.path))
        .header(header::USER_AGENT, USER_AGENT)
        .body(())
        .map_err(|error| no_request(&error))?;
    exchange(stream, async |sender: SendRequest<Bytes>| {
        let (response, _) = sender.ready().await?.send_request(request, true)?;
        Ok(response.await?.status().as_u16())
    })
    .await
}

/// Asks in HTTP/2, as long as the connection lasts.
async fn exchange<R>(
    stream: Stream,
    ask: impl AsyncFnOnce(SendRequest<Bytes>) -> Result<R, h2::Error>,
) -> Result<R, String> {
    let no_http = |error: h2::Error| format!("no HTTP/2 response: {error}");
    let (sender, connection) = h2::client::handshake(stream).await.map_err(no_http)?;
    let mut connection = pin!(connection);
    let mut answer = pin!(ask(sender));
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    };
    answer.map_err(no_http)
}

fn no_request(error: &http::Error) -> String {
    format!("the request cannot be made: {error}")
}

/// The name that the backend proves, where that is told apart from its address: what it is asked for by TLS
/// and by HTTP belongs together.
fn host(backend: &LiveBackend) -> String {
    match backend.tls().0.as_deref() {
        Some(BackendTls { name: ServerName::DnsName(name), .. }) => name.as_ref().to_owned(),
        _ => backend.address.authority().to_string(),
    }
}

/// The same with its scheme, as HTTP/2 asks for it.
fn authority(backend: &LiveBackend) -> String {
    let scheme = if backend.tls().0.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", host(backend))
}

async fn dial(backend: &LiveBackend, timeout: Duration) -> Result<Stream, DialError> {
    let first = backend.announces().map(proxy_protocol::of_its_own).unwrap_or_default();
    let tls = backend.tls().0.map(|tls| (tls.config.clone(), tls.name.clone()));
    net::dial(&backend.address, &first, tls, timeout).await
}

/// Returns when a connection to the backend can be opened again.
pub(super) async fn reconnect(backend: &LiveBackend, timeout: Duration) {
    let (mut pause, longest) = RECONNECT;
    loop {
        tokio::time::sleep(jittered(pause)).await;
        if dial(backend, timeout).await.is_ok() {
            return;
        }
        pause = (pause * 2).min(longest);
    }
}

/// `duration` give or take a tenth, so that what began together does not go on together.
pub(super) fn jittered(duration: Duration) -> Duration {
    scaled(duration, rand::rng().random_range(0.9..1.1))
}

/// A random part of `duration`.
pub(super) fn part_of(duration: Duration) -> Duration {
    scaled(duration, rand::rng().random_range(0.0..1.0))
}

fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(duration)
}
