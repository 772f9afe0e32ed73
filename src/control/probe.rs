//! Asking a backend whether it is well: one request, one connection, the way a client's would go.

use crate::{
    live::{BackendTls, LiveBackend},
    net::{self, DialError, Stream, proxy_protocol},
    spec::HealthCheck,
};
use bytes::Bytes;
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

/// One probe. Good is a response head with a status of 200 to 399; the body is not read.
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
    let request = Request::get(&*check.path)
        .header(header::HOST, host(backend))
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("the request cannot be made: {error}"))?;
    let stream =
        dial(backend, check.timeout).await.map_err(|error| format!("no connection: {error}"))?;
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

/// The name that the backend proves, where that is told apart from its address: what it is asked for by TLS
/// and by HTTP belongs together.
fn host(backend: &LiveBackend) -> String {
    match backend.tls().0.as_deref() {
        Some(BackendTls { name: ServerName::DnsName(name), .. }) => name.as_ref().to_owned(),
        _ => backend.address.authority().to_string(),
    }
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
