//! What is known of a request that is over.

use super::{Fault, Moment, Reason};
use crate::spec::Name;
use smallvec::SmallVec;
use std::{fmt, net::IpAddr, sync::Arc};

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
    texts: Texts,
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
    /// What it is handed over for.
    pub to_log: bool,
    pub to_spans: bool,
}

/// One after the other.
struct Texts {
    room: [u8; ROOM],
    /// All of them, if they are too many for that.
    long: Box<[u8]>,
    /// Where each of them ends.
    ends: [u32; TEXTS],
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

    /// The texts in the order of [`Text`].
    pub fn set_texts(&mut self, texts: [&[u8]; TEXTS]) {
        self.texts.set(texts);
    }

    pub fn set_request_id(&mut self, id: &[u8]) {
        let old = std::mem::take(&mut self.texts);
        let mut texts = std::array::from_fn(|nth| old.get(nth));
        texts[Text::RequestId as usize] = id;
        self.texts.set(texts);
    }

    /// Empty where there is none.
    pub fn text(&self, text: Text) -> &[u8] {
        self.texts.get(text as usize)
    }

    /// All of them, one after the other.
    pub fn texts(&self) -> &[u8] {
        self.texts.all()
    }

    pub fn last(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// Under whose name it is counted.
    pub fn labels(&self) -> Option<&Arc<Labels>> {
        self.last().map(|attempt| &attempt.labels).or(self.pool.as_ref())
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

impl Default for Texts {
    fn default() -> Self {
        Self { room: [0; ROOM], long: Box::default(), ends: [0; TEXTS] }
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries((0..TEXTS).map(|nth| self.get(nth).escape_ascii().to_string()))
            .finish()
    }
}

impl Texts {
    fn set(&mut self, texts: [&[u8]; TEXTS]) {
        let texts = texts.map(|text| &text[..text.len().min(LONGEST)]);
        let length = texts.iter().map(|text| text.len()).sum();
        self.long = if length > ROOM { vec![0; length].into() } else { Box::default() };
        let mut rest = if length > ROOM { &mut *self.long } else { &mut self.room };
        let mut at = 0;
        for (text, end) in texts.into_iter().zip(&mut self.ends) {
            let Some((place, behind)) = rest.split_at_mut_checked(text.len()) else { return };
            place.copy_from_slice(text);
            rest = behind;
            at += text.len() as u32;
            *end = at;
        }
    }

    fn all(&self) -> &[u8] {
        let length = self.ends[TEXTS - 1] as usize;
        let all = if self.long.is_empty() { &self.room[..] } else { &self.long };
        all.get(..length).unwrap_or_default()
    }

    /// One of them, by its place in [`Text`].
    fn get(&self, nth: usize) -> &[u8] {
        let begin = if nth == 0 { 0 } else { self.ends[nth - 1] };
        self.all().get(begin as usize..self.ends[nth] as usize).unwrap_or_default()
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
        for length in [0, ROOM - 3, ROOM - 2, 1] {
            account.set_texts([b"GET", b"", &long[..length], b"", b"", b"all"]);
            assert_eq!(account.texts(), [b"GET", &long[..length], b"all"].concat());
            assert_eq!(account.text(Text::Path), &long[..length]);
        }
    }
}
