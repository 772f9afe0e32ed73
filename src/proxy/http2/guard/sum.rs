//! What the fields of a header block come to, taken together (RFC 9113 section 8).

use super::super::hpack::{Field, Kind};

/// Which part of a message a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Request,
    /// Of an interim response too.
    Response,
    Trailers,
    /// Of a stream that is over or never began: the library knows what becomes of it.
    Nothing,
}

/// How large a block may be.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Limits {
    /// Of all fields, each with 32 bytes more than it has (section 6.5.2).
    pub(in super::super) bytes: usize,
    /// Fields, other than pseudo-headers.
    pub(in super::super) fields: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Good,
    Malformed,
    /// It can be read, but not be meant.
    Odd,
    TooLarge,
}

/// Methods that are told of a request which is not let through are no longer than this.
const METHOD: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Sum {
    /// The pseudo-headers that were there.
    seen: u8,
    is_bad: bool,
    is_odd: bool,
    is_connect: bool,
    is_interim: bool,
    /// `*` is a path for OPTIONS alone.
    is_options: bool,
    is_asterisk: bool,
    has_host: bool,
    fields: usize,
    bytes: usize,
    method: ([u8; METHOD], usize),
}

const METHOD_SEEN: u8 = 1;
const SCHEME: u8 = 2;
const PATH: u8 = 4;
const AUTHORITY: u8 = 8;
const PROTOCOL: u8 = 16;
const STATUS: u8 = 32;

impl Sum {
    pub(super) fn add(&mut self, field: &Field<'_>) {
        self.bytes += field.size();
        let pseudo = match field.kind {
            Kind::Bad => return self.is_bad = true,
            Kind::Host | Kind::Plain => {
                self.fields += 1;
                self.has_host |= field.kind == Kind::Host;
                return;
            }
            Kind::Method | Kind::Connect | Kind::Options => {
                self.is_connect = field.kind == Kind::Connect;
                self.is_options = field.kind == Kind::Options;
                if let Some(place) = self.method.0.get_mut(..field.value.len()) {
                    place.copy_from_slice(field.value);
                    self.method.1 = field.value.len();
                }
                METHOD_SEEN
            }
            Kind::Scheme => SCHEME,
            Kind::Path | Kind::Asterisk | Kind::OddPath => {
                self.is_asterisk = field.kind == Kind::Asterisk;
                self.is_odd |= field.kind == Kind::OddPath;
                PATH
            }
            Kind::Authority | Kind::OddAuthority => {
                self.is_odd |= field.kind == Kind::OddAuthority;
                AUTHORITY
            }
            Kind::Protocol => PROTOCOL,
            Kind::Status | Kind::Interim => {
                self.is_interim = field.kind == Kind::Interim;
                STATUS
            }
        };
        // Once each, and before all others (section 8.3).
        self.is_bad |= self.seen & pseudo != 0 || self.fields > 0;
        self.seen |= pseudo;
    }

    /// What all fields take so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_interim(&self) -> bool {
        self.is_interim
    }

    /// The method that was asked for, if it was one and is short; it is for being counted.
    pub(super) fn method(&self) -> Option<&[u8]> {
        self.method.0.get(..self.method.1).filter(|method| !method.is_empty() && !self.is_connect)
    }

    pub(super) fn finding(&self, part: Part, limits: Limits) -> Finding {
        let is_whole = match part {
            Part::Request => self.is_request(),
            Part::Response => self.seen == STATUS,
            Part::Trailers => self.seen == 0,
            Part::Nothing => true,
        };
        if self.is_bad || !is_whole {
            Finding::Malformed
        } else if self.is_odd {
            Finding::Odd
        } else if self.bytes > limits.bytes || self.fields > limits.fields {
            Finding::TooLarge
        } else {
            Finding::Good
        }
    }

    /// Sections 8.3.1 and 8.5, RFC 8441 section 4.
    fn is_request(&self) -> bool {
        let has = |pseudo: u8| self.seen & pseudo == pseudo;
        if self.is_connect && !has(PROTOCOL) {
            return self.seen == METHOD_SEEN | AUTHORITY;
        }
        has(METHOD_SEEN | SCHEME | PATH)
            && self.seen & STATUS == 0
            && (self.is_connect || !has(PROTOCOL))
            && (self.is_options || !self.is_asterisk)
            && (self.has_host || has(AUTHORITY))
    }
}
