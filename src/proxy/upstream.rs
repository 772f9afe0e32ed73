//! One core's connections to one backend.

use super::{body::UpstreamBody, headers::is_framed_twice};
use crate::{live::LiveBackend, net};
use http::{HeaderMap, HeaderValue};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use std::{
    cell::RefCell,
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::JoinHandle,
};

/// Idle connections that a core keeps to one backend.
const MAX_IDLE: usize = 1024;

/// Idle connections closer than this to the end that the backend announced are not used any more.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_millis(500);

pub(super) struct Upstream {
    pub(super) backend: Arc<LiveBackend>,
    /// What `x-crossfade-version` says.
    pub(super) version: HeaderValue,
    /// The most recently used last.
    idle: RefCell<Vec<Conn>>,
}

/// A connection that belongs to one request at a time. Dropping it closes it, whatever is still on its way.
pub(super) struct Conn {
    pub(super) sender: SendRequest<UpstreamBody>,
    /// What drives it; without this an upload would go on after its response has ended.
    _task: AbortOnDrop,
    socket: Arc<Mutex<Socket>>,
    /// How long the backend keeps it when idle, if it says so.
    keep_alive: Option<Duration>,
    idle_until: Instant,
    /// It has served a request before, so the backend may close it at any moment.
    pub(super) reused: bool,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Upstream {
    pub(super) fn new(backend: Arc<LiveBackend>) -> Rc<Self> {
        let version = HeaderValue::from_str(&backend.pool.version)
            .unwrap_or_else(|_| HeaderValue::from_static("?"));
        Rc::new(Self { backend, version, idle: RefCell::default() })
    }

    /// An idle connection that is still good. `careful`: ask the kernel whether the backend has closed
    /// it or talks out of turn, because what will be sent cannot be sent twice.
    pub(super) async fn checkout(&self, careful: bool) -> Option<Conn> {
        loop {
            let mut conn = self.idle.borrow_mut().pop()?;
            if conn.sender.is_closed() || conn.idle_until <= Instant::now() {
                continue;
            }
            if !conn.becomes_ready().await {
                continue;
            }
            if careful && !conn.is_quiet() {
                continue;
            }
            conn.reused = true;
            return Some(conn);
        }
    }

    /// Keeps a connection for the next request, at most for `idle`.
    pub(super) fn park(&self, mut conn: Conn, idle: Duration) {
        let idle = match conn.keep_alive {
            Some(announced) => idle.min(announced.saturating_sub(KEEP_ALIVE_MARGIN)),
            None => idle,
        };
        let mut parked = self.idle.borrow_mut();
        if idle.is_zero() || self.backend.is_closing() || parked.len() >= MAX_IDLE {
            return;
        }
        conn.idle_until = Instant::now() + idle;
        parked.push(conn);
    }

    /// Closes what has idled for too long, or everything once the backend has left.
    pub(super) fn tidy(&self, now: Instant) {
        if self.backend.is_closing() {
            self.idle.borrow_mut().clear();
        } else {
            self.idle.borrow_mut().retain(|c| c.idle_until > now && !c.sender.is_closed());
        }
    }

    /// Opens a connection; its task runs on this core.
    ///
    /// # Errors
    /// When the backend does not accept within `timeout`.
    pub(super) async fn connect(&self, timeout: Duration) -> io::Result<Conn> {
        let stream = net::dial(&self.backend.address, timeout).await?;
        let socket = Arc::new(Mutex::new(Socket { stream, received: 0, written: 0 }));
        let io = TokioIo::new(Shared(socket.clone()));
        let (sender, connection) =
            http1::Builder::new().handshake(io).await.map_err(io::Error::other)?;
        let task = AbortOnDrop(tokio::task::spawn_local(async move {
            // How it ended is told to the request that used it.
            let _ = connection.with_upgrades().await;
        }));
        let idle_until = Instant::now();
        Ok(Conn { sender, _task: task, socket, keep_alive: None, idle_until, reused: false })
    }
}

impl Conn {
    /// The connection's own task may not have seen the end of the last response yet; it is given a few
    /// turns, and no more: a backend that answered without reading the request never gets ready.
    async fn becomes_ready(&mut self) -> bool {
        for _ in 0..4 {
            if self.sender.is_ready() {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    }

    /// Nothing to read: neither an end nor bytes that nobody asked for.
    fn is_quiet(&self) -> bool {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let peeked = SockRef::from(&socket.stream).peek(&mut [MaybeUninit::uninit(); 1]);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Bytes that have passed so far.
    pub(super) fn passed(&self) -> Passed {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        Passed { received: socket.received, written: socket.written }
    }

    /// Takes note of `Keep-Alive: timeout=N` (RFC 2068 section 19.7.1.1), and of a doubt where the response
    /// ends.
    pub(super) fn observe(&mut self, headers: &HeaderMap) {
        if is_framed_twice(headers) {
            self.keep_alive = Some(Duration::ZERO);
            return;
        }
        if let Some(seconds) = headers.get("keep-alive").and_then(keep_alive_timeout) {
            self.keep_alive = Some(Duration::from_secs(seconds));
        }
    }
}

fn keep_alive_timeout(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.parse().ok())?
    })
}

/// The socket of a connection whose idle state is looked at from outside. The lock is never contended:
/// all of it happens on one core.
struct Shared(Arc<Mutex<Socket>>);

struct Socket {
    stream: TcpStream,
    received: u64,
    written: u64,
}

/// Bytes of a connection, both ways.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) received: u64,
    pub(super) written: u64,
}

impl Shared {
    fn with<R>(&self, f: impl FnOnce(Pin<&mut TcpStream>) -> R) -> R {
        f(Pin::new(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).stream))
    }

    fn write(
        &self,
        write: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let polled = write(Pin::new(&mut socket.stream));
        if let Poll::Ready(Ok(written)) = polled {
            socket.written += written as u64;
        }
        polled
    }
}

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = buf.filled().len();
        let polled = Pin::new(&mut socket.stream).poll_read(cx, buf);
        socket.received += (buf.filled().len() - before) as u64;
        polled
    }
}

impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write_vectored(cx, bufs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_parameters() {
        let timeout = |text| keep_alive_timeout(&HeaderValue::from_static(text));
        assert_eq!(timeout("timeout=5"), Some(5));
        assert_eq!(timeout("max=100, Timeout = 15"), Some(15));
        assert_eq!(timeout("timeout=\"7\""), Some(7));
        assert_eq!(timeout("max=100"), None);
        assert_eq!(timeout("timeout=x"), None);
    }
}
