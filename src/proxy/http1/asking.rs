//! A request that is a message, to a backend that speaks HTTP/1, and its answer, which comes back as one. What is
//! written and read is judged by the same parts as what the exchange relays.

use super::{
    conn::Conn,
    interim,
    message::{self, Scanned, Wire},
    outflow::Outflow,
    received::Received,
    response::{self, Facts},
    work::{Download, Stage},
};
use crate::{
    live::{Held, Moment, Reason},
    net::{self, Stream},
    proxy::{
        core::Core,
        fields::Lines,
        framing::Length,
        head::{self, Head},
        headers::{Added, Sink, to_backend},
        http2::Unanswered,
        hyper::UpstreamBody,
        upstream::Upstream,
    },
    spec::ListenerLimits,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode, request::Parts};
use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    task::{JoinHandle, spawn_local},
};

/// A request as it is written.
pub(in crate::proxy) struct Asking {
    head: Vec<u8>,
    /// As the head says: never up to the end of the connection.
    length: Length,
    body: UpstreamBody,
    is_head: bool,
    /// The protocol that the client would switch to.
    upgrade: Option<Vec<u8>>,
}

impl Asking {
    /// `length` is that of `body`.
    pub(in crate::proxy) fn new<L: Lines>(
        head: &Head<'_, L>,
        facts: &head::Facts,
        added: &Added<'_>,
        length: Length,
        body: UpstreamBody,
    ) -> Self {
        let mut out = Vec::with_capacity(1024);
        message::request_line(&mut out, head, added.changes.rewrite);
        to_backend(head, facts, added, &mut Wire(&mut out));
        message::end_head(&mut out, length);
        let upgrade = if facts.upgrades { head::upgrade(head).map(<[u8]>::to_vec) } else { None };
        Self { head: out, length, body, is_head: head.method == "HEAD", upgrade }
    }

    /// A message whose fields are as they go.
    pub(in crate::proxy) fn as_it_is(head: &Parts, body: Bytes) -> Self {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(format!("{} {} HTTP/1.1\r\n", head.method, head.uri).as_bytes());
        for (name, value) in &head.headers {
            Wire(&mut out).line(name.as_str().as_bytes(), value.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        let (is_head, length) = (head.method == Method::HEAD, Length::Exact(body.len() as u64));
        Self { head: out, length, body: UpstreamBody::whole(body), is_head, upgrade: None }
    }
}

/// A connection that one request is on. What sends its body and what reads its response are two.
pub(super) struct Line {
    pub(super) core: Rc<Core>,
    conn: RefCell<Option<Conn>>,
    written: Cell<bool>,
    /// All of the request has been handed to the kernel.
    sent: Cell<bool>,
    /// All of the response has come.
    heard: Cell<bool>,
    /// It may serve another request then.
    reusable: Cell<bool>,
}

impl Line {
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_on(|stream| net::poll_read(stream, cx, into))
    }

    /// The same into as much memory as there is room for in `into`.
    pub(super) fn poll_fill(
        &self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        self.poll_on(|stream| pin!(stream.read_buf(into)).poll(cx))
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.poll_on(|stream| net::poll_write(stream, cx, bytes));
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.written.set(true);
        }
        polled
    }

    pub(super) fn poll_settled(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_on(|stream| stream.poll_settled(cx))
    }

    fn poll_on<T>(
        &self,
        poll: impl FnOnce(&mut Stream) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.conn.borrow_mut() {
            Some(conn) => poll(&mut conn.stream),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    pub(super) fn note_sent(&self) {
        self.sent.set(true);
    }

    pub(super) fn note_heard(&self, reusable: bool) {
        self.heard.set(true);
        self.reusable.set(reusable);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let is_complete = self.sent.get() && self.heard.get();
        if let Some(conn) = self.conn.get_mut()
            && self.written.get()
            && !is_complete
        {
            conn.stream.set_reset();
        }
    }
}

/// A request that was sent. Dropping it gives up what has not been sent or read of both.
pub(in crate::proxy) struct Sent {
    line: Rc<Line>,
    _upload: Option<Uploading>,
    /// What came behind a head that says 101.
    behind: Vec<u8>,
}

/// What sends the body; without this it would go on after its response has ended.
struct Uploading(JoinHandle<()>);

impl Drop for Uploading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sent {
    /// The connection may serve another request, if all has been sent and all has been read.
    pub(in crate::proxy) fn park(self, upstream: &Upstream, now: Moment, idle: Duration) {
        let line = &self.line;
        if line.sent.get()
            && line.heard.get()
            && line.reusable.get()
            && let Some(conn) = line.conn.take()
        {
            upstream.park(conn, now, idle);
        }
    }

    /// The backend has switched protocols: its connection, and what it has said behind its answer.
    pub(in crate::proxy) fn switch(self) -> Option<(Stream, Held, Vec<u8>)> {
        let Conn { stream, held, .. } = self.line.conn.take()?;
        Some((stream, held, self.behind))
    }
}

/// Sends a request and waits for the head of its response; those that announce it go to `announce`.
///
/// # Errors
/// When there is none.
pub(in crate::proxy) async fn ask(
    core: Rc<Core>,
    limits: &ListenerLimits,
    conn: Conn,
    asking: Asking,
    mut announce: impl FnMut(StatusCode, &HeaderMap),
) -> Result<(Sent, Response<Received>), Unanswered> {
    let line = Rc::new(Line {
        core,
        conn: RefCell::new(Some(conn)),
        written: Cell::new(false),
        sent: Cell::new(false),
        heard: Cell::new(false),
        reusable: Cell::new(false),
    });
    let Asking { head, length, body, is_head, upgrade } = asking;
    let mut outflow = Some(Outflow::new(line.clone(), head, length, body));
    let mut inflow = Inflow {
        line: line.clone(),
        download: Box::default(),
        is_head,
        upgrade: upgrade.as_deref(),
        limits,
    };
    inflow.download.begin(false);
    let answered = poll_fn(|cx| {
        if let Some(flow) = &mut outflow
            && flow.poll(cx).is_ready()
        {
            outflow = None;
        }
        inflow.poll(cx, &mut announce)
    });
    let Answer { status, fields, length, first } = answered.await?;
    let Inflow { mut download, .. } = inflow;
    let mut behind = Vec::new();
    if download.stage == Stage::Switched {
        behind = std::mem::take(&mut download.partial);
    }
    let upload = outflow
        .map(|mut flow| Uploading(spawn_local(async move { poll_fn(|cx| flow.poll(cx)).await })));
    let mut response = Response::new(Received::new(line.clone(), download, length, first));
    (*response.status_mut(), *response.headers_mut()) = (status, fields);
    Ok((Sent { line, _upload: upload, behind }, response))
}

/// A final head, and what has come behind it.
struct Answer {
    status: StatusCode,
    fields: HeaderMap,
    /// Bytes of its body, if it says so.
    length: Option<u64>,
    first: Bytes,
}

/// A response until its head is complete.
struct Inflow<'a> {
    line: Rc<Line>,
    download: Box<Download>,
    is_head: bool,
    upgrade: Option<&'a [u8]>,
    limits: &'a ListenerLimits,
}

impl Inflow<'_> {
    /// Ready with the final head.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        announce: &mut impl FnMut(StatusCode, &HeaderMap),
    ) -> Poll<Result<Answer, Unanswered>> {
        let core = self.line.core.clone();
        let mut scratch = core.desk.scratch.borrow_mut();
        // With the head comes some of the body, which waits if the client does not take it: nobody knows that yet.
        let most = core.stalls.piece() / 2;
        loop {
            let read = match ready!(self.line.poll_read(cx, &mut scratch[..most])) {
                Ok(read) if read > 0 => read,
                _ => return Poll::Ready(Err(self.ended())),
            };
            self.download.received = true;
            let received = self.received(&mut scratch[..read], announce);
            match received.map_err(|Malformed| Unanswered::Failed(Reason::BadResponse)) {
                Ok(None) => {}
                Ok(Some(answer)) => return Poll::Ready(Ok(answer)),
                Err(bad) => return Poll::Ready(Err(bad)),
            }
        }
    }

    fn ended(&self) -> Unanswered {
        match self.download.received {
            true => Unanswered::Failed(Reason::UpstreamReset),
            false => Unanswered::Silent { written: self.line.written.get() },
        }
    }

    /// More bytes have come.
    fn received(
        &mut self,
        bytes: &mut [u8],
        announce: &mut impl FnMut(StatusCode, &HeaderMap),
    ) -> Result<Option<Answer>, Malformed> {
        let mut start = 0;
        loop {
            let scanned = response::scan(&mut self.download, &bytes[start..], self.limits);
            let Some(len) = scanned.map_err(|_| Malformed)? else { return Ok(None) };
            let mut pieces = std::mem::take(&mut self.download.partial);
            let head;
            (head, start) = response::whole_head(bytes, start, &pieces, len);
            let fields = fields(&Scanned { lines: &self.download.scan.lines, bytes: head });
            let status = StatusCode::from_u16(self.download.scan.status).map_err(|_| Malformed)?;
            if !self.download.scan.is_interim() {
                let length = self.judge(head)?;
                let first = self.first(bytes, start)?;
                return Ok(Some(Answer { status, fields, length, first }));
            }
            interim::count(&mut self.download, len).map_err(|_| Malformed)?;
            announce(status, &fields);
            self.download.scan.clear();
            pieces.clear();
            self.download.partial = pieces;
            if start == bytes.len() {
                return Ok(None);
            }
        }
    }

    /// Where the response ends, and what becomes of the connection then. Returns the bytes of its body, if the head
    /// says so.
    fn judge(&mut self, head: &[u8]) -> Result<Option<u64>, Malformed> {
        let Download { scan, .. } = &*self.download;
        let lines = Scanned { lines: &scan.lines, bytes: head };
        let facts = Facts::of(&lines);
        let length = facts.framing.of_response(scan.minor, scan.status, self.is_head);
        let length = length.map_err(|_| Malformed)?;
        if scan.status == 101 {
            response::agreed(self.upgrade, &facts).ok_or(Malformed)?;
            self.download.stage = Stage::Switched;
            return Ok(None);
        }
        let stays = facts.stays(scan.minor) && length != Length::UntilClose;
        let announced = facts.announced;
        self.download.stage = Stage::Body;
        self.download.incoming = length.into();
        self.download.reusable &= stays;
        if let Some(conn) = &mut *self.line.conn.borrow_mut() {
            conn.announced = announced.or(conn.announced);
        }
        Ok(match length {
            Length::Exact(bytes) => Some(bytes),
            Length::Chunked | Length::UntilClose => None,
        })
    }

    /// What has come behind the head.
    fn first(&mut self, bytes: &mut [u8], start: usize) -> Result<Bytes, Malformed> {
        let end = bytes.len();
        if self.download.stage == Stage::Switched {
            self.download.partial = bytes[start..].to_vec();
            return Ok(Bytes::new());
        }
        let data = self.download.take(bytes, start, end).map_err(|_| Malformed)?;
        Ok(Bytes::copy_from_slice(&bytes[data]))
    }
}

/// What comes is no response, or nobody can tell where it ends.
struct Malformed;

pub(super) fn fields(lines: &Scanned<'_>) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(lines.lines.len());
    for (_, name, value) in lines.lines() {
        fields.line(name, value);
    }
    fields
}
