//! What a case is, and the same in other circumstances.

use crate::{gateway, wire};
use crossfade::spec::Engine;
use std::hash::{DefaultHasher, Hash, Hasher};

#[derive(Clone)]
pub struct Case {
    /// `file:line`.
    pub place: String,
    pub name: String,
    /// The proxy does not do what the case says yet.
    pub open: bool,
    pub listener: Listener,
    pub pieces: Pieces,
    /// What hyper does behind another request depends on how its buffers are filled.
    pub behind_on_hyper: bool,
    pub script: Vec<Act>,
    pub native: Expectation,
    /// `None`: what hyper does depends on the moment.
    pub hyper: Option<Expectation>,
}

/// The name of a field that stands for fields that do not matter.
pub const ANY: &str = "...";

/// The listeners of every lane's proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listener {
    #[default]
    Plain,
    /// Tiny timeouts.
    Slow,
    /// Believes what this peer says about others.
    Trusted,
    /// Does not speak HTTP/2.
    Http1,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pieces {
    #[default]
    Whole,
    /// The case once for each place where the bytes can be cut in two.
    EveryCut,
    /// A byte at a time.
    Single,
}

/// What the client does.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    Send(Vec<u8>),
    /// Wait for one more response, interim ones too.
    AwaitReply,
    /// Wait until the backend has a request head and waits for its body.
    AwaitBackend,
    /// Wait until the backend has all messages that it should get.
    AwaitMessages,
    /// Wait until the proxy has read all that was sent.
    Settle,
    /// Close the sending side.
    HalfClose,
    /// Close, politely or not; nobody looks for an answer then.
    Leave,
    Reset,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expectation {
    pub replies: Vec<Reply>,
    pub end: End,
    /// What follows a 101 until the end.
    pub tunnel: Option<Vec<u8>>,
    /// What the backend got, in order.
    pub messages: Vec<wire::Message>,
    pub rest: Rest,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    pub status: u16,
    /// `x-crossfade-error`.
    pub error: Option<String>,
    /// `x-crossfade-version`, where the case cares.
    pub version: Option<String>,
    /// It answers HEAD.
    pub bodyless: bool,
    /// It says that the connection is closed.
    pub close: bool,
    /// Any other field that the case cares about.
    pub field: Option<(String, String)>,
    /// It may be missing.
    pub optional: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The next request on the connection gets its answer.
    Open,
    #[default]
    Closed,
    /// The client has left.
    Gone,
}

/// What the backend got beside whole messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rest {
    #[default]
    Nothing,
    /// The beginning of a message, and then the end of the connection.
    Cut,
    /// The beginning of a message or nothing, as it happens.
    MaybeCut,
}

impl Case {
    /// What is expected of this engine, if anything can be.
    pub fn expected(&self, engine: Engine) -> Option<&Expectation> {
        match engine {
            Engine::Native => Some(&self.native),
            Engine::Hyper => self.hyper.as_ref(),
        }
    }

    /// The same on a connection that has had a good request before, in the same breath.
    pub fn behind_another(&self) -> Option<Self> {
        let [Act::Send(bytes), rest @ ..] = &self.script[..] else { return None };
        if self.pieces != Pieces::Whole || rest.contains(&Act::AwaitReply) {
            return None;
        }
        let host = wire::Field { name: "host".into(), value: "a".into() };
        let first = wire::Message {
            start: "GET /first HTTP/1.1".into(),
            fields: vec![host],
            ..wire::Message::default()
        };
        let bytes = [b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n", &bytes[..]].concat();
        let reply = Reply { status: 200, ..Reply::default() };
        let behind = |expected: &Expectation| {
            let mut expected = expected.clone();
            expected.replies.insert(0, reply.clone());
            expected.messages.insert(0, first.clone());
            expected
        };
        Some(Self {
            place: self.place.clone(),
            name: format!("{}, behind another", self.name),
            open: self.open,
            listener: self.listener,
            pieces: Pieces::Whole,
            behind_on_hyper: false,
            script: [&[Act::Send(bytes)], rest].concat(),
            native: behind(&self.native),
            hyper: self.hyper.as_ref().filter(|_| self.behind_on_hyper).map(behind),
        })
    }

    /// The same request in HTTP/2, if it is nothing but a first line and a host.
    pub fn over_http2(&self) -> Option<Self> {
        let [Act::Send(bytes)] = &self.script[..] else { return None };
        let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
        gateway::request(head).filter(|_| self.listener != Listener::Slow)?;
        let mut native = self.native.clone();
        // A stream ends alone.
        native.end = End::Open;
        native.replies.iter_mut().for_each(|reply| reply.close = false);
        Some(Self {
            name: format!("{}, over HTTP/2", self.name),
            pieces: Pieces::Whole,
            native,
            hyper: None,
            ..self.clone()
        })
    }

    pub fn over_tls(&self) -> Option<Self> {
        // There nothing turns into HTTP/2.
        let is_preface = |act: &Act| matches!(act, Act::Send(bytes) if bytes.starts_with(b"PRI"));
        if self.script.iter().any(is_preface) {
            return None;
        }
        let secure = |expected: &Expectation| {
            let mut expected = expected.clone();
            for message in &mut expected.messages {
                let name = "x-forwarded-proto";
                message.fields.retain(|field| !field.is(name));
                message.fields.push(wire::Field { name: name.into(), value: "https".into() });
            }
            expected
        };
        Some(Self {
            name: format!("{}, over TLS", self.name),
            native: secure(&self.native),
            // What hyper refuses and what it waits for depends on how the bytes fall, here into records.
            hyper: None,
            ..self.clone()
        })
    }

    /// The same with what is sent cut in four: near its beginning, near its end and in between.
    pub fn in_pieces(&self) -> Option<Self> {
        // Tiny timeouts are not to be tried further.
        if self.pieces != Pieces::Whole || self.listener == Listener::Slow {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        let seed = hasher.finish() as usize;
        let cut = |act: &Act| match act {
            Act::Send(bytes) => cut(bytes, seed),
            other => vec![other.clone()],
        };
        Some(Self {
            place: self.place.clone(),
            name: format!("{}, in pieces", self.name),
            open: self.open,
            listener: self.listener,
            pieces: Pieces::Whole,
            behind_on_hyper: false,
            script: self.script.iter().flat_map(cut).collect(),
            native: self.native.clone(),
            hyper: None,
        })
    }

    pub fn title(&self) -> String {
        format!("{} ({})", self.name, self.place)
    }
}

fn cut(bytes: &[u8], seed: usize) -> Vec<Act> {
    let len = bytes.len();
    let near_end = len - (1 + seed % 16).min(len);
    let mut cuts = [(seed >> 8) % 24, (seed >> 16) % len.max(1), near_end];
    cuts.sort_unstable();
    let mut acts = Vec::new();
    let mut begin = 0;
    for end in cuts {
        if begin < end && end < len {
            acts.extend([Act::Send(bytes[begin..end].into()), Act::Settle]);
            begin = end;
        }
    }
    acts.push(Act::Send(bytes[begin..].into()));
    acts
}

#[test]
fn a_cut_loses_nothing() {
    for len in 0..60 {
        let bytes: Vec<u8> = (0..len).collect();
        for seed in [0, 1, 77_777_777, usize::MAX] {
            let acts = cut(&bytes, seed);
            let sent = acts.iter().flat_map(|act| match act {
                Act::Send(bytes) => bytes.clone(),
                _ => Vec::new(),
            });
            assert_eq!(sent.collect::<Vec<_>>(), bytes);
            assert!(len < 30 || acts.len() >= 3, "{acts:?}");
        }
    }
}
