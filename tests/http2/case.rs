//! What a case is.

/// What a client sees of a stream or the connection.
#[derive(Clone, Debug)]
pub enum Sees {
    /// A whole response.
    Answer { stream: u32, status: u16, error: Option<&'static str> },
    /// The stream is reset, with one of these errors.
    Reset(u32, &'static [u32]),
    /// A refusal before any backend: 400, or the error of a stream that RFC 9113 section 8.1.1 asks for.
    Malformed(u32),
    /// The connection ends, with one of these errors.
    Goaway(&'static [u32]),
    /// Either is right.
    ResetOrGoaway(u32, &'static [u32]),
    /// A ping is answered with the same bytes.
    Pong(&'static [u8; 8]),
}

pub struct Case {
    pub name: String,
    pub why: &'static str,
    /// Without preface and settings.
    pub raw: bool,
    /// What is sent, in steps: each but the last waits until the backend waits for a body or what was answered
    /// has come.
    pub sends: Vec<Step>,
    pub sees: Vec<Sees>,
    /// The start lines that the backend sees, in any order.
    pub forwards: Vec<String>,
    /// The fields that the first of them has, and lacks.
    pub with: Vec<(&'static str, String)>,
    pub without: Vec<&'static str>,
    /// Beginnings of messages may reach the backend, and be cut.
    pub may_cut: bool,
    /// What the body of the answer on stream 1 is.
    pub body: Option<Vec<u8>>,
    /// What was asked may or may not have reached the backend when the connection ended.
    pub may_forward: bool,
    /// The names of the trailers that the backend gets.
    pub trails: Option<&'static str>,
    /// The client asks for nothing more.
    pub ends_itself: bool,
}

#[derive(Clone, Debug)]
pub enum Step {
    Send(Vec<u8>),
    /// The same a byte at a time.
    Drip(Vec<u8>),
    /// The backend has a head and waits for its body.
    AwaitBackend,
    /// The backend has this many messages.
    AwaitMessages(usize),
    /// The final response of the stream, or its beginning, has come.
    AwaitAnswer(u32),
    /// An interim response of the stream has come.
    AwaitInterim(u32),
}

pub fn case(name: impl Into<String>, why: &'static str) -> Case {
    Case {
        name: name.into(),
        why,
        raw: false,
        sends: Vec::new(),
        sees: Vec::new(),
        forwards: Vec::new(),
        with: Vec::new(),
        without: Vec::new(),
        may_cut: false,
        body: None,
        may_forward: false,
        trails: None,
        ends_itself: false,
    }
}

impl Case {
    pub fn raw(mut self) -> Self {
        self.raw = true;
        self
    }

    pub fn sends(mut self, frames: &[Vec<u8>]) -> Self {
        self.sends.push(Step::Send(frames.concat()));
        self
    }

    pub fn drips(mut self, frames: &[Vec<u8>]) -> Self {
        self.sends.push(Step::Drip(frames.concat()));
        self
    }

    pub fn waits(mut self, step: Step) -> Self {
        self.sends.push(step);
        self
    }

    /// An answer with this status, and for 200 a request that reached the backend.
    pub fn answers(mut self, stream: u32, status: u16) -> Self {
        self.sees.push(Sees::Answer { stream, status, error: None });
        self
    }

    pub fn refuses(mut self, status: u16, error: &'static str) -> Self {
        self.sees.push(Sees::Answer { stream: 1, status, error: Some(error) });
        self
    }

    pub fn sees(mut self, sees: Sees) -> Self {
        self.sees.push(sees);
        self
    }

    pub fn malformed(self) -> Self {
        self.sees(Sees::Malformed(1))
    }

    pub fn goaway(self, codes: &'static [u32]) -> Self {
        self.sees(Sees::Goaway(codes))
    }

    pub fn forwards(mut self, start: impl Into<String>) -> Self {
        self.forwards.push(start.into());
        self
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.with.push((name, value.into()));
        self
    }

    pub fn without(mut self, name: &'static str) -> Self {
        self.without.push(name);
        self
    }

    pub fn may_cut(mut self) -> Self {
        self.may_cut = true;
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub fn forwards_maybe(mut self) -> Self {
        self.may_forward = true;
        self
    }

    pub fn trails(mut self, names: &'static str) -> Self {
        self.trails = Some(names);
        self
    }

    pub fn ends_itself(mut self) -> Self {
        self.ends_itself = true;
        self
    }

    pub fn ends(&self) -> bool {
        self.sees.iter().any(|sees| matches!(sees, Sees::Goaway(_)))
    }
}
