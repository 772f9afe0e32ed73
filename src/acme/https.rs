//! The way to who issues certificates: HTTP/1.1 over TLS, a connection for each request (an order takes about ten).

use crate::{
    net,
    spec::{Acme, BackendAddress, PoolProtocol, PoolTls},
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::{
    net::IpAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

/// For one request and its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// To open a connection.
const TO_CONNECT: Duration = Duration::from_secs(10);

/// A certificate with its chain is a tenth of it.
const LONGEST_ANSWER: usize = 1 << 20;

/// Who orders certificates waits no longer in an order, whatever it is told.
const LONGEST_WAIT: u64 = 24 * 3600;

#[derive(Clone)]
pub(super) struct Https {
    tls: Arc<ClientConfig>,
    /// Seconds that the last refusal has asked to wait; 0: none.
    asked: Arc<AtomicU64>,
}

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>>;

impl HttpClient for Https {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        let client = self.clone();
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let answer = timeout(PATIENCE, client.ask(request)).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
            match answer {
                Ok(response) => Ok(response.into()),
                Err(why) => Err(Error::Other(format!("{host}: {why}").into())),
            }
        })
    }
}

impl Https {
    /// # Errors
    /// When nobody is trusted: the system has no authorities.
    pub(super) fn new(acme: &Acme) -> Result<Self, rustls::Error> {
        let tls = PoolTls { ca: acme.ca.clone(), ..PoolTls::default() };
        let tls = net::client_config(&tls, PoolProtocol::H1)?;
        Ok(Self { tls: Arc::new(tls), asked: Arc::default() })
    }

    /// What the last refusal asked to wait.
    pub(super) fn asked(&self) -> Option<Duration> {
        let seconds = self.asked.swap(0, Ordering::Relaxed);
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    async fn ask(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, String> {
        let (address, name) = place(request.uri())?;
        let host = request.uri().authority().map(|it| HeaderValue::from_str(it.as_str()));
        let host = host.and_then(Result::ok).ok_or("the URL names no host")?;
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        *request.uri_mut() = target.parse().map_err(|_| "the URL has no path")?;
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));

        let tls = Some((self.tls.clone(), name));
        let stream = net::dial(&address, b"", tls, TO_CONNECT).await;
        let stream = stream.map_err(|error| format!("no connection: {error}"))?;
        let no_http = |error: hyper::Error| format!("no HTTP response: {error}");
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(no_http)?;
        let mut connection = pin!(connection);
        let mut answer = pin!(async {
            let (head, body) = sender.send_request(request).await.map_err(no_http)?.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await;
            let body = body.map_err(|error| format!("no whole answer: {error}"))?;
            Ok(Response::from_parts(head, Full::new(body.to_bytes())))
        });
        let answer = tokio::select! {
            answer = &mut answer => answer,
            // It tells the answer why it ended.
            _ = &mut connection => answer.await,
        };
        answer.map(|response| self.heed(response))
    }

    /// `Retry-After` in seconds and bounded (the library adds whatever it says to a clock); what a refusal asks
    /// for is remembered.
    fn heed(&self, mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
        let Some(asked) = response.headers_mut().remove(header::RETRY_AFTER) else {
            return response;
        };
        let asked = asked.to_str().ok().and_then(seconds).map(|it| it.min(LONGEST_WAIT));
        let Some(asked) = asked else { return response };
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(asked));
        if response.status().is_client_error() || response.status().is_server_error() {
            self.asked.store(asked, Ordering::Relaxed);
        }
        response
    }
}

/// RFC 9110 section 10.2.3: seconds, or a date.
fn seconds(value: &str) -> Option<u64> {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        return Some(value.parse().unwrap_or(u64::MAX));
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    u64::try_from(at.as_second().saturating_sub(jiff::Timestamp::now().as_second())).ok()
}

/// Where to connect, and which name is to be proven there.
fn place(uri: &Uri) -> Result<(BackendAddress, ServerName<'static>), String> {
    if uri.scheme_str() != Some("https") {
        return Err(format!("`{uri}` is not by https"));
    }
    let host = uri.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    let name = ServerName::try_from(bare.to_owned());
    let name = name.map_err(|_| format!("`{host}` is no host"))?;
    let port = uri.port_u16().unwrap_or(443);
    let address = match bare.parse::<IpAddr>() {
        Ok(address) => BackendAddress::Socket((address, port).into()),
        Err(_) => BackendAddress::Host { host: bare.into(), port },
    };
    Ok((address, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let place =
            |url: &str| place(&url.parse().unwrap()).map(|(address, _)| address.to_string());
        assert_eq!(place("https://ca.example/dir").as_deref(), Ok("ca.example:443"));
        assert_eq!(place("https://[::1]:14000/dir").as_deref(), Ok("[::1]:14000"));
        assert_eq!(place("https://127.0.0.1:1/").as_deref(), Ok("127.0.0.1:1"));
        for url in ["http://ca.example/", "/dir", "https://a_b%20/"] {
            assert!(url.parse::<Uri>().is_err() || place(url).is_err(), "{url}");
        }
    }

    #[test]
    fn retry_after() {
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("99999999999999999999999"), Some(u64::MAX));
        assert_eq!(seconds("Fri, 31 Dec 1999 23:59:59 GMT"), None);
        let later = seconds("Tue, 31 Dec 2999 23:59:59 GMT").unwrap();
        assert!(later > 86_400 * 365);
        for junk in ["", "-1", "soon", "1.5"] {
            assert_eq!(seconds(junk), None, "{junk}");
        }
    }
}
