//! Frames as they pass (RFC 9113 section 4.1): their headers, and of the payloads what a guard looks at.

/// Kinds of frames (section 6).
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const PRIORITY: u8 = 2;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PUSH_PROMISE: u8 = 5;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
    pub(in super::super) const CONTINUATION: u8 = 9;
}

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITY: u8 = 0x20;

pub(super) const HEADER: usize = 9;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// The setting that a unit is the value of.
    pub(super) setting: u16,
}

impl Header {
    pub(super) fn of(bytes: &[u8; HEADER]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            len: u32::from_be_bytes([0, l0, l1, l2]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            setting: 0,
        }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        // A frame is never longer than three bytes can say.
        let [_, l0, l1, l2] = (self.len as u32).to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }

    /// It is a piece of a header block.
    pub(super) fn is_of_a_block(&self) -> bool {
        matches!(self.kind, kind::HEADERS | kind::CONTINUATION)
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A frame begins.
    Head(Header),
    /// Four bytes of its payload: the value of a setting, an increment, an error code.
    Unit(Header, [u8; 4]),
    /// It is complete; or the preface is.
    End,
}

/// Takes a stream of bytes apart, however it comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Of what stands before the first frame.
    preface: usize,
    bytes: [u8; HEADER],
    have: usize,
    /// The frame whose payload comes.
    header: Option<Header>,
    /// Of its payload.
    left: usize,
}

impl Frames {
    /// Of a client, which says something else first (section 3.4).
    pub(super) fn behind_preface() -> Self {
        Self { preface: super::super::server::PREFACE.len(), ..Self::default() }
    }

    /// The frame whose payload comes.
    pub(super) fn within(&self) -> Option<Header> {
        self.header
    }

    /// What comes is the header of a frame.
    pub(super) fn is_at_a_header(&self) -> bool {
        self.preface == 0 && self.header.is_none()
    }

    /// Something other than a body has begun and is not complete.
    pub(super) fn is_within_a_message(&self) -> bool {
        match self.header {
            Some(header) => header.kind != kind::DATA,
            None => self.have > 0,
        }
    }

    /// The next thing that `bytes` say; they are moved on by what it took. `None`: nothing more.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Event> {
        if self.preface > 0 {
            let skipped = self.preface.min(bytes.len());
            self.preface -= skipped;
            *bytes = &bytes[skipped..];
            return (self.preface == 0).then_some(Event::End);
        }
        let Some(header) = self.header else {
            self.gather(HEADER, bytes)?;
            let header = Header::of(&self.bytes);
            (self.header, self.left) = (Some(header), header.len);
            return Some(Event::Head(header));
        };
        let unit = match header.kind {
            kind::SETTINGS => 6,
            kind::RST_STREAM | kind::WINDOW_UPDATE => 4,
            _ => 0,
        };
        if unit == 0 || self.left < unit {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            *bytes = &bytes[skipped..];
            if self.left > 0 {
                return None;
            }
            self.header = None;
            return Some(Event::End);
        }
        self.gather(unit, bytes)?;
        self.left -= unit;
        let [b0, b1, b2, b3, b4, b5, ..] = self.bytes;
        Some(match unit {
            6 => {
                let setting = u16::from_be_bytes([b0, b1]);
                Event::Unit(Header { setting, ..header }, [b2, b3, b4, b5])
            }
            _ => Event::Unit(header, [b0, b1, b2, b3]),
        })
    }

    fn gather(&mut self, wanted: usize, bytes: &mut &[u8]) -> Option<()> {
        let taken = (wanted - self.have).min(bytes.len());
        self.bytes[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        self.have += taken;
        *bytes = &bytes[taken..];
        if self.have < wanted {
            return None;
        }
        self.have = 0;
        Some(())
    }
}
