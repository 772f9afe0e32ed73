//! Backends, clients and a whole proxy for integration tests, on real sockets with ports chosen by the
//! system. Nothing here waits for a time to pass, only for conditions.
#![allow(dead_code, unreachable_pub, unused_imports)]

use bytes::Bytes;
use crossfade::{
    control::{Change, ChangeError, Command, FileStatus, Handle, Receipt, Source},
    live::{Live, Phase},
    process::Process,
    spec::{
        Backend as BackendSpec, BackendAddress, HealthCheck, Listener, Match, Name, Pool, Role,
        Route, Service, Spec, Weight,
    },
};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use indexmap::IndexMap;
use socket2::{Domain, Socket, Type};
use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot, watch},
    time::timeout,
};

mod visitors;

pub use visitors::Visitors;

/// Longer than anything here takes; what is not there by then never comes.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub type Body = BoxBody<Bytes, Infallible>;
type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

fn answer(
    handler: &Handler,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
    let answer = handler(request);
    async move { Ok(answer.await) }
}

pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

/// A body of these frames, without a length.
pub fn frames(frames: Vec<Frame<Bytes>>) -> Body {
    StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok))).boxed()
}

pub fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(full(text))
}

async fn any_port() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// An HTTP/1.1 server on hyper.
pub struct Backend {
    pub address: SocketAddr,
    pub requests: Arc<AtomicUsize>,
    pub connections: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
}

impl Backend {
    pub async fn start<F, A>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start_on(any_port().await, handler).await
    }

    /// The same at an address of one's choice.
    pub async fn start_on<F, A>(listener: TcpListener, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::answering(listener, handler, |stream, handler| async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(|it| answer(&handler, it)))
                .with_upgrades()
                .await;
        })
        .await
    }

    /// The same, but it speaks HTTP/2, with so many streams at a time.
    pub async fn http2<F, A>(streams: u32, handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::answering(any_port().await, handler, move |stream, handler| async move {
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(streams)
                .serve_connection(TokioIo::new(stream), service_fn(|it| answer(&handler, it)))
                .await;
        })
        .await
    }

    /// Counts the requests that `serve` finds in a connection and lets `handler` answer them.
    async fn answering<F, A, S, T>(listener: TcpListener, handler: F, serve: S) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
        S: Fn(TcpStream, Handler) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = requests.clone();
        let handler: Handler = Arc::new(move |request| {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(handler(request))
        });
        Self::raw_counted(listener, requests, move |stream| serve(stream, handler.clone())).await
    }

    /// Does with each request of HTTP/2 what `answer` does, on the library itself.
    pub async fn bare_http2<F, A>(answer: F) -> Self
    where
        F: Fn(Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) -> A
            + Clone
            + Send
            + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        Self::raw(move |stream| {
            let answer = answer.clone();
            async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer(request, respond));
                }
            }
        })
        .await
    }

    /// Answers every request with its name.
    pub async fn named(name: &'static str) -> Self {
        Self::start(move |_| async move { text(name) }).await
    }

    /// Answers with its name too, and 500 as long as it `fails`.
    pub async fn failing(name: &'static str, fails: &Arc<AtomicBool>) -> Self {
        let fails = fails.clone();
        Self::start(move |_| {
            let mut reply = text(name);
            if fails.load(Ordering::Relaxed) {
                *reply.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            }
            async { reply }
        })
        .await
    }

    /// Answers with its name too, but each request waits for a word before.
    pub async fn waiting(name: &'static str) -> (Self, Arc<Notify>) {
        let word = Arc::new(Notify::new());
        let waits = word.clone();
        let backend = Self::start(move |_| {
            let waits = waits.clone();
            async move {
                waits.notified().await;
                text(name)
            }
        })
        .await;
        (backend, word)
    }

    /// Does with each connection what `serve` does.
    pub async fn raw<F, A>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> A + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        Self::raw_counted(any_port().await, Arc::default(), serve).await
    }

    async fn raw_counted<F, A>(listener: TcpListener, requests: Arc<AtomicUsize>, serve: F) -> Self
    where
        F: Fn(TcpStream) -> A + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let (stop, mut stopped) = watch::channel(false);
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    _ = stopped.wait_for(|s| *s) => return,
                };
                counted.fetch_add(1, Ordering::SeqCst);
                let mut stopped = stopped.clone();
                let serving = serve(stream);
                tokio::spawn(async move {
                    tokio::select! {
                        () = serving => {}
                        _ = stopped.wait_for(|s| *s) => {}
                    }
                });
            }
        });
        Self { address, requests, connections, stop }
    }

    pub fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Closes everything at once, as a process that is killed.
    pub fn kill(&self) {
        self.stop.send_replace(true);
    }

    pub fn spec_address(&self) -> BackendAddress {
        BackendAddress::Socket(self.address)
    }
}

/// An address at which nobody listens, until the test does. Its port is held until the tests end, bound and not
/// listened on: else a neighbour may be given it, and answers.
pub fn vacant_address() -> SocketAddr {
    static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    HELD.lock().unwrap().push(socket);
    address
}

pub fn dead_address() -> BackendAddress {
    BackendAddress::Socket(vacant_address())
}

pub fn pool(version: &str, weight: u64, backends: &[BackendAddress]) -> Pool {
    Pool {
        version: version.into(),
        weight: Weight::new(weight).unwrap(),
        backends: backends.iter().map(|a| (a.clone(), BackendSpec::default())).collect(),
        slow_start: Duration::ZERO,
        drained: false,
        protocol: Default::default(),
        proxy_protocol: None,
        tls: None,
    }
}

/// A service `shop` with these pools, behind a route for everything, on one core.
pub fn spec(pools: &[(&str, Pool)]) -> Spec {
    let pools: IndexMap<Name, Pool> =
        pools.iter().map(|(name, pool)| ((*name).into(), pool.clone())).collect();
    Spec {
        threads: std::num::NonZeroUsize::new(1),
        listeners: vec![Listener::new("127.0.0.1:0".parse().unwrap())],
        services: IndexMap::from([("shop".into(), Service::new(pools))]),
        routes: vec![Route::new("all".into(), Match::default(), "shop".into())],
        ..Spec::default()
    }
}

pub fn health_check() -> HealthCheck {
    HealthCheck { interval: Duration::from_millis(50), ..HealthCheck::new("/health") }
}

/// A proxy with its own threads, as in production but for the admin side.
pub struct Proxy {
    pub address: SocketAddr,
    pub handle: Handle,
    pub live: Arc<Live>,
    end: Option<oneshot::Sender<Duration>>,
    ended: Option<thread::JoinHandle<bool>>,
}

impl Proxy {
    pub async fn start(spec: Spec) -> Self {
        let (started, start) = oneshot::channel();
        let (end, asked_to_end) = oneshot::channel();
        let ended = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let process = Process::start(spec, FileStatus::default()).await.unwrap();
                let bound = process.live.published.read(|s| s.listeners[0].bound.address);
                started.send((bound, process.handle.clone(), process.live.clone())).ok().unwrap();
                match asked_to_end.await {
                    Ok(deadline) => process.drain(deadline).await,
                    Err(_) => process.drain(Duration::ZERO).await,
                }
            })
        });
        let (address, handle, live) = start.await.expect("the proxy starts");
        Self { address, handle, live, end: Some(end), ended: Some(ended) }
    }

    pub async fn apply(&self, command: Command) -> Result<Receipt, ChangeError> {
        self.handle.apply(change(command)).await
    }

    pub async fn cutover(&self, to: &str) -> Receipt {
        self.apply(Command::Cutover { service: "shop".into(), to: to.into() }).await.unwrap()
    }

    pub async fn weights(&self, weights: &[(&str, u64)]) -> Receipt {
        let weights =
            weights.iter().map(|(n, w)| ((*n).into(), Weight::new(*w).unwrap())).collect();
        self.apply(Command::SetWeights { service: "shop".into(), weights }).await.unwrap()
    }

    /// Requests in flight on all backends.
    pub fn open(&self) -> u64 {
        let pools = self.live.pools();
        pools.iter().flat_map(|pool| pool.backends()).map(|backend| backend.open()).sum()
    }

    pub async fn ready(&self) {
        let mut phases = self.live.lifecycle.subscribe();
        timeout(PATIENCE, phases.wait_for(|phase| *phase >= Phase::Ready)).await.unwrap().unwrap();
    }

    /// Drains it; true when nothing had to be cancelled.
    pub async fn drain(mut self, deadline: Duration) -> bool {
        self.end.take().unwrap().send(deadline).unwrap();
        let ended = self.ended.take().unwrap();
        tokio::task::spawn_blocking(move || ended.join().unwrap()).await.unwrap()
    }

    pub async fn connect(&self) -> TcpStream {
        connect(self.address).await.unwrap()
    }

    pub async fn h1(&self) -> Client {
        Client::of_h1(self.address).await.unwrap()
    }

    pub async fn h2(&self) -> Client {
        self.h2_behind(b"").await
    }

    /// The same on a connection that begins with these bytes.
    pub async fn h2_behind(&self, start: &[u8]) -> Client {
        let mut stream = self.connect().await;
        stream.write_all(start).await.unwrap();
        let io = TokioIo::new(stream);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Client::H2(sender, self.address)
    }

    /// Sends bytes on a fresh connection and returns all that comes until the other side closes.
    pub async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        let mut reply = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut reply)).await.unwrap().unwrap();
        String::from_utf8_lossy(&reply).into_owned()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(ended) = self.ended.take() {
            let _ = ended.join();
        }
    }
}

pub fn change(command: Command) -> Change {
    Change {
        command,
        source: Source::Api,
        author: "test".into(),
        role: Role::Operator,
        cause: None,
        force: false,
        if_match: None,
        dry_run: false,
        wait_healthy: None,
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A client connection.
pub enum Client {
    H1(hyper::client::conn::http1::SendRequest<Body>),
    H2(hyper::client::conn::http2::SendRequest<Body>, SocketAddr),
}

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub fn get(path: &str) -> http::request::Builder {
    Request::get(path).header("host", "shop.example.com")
}

pub fn post(path: &str) -> http::request::Builder {
    Request::post(path).header("host", "shop.example.com")
}

impl Client {
    async fn of_h1(address: SocketAddr) -> io::Result<Self> {
        let io = TokioIo::new(connect(address).await?);
        let (sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(io::Error::other)?;
        tokio::spawn(connection.with_upgrades());
        Ok(Self::H1(sender))
    }

    /// Sends a request; returns when the head of the response is there.
    pub async fn head(&mut self, mut request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::H2(sender, address) => {
                let target = request.uri().path_and_query().unwrap().to_string();
                let host = request.headers_mut().remove("host");
                let authority = match &host {
                    Some(host) => host.to_str().unwrap().to_owned(),
                    None => address.to_string(),
                };
                *request.uri_mut() = format!("http://{authority}{target}").parse().unwrap();
                *request.version_mut() = http::Version::HTTP_2;
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    pub async fn try_send(&mut self, request: Request<Body>) -> hyper::Result<Reply> {
        let response = timeout(PATIENCE, self.head(request)).await.expect("a response")?;
        let (head, body) = response.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.expect("a body")?;
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            trailers: body.trailers().cloned(),
            body: body.to_bytes(),
        })
    }

    pub async fn send(&mut self, request: Request<Body>) -> Reply {
        self.try_send(request).await.unwrap()
    }

    pub async fn get(&mut self, path: &str) -> Reply {
        self.send(get(path).body(full("")).unwrap()).await
    }
}

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}
