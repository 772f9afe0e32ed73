//! The socket of an HTTP/2 connection, with a guard on it.

use super::guard::{Guard, Limits, Side};
use crate::live::{Clock, millis};
use h2::Reason;
use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long a peer that was told that nothing more comes is listened to: what it still sends must not cost it
/// what it was told (a socket that is closed with bytes unread is reset).
const LINGER: Duration = Duration::from_secs(1);

/// What it may say meanwhile.
const MOST_LINGERING: usize = 4 << 20;

/// What the library may read at once: it takes all that there is, and makes requests of it, before it hands over the
/// first of them.
const MOST_AHEAD: usize = 64 << 10;

/// What is known of a connection below the library, for who drives it.
#[derive(Clone)]
pub(in crate::proxy) struct Watch(Rc<Watched>);

struct Watched {
    guard: RefCell<Guard>,
    /// Since when the peer has taken nothing of what it is offered.
    blocked_since: Cell<Option<u64>>,
    /// When the peer was last heard of, and since when it has been asked whether it is there.
    heard_at: Cell<u64>,
    asked_at: Cell<Option<u64>>,
    /// Bytes that were read since it was last looked at what they ask for.
    read: Cell<usize>,
}

impl Watch {
    pub(super) fn new(side: Side, resets: u32, limits: Limits, clock: Clock) -> Self {
        let now = clock.now_millis();
        let guard = RefCell::new(Guard::new(side, resets, limits, now));
        Self(Rc::new(Watched {
            guard,
            blocked_since: Cell::new(None),
            read: Cell::new(0),
            heard_at: Cell::new(now),
            asked_at: Cell::new(None),
        }))
    }

    /// Why the connection must end, once that is so. Nothing more is read of it then.
    pub(in crate::proxy) fn verdict(&self) -> Option<Reason> {
        self.0.guard.borrow().verdict()
    }

    /// The peer has shown that it speaks HTTP/2.
    pub(super) fn has_begun(&self) -> bool {
        self.0.guard.borrow().has_begun()
    }

    /// The peer has said that it takes no new streams.
    pub(super) fn peer_leaves(&self) -> bool {
        self.0.guard.borrow().leaves()
    }

    /// How often the peer was heard of.
    pub(super) fn heard(&self) -> u64 {
        self.0.guard.borrow().heard()
    }

    /// Since when the peer owes the rest of something that it has begun to say.
    pub(in crate::proxy) fn owes_since(&self) -> Option<u64> {
        self.0.guard.borrow().owes_since()
    }

    /// Whether it is time to ask the peer, of which nothing was heard for so long, if it is there.
    pub(super) fn is_to_be_asked(&self, now: u64, silence: Duration) -> bool {
        let silent = now.saturating_sub(self.0.heard_at.get());
        self.asked_since().is_none() && silent >= millis(silence)
    }

    pub(super) fn note_asked(&self, now: u64) {
        self.0.asked_at.set(Some(now));
    }

    /// Since when nothing has been heard of a peer that was asked.
    pub(in crate::proxy) fn asked_since(&self) -> Option<u64> {
        self.0.asked_at.get()
    }

    /// Nothing has been heard for so long of a peer that was asked.
    pub(super) fn has_been_asked_for(&self, now: u64, patience: Duration) -> bool {
        self.asked_since().is_some_and(|since| now.saturating_sub(since) >= millis(patience))
    }

    /// How long it is until the peer will have been silent for `patience`, or have had as long to answer.
    pub(super) fn quiet_until(&self, now: u64, patience: Duration) -> Duration {
        let since = self.asked_since().unwrap_or(self.0.heard_at.get());
        let left = since.saturating_add(millis(patience)).saturating_sub(now);
        if left > 0 { Duration::from_millis(left) } else { patience }
    }

    /// What was asked for has been taken from the library.
    pub(super) fn caught_up(&self) {
        self.0.read.set(0);
    }

    /// Ready when more of a body may be handed to the library.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.guard.borrow().backlog().poll_room(cx)
    }

    /// So much of a stream's body was.
    pub(super) fn handed_over(&self, stream: u32, bytes: usize) {
        self.0.guard.borrow().backlog().add(stream, bytes);
    }

    /// Since when the peer has taken nothing of what it is offered.
    pub(in crate::proxy) fn blocked_since(&self) -> Option<u64> {
        self.0.blocked_since.get()
    }
}

pub(super) struct Guarded<S> {
    io: S,
    watch: Watch,
    clock: Clock,
    /// What the library is to see before it sees more of what comes.
    instead: Vec<u8>,
    /// It was told the end.
    farewell: Option<Farewell>,
}

struct Farewell {
    until: Pin<Box<Sleep>>,
    heard: usize,
}

impl<S> Guarded<S> {
    pub(super) fn new(io: S, watch: Watch, clock: Clock) -> Self {
        Self { io, watch, clock, instead: Vec::new(), farewell: None }
    }

    fn note_sent(&self, bytes: &[u8]) {
        self.watch.0.guard.borrow_mut().take_out(bytes, self.clock.now_millis());
    }

    fn note_progress<T>(&self, written: &Poll<io::Result<T>>) {
        let blocked_since = &self.watch.0.blocked_since;
        match written {
            Poll::Ready(_) => blocked_since.set(None),
            Poll::Pending if blocked_since.get().is_none() => {
                blocked_since.set(Some(self.clock.now_millis()));
            }
            Poll::Pending => {}
        }
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Until it has left, or has had its time.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let farewell = self
            .farewell
            .get_or_insert_with(|| Farewell { until: Box::pin(sleep(LINGER)), heard: 0 });
        let mut scratch = [0; 4096];
        while farewell.heard < MOST_LINGERING {
            if farewell.until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => farewell.heard += buf.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Who drives the connection looks for a verdict each time that nothing can be read.
        if self.watch.verdict().is_some() && self.instead.is_empty() {
            return Poll::Pending;
        }
        if self.watch.0.read.get() > MOST_AHEAD {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let this = &mut *self;
        while this.instead.is_empty() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let now = this.clock.now_millis();
            let read = &buf.filled()[before..];
            this.watch.0.read.set(this.watch.0.read.get() + read.len());
            this.watch.0.heard_at.set(now);
            this.watch.0.asked_at.set(None);
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut guard = this.watch.0.guard.borrow_mut();
            let passed = guard.take_in(read, now, &mut this.instead);
            buf.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
            if guard.verdict().is_some() && this.instead.is_empty() {
                return Poll::Pending;
            }
        }
        let told = this.instead.len().min(buf.remaining());
        buf.put_slice(&this.instead[..told]);
        this.instead.drain(..told);
        if this.instead.is_empty() {
            this.instead = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note_progress(&written);
        let written = ready!(written)?;
        self.note_sent(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Of TLS something may be kept that the peer does not take.
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.note_progress(&flushed);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.farewell.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        }
        ready!(self.poll_farewell(cx));
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note_progress(&written);
        let written = ready!(written)?;
        let mut left = written;
        for buf in bufs {
            let taken = left.min(buf.len());
            self.note_sent(&buf[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(written))
    }
}
