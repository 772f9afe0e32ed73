//! One of a core's connections to a backend, on hyper's client.

use super::{
    super::{headers::keep_alive_timeout, upstream::Idle},
    body::UpstreamBody,
};
use crate::{live::Clock, net::Stream};
use http::{HeaderMap, header};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinHandle,
};

/// What is read at once of a response: hyper takes larger and larger pieces from a fast backend, which lie here
/// while a client is slow. No head may be larger.
const LARGEST_BUFFER: usize = 64 << 10;

/// A connection that belongs to one request at a time. Dropping it closes it, whatever is still on its way.
pub(in crate::proxy) struct Conn {
    pub(super) sender: SendRequest<UpstreamBody>,
    /// What drives it; without this an upload would go on after its response has ended.
    _task: AbortOnDrop,
    socket: Arc<Mutex<Socket>>,
    /// How long the backend keeps it when idle, if it says so.
    pub(super) keep_alive: Option<Duration>,
    /// It has served a request before, so the backend may close it at any moment.
    pub(super) reused: bool,
    /// Of the backend's TLS, which it was opened with.
    epoch: u32,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Conn {
    /// Speaks HTTP/1 on a stream; its task runs on this core.
    ///
    /// # Errors
    /// When hyper does not take it.
    pub(super) async fn new((stream, epoch): (Stream, u32)) -> hyper::Result<Self> {
        let gate = Gate { most: usize::MAX, waits: None };
        let socket = Arc::new(Mutex::new(Socket { stream, received: 0, written: 0, gate }));
        let io = TokioIo::new(Shared(socket.clone()));
        let (sender, connection) =
            http1::Builder::new().max_buf_size(LARGEST_BUFFER).handshake(io).await?;
        let task = AbortOnDrop(tokio::task::spawn_local(async move {
            // How it ended is told to the request that used it.
            let _ = connection.with_upgrades().await;
        }));
        Ok(Self { sender, _task: task, socket, keep_alive: None, reused: false, epoch })
    }

    /// An idle connection that is still good. `careful`: ask the kernel whether the backend has closed
    /// it or talks out of turn, because what will be sent cannot be sent twice.
    pub(super) async fn checkout(
        idle: &Idle<Self>,
        clock: Clock,
        epoch: u32,
        careful: bool,
    ) -> Option<Self> {
        loop {
            let mut conn = idle.pop(clock.now())?;
            if conn.is_fit(epoch) && conn.becomes_ready().await && (!careful || conn.is_quiet()) {
                conn.reused = true;
                return Some(conn);
            }
        }
    }

    /// Nothing speaks against using it again.
    pub(in crate::proxy) fn is_fit(&self, epoch: u32) -> bool {
        self.epoch == epoch && !self.sender.is_closed()
    }

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
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.stream.is_quiet_now()
    }

    /// From now on so many bytes are read at once; 0: hyper is to wait.
    pub(super) fn read_at_most(&self, most: usize) {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        socket.gate.most = most;
        if most > 0
            && let Some(waits) = socket.gate.waits.take()
        {
            waits.wake();
        }
    }

    /// Bytes that have passed so far.
    pub(super) fn passed(&self) -> Passed {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        Passed { received: socket.received, written: socket.written }
    }

    /// Takes note of `Keep-Alive`, and of a doubt where the response ends.
    pub(super) fn observe(&mut self, headers: &HeaderMap) {
        if is_framed_twice(headers) {
            self.keep_alive = Some(Duration::ZERO);
        } else if let Some(value) = headers.get("keep-alive") {
            self.keep_alive = keep_alive_timeout(value.as_bytes()).map(Duration::from_secs);
        }
    }
}

/// Somebody on the way may see another end of the message.
pub(super) fn is_framed_twice(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}

/// The socket of a connection whose idle state is looked at from outside. The lock is never contended:
/// all of it happens on one core.
struct Shared(Arc<Mutex<Socket>>);

struct Socket {
    stream: Stream,
    received: u64,
    written: u64,
    gate: Gate,
}

/// Keeps hyper from reading ahead of a client that does not take what there is.
struct Gate {
    most: usize,
    waits: Option<Waker>,
}

/// Bytes of a connection, both ways.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Passed {
    pub(super) received: u64,
    pub(super) written: u64,
}

impl Shared {
    fn with<R>(&self, f: impl FnOnce(Pin<&mut Stream>) -> R) -> R {
        f(Pin::new(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).stream))
    }

    fn write(
        &self,
        write: impl FnOnce(Pin<&mut Stream>) -> Poll<io::Result<usize>>,
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
        let most = socket.gate.most;
        if most == 0 {
            socket.gate.waits = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = if most < buf.remaining() {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
            let polled = Pin::new(&mut socket.stream).poll_read(cx, &mut part);
            let read = part.filled().len();
            buf.advance(read);
            polled
        } else {
            Pin::new(&mut socket.stream).poll_read(cx, buf)
        };
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
