//! The admin API of a proxy under test, and a client that holds it to its own description.
#![allow(dead_code, unreachable_pub)]

use super::{PATIENCE, Proxy};
use crossfade::{
    admin,
    config::Reloader,
    spec::{AdminAddress, Spec},
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle, time::timeout};

/// A proxy with its admin API. The API is served on the test's runtime.
pub struct Api {
    pub proxy: Proxy,
    pub address: SocketAddr,
    end: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
    described: Value,
    pub audit: Arc<admin::Audit>,
    /// Sent with every request that shows nothing else.
    token: Option<String>,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Api {
    pub async fn start(spec: Spec) -> Self {
        Self::with(spec, None).await
    }

    /// One that takes tokens.
    pub async fn guarded(spec: Spec, token: &str) -> Self {
        Self::begin(spec, None, Some(token.to_owned())).await
    }

    pub async fn with(spec: Spec, reloader: Option<Reloader>) -> Self {
        Self::begin(spec, reloader, None).await
    }

    pub async fn begin(spec: Spec, reloader: Option<Reloader>, token: Option<String>) -> Self {
        let proxy = Proxy::start(spec).await;
        let socket = admin::bind(&AdminAddress::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let AdminAddress::Tcp(address) = socket.address().unwrap() else { unreachable!() };
        let (end, ended) = oneshot::channel();
        let (live, handle) = (proxy.live.clone(), proxy.handle.clone());
        let ended = async {
            let _ = ended.await;
            admin::Farewell::default()
        };
        let audit = admin::Audit::open(handle.view().spec.admin.audit.as_ref(), None).unwrap();
        let log = audit.clone();
        let served = tokio::spawn(admin::serve(live, handle, reloader, None, log, socket, ended));
        let mut api = Self { proxy, address, end, served, described: Value::Null, token, audit };
        let answer = api.raw(Request::get("/v1/openapi.json"), "").await;
        api.described = answer.json();
        api
    }

    /// Ends it and returns when it has.
    pub async fn end(self) -> Proxy {
        self.end.send(()).unwrap();
        timeout(PATIENCE, self.served).await.unwrap().unwrap().unwrap();
        self.proxy
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Request::get(path), "").await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask(json(Request::put(path)), body.to_string()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(json(Request::post(path)), body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.ask(Request::delete(path), "").await
    }

    pub async fn service(&self) -> Value {
        self.get("/v1/services/shop").await.json()
    }

    /// Asks on a connection of its own. Whatever comes must be described in the OpenAPI document, and
    /// every error must be a problem.
    pub async fn ask(&self, request: http::request::Builder, body: impl Into<String>) -> Answer {
        let method = request.method_ref().unwrap().as_str().to_lowercase();
        let path = request.uri_ref().unwrap().path().to_owned();
        let answer = self.raw(request, body).await;
        let status = answer.status.as_str();
        let operation = self.operation(&method, &path);
        let described = &operation["responses"][status];
        assert!(described.is_object(), "{method} {path} answers {status}, undescribed");
        let content = answer.header("content-type");
        assert!(described["content"].get(content).is_some(), "{method} {path} {status}: {content}");
        if answer.status.as_u16() >= 400 {
            assert_problem(&answer);
        }
        answer
    }

    /// Asks, described or not.
    pub async fn raw(&self, request: http::request::Builder, body: impl Into<String>) -> Answer {
        let body: String = body.into();
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let connection = tokio::spawn(connection);
        let has_host = request.headers_ref().unwrap().contains_key("host");
        let request =
            if has_host { request } else { request.header("host", self.address.to_string()) };
        let shows = request.headers_ref().unwrap().contains_key("authorization");
        let request = match &self.token {
            Some(token) if !shows => request.header("authorization", format!("Bearer {token}")),
            _ => request,
        };
        let request = request.body(Full::<bytes::Bytes>::from(body)).unwrap();
        let response = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        let (head, body) = response.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
        drop(sender);
        let _ = connection.await;
        let text = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: head.status, headers: head.headers, text }
    }

    /// What the document says of it.
    fn operation(&self, method: &str, path: &str) -> Value {
        let paths = self.described["paths"].as_object().unwrap();
        let fits = |template: &str| {
            let (template, path) = (template.split('/'), path.split('/'));
            template.clone().count() == path.clone().count()
                && template.zip(path).all(|(t, p)| t.starts_with('{') || t == p)
        };
        let found = paths.iter().filter(|(template, _)| fits(template));
        let operation = found.map(|(_, item)| &item[method]).find(|found| found.is_object());
        operation.unwrap_or_else(|| panic!("{method} {path} is not described")).clone()
    }

    pub fn described(&self) -> &Value {
        &self.described
    }
}

pub fn json(request: http::request::Builder) -> http::request::Builder {
    request.header("content-type", "application/json")
}

/// RFC 9457.
pub fn assert_problem(answer: &Answer) {
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status.as_u16());
    for key in ["type", "title", "detail"] {
        assert!(problem[key].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
}

/// Waits for a condition that must be asked for.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}
