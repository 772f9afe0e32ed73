//! One client connection: which HTTP it speaks, how long it may idle, how it ends.

use super::{body::millis, core::Core, handler, headers::Client, record::ConnectionActivity};
use crate::live::{Clock, LiveListener};
use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    cell::Cell,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

/// RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// When its listener has left or the process drains, an HTTP/1 connection that has been quiet for this long
/// is closed; one that is in use learns from its next answer. Closing at once would meet requests on their
/// way.
const QUIET_BEFORE_CLOSE: Duration = Duration::from_secs(1);

/// What the requests of a connection share.
pub(super) struct ClientConnection {
    pub(super) core: Rc<Core>,
    pub(super) listener: Rc<LiveListener>,
    pub(super) client: Client,
    pub(super) activity: Rc<ConnectionActivity>,
    opened_millis: u64,
    /// Some request has been seen.
    pub(super) used: Cell<bool>,
    /// At the last look all of its responses were given up.
    was_stuck: Cell<bool>,
    /// True when its listener has left or the process drains.
    stopped: watch::Receiver<bool>,
    /// A tunnel holds the connection, and so is counted, longer than HTTP does.
    open: Open,
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    core: Rc<Core>,
    listener: Rc<LiveListener>,
    stopped: watch::Receiver<bool>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let open = Open::count(&core, &listener);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    if over_the_limit(&listener) {
        refuse(stream).await;
        return;
    }
    let ip = peer.ip().to_canonical();
    let trusted = listener.spec.trusted_proxies.iter().any(|network| network.contains(&ip));
    let connection = Rc::new(ClientConnection {
        client: Client { peer: ip, trusted },
        activity: Rc::default(),
        opened_millis: core.now_millis(),
        used: Cell::new(false),
        was_stuck: Cell::new(false),
        stopped,
        open,
        core,
        listener,
    });
    let beginning = async {
        if connection.is_used_in_time(&stream).await {
            sniff(stream, &connection).await
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    };
    let timeouts = connection.listener.spec.timeouts;
    let Ok(Ok((stream, is_h2))) = timeout(timeouts.headers, beginning).await else {
        return;
    };
    if is_h2 {
        connection.listener.bound.closed(connection.core.index, false);
        connection.listener.bound.opened(connection.core.index, true);
        connection.open.is_h2.set(true);
        serve_h2(&connection, stream).await;
    } else {
        serve_h1(&connection, stream).await;
    }
}

/// Counts a connection as long as it is open.
struct Open {
    core: Rc<Core>,
    listener: Rc<LiveListener>,
    is_h2: Cell<bool>,
}

impl Open {
    fn count(core: &Rc<Core>, listener: &Rc<LiveListener>) -> Self {
        core.connections.set(core.connections.get() + 1);
        listener.bound.opened(core.index, false);
        Self { core: core.clone(), listener: listener.clone(), is_h2: Cell::new(false) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.core.connections.set(self.core.connections.get() - 1);
        self.listener.bound.closed(self.core.index, self.is_h2.get());
    }
}

fn over_the_limit(listener: &LiveListener) -> bool {
    let (h1, h2) = listener.bound.connections();
    h1 + h2 > u64::from(listener.spec.limits.connections)
}

/// Says why before it closes.
async fn refuse(mut stream: TcpStream) {
    let reply = b"HTTP/1.1 503 Service Unavailable\r\nx-crossfade-error: overloaded\r\n\
        retry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    // A client that is gone already needs no answer.
    let _ = timeout(Duration::from_secs(1), stream.write_all(reply)).await;
}

/// Reads as much as it takes to tell HTTP/2 with prior knowledge from HTTP/1 (RFC 9113 section 3.3).
async fn sniff(
    mut stream: TcpStream,
    connection: &ClientConnection,
) -> io::Result<(ClientStream, bool)> {
    let protocols = connection.listener.spec.protocols;
    let mut prefix = [0; PREFACE.len()];
    let mut len = 0;
    while protocols.h2 && len < PREFACE.len() && prefix[..len] == PREFACE[..len] {
        let read = stream.read(&mut prefix[len..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        len += read;
    }
    let is_h2 = protocols.h2 && prefix[..len] == *PREFACE;
    if !is_h2 && !protocols.h1 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let clock = connection.core.live.clock;
    let head_since = connection.activity.head_since.clone();
    let passed = connection.activity.passed.clone();
    let mut stream = ClientStream { stream, prefix, at: 0, len, clock, head_since, passed };
    if len > 0 {
        stream.note_head();
    }
    Ok((stream, is_h2))
}

async fn serve_h1(connection: &Rc<ClientConnection>, stream: ClientStream) {
    let limits = connection.listener.spec.limits;
    let service = service_fn({
        let connection = connection.clone();
        move |request| handler::handle(connection.clone(), request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.header_count as usize)
        .max_buf_size((limits.header_bytes as usize).max(8192))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // Errors are the client's (a malformed request was answered, a broken connection needs no answer).
    let _ = supervise(connection, serving, |serving| serving.graceful_shutdown(), false).await;
}

async fn serve_h2(connection: &Rc<ClientConnection>, stream: ClientStream) {
    let limits = connection.listener.spec.limits;
    let service = service_fn({
        let connection = connection.clone();
        move |request| handler::handle(connection.clone(), request)
    });
    let serving = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(limits.header_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let _ = supervise(connection, serving, |serving| serving.graceful_shutdown(), true).await;
}

/// Drives a connection; asks it to end when it has idled for too long, its listener has left or the
/// process drains, and drops it when a request head does not arrive in time.
async fn supervise<C, T>(
    connection: &Rc<ClientConnection>,
    serving: C,
    mut end: impl FnMut(Pin<&mut C>),
    is_h2: bool,
) -> Option<T>
where
    C: Future<Output = T>,
{
    let timeouts = connection.listener.spec.timeouts;
    let pace = (timeouts.headers.min(timeouts.keep_alive) / 4)
        .clamp(Duration::from_millis(50), Duration::from_secs(5));
    let mut serving = std::pin::pin!(serving);
    let mut stopped = connection.stopped.clone();
    let mut ending = false;
    let mut progress = Progress::default();
    loop {
        let leaving = connection.is_leaving();
        if leaving && is_h2 && !ending {
            end(serving.as_mut());
            ending = true;
        }
        let pace = if leaving { QUIET_BEFORE_CLOSE / 4 } else { pace };
        tokio::select! {
            biased;
            done = &mut serving => return Some(done),
            // A worker that ends takes the connection with it.
            _ = stopped.wait_for(|stopped| *stopped), if !leaving => {}
            () = tokio::time::sleep(pace) => match connection.overdue(is_h2, leaving) {
                Overdue::No => {}
                Overdue::Now => return None,
                Overdue::Idle if !ending => {
                    end(serving.as_mut());
                    ending = true;
                }
                // The end of the last answer may still be on its way to a slow reader, and HTTP/2 waits
                // for the client to say that it knows.
                Overdue::Idle if progress.is_stalled(connection, timeouts.body) => return None,
                Overdue::Idle => {}
            },
        }
    }
}

/// Whether anything passes on a connection that is to end.
#[derive(Default)]
struct Progress {
    passed: u64,
    since_millis: Option<u64>,
}

impl Progress {
    /// Nothing has passed for `patience`, from the first look on.
    fn is_stalled(&mut self, connection: &ClientConnection, patience: Duration) -> bool {
        let now = connection.core.now_millis();
        let passed = connection.activity.passed.load(Ordering::Relaxed);
        if passed != self.passed || self.since_millis.is_none() {
            *self = Self { passed, since_millis: Some(now) };
        }
        now.saturating_sub(self.since_millis.unwrap_or(now)) >= millis(patience)
    }
}

enum Overdue {
    No,
    /// A request head that does not arrive, a response that is not read.
    Now,
    Idle,
}

impl ClientConnection {
    fn overdue(&self, is_h2: bool, leaving: bool) -> Overdue {
        let active = self.activity.active.get();
        if active > 0 {
            // Only what was given up, by a client that does not even take note of that.
            let is_stuck = self.activity.given_up.get() >= active;
            return if is_stuck && self.was_stuck.replace(is_stuck) {
                Overdue::Now
            } else {
                self.was_stuck.set(is_stuck);
                Overdue::No
            };
        }
        self.was_stuck.set(false);
        let timeouts = self.listener.spec.timeouts;
        let now = self.core.now_millis();
        let quiet = now.saturating_sub(self.activity.quiet_since.get().max(self.opened_millis));
        let head_since = match self.activity.head_since.load(Ordering::Relaxed) {
            _ if !self.used.get() => Some(self.opened_millis),
            0 => None,
            // Frames of HTTP/2 come between requests too.
            _ if is_h2 => None,
            since => Some(since),
        };
        if let Some(since) = head_since {
            let late = now.saturating_sub(since) >= millis(timeouts.headers);
            return if late { Overdue::Now } else { Overdue::No };
        }
        let keep = if leaving { QUIET_BEFORE_CLOSE } else { timeouts.keep_alive };
        if quiet >= millis(keep) { Overdue::Idle } else { Overdue::No }
    }

    /// True when bytes have come; false when its listener has left and none came for a while.
    async fn is_used_in_time(&self, stream: &TcpStream) -> bool {
        let mut stopped = self.stopped.clone();
        let left = async {
            // A worker that ends takes the connection with it.
            let _ = stopped.wait_for(|stopped| *stopped).await;
            tokio::time::sleep(QUIET_BEFORE_CLOSE).await;
        };
        let mut byte = [0];
        tokio::select! {
            biased;
            // Readiness alone may be a false alarm.
            peeked = stream.peek(&mut byte) => peeked.is_ok(),
            () = left => false,
        }
    }

    /// Its listener has left or the process drains: the client should connect elsewhere.
    pub(super) fn is_leaving(&self) -> bool {
        *self.stopped.borrow()
    }

    /// A request head has been read.
    pub(super) fn head_read(&self) {
        self.activity.head_since.store(0, Ordering::Relaxed);
        self.used.set(true);
    }
}

/// A client's socket, after what was read to see which HTTP it speaks.
struct ClientStream {
    stream: TcpStream,
    prefix: [u8; PREFACE.len()],
    at: usize,
    len: usize,
    clock: Clock,
    head_since: Arc<AtomicU64>,
    passed: Arc<AtomicU64>,
}

impl ClientStream {
    fn note_passed(&self, bytes: usize) {
        // One core alone writes it.
        let passed = self.passed.load(Ordering::Relaxed);
        self.passed.store(passed.wrapping_add(bytes as u64), Ordering::Relaxed);
    }

    fn note_written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.note_passed(bytes);
        }
        written
    }

    /// Bytes have come; if none was awaited they are the beginning of a request.
    fn note_head(&mut self) {
        if self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.clock.now_millis().max(1), Ordering::Relaxed);
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at < self.len {
            let take = buf.remaining().min(self.len - self.at);
            buf.put_slice(&self.prefix[self.at..self.at + take]);
            self.at += take;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.note_head();
            self.note_passed(read);
        }
        polled
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_written(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_written(written)
    }
}

/// Runs the tasks of an HTTP/2 connection on its own core.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
