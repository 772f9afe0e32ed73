//! What a case is made of. A case says what the backend does on each of its connections, what the client
//! does, and what must have come of it; `stage` plays it.

use crossfade::{
    live::{Fault, Reason},
    spec::{Engine, Service},
};
use std::{fmt, ops::Deref, sync::Arc, time::Duration};

/// Bytes that are shown as text.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw(Vec<u8>);

impl Raw {
    fn new(bytes: impl AsRef<[u8]>) -> Self {
        Self(bytes.as_ref().to_vec())
    }
}

impl Deref for Raw {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(100)];
        write!(f, "{:?}", String::from_utf8_lossy(shown))?;
        if shown.len() < self.0.len() { write!(f, "... ({})", self.0.len()) } else { Ok(()) }
    }
}

/// One thing that a backend or a client does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes these bytes at once.
    Say(Raw),
    /// Writes each byte on its own.
    Bytewise(Raw),
    /// Writes that many bytes of filler while the script goes on, or fewer if the other side takes no more.
    Pour(u64),
    /// Waits until no more is taken of what is poured.
    Stuck,
    /// Writes these bytes when the client has as many bytes of body, while the script goes on.
    SayAfter(usize, Raw),
    /// Reads exactly these bytes.
    Hear(Raw),
    /// Reads the other side's clean end, and nothing before it.
    HearEnd,
    /// Reads until the other side has gone, whatever comes.
    Gone,
    /// Says that nothing more will come, but goes on reading.
    HalfClose,
    /// Closes; clean if everything was read.
    Close,
    Reset,
    /// Reads at least as many bytes, whichever.
    Hears(usize),
    /// Writes a byte now and then until the other side has gone.
    Drip,
    /// Waits until as many of the backend's scripts have been played.
    Played(usize),
    /// Sets a mark that the other side may wait for.
    Mark(&'static str),
    Until(&'static str),

    /// Backend: reads a whole request.
    Ask,
    /// Backend: reads a request's head.
    Head,
    /// Backend: reads what is left of the request.
    Rest,
    /// Backend: waits until the client has a final head and as many bytes of body.
    ClientHas(usize),
    /// Backend: waits until the client has as many informational responses.
    ClientHasInterims(usize),
    /// Backend: does nothing more and keeps the connection open.
    Stall,

    /// Client: reads an informational response of this status.
    Interim(u16),
    /// Client: reads a response, which must be one of these.
    Get(Vec<Reply>),
}

pub use Step::{
    Ask, ClientHas, ClientHasInterims, Close, Drip, Gone, HalfClose, Head, HearEnd, Hears, Interim,
    Mark, Played, Pour, Reset, Rest, Stall, Stuck, Until,
};

pub fn say(bytes: impl AsRef<[u8]>) -> Step {
    Step::Say(Raw::new(bytes))
}

pub fn bytewise(bytes: impl AsRef<[u8]>) -> Step {
    Step::Bytewise(Raw::new(bytes))
}

pub fn say_after(body_bytes: usize, bytes: impl AsRef<[u8]>) -> Step {
    Step::SayAfter(body_bytes, Raw::new(bytes))
}

pub fn hear(bytes: impl AsRef<[u8]>) -> Step {
    Step::Hear(Raw::new(bytes))
}

pub fn get(reply: impl Into<Vec<Reply>>) -> Step {
    Step::Get(reply.into())
}

/// How a response reaches the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Complete, and the connection can be used on.
    Kept,
    /// Complete, and the connection closes without another byte.
    Closed,
    /// Complete, whatever becomes of the connection.
    Whole,
    /// Visibly incomplete.
    Cut,
    /// Ended by a reset where a clean end would have looked complete.
    Reset,
    /// 101: what follows is no HTTP.
    Tunnel,
}

/// What the client must get.
#[derive(Clone)]
pub struct Reply {
    /// The informational responses before it.
    pub interims: Vec<u16>,
    pub status: u16,
    /// `x-crossfade-error`; the body is the proxy's then.
    pub error: Option<&'static str>,
    /// Of a response that is cut, the beginning of this.
    pub body: Raw,
    pub end: End,
    /// Lines that must be there, as `name: value` in lower case names; those of informational responses after
    /// `early`, trailers after `trailer`.
    pub has: Vec<&'static str>,
    /// Beginnings that no line may have.
    pub lacks: Vec<&'static str>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interims, status, error, body, end, .. } = self;
        write!(f, "{interims:?} {status} {} {body:?} {end:?}", error.unwrap_or_default())
    }
}

impl From<Reply> for Vec<Reply> {
    fn from(reply: Reply) -> Self {
        vec![reply]
    }
}

/// A backend's response, whole.
pub fn reply(status: u16, body: impl AsRef<[u8]>) -> Reply {
    Reply {
        interims: Vec::new(),
        status,
        error: None,
        body: Raw::new(body),
        end: End::Kept,
        has: Vec::new(),
        lacks: Vec::new(),
    }
}

/// The proxy's own reply.
pub fn error(reason: Reason) -> Reply {
    Reply { error: Some(reason.as_str()), ..reply(reason.status(), "") }
}

pub fn bad_response() -> Reply {
    error(Reason::BadResponse)
}

/// Nothing at all, and the end.
pub fn nothing() -> Reply {
    reply(0, "").cut()
}

/// The body came to a bad end. What the client has not seen yet may still become a 502.
pub fn broken(begun: &str) -> Vec<Reply> {
    vec![reply(200, begun).cut(), bad_response()]
}

impl Reply {
    pub fn closed(self) -> Self {
        Self { end: End::Closed, ..self }
    }

    pub fn whole(self) -> Self {
        Self { end: End::Whole, ..self }
    }

    pub fn cut(self) -> Self {
        Self { end: End::Cut, ..self }
    }

    pub fn reset(self) -> Self {
        Self { end: End::Reset, ..self }
    }

    pub fn tunnel(self) -> Self {
        Self { end: End::Tunnel, ..self }
    }

    pub fn after(self, interims: impl Into<Vec<u16>>) -> Self {
        Self { interims: interims.into(), ..self }
    }

    pub fn has(mut self, line: &'static str) -> Self {
        self.has.push(line);
        self
    }

    pub fn lacks(mut self, beginning: &'static str) -> Self {
        self.lacks.push(beginning);
        self
    }
}

/// Who listens at the backend's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    Yes,
    /// Connections are refused.
    No,
    /// Connections are neither accepted nor refused.
    Full,
}

/// By which way the client's requests come to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Native,
    Hyper,
    /// The client speaks HTTP/2.
    Http2,
}

impl Lane {
    pub fn engine(self) -> Engine {
        match self {
            Self::Native | Self::Http2 => Engine::Native,
            Self::Hyper => Engine::Hyper,
        }
    }
}

type Tune = Arc<dyn Fn(&mut Service) + Send + Sync>;

#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub why: &'static str,
    /// One script a connection; those after them, and what is left of one that does not end its connection,
    /// answer every request with its target.
    pub backend: Vec<Vec<Step>>,
    pub listening: Listening,
    pub client: Vec<Step>,
    /// The targets of the requests on each of the backend's connections, `/after` included: one of these.
    pub seen: Vec<Vec<Vec<&'static str>>>,
    /// Requests that the client sends, where that cannot be counted by what it says.
    pub requests: Option<u64>,
    /// The body of every request for `/case` that reached the backend whole.
    pub body: Option<Raw>,
    /// What is counted once, with nothing beside it: one of these.
    pub failures: Vec<Option<(Fault, Reason)>>,
    /// Whatever is poured ends before this many bytes.
    pub poured_at_most: u64,
    tune: Vec<Tune>,
    hyper: Option<(&'static str, Box<Case>)>,
    /// Why it cannot be played for clients of HTTP/2, where that is not seen in what they say.
    of_http1: Option<&'static str>,
}

pub const GET: &str = "GET /case HTTP/1.1\r\nhost: a\r\n\r\n";
pub const HEAD: &str = "HEAD /case HTTP/1.1\r\nhost: a\r\n\r\n";
pub const POST: &str = "POST /case HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";

/// A good answer.
pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// As short as a busy machine lets what is to happen before it happen.
pub const SHORT: Duration = Duration::from_secs(1);

pub fn case(name: impl Into<String>, why: &'static str) -> Case {
    Case {
        name: name.into(),
        why,
        backend: Vec::new(),
        listening: Listening::Yes,
        client: Vec::new(),
        seen: vec![vec![vec!["/case"], vec!["/after"]]],
        requests: None,
        body: None,
        failures: vec![None],
        poured_at_most: u64::MAX,
        tune: Vec::new(),
        hyper: None,
        of_http1: None,
    }
}

impl Case {
    /// What the backend does on its next connection.
    pub fn backend(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.backend.push(steps.into());
        self
    }

    /// The backend reads a request and writes this.
    pub fn answers(self, bytes: impl AsRef<[u8]>) -> Self {
        self.backend([Ask, say(bytes)])
    }

    /// The backend reads a request, writes this and closes.
    pub fn answers_and_closes(self, bytes: impl AsRef<[u8]>) -> Self {
        self.backend([Ask, say(bytes), Close])
    }

    /// The backend closes after the last script's steps, on either engine.
    pub fn then_closes(mut self) -> Self {
        self.hyper = self.hyper.map(|(why, case)| (why, Box::new(case.then_closes())));
        self.backend.last_mut().expect("a script").push(Close);
        self
    }

    pub fn listening(self, listening: Listening) -> Self {
        Self { listening, ..self }
    }

    pub fn client(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.client.extend(steps);
        self
    }

    pub fn sends(self, bytes: impl AsRef<[u8]>) -> Self {
        self.client([say(bytes)])
    }

    /// What the client gets; without anything sent before, for [`GET`].
    pub fn gets(mut self, replies: impl Into<Vec<Reply>>) -> Self {
        if self.client.is_empty() {
            self = self.sends(GET);
        }
        self.client([get(replies)])
    }

    /// The client gets this instead of what was said last.
    pub fn gets_instead(mut self, replies: impl Into<Vec<Reply>>) -> Self {
        let last = self.client.iter_mut().rev().find(|step| matches!(step, Step::Get(_)));
        *last.expect("a reply to replace") = get(replies);
        self
    }

    /// The connection is good for another request.
    pub fn keeps(self) -> Self {
        self.seen(&[&["/case", "/after"]])
    }

    /// The connection is not used again.
    pub fn leaves(self) -> Self {
        self.seen(&[&["/case"], &["/after"]])
    }

    /// Whether the connection is good for another request is left open.
    pub fn may_keep(mut self) -> Self {
        self.seen = [self.clone().keeps().seen, self.clone().leaves().seen].concat();
        self
    }

    pub fn seen(mut self, targets: &[&[&'static str]]) -> Self {
        self.seen = vec![targets.iter().map(|connection| connection.to_vec()).collect()];
        self
    }

    pub fn counting(self, requests: u64) -> Self {
        Self { requests: Some(requests), ..self }
    }

    pub fn with_body(self, body: impl AsRef<[u8]>) -> Self {
        Self { body: Some(Raw::new(body)), ..self }
    }

    /// It is the backend's failure, counted once for this reason.
    pub fn fails(self, reason: Reason) -> Self {
        self.fails_by(Fault::Upstream, reason)
    }

    pub fn fails_by(self, fault: Fault, reason: Reason) -> Self {
        Self { failures: vec![Some((fault, reason))], ..self }
    }

    /// Or it is the backend's failure for this reason, as one of the replies says.
    pub fn or_fails(mut self, reason: Reason) -> Self {
        self.failures.push(Some((Fault::Upstream, reason)));
        self
    }

    pub fn succeeds(self) -> Self {
        Self { failures: vec![None], ..self }
    }

    pub fn pours_at_most(self, bytes: u64) -> Self {
        Self { poured_at_most: bytes, ..self }
    }

    pub fn tuned(mut self, tune: impl Fn(&mut Service) + Send + Sync + 'static) -> Self {
        self.tune.push(Arc::new(tune));
        self
    }

    /// The backend may be silent only shortly before its response.
    pub fn answered_soon(self) -> Self {
        self.tuned(|service| service.timeouts.response = SHORT)
    }

    /// Either side may be silent only shortly within the response.
    pub fn streamed_soon(self) -> Self {
        self.tuned(|service| service.timeouts.body = SHORT)
    }

    /// Where the hyper engine does otherwise, what it does and why, beyond that it passes on no informational
    /// response. Comes last.
    pub fn on_hyper(mut self, why: &'static str, change: impl FnOnce(Self) -> Self) -> Self {
        self.hyper = Some((why, Box::new(change(self.clone()))));
        self
    }

    /// It cannot be played for clients of HTTP/2.
    pub fn not_for_http2(self, why: &'static str) -> Self {
        Self { of_http1: Some(why), ..self }
    }

    /// As it must be played by this way, if it can be.
    pub fn on(mut self, lane: Lane) -> Option<Self> {
        match (lane, self.hyper.take()) {
            (Lane::Hyper, Some((_, changed))) => Some(*changed),
            (Lane::Hyper, None) => Some(self.without_interims().may_lose_a_head()),
            (Lane::Native, _) => Some(self),
            (Lane::Http2, _) => self.can_be_http2().then(|| self.of_streams().may_lose_a_head()),
        }
    }

    fn replies(&mut self) -> impl Iterator<Item = &mut Reply> {
        let replies = self.client.iter_mut().filter_map(|step| match step {
            Step::Get(replies) => Some(replies),
            _ => None,
        });
        replies.flatten()
    }

    fn without_interims(mut self) -> Self {
        for script in &mut self.backend {
            script.retain(|step| !matches!(step, Step::ClientHasInterims(_)));
        }
        for reply in self.replies() {
            reply.interims.clear();
            reply.has.retain(|line| !line.starts_with("early"));
        }
        self
    }

    /// HTTP/1.0, upgrades and pipelining are of HTTP/1 alone, and so are the bytes of a tunnel.
    fn can_be_http2(&self) -> bool {
        let is_of_http1 = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            text.contains(" HTTP/1.0\r\n")
                || text.contains("\r\nupgrade: ")
                || text.matches(" HTTP/1.1\r\n").count() > 1
        };
        self.of_http1.is_none()
            && self.client.iter().all(|step| match step {
                Step::Say(bytes) => !is_of_http1(bytes),
                Step::Hear(_) | Step::HearEnd | Step::HalfClose => false,
                _ => true,
            })
    }

    /// Of a stream that is reset, the library writes nothing more, a head that it was handed before neither (RFC 9113
    /// section 5.4.2 allows it): where the body may come to its bad end at any moment, all that the client is sure to see
    /// is that.
    fn may_lose_a_head(mut self) -> Self {
        for step in &mut self.client {
            if let Step::Get(replies) = step
                && replies.len() > 1
                && replies.iter().any(|reply| reply.end == End::Cut)
            {
                replies.push(nothing());
            }
        }
        self
    }

    /// A stream ends alone: what becomes of the connection is another matter.
    fn of_streams(mut self) -> Self {
        for reply in self.replies() {
            reply.has.retain(|line| !line.starts_with("transfer-encoding"));
            reply.end = match reply.end {
                End::Kept | End::Closed | End::Whole => End::Whole,
                End::Cut | End::Reset => End::Cut,
                End::Tunnel => End::Tunnel,
            };
        }
        self
    }

    /// For the case itself; what comes after it has time again.
    pub fn tune(&self, service: &mut Service) {
        for tune in &self.tune {
            tune(service);
        }
    }
}
