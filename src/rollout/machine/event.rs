//! What happens to a rollout, and what follows.

use super::{Layout, Millis};
use crate::{
    rollout::sequential::Slice,
    spec::{HookEvent, Name, Role, Share},
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Another second is over.
    Second(Box<Second>),
    /// Nothing has happened but what was said to it: what can be done about that at once is. The slice does not count.
    Look(Box<Second>),
    Verb(Verb, By),
    /// The layout that was asked for is in force; or why it is not.
    Moved(Result<(), String>),
    /// What a gate has answered, by its number.
    Answered(usize, Answer),
    /// Somebody else has moved the traffic of the service: it is theirs now.
    Superseded(By),
    /// The file says something else of the traffic of the service; it was held back.
    Drifted,
    /// A notice has reached everybody, or never will.
    Told(u64),
}

/// What a second has shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Second {
    /// What both versions did; `None`: not known, or not to be judged.
    pub slice: Option<Slice>,
    /// The canary's effective share in it.
    pub share: f64,
    /// Whether somebody of the pool would answer.
    pub stable_healthy: bool,
    pub canary_healthy: bool,
    /// The first so many backends of stable, and of the canary, that would answer if they got requests.
    pub stable_backends: Vec<bool>,
    pub canary_backends: Vec<bool>,
    /// Requests in flight on stable.
    pub stable_in_flight: u64,
    /// More users with errors than are told apart.
    pub crowded: bool,
    /// Where the canary fails more often than stable, in words that go behind why it is cut.
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// On to the next step, whatever the evidence.
    Promote,
    /// Stays where it is, for so many seconds.
    Pause(Option<u64>),
    Resume,
    Abort,
}

/// Who wants something, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    pub author: Name,
    pub role: Role,
    pub cause: Option<String>,
}

/// Of a gate from elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Pass(String),
    Fail(String),
    /// It could not be asked, or has said nothing.
    Inconclusive(String),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Put this in force, as one revision, and say [`Event::Moved`]. Nothing else happens until then.
    Move(Layout),
    /// Ask the gate of this number, and say [`Event::Answered`].
    Ask(usize),
    /// Something is worth telling.
    Tell(Notice),
}

/// Something that is worth telling: to hooks, in events, in the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Counts from 1 in each rollout.
    pub number: u64,
    pub at: Millis,
    pub event: HookEvent,
    /// The step it is in, from 1; 0: before the first.
    pub step: usize,
    /// The canary's share.
    pub share: Share,
    /// `None`: by itself.
    pub by: Option<By>,
    pub why: Option<Why>,
}

impl Notice {
    /// Bytes of what it says in words.
    pub(super) fn text(&self) -> usize {
        let cause = self.by.as_ref().and_then(|by| by.cause.as_ref()).map_or(0, String::len);
        cause + self.why.as_ref().map_or(0, |why| why.text.len())
    }
}

/// Why something happened: a word for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    pub code: Name,
    pub text: String,
}

impl Why {
    pub(super) fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into() }
    }
}
