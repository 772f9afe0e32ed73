//! Bodies on their way through. They stream with back-pressure: a frame is asked for only when the other
//! side can take it. The ticket and the record ride in the response body.

use super::{
    super::{
        failure::fault_of,
        fields::Known,
        flight::{Flight, Ticket},
        grpc, http1, http2,
        mirror::{Copying, copy_end, copy_piece},
        note::Note,
    },
    activity::Activity,
    feed::Feed,
    handler::Record,
    sending::Link,
};
use crate::live::{Clock, Fault, Kind, Reason};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    cell::{Cell, RefCell},
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

/// Why a body was cut short. The other side sees an aborted message, never a clean end.
#[derive(Debug)]
pub(in crate::proxy) struct BodyError(pub(in crate::proxy) Reason);

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl std::error::Error for BodyError {}

/// A body that comes in, whichever library reads it.
pub(in crate::proxy) enum ArrivingBody {
    /// There is none.
    None,
    Hyper(Incoming),
    Http1(http1::Received),
    Http2(http2::Received),
    /// The native engine reads it.
    Fed(Feed),
}

impl ArrivingBody {
    /// An error says that the other side has left, or broken a rule of its protocol (`BadResponse`, where that is
    /// known).
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Reason>>> {
        match self {
            Self::None => Poll::Ready(None),
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map_err(|_| Reason::ClientClosed),
            Self::Http1(body) => body.poll_frame(cx),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(|_| Reason::ClientClosed),
            Self::Fed(feed) => feed.poll_frame(cx),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Hyper(body) => body.is_end_stream(),
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Fed(feed) => feed.is_end_stream(),
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Hyper(body) => body.size_hint(),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Fed(feed) => feed.size_hint(),
        }
    }
}

/// A client's request body and what of it is kept so that it can be sent again.
pub(super) struct Upload {
    incoming: ArrivingBody,
    /// What may trail goes along.
    trailers: bool,
    /// What was read so far; `None` once it cannot be sent again.
    kept: Option<Vec<Kept>>,
    kept_bytes: usize,
    keep_at_most: usize,
    /// The next of the kept frames that the present attempt is to send.
    next: usize,
    /// There will be no other attempt.
    settled: bool,
    read_bytes: u64,
    limit: u64,
    ended: bool,
    /// The attempt that may read; an older one's body is told that it is over.
    reader: u32,
    /// Of the request, for another pool.
    copying: Option<Box<Copying>>,
    /// Of a request that is written down.
    note: Option<Note>,
    /// The client waits for 100 before it sends any of it.
    awaits_continue: bool,
}

#[derive(Clone)]
enum Kept {
    Data(Bytes),
    Trailers(Box<HeaderMap>),
}

/// Each kept frame costs more than its bytes; a body that comes in tiny pieces is not kept.
const MAX_KEPT_FRAMES: usize = 256;

impl Kept {
    fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(*trailers),
        }
    }
}

impl Upload {
    /// What may trail goes along if `trailers` do; `keep_at_most` bytes are kept so that they can be sent again;
    /// more than `limit` bytes fail.
    pub(super) fn new(
        incoming: ArrivingBody,
        trailers: bool,
        keep_at_most: usize,
        limit: u64,
        (copying, note): (Option<Box<Copying>>, Option<Note>),
    ) -> Self {
        Self {
            incoming,
            trailers,
            kept: (keep_at_most > 0).then(Vec::new),
            kept_bytes: 0,
            keep_at_most,
            next: 0,
            settled: false,
            read_bytes: 0,
            limit,
            ended: false,
            reader: 0,
            copying,
            note,
            awaits_continue: false,
        }
    }

    /// The client waits for 100 before it sends any of it, and need not be prompt.
    pub(super) fn awaits_continue(&self) -> bool {
        self.awaits_continue
    }

    /// It has been told to go on.
    pub(super) fn go_on(&mut self) {
        self.awaits_continue = false;
    }

    /// Everything that was read is still there.
    pub(super) fn is_replayable(&self) -> bool {
        self.read_bytes == 0 && !self.ended || self.kept.is_some()
    }

    /// The response has begun: there will be no other attempt. What this one has not sent yet stays.
    pub(super) fn stop_keeping(&mut self) {
        self.settled = true;
        self.forget_what_is_sent();
    }

    fn forget_what_is_sent(&mut self) {
        if self.settled && self.has_sent_all_kept() {
            self.kept = None;
        }
    }

    fn has_sent_all_kept(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| self.next >= kept.len())
    }

    /// The next of the frames that an earlier attempt has read.
    fn take_kept(&mut self) -> Option<Frame<Bytes>> {
        let frame = self.kept.as_ref()?.get(self.next)?.clone().frame();
        self.next += 1;
        self.forget_what_is_sent();
        Some(frame)
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(kept) = &mut self.kept else { return };
        if let Some(data) = frame.data_ref() {
            self.kept_bytes += data.len();
            if self.kept_bytes > self.keep_at_most || kept.len() >= MAX_KEPT_FRAMES {
                self.kept = None;
                return;
            }
            kept.push(Kept::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            kept.push(Kept::Trailers(Box::new(trailers.clone())));
        }
        self.next = kept.len();
    }
}

/// Those fields of a trailer section that may stand there.
pub(in crate::proxy) fn trailing(mut trailers: HeaderMap) -> HeaderMap {
    let may_not = |name: &&HeaderName| !Known::of(name.as_str().as_bytes()).may_trail();
    let others: Vec<_> = trailers.keys().filter(may_not).cloned().collect();
    for name in others {
        trailers.remove(name);
    }
    trailers
}

/// How long who may be silent while a request body flows.
#[derive(Clone, Copy)]
pub(super) struct UploadTimeouts {
    pub(super) clock: Clock,
    /// The client, between two pieces.
    pub(super) body: Duration,
    /// The backend, once it has everything that there is.
    pub(super) response: Duration,
    /// Both, once the response flows.
    pub(super) stream: Duration,
}

/// The body of one attempt.
pub(in crate::proxy) enum UpstreamBody {
    Empty,
    /// All of it, in one piece.
    Whole(Option<Bytes>),
    Upload(UploadReader),
}

impl UpstreamBody {
    /// The backend does not take what it was offered, so that it is not the client who is waited for.
    pub(in crate::proxy) fn await_backend(&mut self) {
        if let Self::Upload(reader) = self
            && reader.awaits_client
        {
            reader.await_backend();
        }
    }

    pub(in crate::proxy) fn whole(body: Bytes) -> Self {
        if body.is_empty() { Self::Empty } else { Self::Whole(Some(body)) }
    }
}

pub(in crate::proxy) struct UploadReader {
    upload: Rc<RefCell<Upload>>,
    reader: u32,
    flight: Rc<Flight>,
    timeouts: UploadTimeouts,
    /// It is the client's turn, and its time runs.
    awaits_client: bool,
}

impl UploadReader {
    /// A body for another attempt, from the beginning. Earlier readers end. `awaits_continue`: a client that has
    /// said nothing of it waits for 100.
    pub(super) fn new(
        upload: &Rc<RefCell<Upload>>,
        flight: Rc<Flight>,
        timeouts: UploadTimeouts,
        awaits_continue: bool,
    ) -> Self {
        let mut state = upload.borrow_mut();
        state.awaits_continue = awaits_continue && state.read_bytes == 0;
        state.reader += 1;
        state.next = 0;
        let reader = state.reader;
        Self { upload: upload.clone(), reader, flight, timeouts, awaits_client: false }
    }

    fn arm(&self, timeout: Duration, reason: Reason) {
        self.flight.arm(self.timeouts.clock, timeout, reason);
    }

    /// It is the client's turn. Once the response flows, its silence is nobody's fault.
    fn await_client(&mut self) {
        // Being asked again is no progress.
        if !std::mem::replace(&mut self.awaits_client, true) && self.flight.kind() == Kind::Request
        {
            self.arm(self.timeouts.body, Reason::RequestTimeout);
        }
    }

    /// Whatever was handed over, it is the backend's turn.
    fn await_backend(&mut self) {
        self.awaits_client = false;
        match self.flight.kind() {
            Kind::Request => self.arm(self.timeouts.response, Reason::ResponseTimeout),
            _ => self.arm(self.timeouts.stream, Reason::IdleTimeout),
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let shared = self.upload.clone();
        let mut upload = shared.borrow_mut();
        if upload.reader != self.reader {
            return Poll::Ready(Some(Err(BodyError(Reason::UpstreamReset))));
        }
        if let Some(kept) = upload.take_kept() {
            return Poll::Ready(Some(Ok(kept)));
        }
        if upload.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = upload.incoming.poll_frame(cx) else {
            if !upload.awaits_continue {
                self.await_client();
            }
            return Poll::Pending;
        };
        upload.awaits_continue = false;
        Poll::Ready(match frame {
            None => {
                upload.ended = true;
                copy_end(&mut upload.copying);
                None
            }
            Some(Err(reason)) => Some(Err(self.stop(reason))),
            Some(Ok(frame)) => {
                let frame = match frame.into_trailers() {
                    Ok(trailers) if upload.trailers => Frame::trailers(trailing(trailers)),
                    Ok(_) => Frame::trailers(HeaderMap::new()),
                    Err(data) => data,
                };
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                upload.read_bytes += bytes;
                if let Some(note) = &upload.note {
                    note.add_in(bytes);
                }
                if upload.read_bytes > upload.limit {
                    return Poll::Ready(Some(Err(self.stop(Reason::BodyTooLarge))));
                }
                upload.keep(&frame);
                upload.ended = upload.incoming.is_end_stream();
                if let Some(data) = frame.data_ref() {
                    copy_piece(&mut upload.copying, data);
                }
                if upload.ended {
                    copy_end(&mut upload.copying);
                }
                Some(Ok(frame))
            }
        })
    }

    fn stop(&self, reason: Reason) -> BodyError {
        self.flight.fail(reason);
        BodyError(reason)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let reader = match &mut *self {
            Self::Empty => return Poll::Ready(None),
            Self::Whole(body) => return Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Upload(reader) => reader,
        };
        let frame = ready!(reader.read(cx));
        if !matches!(frame, Some(Err(_))) {
            reader.await_backend();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(body) => body.is_none(),
            Self::Upload(reader) => reader.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64))
            }
            Self::Upload(reader) => {
                let upload = reader.upload.borrow();
                if upload.read_bytes == 0 { upload.incoming.size_hint() } else { SizeHint::new() }
            }
        }
    }
}

impl UploadReader {
    fn is_end(&self) -> bool {
        let upload = self.upload.borrow();
        upload.ended && upload.has_sent_all_kept()
    }
}

/// The body of a reply to a client.
pub(in crate::proxy) enum ReplyBody {
    /// Of the proxy's own making, or none; the reply is recorded when it has been handed over.
    Full(Option<Bytes>),
    Stream(Box<StreamBody>),
}

/// The backend's side of a response that flows.
pub(super) struct Exchange {
    pub(super) incoming: ArrivingBody,
    pub(super) link: Link,
}

/// A response that flows, until it has been handed over or a verdict has ended it.
pub(super) struct Passing {
    exchange: RefCell<Option<Exchange>>,
    client: Rc<Activity>,
    /// The verdict came, and the client has not taken note of it.
    given_up: Cell<bool>,
}

impl Passing {
    pub(super) fn start(exchange: Exchange, flight: &Flight, client: Rc<Activity>) -> Rc<Self> {
        let exchange = RefCell::new(Some(exchange));
        let passing = Rc::new(Self { exchange, client, given_up: Cell::new(false) });
        let abandoned = passing.clone();
        flight.on_verdict(move || {
            abandoned.exchange.take();
            abandoned.given_up.set(true);
            abandoned.client.given_up.set(abandoned.client.given_up.get() + 1);
        });
        passing
    }

    fn take_note(&self) {
        if self.given_up.take() {
            self.client.given_up.set(self.client.given_up.get().saturating_sub(1));
        }
    }
}

/// A backend's response body on its way to the client.
pub(in crate::proxy) struct StreamBody {
    pub(super) passing: Rc<Passing>,
    pub(super) ticket: Option<Ticket>,
    pub(super) record: Option<Record>,
    /// It answers a call of gRPC, whose status comes in the trailers.
    pub(super) awaits_status: bool,
    /// What may trail goes along.
    pub(super) trailers: bool,
    pub(super) clock: Clock,
    /// Longest silence of either side.
    pub(super) timeout: Duration,
    /// It is the backend's turn, not the client's.
    pub(super) awaits_backend: bool,
    /// How long the connection may idle afterwards.
    pub(super) upstream_idle: Duration,
    pub(super) size: SizeHint,
    /// Bytes so far.
    pub(super) passed: u64,
}

impl StreamBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(ticket) = &self.ticket else { return Poll::Ready(None) };
        let flight = ticket.flight.clone();
        if let Poll::Ready(reason) = flight.poll_verdict(cx) {
            return Poll::Ready(Some(Err(self.fail(reason))));
        }
        let polled = match self.passing.exchange.borrow_mut().as_mut() {
            Some(exchange) => {
                let polled = exchange.incoming.poll_frame(cx);
                polled.map(|frame| (frame, exchange.incoming.is_end_stream()))
            }
            None => return Poll::Ready(None),
        };
        // Being asked again is no progress: only a frame, and a client that begins to wait for one.
        if polled.is_ready() || !self.awaits_backend {
            flight.arm(self.clock, self.timeout, Reason::IdleTimeout);
        }
        self.awaits_backend = polled.is_pending();
        let (frame, is_end) = ready!(polled);
        Poll::Ready(match frame {
            None => {
                self.finish();
                None
            }
            Some(Ok(frame)) => {
                if let (true, Some(trailers)) = (self.awaits_status, frame.trailers_ref()) {
                    self.awaits_status = grpc::has_failed(Some(trailers));
                    flight.call_ended(grpc::is_error(Some(trailers)));
                }
                self.passed += frame.data_ref().map_or(0, |data| data.len() as u64);
                if is_end || frame.is_trailers() {
                    self.finish();
                }
                let frame = match frame.into_trailers() {
                    Ok(_) if !self.trailers => Frame::trailers(HeaderMap::new()),
                    Ok(trailers) => Frame::trailers(trailers),
                    Err(data) => data,
                };
                Some(Ok(frame))
            }
            Some(Err(Reason::BadResponse)) => Some(Err(self.fail(Reason::BadResponse))),
            Some(Err(_)) => Some(Err(self.fail(Reason::UpstreamReset))),
        })
    }

    fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(ticket) = &self.ticket else { return Poll::Pending };
        let flight = ticket.flight.clone();
        flight.poll_verdict(cx).map(|reason| self.fail(reason))
    }

    /// The whole response has been handed over.
    fn finish(&mut self) {
        if let Some(ticket) = self.ticket.take()
            && let Some(Exchange { link, .. }) = self.passing.exchange.take()
        {
            if self.awaits_status {
                // If it had said how it ended, that is known.
                ticket.flight.call_ended(grpc::is_error(None));
            }
            link.park(&ticket.flight.upstream, self.clock.now(), self.upstream_idle);
        }
        if let Some((mut recorder, _active)) = self.record.take() {
            if self.awaits_status {
                recorder.fail(Fault::Upstream, Reason::GrpcStatus);
            }
            recorder.note_bytes_out(self.passed);
            recorder.finish();
        }
    }

    fn fail(&mut self, reason: Reason) -> BodyError {
        if let Some((mut recorder, _active)) = self.record.take() {
            let fault = match reason {
                Reason::IdleTimeout if !self.awaits_backend => Fault::Downstream,
                _ => fault_of(reason),
            };
            recorder.note_bytes_out(self.passed);
            recorder.fail(fault, reason);
            if let Some(ticket) = &self.ticket {
                match reason {
                    _ if fault == Fault::Upstream => ticket.flight.note_cut(),
                    // To who has called it is one of its statuses.
                    Reason::RequestDeadline if self.awaits_status && self.awaits_backend => {
                        ticket.flight.overdue();
                    }
                    _ => {}
                }
            }
        }
        self.ticket = None;
        self.passing.exchange.take();
        self.passing.take_note();
        BodyError(reason)
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        // A client that did not read has kept the verdict from being seen.
        if let Some(reason) = self.ticket.as_ref().and_then(|ticket| ticket.flight.verdict()) {
            self.fail(reason);
        }
        if let Some((recorder, _active)) = &self.record {
            recorder.note_bytes_out(self.passed);
        }
        // An upload that still goes on holds the flight, and would hold the connection that it goes on.
        self.passing.exchange.take();
    }
}

impl ReplyBody {
    /// Ready when the rest will not come, though nobody asks for it yet.
    pub(in crate::proxy) fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        match self {
            Self::Full(_) => Poll::Pending,
            Self::Stream(stream) => stream.poll_verdict(cx),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.ticket.is_none() && stream.record.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stream(stream) => stream.size,
        }
    }
}
