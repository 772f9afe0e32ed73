//! One client connection on hyper: which HTTP it speaks, how long it may idle, how it ends.

use super::{
    super::{
        connection::{ClientConnection, QUIET_BEFORE_CLOSE},
        http2::{PREFACE, Serving, Watch},
    },
    activity::{Active, Activity},
    body::ArrivingBody,
    handler,
    stream::ClientStream,
};
use crate::{live::millis, net::Stream};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    cell::{Cell, OnceCell},
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    sync::atomic::Ordering,
    time::Duration,
};
use tokio::{io::AsyncReadExt, time::timeout};

/// A connection that this engine serves.
pub(in crate::proxy) struct Served {
    pub(in crate::proxy) connection: Rc<ClientConnection>,
    pub(super) activity: Rc<Activity>,
    opened_millis: u64,
    /// Some request has been seen.
    used: Cell<bool>,
    /// At the last look nothing that is worth waiting for was going on.
    was_stuck: Cell<bool>,
    /// On the frames of HTTP/2.
    watch: OnceCell<Watch>,
}

/// Serves a connection until it ends.
pub(in crate::proxy) async fn serve(connection: Rc<ClientConnection>, mut stream: Stream) {
    let served = Served::new(connection);
    let beginning = async {
        if served.is_used_in_time(&mut stream).await {
            sniff(stream, &served).await
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    };
    let timeouts = served.connection.listener.spec.timeouts;
    let Ok(Ok((stream, is_h2))) = timeout(timeouts.headers, beginning).await else {
        return;
    };
    if is_h2 {
        run_h2(&served, stream).await;
    } else {
        run_h1(&served, stream).await;
    }
}

/// Serves a connection that speaks HTTP/2; `prefix` is what was read of it.
pub(in crate::proxy) async fn serve_h2(
    connection: Rc<ClientConnection>,
    stream: Stream,
    prefix: Vec<u8>,
) {
    let served = Served::new(connection);
    let clock = served.connection.core.live.clock;
    let stream = ClientStream::new(stream, prefix, clock, &served.activity);
    run_h2(&served, stream).await;
}

/// Reads as much as it takes to tell HTTP/2 with prior knowledge from HTTP/1 (RFC 9113 section 3.3).
async fn sniff(mut stream: Stream, served: &Served) -> io::Result<(ClientStream, bool)> {
    let connection = &served.connection;
    let protocols = connection.protocols;
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
    let stream = ClientStream::new(stream, prefix[..len].to_vec(), clock, &served.activity);
    Ok((stream, is_h2))
}

async fn run_h1(served: &Rc<Served>, stream: ClientStream) {
    let limits = served.connection.listener.spec.limits;
    let service = service_fn({
        let served = served.clone();
        move |request: Request<Incoming>| {
            let request = Box::new(request.map(ArrivingBody::Hyper));
            let answer = handler::handle(served.clone(), request, None, None);
            async { Ok::<_, Infallible>(answer.await) }
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(limits.header_count as usize)
        .max_buf_size((limits.header_bytes as usize).max(8192))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // Errors are the client's (a malformed request was answered, a broken connection needs no answer).
    let _ = supervise(served, serving, |serving| serving.graceful_shutdown(), false).await;
}

async fn run_h2(served: &Rc<Served>, stream: ClientStream) {
    served.connection.turn_http2();
    let serving = Serving::new(served, stream);
    supervise(served, serving, |serving| serving.get_mut().leave(), true).await;
}

/// Drives a connection; asks it to end when it has idled for too long, its listener has left or the
/// process drains, and drops it when a request head does not arrive in time.
async fn supervise<C, T>(
    served: &Rc<Served>,
    serving: C,
    mut end: impl FnMut(Pin<&mut C>),
    is_h2: bool,
) -> Option<T>
where
    C: Future<Output = T>,
{
    let connection = &served.connection;
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
            () = tokio::time::sleep(pace) => match served.overdue(is_h2, leaving) {
                Overdue::No => {}
                Overdue::Now => return None,
                Overdue::Idle if !ending => {
                    end(serving.as_mut());
                    ending = true;
                }
                // The end of the last answer may still be on its way to a slow reader, and HTTP/2 waits
                // for the client to say that it knows.
                Overdue::Idle if progress.is_stalled(served, timeouts.body) => return None,
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
    fn is_stalled(&mut self, served: &Served, patience: Duration) -> bool {
        let now = served.connection.core.now_millis();
        let passed = served.activity.passed.load(Ordering::Relaxed);
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

impl Served {
    pub(super) fn new(connection: Rc<ClientConnection>) -> Rc<Self> {
        Rc::new(Self {
            activity: Rc::default(),
            opened_millis: connection.core.now_millis(),
            used: Cell::new(false),
            was_stuck: Cell::new(false),
            watch: OnceCell::new(),
            connection,
        })
    }

    pub(in crate::proxy) fn set_watch(&self, watch: Watch) {
        // A connection speaks HTTP/2 once and for all.
        let _ = self.watch.set(watch);
    }

    fn overdue(&self, is_h2: bool, leaving: bool) -> Overdue {
        let active = self.activity.active();
        let timeouts = self.connection.listener.spec.timeouts;
        let now = self.connection.core.now_millis();
        if let Some(watch) = self.watch.get() {
            let is_over = |since: Option<u64>, patience| {
                since.is_some_and(|since| now.saturating_sub(since) >= millis(patience))
            };
            if is_over(watch.owes_since(), timeouts.headers)
                || is_over(watch.blocked_since(), timeouts.body)
                || is_over(watch.asked_since(), timeouts.headers)
            {
                return Overdue::Now;
            }
        }
        // A client that does not even take note of what it was told or of what was given up.
        let is_condemned = self.watch.get().is_some_and(|watch| watch.verdict().is_some());
        let is_stuck = is_condemned || (active > 0 && self.activity.given_up.get() >= active);
        if self.was_stuck.replace(is_stuck) && is_stuck {
            return Overdue::Now;
        }
        if active > 0 {
            return Overdue::No;
        }
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
    async fn is_used_in_time(&self, stream: &mut Stream) -> bool {
        let mut stopped = self.connection.stopped.clone();
        let left = async {
            // A worker that ends takes the connection with it.
            let _ = stopped.wait_for(|stopped| *stopped).await;
            tokio::time::sleep(QUIET_BEFORE_CLOSE).await;
        };
        tokio::select! {
            biased;
            readable = stream.readable() => readable.is_ok(),
            () = left => false,
        }
    }

    /// Of a connection that speaks HTTP/2.
    pub(in crate::proxy) fn watch(&self) -> Option<&Watch> {
        self.watch.get()
    }

    /// Something of the connection's goes on, beside its requests, as long as this is held.
    pub(in crate::proxy) fn active(&self) -> Active {
        Active::begin(&self.activity, self.connection.core.live.clock)
    }

    /// Somebody waits for an answer.
    pub(in crate::proxy) fn is_active(&self) -> bool {
        self.activity.active() > 0
    }

    /// A request head has been read.
    pub(super) fn head_read(&self) {
        self.activity.head_since.store(0, Ordering::Relaxed);
        self.used.set(true);
    }
}
