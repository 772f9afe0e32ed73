//! One attempt: the request to the backend and the response to the client, both at once, in the client's own
//! task. Each side is read only when the other can take it.

use super::{
    conn::Conn,
    desk::{READ, ROOM},
    interim,
    response::{self, Asked},
    session::Deadline,
    work::{Ahead, Download, Incoming, Outgoing, Stage, Upload},
};
use crate::{
    live::{Clock, Kind, Moment, Reason, millis},
    net::{self, Stream, poll_read},
    proxy::{
        connection::ClientConnection,
        core::Stall,
        decide::Assignment,
        flight::Flight,
        record::Recorder,
        tries::{Miss, is_rescued},
    },
};
use std::{
    io::{self, IoSlice},
    task::{Context, Poll},
    time::Duration,
};

/// A client that has closed its side may still wait for its answer; it is given up when nothing could be
/// sent to it for this long.
pub(super) const HALF_CLOSED: Duration = Duration::from_secs(2);

/// How often it is asked after a client that is not read, because nobody takes what it says.
const LOOK: Duration = Duration::from_secs(1);

/// What a slow client, or one that has more to say than is asked, may have in memory.
pub(super) const READ_SLOWLY: usize = 16 << 10;

/// A request body that drips is not waited for without end: in the long run it must bring so many bytes a
/// second,
const SLOWEST_BODY: u64 = 100;

/// and the long run begins after so many times the longest silence.
const DRIPPING: u64 = 5;

/// Reads that either side may have in a row: a fast transfer lets the other connections have their turn.
const MOST_READS: u32 = 16;

/// Pieces up to this size are copied behind the head, so that both go out as one.
const SMALL: usize = 4 << 10;

/// How an attempt ended.
pub(super) enum End {
    /// The whole response has been handed to the kernel.
    Answered,
    /// The backend has switched protocols; the head that says so is in the outbox.
    Switched,
    /// The client has got nothing of a response.
    Missed(Miss),
    /// The response had begun.
    Cut(Reason),
    ClientGone,
}

pub(super) struct Relay<'a> {
    pub(super) connection: &'a ClientConnection,
    pub(super) assignment: &'a Assignment,
    pub(super) asked: &'a Asked,
    /// The protocol that the client would switch to.
    pub(super) upgrade: Option<&'a [u8]>,
    pub(super) client: &'a mut Stream,
    pub(super) backend: &'a mut Conn,
    pub(super) ahead: &'a mut Ahead,
    pub(super) upload: &'a mut Upload,
    pub(super) download: &'a mut Download,
    pub(super) recorder: &'a mut Recorder,
    /// For what is waited for of the client.
    pub(super) deadline: &'a Deadline,
    pub(super) half_closed: &'a mut bool,
    /// Sending the request again does no harm.
    pub(super) idempotent: bool,
    pub(super) attempt: &'a mut Attempt,
}

/// How an attempt stands.
pub(super) struct Attempt {
    sent: Moment,
    /// The client's body, if there is one, is waited for until then at the latest.
    body_deadline: u64,
    /// The client waits for 100 before it sends its body.
    awaits_continue: bool,
    turn: Turn,
    /// It is asked after a client that is not read.
    looks: bool,
    /// A client that has closed its side has got its time.
    timed: bool,
    /// The client alone is waited for.
    last_wait: bool,
    /// The flight knows the task, which stays the same.
    registered: bool,
}

impl Attempt {
    /// `body`: the longest silence within the request's body, if it has one.
    pub(super) fn new(sent: Moment, body: Option<Duration>, awaits_continue: bool) -> Self {
        Self {
            sent,
            body_deadline: body
                .map_or(u64::MAX, |body| sent.millis().saturating_add(long_run(body))),
            awaits_continue,
            turn: Turn::Backend,
            looks: false,
            timed: false,
            last_wait: false,
            registered: false,
        }
    }
}

/// How long a body may take to come whose pace does not count yet, in milliseconds.
fn long_run(body: Duration) -> u64 {
    millis(body).saturating_mul(DRIPPING)
}

/// Whom an upload waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Client,
    Backend,
}

type Step<T> = Result<T, End>;

impl Relay<'_> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match self.advance(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    fn advance(&mut self, cx: &mut Context<'_>) -> Step<()> {
        if let Some(reason) = self.flight().verdict() {
            return Err(self.failed(reason));
        }
        if !self.attempt.registered {
            self.attempt.registered = true;
            self.flight().register(cx);
        }
        if !self.is_uploaded() && !self.sends_head(cx) {
            self.advance_upload(cx)?;
        }
        self.advance_download(cx)?;
        self.watch_client(cx)
    }

    fn flight(&self) -> &Flight {
        &self.assignment.ticket.flight
    }

    fn clock(&self) -> Clock {
        self.connection.core.live.clock
    }

    /// It has failed: with an answer of the proxy's own, if the client has got nothing yet.
    fn failed(&self, reason: Reason) -> End {
        if reason == Reason::ClientClosed {
            End::ClientGone
        } else if self.download.begun || self.download.out.is_begun() {
            End::Cut(reason)
        } else {
            End::Missed(Miss::Failed { reason, whole: self.upload.is_whole() })
        }
    }

    fn arm(&self, timeout: Duration, reason: Reason) {
        self.flight().arm(self.clock(), timeout, reason);
    }

    /// It is the backend's turn.
    fn await_backend(&mut self) {
        self.attempt.turn = Turn::Backend;
        let timeouts = &self.assignment.policy.timeouts;
        match self.flight().kind() {
            Kind::Request => self.arm(timeouts.response, Reason::ResponseTimeout),
            _ => self.arm(timeouts.body, Reason::IdleTimeout),
        }
    }

    /// It is the client's turn, which must say something within the listener's timeout. Once the response
    /// flows, its silence is nobody's fault.
    fn await_client(&mut self) {
        self.attempt.turn = Turn::Client;
        if self.flight().kind() != Kind::Request {
            return;
        }
        let now = self.clock().now_millis();
        let silent = now.saturating_add(millis(self.connection.listener.spec.timeouts.body));
        self.flight().arm_until(self.attempt.body_deadline.min(silent), Reason::RequestTimeout);
    }

    /// Nothing is left to do for the request: most are, when their answer comes.
    fn is_uploaded(&self) -> bool {
        self.upload.is_sent()
            && self.attempt.turn == Turn::Backend
            && !self.backend.stream.is_unsettled()
    }

    /// Sends a request that has no body, as most have none; false when that did not do it.
    fn sends_head(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(head) = self.upload.head_alone() else { return false };
        if let Poll::Ready(Ok(n)) = net::poll_write(&mut self.backend.stream, cx, head) {
            self.upload.wrote(n, self.idempotent);
        }
        self.is_uploaded()
    }

    // Apart, so that it costs requests without a body nothing.
    #[inline(never)]
    fn advance_upload(&mut self, cx: &mut Context<'_>) -> Step<()> {
        let mut moved = false;
        for _ in 0..MOST_READS {
            // What is there already goes out with the head, as one.
            if !self.ahead.is_empty() && self.upload.wants_more() {
                let before = self.upload.read;
                self.upload.take_ahead(self.ahead).map_err(|_| self.failed(Reason::BadRequest))?;
                self.note_body((self.upload.read - before) as usize)?;
                moved = true;
            }
            while self.upload.has_output() && !self.upload.broken {
                let (head, body) = self.upload.output();
                match poll_write(&mut self.backend.stream, cx, head, body) {
                    Poll::Pending => {
                        if moved || self.attempt.turn == Turn::Client {
                            self.await_backend();
                        }
                        return Ok(());
                    }
                    Poll::Ready(Ok(n)) if n > 0 => self.upload.wrote(n, self.idempotent),
                    // It may have answered before it closed.
                    Poll::Ready(_) => self.upload.broken = true,
                }
                moved = true;
            }
            if let Poll::Ready(Err(_)) = self.backend.stream.poll_settled(cx) {
                self.upload.broken = true;
            }
            if self.upload.broken || self.upload.incoming == Incoming::Ended {
                // A request without a body has just been sent, and its time runs already.
                if self.attempt.turn == Turn::Client || (moved && self.upload.read > 0) {
                    self.await_backend();
                }
                return Ok(());
            }
            if !self.ahead.is_empty() {
                continue;
            }
            let Poll::Ready(read) = self.read_body(cx)? else {
                if !self.attempt.awaits_continue && (moved || self.attempt.turn == Turn::Backend) {
                    self.await_client();
                }
                return Ok(());
            };
            self.note_body(read)?;
            moved = true;
        }
        cx.waker().wake_by_ref();
        self.await_client();
        Ok(())
    }

    /// So many bytes of the client's body have come.
    fn note_body(&mut self, read: usize) -> Step<()> {
        self.attempt.awaits_continue = false;
        let earned = read as u64 * 1000 / SLOWEST_BODY;
        self.attempt.body_deadline = self.attempt.body_deadline.saturating_add(earned);
        if self.upload.read > self.assignment.policy.limits.body_bytes {
            return Err(self.failed(Reason::BodyTooLarge));
        }
        Ok(())
    }

    /// Reads more of the client's body: so many bytes came.
    fn read_body(&mut self, cx: &mut Context<'_>) -> Step<Poll<usize>> {
        let core = &self.connection.core;
        let mut scratch = core.desk.scratch.borrow_mut();
        let read = match poll_read(self.client, cx, &mut scratch[..READ]) {
            Poll::Pending => return Ok(Poll::Pending),
            // Its message is incomplete (RFC 9112 section 8).
            Poll::Ready(Ok(0) | Err(_)) => return Err(End::ClientGone),
            Poll::Ready(Ok(read)) => read,
        };
        let bytes = &mut scratch[..read];
        let of_body = self.upload.take(bytes).map_err(|_| self.failed(Reason::BadRequest))?;
        self.ahead.extend(&bytes[of_body..]);
        Ok(Poll::Ready(read))
    }

    fn advance_download(&mut self, cx: &mut Context<'_>) -> Step<()> {
        let mut moved = false;
        for _ in 0..MOST_READS {
            while !self.download.out.is_empty() {
                match poll_write(self.client, cx, self.download.out.rest(), &[]) {
                    Poll::Pending => return self.client_is_slow(cx, moved),
                    Poll::Ready(Ok(n)) if n > 0 => self.sent(n),
                    Poll::Ready(_) => return Err(End::ClientGone),
                }
                moved = true;
            }
            match self.client.poll_settled(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Pending => return self.client_is_slow(cx, moved),
                Poll::Ready(Err(_)) => return Err(End::ClientGone),
            }
            if self.download.is_done() {
                return Err(End::Answered);
            }
            if self.download.stage == Stage::Switched {
                return Err(End::Switched);
            }
            let core = &self.connection.core;
            let mut scratch = core.desk.scratch.borrow_mut();
            let piece = core.stalls.piece();
            let most = if self.download.is_slow() { piece.min(READ_SLOWLY) } else { piece };
            match poll_read(&mut self.backend.stream, cx, &mut scratch[ROOM..ROOM + most]) {
                Poll::Pending => {
                    drop(scratch);
                    return self.pending(moved);
                }
                Poll::Ready(Ok(read)) if read > 0 => {
                    self.received(cx, &mut scratch, read)?;
                }
                Poll::Ready(ended) => self.ended(ended.is_ok())?,
            }
            moved = true;
        }
        cx.waker().wake_by_ref();
        self.pending(true)
    }

    /// The backend has done its part. Who sees the end of the response finds it counted: so that is done before
    /// the last of it is written, at the price that the time of that write is missing, unless the client is slow.
    fn delivered(&mut self, now: Moment) {
        self.assignment.ticket.finish();
        if !self.download.is_slow() {
            let (upload, download) = (&*self.upload, &*self.download);
            self.recorder.finish_at(now, || (upload.read, download.passed));
        }
    }

    /// It takes all that there is, or does not.
    fn note_stall(&mut self, is_stalled: bool) {
        if is_stalled != self.download.is_slow() {
            self.turn_stall(is_stalled);
        }
    }

    #[cold]
    fn turn_stall(&mut self, is_stalled: bool) {
        self.download.stall = is_stalled.then(|| Stall::begin(&self.connection.core));
    }

    /// It does not take what there is.
    fn client_is_slow(&mut self, cx: &Context<'_>, moved: bool) -> Step<()> {
        self.note_stall(true);
        if self.download.is_delivered() {
            return self.wait_for_client(cx, moved);
        }
        self.pending(moved)
    }

    /// What is left of a response concerns the client alone.
    fn wait_for_client(&mut self, cx: &Context<'_>, moved: bool) -> Step<()> {
        if self.deadline.take_passed() && self.attempt.last_wait && !moved {
            return Err(End::Cut(Reason::IdleTimeout));
        }
        if moved || !self.attempt.last_wait {
            self.attempt.last_wait = true;
            self.deadline.wait(cx, self.assignment.policy.timeouts.body);
        }
        Ok(())
    }

    /// Neither side can go on; after some progress the wait begins anew.
    fn pending(&mut self, moved: bool) -> Step<()> {
        if self.download.stage == Stage::Body && self.flight().kind() == Kind::Request {
            self.assignment.ticket.turn(Kind::Stream);
        }
        if moved && self.flight().kind() != Kind::Request {
            self.arm(self.assignment.policy.timeouts.body, Reason::IdleTimeout);
        }
        Ok(())
    }

    /// `n` bytes of the outbox have left.
    fn sent(&mut self, n: usize) {
        self.download.out.advance(n);
        self.note_sent();
    }

    fn note_sent(&mut self) {
        self.download.begun |= self.download.stage != Stage::Head;
        if *self.half_closed {
            self.deadline.give(HALF_CLOSED);
        }
    }

    /// The backend's connection has ended.
    fn ended(&mut self, cleanly: bool) -> Step<()> {
        self.download.reusable = false;
        match self.download.stage {
            Stage::Head if !self.download.received => Err(End::Missed(Miss::Silent {
                reused: self.backend.reused,
                written: self.upload.written,
                whole: self.upload.is_whole(),
            })),
            Stage::Body if self.download.incoming == Incoming::UntilClose && cleanly => {
                self.download.incoming = Incoming::Ended;
                self.delivered(self.clock().now());
                if self.download.outgoing == Outgoing::Chunked {
                    self.download.add_trailers();
                }
                Ok(())
            }
            _ => Err(self.failed(Reason::UpstreamReset)),
        }
    }

    /// `read` bytes have come from the backend.
    fn received(&mut self, cx: &mut Context<'_>, scratch: &mut [u8], read: usize) -> Step<()> {
        self.download.received = true;
        let end = ROOM + read;
        let mut start = ROOM;
        let mut heard = None;
        while self.download.stage == Stage::Head {
            let limits = &self.connection.listener.spec.limits;
            let scanned = response::scan(self.download, &scratch[start..end], limits);
            let Some(len) = scanned.map_err(|_| self.failed(Reason::BadResponse))? else {
                return Ok(());
            };
            let mut pieces = std::mem::take(&mut self.download.partial);
            let head;
            (head, start) = response::whole_head(&scratch[..end], start, &pieces, len);
            heard = self.judge(head)?;
            pieces.clear();
            self.download.partial = pieces;
            match self.download.stage {
                Stage::Head if start == end => return Ok(()),
                Stage::Switched => {
                    self.download.partial.extend_from_slice(&scratch[start..end]);
                    return Ok(());
                }
                _ => {}
            }
        }
        let piece = self
            .download
            .take(scratch, start, end)
            .map_err(|_| self.failed(Reason::BadResponse))?;
        if self.download.incoming == Incoming::Ended {
            self.delivered(heard.unwrap_or_else(|| self.clock().now()));
        }
        self.pass(cx, &scratch[piece])?;
        if self.download.incoming == Incoming::Ended && self.download.has_trailers() {
            self.download.add_trailers();
        }
        Ok(())
    }

    /// Turns a response's head, whose scan is complete, into the client's. Says when a final one came.
    fn judge(&mut self, head: &[u8]) -> Step<Option<Moment>> {
        if self.download.scan.is_interim() {
            if self.download.scan.status == 100 && self.attempt.awaits_continue {
                self.attempt.awaits_continue = false;
                self.attempt.body_deadline = self
                    .clock()
                    .now_millis()
                    .saturating_add(long_run(self.connection.listener.spec.timeouts.body));
                self.await_client();
            }
            return interim::pass(self.download, self.asked, head)
                .map(|()| None)
                .map_err(|_| self.failed(Reason::BadResponse));
        }
        let now = self.clock().now();
        let stats = &self.flight().upstream.backend.pool.stats;
        stats.record_upstream_response(self.connection.core.index, now.since(self.attempt.sent));
        // Calls of gRPC come by HTTP/2.
        self.flight().answered(now, self.attempt.sent, self.download.scan.status, || false);
        if self.download.scan.status >= 500 && self.is_rescued() {
            self.note_answer();
            return Err(self.failed(Reason::ServerError));
        }
        let context = response::Context {
            connection: self.connection,
            assignment: self.assignment,
            asked: self.asked,
            upgrade: self.upgrade,
            waits_to_send: self.attempt.awaits_continue,
            now,
        };
        let announced = response::answer(&context, self.download, head)
            .map_err(|reason| self.failed(reason))?;
        self.note_answer();
        self.backend.announced = announced.or(self.backend.announced);
        self.recorder.set_code(self.download.scan.status);
        self.upload.stop_keeping();
        Ok(Some(now))
    }

    /// What the answer says of its backend.
    fn note_answer(&self) {
        let backend = &self.flight().upstream.backend;
        let ejection = &self.assignment.policy.ejection;
        self.connection.core.answered(backend, self.download.scan.status, ejection);
    }

    /// The client gets another pool's answer instead of this one.
    fn is_rescued(&self) -> bool {
        let whole = self.upload.is_whole() && !self.download.out.is_begun();
        is_rescued(&self.connection.core, self.assignment, self.idempotent, whole)
    }

    /// Hands a piece of the body to the client, behind what waits in the outbox; keeps what it does not take.
    fn pass(&mut self, cx: &mut Context<'_>, piece: &[u8]) -> Step<()> {
        if piece.is_empty() {
            return Ok(());
        }
        if piece.len() <= SMALL && !self.download.out.is_empty() {
            self.download.out.extend(piece);
            return Ok(());
        }
        let waiting = self.download.out.rest().len();
        match poll_write(self.client, cx, self.download.out.rest(), piece) {
            Poll::Ready(Ok(n)) if n > 0 => {
                self.note_stall(n < waiting + piece.len());
                self.download.out.advance(n.min(waiting));
                self.download.out.extend(&piece[n.saturating_sub(waiting)..]);
                self.note_sent();
                Ok(())
            }
            Poll::Ready(_) => Err(End::ClientGone),
            Poll::Pending => {
                self.note_stall(true);
                self.download.out.extend(piece);
                Ok(())
            }
        }
    }

    /// Nothing else can be done: does the client go, or say more?
    fn watch_client(&mut self, cx: &mut Context<'_>) -> Step<()> {
        // Most requests are answered before it is worth it to ask.
        if !self.flight().is_slow() {
            return Ok(());
        }
        if self.attempt.last_wait {
            return Ok(());
        }
        if *self.half_closed && !self.attempt.timed {
            self.attempt.timed = true;
            self.deadline.wait(cx, HALF_CLOSED);
            return Ok(());
        }
        if *self.half_closed {
            let is_silent = self.deadline.take_passed();
            return if is_silent { Err(End::ClientGone) } else { Ok(()) };
        }
        if self.upload.incoming != Incoming::Ended {
            return match self.attempt.turn {
                // Its body is read.
                Turn::Client => Ok(()),
                Turn::Backend => self.look_after_client(cx),
            };
        }
        if self.ahead.rest().len() >= READ_SLOWLY {
            return self.look_after_client(cx);
        }
        let core = &self.connection.core;
        let mut scratch = core.desk.scratch.borrow_mut();
        match poll_read(self.client, cx, &mut scratch[..READ_SLOWLY]) {
            Poll::Pending => {}
            Poll::Ready(Err(_)) => return Err(End::ClientGone),
            Poll::Ready(Ok(0)) => {
                *self.half_closed = true;
                drop(scratch);
                return self.watch_client(cx);
            }
            // The next request; it waits until this one is answered.
            Poll::Ready(Ok(read)) => {
                self.ahead.extend(&scratch[..read]);
                drop(scratch);
                return self.watch_client(cx);
            }
        }
        Ok(())
    }

    /// A reset stays hidden behind bytes that are not read: the kernel is asked now and then.
    fn look_after_client(&mut self, cx: &Context<'_>) -> Step<()> {
        let is_due = self.deadline.take_passed();
        if is_due && self.client.is_broken() {
            return Err(End::ClientGone);
        }
        if is_due || !self.attempt.looks {
            self.deadline.wait(cx, LOOK);
            self.attempt.looks = true;
        }
        Ok(())
    }
}

/// Writes both, as one where that is possible.
pub(super) fn poll_write(
    stream: &mut Stream,
    cx: &mut Context<'_>,
    first: &[u8],
    second: &[u8],
) -> Poll<io::Result<usize>> {
    match (first, second) {
        (only, []) | ([], only) => net::poll_write(stream, cx, only),
        _ => net::poll_write_vectored(stream, cx, &[IoSlice::new(first), IoSlice::new(second)]),
    }
}
