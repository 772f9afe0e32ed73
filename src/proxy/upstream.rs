//! One core's connections to one backend.

use super::{core::Core, flight::Flight, http1::Conn, http2::Sessions};
use crate::{
    live::{Held, Labels, LiveBackend, Moment, Reason},
    net::{self, DialError, Stream},
    routing::Policy,
};
use http::HeaderValue;
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::sync::Semaphore;

/// Idle connections that a core keeps to one backend.
const MAX_IDLE: usize = 1024;

/// Idle connections closer than this to the end that the backend announced are not used any more.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_millis(500);

/// Connections that a core opens to one backend at a time. Many more at once would find its queue full, and the
/// backend would look as if nobody were there.
const MOST_DIALLING: usize = 64;

pub(super) struct Upstream {
    pub(super) backend: Arc<LiveBackend>,
    /// What `x-crossfade-version` says.
    pub(super) version: HeaderValue,
    /// `Host` of a request that has none.
    pub(super) authority: Box<str>,
    /// This core's own, so that no other counts its holders.
    pub(super) labels: Arc<Labels>,
    /// What connections begin with.
    first: Box<[u8]>,
    pub(super) http1: Idle,
    pub(super) http2: Sessions,
    /// Places to open another connection.
    dials: Semaphore,
}

/// Connections that wait for the next request, the most recently used last.
#[derive(Default)]
pub(super) struct Idle(RefCell<Vec<Waiting>>);

struct Waiting {
    conn: Conn,
    until: Moment,
}

impl Idle {
    /// The next one that has not waited for too long, `now`.
    pub(super) fn pop(&self, now: Moment) -> Option<Conn> {
        let mut waiting = self.0.borrow_mut();
        let last = waiting.pop()?;
        if last.until > now {
            return Some(last.conn);
        }
        waiting.retain(|other| other.until > now);
        Some(waiting.pop()?.conn)
    }

    /// False when there is none.
    fn drop_oldest(&self) -> bool {
        let mut waiting = self.0.borrow_mut();
        let any = !waiting.is_empty();
        if any {
            waiting.remove(0);
        }
        any
    }

    fn tidy(&self, now: Moment, epoch: u32) {
        let is_good = |waiting: &mut Waiting| waiting.until > now && waiting.conn.is_fit(epoch);
        self.0.borrow_mut().retain_mut(is_good);
    }
}

impl Upstream {
    pub(super) fn new(backend: Arc<LiveBackend>) -> Rc<Self> {
        Self::announcing(backend, Box::default())
    }

    /// Its connections begin with the PROXY header `first`, so they are for one client alone.
    pub(super) fn announcing(backend: Arc<LiveBackend>, first: Box<[u8]>) -> Rc<Self> {
        let version = HeaderValue::from_str(&backend.pool.version)
            .unwrap_or_else(|_| HeaderValue::from_static("?"));
        let authority = backend.address.authority().into();
        let labels = Arc::new(Labels {
            service: backend.pool.service.clone(),
            pool: backend.pool.name.clone(),
            version: backend.pool.version.clone(),
            backend: backend.address.to_string().into(),
        });
        let (http1, http2) = Default::default();
        let dials = Semaphore::new(MOST_DIALLING);
        Rc::new(Self { backend, version, authority, labels, first, http1, http2, dials })
    }

    /// Keeps a connection for the next request, at most for `idle`, and for less if the backend has
    /// announced so.
    pub(super) fn park(&self, conn: Conn, now: Moment, idle: Duration) {
        let idle = match conn.announced {
            Some(announced) => idle.min(announced.saturating_sub(KEEP_ALIVE_MARGIN)),
            None => idle,
        };
        let mut waiting = self.http1.0.borrow_mut();
        if !idle.is_zero() && !self.backend.keeps_none() && waiting.len() < MAX_IDLE {
            waiting.push(Waiting { conn, until: now + idle });
        }
    }

    /// Somebody needs a connection, of which there may be no more: what idles longest is closed.
    fn give_one_up(&self) {
        if !self.http1.drop_oldest() {
            self.http2.give_one_up();
        }
    }

    /// Closes what has idled for too long, or everything once the backend has left.
    pub(super) fn tidy(&self, now: Moment) {
        if self.backend.is_closing() {
            self.http1.0.borrow_mut().clear();
            self.http2.close();
        } else {
            let epoch = self.backend.tls_epoch();
            self.http1.tidy(now, epoch);
            self.http2.tidy(now, epoch);
            if self.backend.keeps_none() {
                self.give_one_up();
            }
        }
    }
}

/// A connection that was just opened.
pub(super) struct Opened {
    pub(super) stream: Stream,
    /// Of the backend's TLS, which it was opened with.
    pub(super) epoch: u32,
    pub(super) held: Held,
}

/// A place among the backend's connections, where there may not be any number of them.
///
/// # Errors
/// `Overloaded` when none has become free in the time that there is for a connection, or the flight's verdict.
async fn place(core: &Core, flight: &Flight, policy: &Policy) -> Result<Held, Reason> {
    let backend = &flight.upstream.backend;
    let limit = policy.limits.backend_connections;
    if let Some(held) = backend.try_hold(limit) {
        return Ok(held);
    }
    let free = backend.hold(limit.unwrap_or(u32::MAX), || core.live.published.announce());
    let free = tokio::time::timeout(policy.timeouts.connect, free);
    unless_judged(flight, free).await?.map_err(|_| Reason::Overloaded)
}

/// Opens a connection for a request in flight.
///
/// # Errors
/// `ConnectFailed`, `TlsFailed`, `Overloaded` when there may be no more, or the flight's verdict.
pub(super) async fn connect(
    core: &Core,
    flight: &Flight,
    policy: &Policy,
) -> Result<Opened, Reason> {
    let held = place(core, flight, policy).await?;
    let backend = &flight.upstream.backend;
    // Nobody closes it.
    let _place = unless_judged(flight, flight.upstream.dials.acquire()).await?;
    let (began, signs) = (core.live.clock.now(), backend.signs(core.index));
    let (tls, epoch) = backend.tls();
    let tls = tls.map(|tls| (tls.config.clone(), tls.name.clone()));
    let first = &flight.upstream.first;
    let dialling = net::dial(&backend.address, first, tls, policy.timeouts.connect);
    match unless_judged(flight, dialling).await? {
        Ok(stream) => {
            let taken = core.live.clock.now().since(began);
            backend.pool.stats.record_upstream_connect(core.index, taken);
            backend.connect_succeeded(core.index);
            flight.connected(taken);
            Ok(Opened { stream, epoch, held })
        }
        Err(error) => {
            tracing::debug!(backend = %backend.address, %error, "connect failed");
            core.connect_failed(backend, signs, policy.ejection.consecutive);
            Err(match error {
                DialError::Connect(_) => Reason::ConnectFailed,
                DialError::Tls(_) => Reason::TlsFailed,
            })
        }
    }
}

/// Opens a connection for what is no request of a client's: nothing is counted, and nobody is waited for.
///
/// # Errors
/// `ConnectFailed`, `TlsFailed`, or `Overloaded` when there may be no more.
pub(super) async fn dial_apart(upstream: &Upstream, policy: &Policy) -> Result<Opened, Reason> {
    let backend = &upstream.backend;
    let held = backend.try_hold(policy.limits.backend_connections).ok_or(Reason::Overloaded)?;
    let (tls, epoch) = backend.tls();
    let tls = tls.map(|tls| (tls.config.clone(), tls.name.clone()));
    let dialling = net::dial(&backend.address, &upstream.first, tls, policy.timeouts.connect);
    match dialling.await {
        Ok(stream) => Ok(Opened { stream, epoch, held }),
        Err(DialError::Connect(_)) => Err(Reason::ConnectFailed),
        Err(DialError::Tls(_)) => Err(Reason::TlsFailed),
    }
}

/// The future's output, unless the flight gets its verdict before.
pub(super) async fn unless_judged<F: Future>(
    flight: &Flight,
    future: F,
) -> Result<F::Output, Reason> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(reason) = flight.poll_verdict(cx) {
            return Poll::Ready(Err(reason));
        }
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}
