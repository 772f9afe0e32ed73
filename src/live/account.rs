//! What is known of a request that is over.

use super::{Fault, Moment, Reason};
use crate::spec::Name;
use smallvec::SmallVec;
use std::{net::IpAddr, sync::Arc};

/// The longest texts that are kept of a request's head.
const LONGEST: usize = 4096;

/// Bytes of texts that need no memory of their own: it would be asked for by a core and given back by the thread that
/// writes, which costs more than to copy a few bytes.
const ROOM: usize = 160;

/// What a request was and what became of it.
#[derive(Debug, Default)]
pub struct Account {
    pub began: Moment,
    /// Later than it began, if it had to wait for its turn.
    pub decided: Moment,
    pub ended: Moment,
    texts: SmallVec<[u8; ROOM]>,
    /// Where each of them ends.
    ends: [u32; TEXTS],
    pub client: Option<IpAddr>,
    pub protocol: Protocol,
    /// By TLS.
    pub is_secure: bool,
    pub chosen_by: Option<ChosenBy>,
    /// Where no backend stands for it.
    pub pool: Option<Arc<Labels>>,
    /// The last one is the one that was answered, if any was.
    pub attempts: SmallVec<[Attempt; 1]>,
    pub status: u16,
    pub failure: Option<(Fault, Reason)>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// It went on as a tunnel.
    pub is_tunnel: bool,
    pub trace: Option<Trace>,
    /// Fields of its head that the access log shows.
    pub headers: Vec<(Name, Box<[u8]>)>,
}

/// Under whose name a request is counted.
#[derive(Debug)]
pub struct Labels {
    pub service: Name,
    pub pool: Name,
    pub version: Name,
    /// Empty where there is none.
    pub backend: Box<str>,
}

/// One of the tries to get a request answered.
#[derive(Debug)]
pub struct Attempt {
    pub labels: Arc<Labels>,
    pub began: Moment,
    /// Nanoseconds that it took to connect, where no connection was there.
    pub connect: Option<u64>,
    /// When the answer's head came, and when it had been asked for.
    pub head: Option<Answered>,
    pub ended: Option<Moment>,
    pub failure: Option<Reason>,
    /// On the pool that rescues.
    pub is_rescue: bool,
    /// The id of its span.
    pub span: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Answered {
    pub sent: Moment,
    pub at: Moment,
    pub status: u16,
}

/// How it was found which version a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    Pin,
    Draw,
    /// A draw that is the same for all requests of a user.
    Sticky,
    /// The pool that was drawn had no backend.
    Rescue,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    Http10,
    #[default]
    Http11,
    Http2,
}

/// The trace that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    pub id: u128,
    /// The span of who has asked.
    pub parent: Option<u64>,
    /// Its own.
    pub span: u64,
    pub is_sampled: bool,
}

/// The texts of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    Method,
    Host,
    Path,
    /// What follows `?`.
    Query,
    RequestId,
    Route,
}

const TEXTS: usize = Text::Route as usize + 1;

impl Account {
    /// It is that of a request that begins.
    pub fn begin(&mut self, began: Moment) {
        (self.began, self.decided, self.ended) = (began, began, began);
    }

    /// As a new one, but for the memory that it has.
    pub fn clear(&mut self) {
        let Self {
            began,
            decided,
            ended,
            texts,
            ends,
            client,
            protocol,
            is_secure,
            chosen_by,
            pool,
            attempts,
            status,
            failure,
            bytes_in,
            bytes_out,
            is_tunnel,
            trace,
            headers,
        } = self;
        (*began, *decided, *ended) = Default::default();
        (*client, *protocol, *is_secure, *chosen_by, *pool) = Default::default();
        (*status, *failure, *bytes_in, *bytes_out, *is_tunnel, *trace) = Default::default();
        *ends = Default::default();
        // What a long one has asked for is given back.
        texts.clear();
        texts.shrink_to_fit();
        attempts.clear();
        attempts.shrink_to_fit();
        headers.clear();
        headers.shrink_to_fit();
    }

    /// The texts in the order of [`Text`].
    pub fn set_texts(&mut self, texts: [&[u8]; TEXTS]) {
        self.texts.clear();
        self.texts.reserve(texts.iter().map(|text| text.len()).sum());
        for (end, text) in self.ends.iter_mut().zip(texts) {
            self.texts.extend_from_slice(&text[..text.len().min(LONGEST)]);
            *end = self.texts.len() as u32;
        }
    }

    pub fn set_request_id(&mut self, id: &[u8]) {
        let route = self.text(Text::Route).to_vec();
        self.texts.truncate(self.ends[Text::Query as usize] as usize);
        for (text, part) in [(Text::RequestId, id), (Text::Route, &route)] {
            self.texts.extend_from_slice(&part[..part.len().min(LONGEST)]);
            self.ends[text as usize] = self.texts.len() as u32;
        }
    }

    /// Empty where there is none.
    pub fn text(&self, text: Text) -> &[u8] {
        let at = text as usize;
        let begin = if at == 0 { 0 } else { self.ends[at - 1] };
        self.texts.get(begin as usize..self.ends[at] as usize).unwrap_or_default()
    }

    pub fn last(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// Under whose name it is counted.
    pub fn labels(&self) -> Option<&Labels> {
        self.last().map(|attempt| &attempt.labels).or(self.pool.as_ref()).map(|labels| &**labels)
    }

    /// Another pool was asked for it than the one that it was for.
    pub fn is_rescued(&self) -> bool {
        self.chosen_by == Some(ChosenBy::Rescue) || self.attempts.iter().any(|it| it.is_rescue)
    }

    /// It failed, and not because of its client.
    pub fn has_failed(&self) -> bool {
        self.status >= 500 || self.failure.is_some_and(|(fault, _)| fault != Fault::Downstream)
    }
}

impl ChosenBy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Draw => "draw",
            Self::Sticky => "sticky",
            Self::Rescue => "rescue",
        }
    }
}

impl Protocol {
    /// As in the first line of a message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_again() {
        let mut account = Account::default();
        assert_eq!(account.text(Text::Path), b"");
        let long = [b'x'; 2 * LONGEST];
        account.set_texts([b"GET", b"", &long, b"a=b", b"id", b"all"]);
        let all = [Text::Method, Text::Host, Text::Path, Text::Query, Text::RequestId, Text::Route];
        let found = all.map(|text| account.text(text));
        assert_eq!(found, [&b"GET"[..], b"", &long[..LONGEST], b"a=b", b"id", b"all"]);
        account.set_request_id(b"another");
        let found = [Text::Query, Text::RequestId, Text::Route].map(|text| account.text(text));
        assert_eq!(found, [&b"a=b"[..], b"another", b"all"]);
    }
}
