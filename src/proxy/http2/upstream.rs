//! A core's HTTP/2 connections to one backend, each shared by the requests that are in flight on it.

use super::{
    guard::{Limits, Side},
    wire::{Guarded, Watch},
};
use crate::{
    live::{Clock, LiveBackend, Moment, Reason, millis},
    net::Stream,
    proxy::upstream::Opened,
    spec::ServiceTimeouts,
};
use bytes::Bytes;
use h2::{
    Ping, PingPong,
    client::{Builder, Connection, SendRequest},
};
use http::uri::Scheme;
use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::{Rc, Weak},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::spawn_local,
    time::{Instant, Sleep, sleep, timeout},
};

/// What a backend may send of a response before the client has taken it, on one stream and in all.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What of a request waits in the library for its turn, on one stream.
const MOST_WAITING: usize = 64 << 10;

/// What a response's head may take, and its trailers: the listeners' limits are for what came by them, and many share a
/// connection.
const RESPONSES: Limits = Limits { bytes: 256 << 10, fields: 1000 };

/// A backend that has just said that it is there, and nothing else since, is not asked again for so long: gRPC's servers
/// end connections on which they are asked more often than every five minutes.
const SOONEST_AGAIN: Duration = Duration::from_secs(6 * 60);

/// Connections that a core opens to one backend because the others are full.
const MOST_SESSIONS: usize = 16;

/// Requests on one connection, if the backend does not say how many.
const STREAMS_UNTOLD: usize = 100;

/// Connections with room for requests, and those that are being opened.
#[derive(Default)]
pub(in crate::proxy) struct Sessions {
    open: RefCell<Vec<Rc<Session>>>,
    /// Somebody opens one.
    opening: Cell<bool>,
    /// Attempts to open one that have failed so far, and why the last one did.
    failures: Cell<u64>,
    failed: Cell<Option<Reason>>,
    /// Something of this has changed, or a request has ended.
    changed: Rc<Notify>,
}

/// A connection. Its task ends with the last request on it once it is not kept here any more.
pub(super) struct Session {
    pub(super) sender: SendRequest<Bytes>,
    watch: Watch,
    scheme: Scheme,
    /// Of the backend's TLS, which it was opened with.
    epoch: u32,
    requests: Cell<usize>,
    /// It has served a request, so the backend may end it at any moment.
    used: Cell<bool>,
    /// Nobody is to be sent on it any more.
    retired: Cell<bool>,
    /// Until when it is kept without a request.
    idle_until: Cell<Moment>,
}

/// A request's place on a connection.
pub(in crate::proxy) struct Lease {
    pub(super) session: Rc<Session>,
    /// The connection had served another request before.
    pub(in crate::proxy) reused: bool,
    clock: Clock,
    idle: Duration,
    changed: Rc<Notify>,
}

impl Sessions {
    /// A place on a connection to `backend` that is open, if one has room and no `fresh` one is wanted; else on a new one,
    /// which `dial` makes the stream for. Of many who need one, one opens it.
    ///
    /// # Errors
    /// `ConnectFailed`, also when what answers does not speak HTTP/2 in time; what `dial` says.
    pub(in crate::proxy) async fn lease(
        &self,
        backend: &LiveBackend,
        clock: Clock,
        mut fresh: bool,
        timeouts: &ServiceTimeouts,
        most: Option<u32>,
        dial: impl AsyncFnOnce() -> Result<Opened, Reason>,
    ) -> Result<Lease, Reason> {
        let (failures, idle) = (self.failures.get(), timeouts.upstream_idle);
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(session) = self.roomy(backend.tls_epoch()).filter(|_| !fresh) {
                return Ok(self.occupy(session, clock, idle));
            }
            let sessions = self.open.borrow().len();
            // A place on one of those comes sooner than another connection.
            let is_full = sessions >= MOST_SESSIONS || sessions > 0 && backend.has_all(most);
            if self.opening.get() || is_full {
                fresh = false;
                changed.await;
                if self.failures.get() != failures {
                    return Err(self.failed.get().unwrap_or(Reason::ConnectFailed));
                }
                continue;
            }
            let opening = Opening::begin(self);
            // Boxed, as every request would have to have room for it.
            let opened = Box::pin(async {
                greet(dial().await?, clock, self.changed.clone(), timeouts).await
            });
            let opened = opened.await;
            let session = opened.inspect_err(|reason| opening.fail(*reason))?;
            self.open.borrow_mut().push(session.clone());
            return Ok(self.occupy(session, clock, idle));
        }
    }

    /// The most used connection that has room: the others may come to rest.
    fn roomy(&self, epoch: u32) -> Option<Rc<Session>> {
        let mut open = self.open.borrow_mut();
        open.retain(|session| session.epoch == epoch);
        let with_room = open.iter().filter(|session| session.has_room());
        with_room.max_by_key(|session| session.requests.get()).cloned()
    }

    fn occupy(&self, session: Rc<Session>, clock: Clock, idle: Duration) -> Lease {
        session.requests.set(session.requests.get() + 1);
        let reused = session.used.replace(true);
        Lease { session, reused, clock, idle, changed: self.changed.clone() }
    }

    /// Closes what has idled for too long, and keeps nothing that takes no requests.
    pub(in crate::proxy) fn tidy(&self, now: Moment, epoch: u32) {
        self.open.borrow_mut().retain(|session| {
            let is_fit = session.epoch == epoch && session.is_usable();
            is_fit && (session.requests.get() > 0 || session.idle_until.get() > now)
        });
        // Who waits for room on one that is gone may open another.
        self.changed.notify_waiters();
    }

    /// Closes one without a request.
    pub(in crate::proxy) fn give_one_up(&self) {
        let mut open = self.open.borrow_mut();
        if let Some(idle) = open.iter().position(|session| session.requests.get() == 0) {
            open.remove(idle);
        }
    }

    /// Requests in flight go on; then the connections end.
    pub(in crate::proxy) fn close(&self) {
        self.open.borrow_mut().clear();
        self.changed.notify_waiters();
    }
}

/// Says that a connection is being opened, as long as somebody wants it to be.
struct Opening<'a>(&'a Sessions);

impl<'a> Opening<'a> {
    fn begin(sessions: &'a Sessions) -> Self {
        sessions.opening.set(true);
        Self(sessions)
    }

    /// Those who wait for it need not try the same.
    fn fail(&self, reason: Reason) {
        self.0.failed.set(Some(reason));
        self.0.failures.set(self.0.failures.get() + 1);
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.changed.notify_waiters();
    }
}

impl Session {
    /// It takes requests at all.
    fn is_usable(&self) -> bool {
        !self.retired.get() && !self.watch.peer_leaves() && self.watch.verdict().is_none()
    }

    fn has_room(&self) -> bool {
        let offered = self.sender.current_max_send_streams();
        let offered = if offered == usize::MAX { STREAMS_UNTOLD } else { offered };
        self.is_usable() && self.requests.get() < offered
    }
}

impl Lease {
    /// What its connection is spoken of as.
    pub(in crate::proxy) fn scheme(&self) -> Scheme {
        self.session.scheme.clone()
    }

    /// The backend has said that it takes WebSockets (RFC 8441 section 3).
    pub(in crate::proxy) fn takes_websockets(&self) -> bool {
        self.session.sender.is_extended_connect_protocol_enabled()
    }

    /// What has been heard of the connection so far.
    pub(in crate::proxy) fn silence(&self) -> Silence {
        Silence { heard: self.session.watch.heard(), session: self.session.clone() }
    }
}

/// How it was when a request was sent.
pub(in crate::proxy) struct Silence {
    session: Rc<Session>,
    heard: u64,
}

impl Silence {
    /// No answer has come in time. If nothing at all has come since, nobody else is to wait on that connection.
    pub(in crate::proxy) fn note_timeout(&self) {
        if self.session.watch.heard() == self.heard {
            self.session.retired.set(true);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let session = &self.session;
        session.requests.set(session.requests.get().saturating_sub(1));
        session.idle_until.set(self.clock.now() + self.idle);
        self.changed.notify_waiters();
    }
}

/// Begins to speak HTTP/2 and waits until the backend does.
///
/// # Errors
/// `ConnectFailed` when it does not within `timeouts.connect`.
async fn greet(
    Opened { stream, epoch, held }: Opened,
    clock: Clock,
    changed: Rc<Notify>,
    timeouts: &ServiceTimeouts,
) -> Result<Rc<Session>, Reason> {
    // Resets are no flood on this side: this proxy asks for streams, nobody else.
    let watch = Watch::new(Side::Client, 0, RESPONSES, clock);
    let scheme = if matches!(stream, Stream::Tls(_)) { Scheme::HTTPS } else { Scheme::HTTP };
    let io = Guarded::new(stream, watch.clone(), clock);
    let greeting = async {
        let (sender, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(MOST_WAITING)
            .enable_push(false)
            .handshake(io)
            .await
            .ok()?;
        let session = Rc::new(Session {
            sender,
            watch: watch.clone(),
            scheme,
            epoch,
            requests: Cell::new(0),
            used: Cell::new(false),
            retired: Cell::new(false),
            idle_until: Cell::default(),
        });
        let begun = Rc::new(Notify::new());
        let pulse = Pulse::new(watch.clone(), Rc::downgrade(&session), clock, timeouts.ping);
        let driving = drive(connection, pulse, begun.clone(), changed);
        spawn_local(async move {
            driving.await;
            drop(held);
        });
        begun.notified().await;
        session.is_usable().then_some(session)
    };
    timeout(timeouts.connect, greeting).await.ok().flatten().ok_or(Reason::ConnectFailed)
}

/// Runs until the connection has ended.
async fn drive(
    mut connection: Connection<Guarded<Stream>, Bytes>,
    mut pulse: Pulse,
    begun: Rc<Notify>,
    changed: Rc<Notify>,
) {
    let mut has_begun = false;
    let mut ping = connection.ping_pong();
    let ended = poll_fn(|cx| {
        pulse.watch.caught_up();
        let is_dead = ping.as_mut().is_some_and(|ping| pulse.poll(ping, cx).is_ready());
        let polled = Pin::new(&mut connection).poll(cx);
        if !has_begun && pulse.watch.has_begun() {
            has_begun = true;
            begun.notify_one();
        }
        match (polled, pulse.watch.verdict()) {
            (Poll::Ready(Ok(())), _) => Poll::Ready("closed".to_owned()),
            (Poll::Ready(Err(error)), _) => Poll::Ready(error.to_string()),
            (Poll::Pending, Some(reason)) => Poll::Ready(format!("given up: {reason}")),
            (Poll::Pending, None) if is_dead => Poll::Ready("nobody is there any more".to_owned()),
            (Poll::Pending, None) => Poll::Pending,
        }
    })
    .await;
    tracing::debug!(why = ended, "HTTP/2 connection to a backend ended");
    if let Some(session) = pulse.session.upgrade() {
        session.retired.set(true);
    }
    begun.notify_one();
    changed.notify_waiters();
}

/// Asks a backend that is silent while requests wait for it whether it is there.
struct Pulse {
    watch: Watch,
    session: Weak<Session>,
    clock: Clock,
    /// The longest silence, and the longest wait for an answer; zero: nobody is asked.
    patience: Duration,
    timer: Pin<Box<Sleep>>,
    /// What had been heard when the backend said that it is there, and when it had been asked.
    answered: Option<(u64, u64)>,
}

impl Pulse {
    fn new(watch: Watch, session: Weak<Session>, clock: Clock, patience: Duration) -> Self {
        let timer = Box::pin(sleep(patience));
        Self { watch, session, clock, patience, timer, answered: None }
    }

    /// Ready when nobody is there.
    fn poll(&mut self, ping: &mut PingPong, cx: &mut Context<'_>) -> Poll<()> {
        if self.patience.is_zero() {
            return Poll::Pending;
        }
        let now = self.clock.now_millis();
        while let Poll::Ready(Ok(_)) = ping.poll_pong(cx) {
            self.answered = Some((self.watch.heard(), now));
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.watch.has_been_asked_for(now, self.patience) {
                return Poll::Ready(());
            }
            let is_to_be_asked = self.is_waited_for()
                && self.watch.is_to_be_asked(now, self.patience)
                && !self.has_just_answered(now);
            if is_to_be_asked && ping.send_ping(Ping::opaque()).is_ok() {
                self.watch.note_asked(now);
            }
            let next = self.watch.quiet_until(now, self.patience);
            self.timer.as_mut().reset(Instant::now() + next);
        }
        Poll::Pending
    }

    fn is_waited_for(&self) -> bool {
        self.session.upgrade().is_some_and(|session| session.requests.get() > 0)
    }

    fn has_just_answered(&self, now: u64) -> bool {
        self.answered.is_some_and(|(heard, at)| {
            heard == self.watch.heard() && now.saturating_sub(at) < millis(SOONEST_AGAIN)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_just_answered_is_not_asked_again() {
        let watch = Watch::new(Side::Client, 0, RESPONSES, Clock::start());
        let patience = Duration::from_secs(10);
        let mut pulse = Pulse::new(watch.clone(), Weak::new(), Clock::start(), patience);
        assert!(!pulse.has_just_answered(1000));
        let again = 1000 + millis(SOONEST_AGAIN);
        pulse.answered = Some((watch.heard(), 1000));
        assert!(pulse.has_just_answered(1000) && pulse.has_just_answered(again - 1));
        assert!(!pulse.has_just_answered(again), "it may have died since");
        pulse.answered = Some((watch.heard() + 1, 1000));
        assert!(!pulse.has_just_answered(1001), "it has said something else");
    }
}
