//! A client's connection between and around its requests: what comes next, how long it may idle, how it ends.

use super::{
    desk::READ,
    message::{Wire, status_line},
    relay::poll_write,
    response::persistence,
    scan::{ScanError, ScanLimits},
    work::{Download, Incoming, Outbox, Work},
};
use crate::{
    live::{Moment, Reason, method_index, millis},
    net::{Stream, poll_read},
    proxy::{
        connection::{ClientConnection, QUIET_BEFORE_CLOSE},
        failure::Reply,
        head::LONGEST_TARGET,
        headers::{Decimal, Sink},
        http2::PREFACE,
        note::note_unreadable,
        record::Recorder,
    },
};
use http::StatusCode;
use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::AsyncWrite;

/// How long a client that was told that nothing more comes is listened to (RFC 9112 section 9.6): what it
/// still sends must not cost it the answer.
const LINGER: Duration = Duration::from_secs(2);

/// What it may say meanwhile.
const MOST_LINGERING: usize = 4 << 20;

/// What is read of a body that nobody wants, so that the connection can go on.
const MOST_UNWANTED: u64 = 256 << 10;

pub(super) struct Session {
    pub(super) connection: Rc<ClientConnection>,
    pub(super) client: Stream,
    pub(super) deadline: Deadline,
    /// Held while a request is in flight or begins.
    pub(super) work: Option<Box<Work>>,
    /// The client has closed its side.
    pub(super) half_closed: bool,
    /// When the last exchange ended, or the connection began.
    pub(super) quiet_since: Moment,
    /// When a head began to come that is not complete.
    head_since: Option<u64>,
    /// A request has been seen.
    used: bool,
}

/// A connection's place among the deadlines.
pub(super) struct Deadline {
    connection: Rc<ClientConnection>,
    key: usize,
    /// What it was set to by who waits for a request; 0: somebody else has set it since. It may be sooner than
    /// it need be: so a busy connection does not set it for every request.
    due: Cell<u64>,
}

impl Deadline {
    /// It passes after so much time.
    pub(super) fn give(&self, patience: Duration) {
        let core = &self.connection.core;
        self.due.set(0);
        core.desk.deadlines.set(self.key, core.now_millis().saturating_add(millis(patience)));
    }

    /// The same, and who waits is woken then.
    pub(super) fn wait(&self, cx: &Context<'_>, patience: Duration) {
        self.register(cx);
        self.give(patience);
    }

    pub(super) fn register(&self, cx: &Context<'_>) {
        self.connection.core.desk.deadlines.register(self.key, cx);
    }

    /// Whether it has passed; said once.
    pub(super) fn take_passed(&self) -> bool {
        self.connection.core.desk.deadlines.take_passed(self.key)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.connection.core.desk.deadlines.leave(self.key);
    }
}

/// What a connection says next.
pub(super) enum Said {
    /// The head of a request, complete.
    Request,
    /// The preface of HTTP/2, and maybe more.
    Http2(Vec<u8>),
    /// A head that is refused.
    Unreadable(Reason),
    /// Nothing, or nothing that is worth an answer.
    Nothing,
}

impl Session {
    pub(super) fn new(connection: Rc<ClientConnection>, client: Stream) -> Self {
        let now = connection.core.live.clock.now();
        let due = (now + connection.listener.spec.timeouts.headers).millis();
        let key = connection.core.desk.deadlines.enter(due);
        Self {
            deadline: Deadline { connection: connection.clone(), key, due: Cell::new(0) },
            connection,
            client,
            work: None,
            half_closed: false,
            quiet_since: now,
            head_since: None,
            used: false,
        }
    }

    /// Waits for the next request. No buffer is held before its first byte.
    pub(super) async fn next(&mut self) -> Said {
        if let Some(said) = self.go_on_with_what_is_ahead() {
            return said;
        }
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn go_on_with_what_is_ahead(&mut self) -> Option<Said> {
        let mut work = self.work.take()?;
        if work.ahead.is_empty() {
            self.connection.core.desk.return_work(work);
            return None;
        }
        work.request.clear();
        work.scan.clear();
        let Work { request, ahead, .. } = &mut *work;
        request.extend_from_slice(ahead.rest());
        ahead.clear();
        self.work = Some(work);
        self.scan_on()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Said> {
        loop {
            let connection = self.connection.clone();
            let mut scratch = connection.core.desk.scratch.borrow_mut();
            let read = match poll_read(&mut self.client, cx, &mut scratch[..READ]) {
                Poll::Pending => {
                    drop(scratch);
                    return self.wait(cx);
                }
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Said::Nothing),
                Poll::Ready(Ok(read)) => read,
            };
            if let Some(said) = self.take_in(&scratch[..read]) {
                return Poll::Ready(said);
            }
        }
    }

    /// More bytes have come.
    fn take_in(&mut self, bytes: &[u8]) -> Option<Said> {
        let work = self.work.get_or_insert_with(|| self.connection.core.desk.take_work());
        let may_be_h2 = !self.used && self.connection.protocols.h2;
        if !work.request.is_empty() || (may_be_h2 && bytes.starts_with(b"PRI")) {
            work.request.extend_from_slice(bytes);
            return self.scan_on();
        }
        let limits = self.limits();
        let work = self.work.as_mut()?;
        match work.scan.scan(bytes, &limits) {
            Ok(true) => {
                let (head, ahead) = bytes.split_at(work.scan.len);
                work.request.extend_from_slice(head);
                work.ahead.extend(ahead);
                Some(self.request())
            }
            Ok(false) => {
                work.request.extend_from_slice(bytes);
                self.head_begins();
                None
            }
            Err(error) => Some(unreadable(error)),
        }
    }

    /// Reads on in a head that comes in pieces.
    fn scan_on(&mut self) -> Option<Said> {
        let limits = self.limits();
        let may_be_h2 = !self.used && self.connection.protocols.h2;
        let work = self.work.as_mut()?;
        if may_be_h2 && work.request.starts_with(PREFACE) {
            return Some(Said::Http2(std::mem::take(&mut work.request)));
        }
        if may_be_h2 && PREFACE.starts_with(&work.request) {
            self.head_begins();
            return None;
        }
        match work.scan.scan(&work.request, &limits) {
            Ok(true) => {
                work.ahead.extend(&work.request[work.scan.len..]);
                work.request.truncate(work.scan.len);
                Some(self.request())
            }
            Ok(false) => {
                self.head_begins();
                None
            }
            Err(error) => Some(unreadable(error)),
        }
    }

    fn limits(&self) -> ScanLimits {
        let limits = &self.connection.listener.spec.limits;
        ScanLimits {
            bytes: limits.header_bytes as usize,
            fields: limits.header_count as usize,
            target: LONGEST_TARGET,
        }
    }

    fn request(&mut self) -> Said {
        self.used = true;
        self.head_since = None;
        Said::Request
    }

    fn head_begins(&mut self) {
        if self.head_since.is_none() {
            self.head_since = Some(self.connection.core.now_millis());
        }
    }

    /// Nothing has come: is it too late?
    fn wait(&mut self, cx: &Context<'_>) -> Poll<Said> {
        let deadline = &self.deadline;
        let (passed, known) = (deadline.take_passed(), deadline.due.get());
        let is_leaving = self.connection.is_leaving();
        if !passed && !is_leaving && known != 0 && self.head_since.is_none() && self.used {
            return Poll::Pending;
        }
        let timeouts = &self.connection.listener.spec.timeouts;
        let quiet_since = self.quiet_since.millis();
        let due = match self.head_since {
            Some(_) if !self.used => quiet_since.saturating_add(millis(timeouts.headers)),
            Some(since) => since.saturating_add(millis(timeouts.headers)),
            None => {
                let patience = match () {
                    () if is_leaving => QUIET_BEFORE_CLOSE,
                    () if self.used => timeouts.keep_alive,
                    () => timeouts.headers,
                };
                quiet_since.saturating_add(millis(patience))
            }
        };
        let core = &self.connection.core;
        deadline.register(cx);
        if (passed || due < known) && core.now_millis() >= due {
            return Poll::Ready(match self.head_since {
                Some(_) => Said::Unreadable(Reason::RequestTimeout),
                None => Said::Nothing,
            });
        }
        if passed || due != known {
            core.desk.deadlines.set(deadline.key, due);
            deadline.due.set(due);
        }
        Poll::Pending
    }

    /// Answers a head that could not be read.
    pub(super) async fn answer_unreadable(&mut self, reason: Reason) {
        let core = &self.connection.core;
        let mut work = self.work.take().unwrap_or_else(|| core.desk.take_work());
        // Whatever was read of its method is not to be believed.
        let now = core.live.clock.now();
        let mut recorder = Recorder::new(core.clone(), method_index(b""), now);
        note_unreadable(&self.connection, None, &mut recorder);
        work.download.begin(true);
        self.refuse(1, false, recorder, &reason.into(), &mut work.download);
        if self.flush(&mut work.download.out).await {
            self.linger().await;
        }
    }

    /// Puts a reply of the proxy's own into the outbox, for a client of HTTP/1.`minor`, and records it.
    pub(super) fn refuse(
        &self,
        minor: u8,
        is_head: bool,
        mut recorder: Recorder,
        reply: &Reply,
        download: &mut Download,
    ) {
        download.closes |= reply.muddles() || self.connection.is_leaving();
        let page = reply.page();
        let status = StatusCode::from_u16(reply.status()).unwrap_or_default();
        let phrase = status.canonical_reason().unwrap_or_default();
        let out = &mut download.out.bytes;
        status_line(out, status.as_u16(), phrase.as_bytes());
        let mut wire = Wire(out);
        reply.fields(&mut wire);
        wire.line(b"content-length", Decimal::new(page.len() as u64).as_bytes());
        let core = &self.connection.core;
        core.desk.add_date(core.now_millis(), wire.0);
        if let Some(option) = persistence(download.closes, minor) {
            wire.line(b"connection", option);
        }
        out.extend_from_slice(b"\r\n");
        if !is_head {
            out.extend_from_slice(page.as_bytes());
            recorder.note_bytes_out(page.len() as u64);
        }
        recorder.reply(reply);
        recorder.finish();
    }

    /// Writes all of it; false when the client does not take it.
    pub(super) async fn flush(&mut self, out: &mut Outbox) -> bool {
        self.deadline.give(self.connection.listener.spec.timeouts.body);
        let written = poll_fn(|cx| {
            while !out.is_empty() {
                match poll_write(&mut self.client, cx, out.rest(), &[]) {
                    Poll::Ready(Ok(n)) if n > 0 => out.advance(n),
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending if self.time_is_up(cx) => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match self.client.poll_settled(cx) {
                Poll::Ready(settled) => Poll::Ready(settled.is_ok()),
                Poll::Pending if self.time_is_up(cx) => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        });
        let written = written.await;
        self.quiet_since = self.connection.core.live.clock.now();
        written
    }

    /// Reads the rest of a body that nobody wants; false when there is too much of it.
    pub(super) async fn skip_body(&mut self) -> bool {
        let Some(mut work) = self.work.take() else { return true };
        if work.upload.incoming == Incoming::Ended {
            self.work = Some(work);
            return true;
        }
        self.deadline.give(self.connection.listener.spec.timeouts.body);
        let most = work.upload.read + MOST_UNWANTED;
        let skipped = poll_fn(|cx| self.poll_skip(cx, &mut work, most)).await;
        self.work = Some(work);
        skipped
    }

    fn poll_skip(&mut self, cx: &mut Context<'_>, work: &mut Work, most: u64) -> Poll<bool> {
        let Work { ahead, upload, .. } = work;
        loop {
            upload.body.clear();
            if !ahead.is_empty() && upload.take_ahead(ahead).is_err() {
                return Poll::Ready(false);
            }
            if upload.incoming == Incoming::Ended {
                return Poll::Ready(true);
            }
            let connection = self.connection.clone();
            let mut scratch = connection.core.desk.scratch.borrow_mut();
            match poll_read(&mut self.client, cx, &mut scratch[..READ]) {
                Poll::Pending if self.time_is_up(cx) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(read)) if read > 0 && upload.read < most => {
                    ahead.extend(&scratch[..read]);
                }
                Poll::Ready(_) => return Poll::Ready(false),
            }
        }
    }

    /// Says that nothing more comes, and listens for a while.
    pub(super) async fn linger(&mut self) {
        if let Some(work) = self.work.take() {
            self.connection.core.desk.return_work(work);
        }
        self.deadline.give(LINGER);
        let mut heard = 0;
        poll_fn(|cx| {
            if ready!(Pin::new(&mut self.client).poll_shutdown(cx)).is_err() || self.half_closed {
                return Poll::Ready(());
            }
            let connection = self.connection.clone();
            let mut scratch = connection.core.desk.scratch.borrow_mut();
            loop {
                match poll_read(&mut self.client, cx, &mut scratch[..READ]) {
                    Poll::Pending if self.time_is_up(cx) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(read)) if read > 0 && heard < MOST_LINGERING => heard += read,
                    Poll::Ready(_) => return Poll::Ready(()),
                }
            }
        })
        .await;
    }

    /// The connection ends with a reset, which nobody can take for the end of a message.
    pub(super) fn reset_client(&self) {
        self.client.set_reset();
    }

    fn time_is_up(&self, cx: &Context<'_>) -> bool {
        self.deadline.register(cx);
        self.deadline.take_passed()
    }
}

fn unreadable(error: ScanError) -> Said {
    Said::Unreadable(match error {
        ScanError::Malformed => Reason::BadRequest,
        ScanError::TargetTooLong => Reason::TargetTooLong,
        ScanError::TooLarge | ScanError::TooMany => Reason::HeadersTooLarge,
    })
}
