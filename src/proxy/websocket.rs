//! Where the frames of a WebSocket end (RFC 6455 section 5.2), so that the proxy can say goodbye between two of
//! them. Only the heads of frames are looked at, never what they carry. And the handshake, where the two sides of
//! the proxy have different ones.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use http::HeaderValue;

/// A Close frame with status 1001, "going away" (RFC 6455 sections 5.5.1 and 7.4.1), as servers send it.
pub(super) const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xe9];

/// What a server's proof is made with (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `Sec-WebSocket-Key` of a client whose nonce is `nonce` (RFC 6455 section 4.1).
pub(super) fn key(nonce: u128) -> HeaderValue {
    in_base64(&nonce.to_be_bytes())
}

/// `Sec-WebSocket-Accept` of a server that was asked with `key` (RFC 6455 section 4.2.2).
pub(super) fn accept(key: &[u8]) -> HeaderValue {
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    in_base64(proof.as_ref())
}

/// RFC 4648 section 4.
fn in_base64(bytes: &[u8]) -> HeaderValue {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |n: usize| u32::from(three.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(if digit <= three.len() { DIGITS[value as usize] } else { b'=' });
        }
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The most that stands before a payload: two bytes, a long length, a mask.
const LONGEST_HEAD: usize = 14;

const CLOSE: u8 = 8;

/// How far one direction has come.
#[derive(Debug, Default)]
pub(super) struct Frames {
    head: [u8; LONGEST_HEAD],
    /// Bytes of the head so far.
    known: usize,
    /// Bytes of the payload that are still to come.
    payload: u64,
    end: End,
}

/// What ends the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    None,
    /// A Close frame has begun: nothing may follow it.
    Close,
    /// A length that cannot be: this is no WebSocket.
    Nonsense,
}

impl Frames {
    /// A frame has just ended, or none has begun, and another one may follow.
    pub(super) fn is_between(&self) -> bool {
        self.known == 0 && self.payload == 0 && self.end == End::None
    }

    /// The sender has said goodbye itself.
    pub(super) fn has_closed(&self) -> bool {
        self.end == End::Close
    }

    /// These are no frames.
    pub(super) fn is_nonsense(&self) -> bool {
        self.end == End::Nonsense
    }

    /// Follows the frames through `bytes`: all of them, or up to the first place between two frames if that is
    /// where to `stop`. Returns how many that were.
    pub(super) fn follow(&mut self, bytes: &[u8], stop: bool) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            if self.end == End::Nonsense {
                return bytes.len();
            }
            if self.payload > 0 {
                let here = self.payload.min((bytes.len() - at) as u64);
                self.payload -= here;
                // No more than there are bytes.
                at += here as usize;
            } else {
                self.head[self.known] = bytes[at];
                self.known += 1;
                at += 1;
                self.read_head();
            }
            if stop && self.is_between() {
                return at;
            }
        }
        at
    }

    /// Ends the head if it is complete.
    fn read_head(&mut self) {
        if self.known < 2 {
            return;
        }
        let [first, second, rest @ ..] = self.head;
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 != 0 { 4 } else { 0 };
        if self.known < 2 + extended + mask {
            return;
        }
        self.payload = match extended {
            0 => u64::from(second & 0x7f),
            _ => rest[..extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        self.known = 0;
        // The most significant bit must be 0.
        if self.payload > u64::MAX / 2 {
            self.end = End::Nonsense;
        } else if first & 0x0f == CLOSE {
            self.end = End::Close;
        }
    }
}

/// The follower of one direction, for `tests/fuzz`.
#[cfg(fuzzing)]
#[derive(Default)]
pub struct Follower(Frames);

#[cfg(fuzzing)]
impl Follower {
    /// See `Frames::follow`.
    pub fn follow(&mut self, bytes: &[u8], stop: bool) -> usize {
        self.0.follow(bytes, stop)
    }

    /// Whether it is between two frames, has closed, makes no sense.
    pub fn stands(&self) -> [bool; 3] {
        [self.0.is_between(), self.0.has_closed(), self.0.is_nonsense()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An unmasked frame, or one with a mask.
    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mut frame = vec![0x80 | opcode];
        let mask = if masked { 0x80 } else { 0 };
        match length {
            0..126 => frame.push(mask | length as u8),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(vec![0xff; length + if masked { 4 } else { 0 }]);
        frame
    }

    proptest! {
        /// Wherever the bytes are cut, the first place to stop is the end of the frame that was begun.
        #[test]
        fn frames_end_where_they_end(
            lengths in prop::collection::vec((prop_oneof![0..10usize, 120..130usize, 65_530..65_540usize], any::<bool>()), 1..5),
            cut in 0..300_000usize,
        ) {
            let frames: Vec<Vec<u8>> = lengths.iter().map(|&(length, masked)| frame(2, length, masked)).collect();
            let bytes = frames.concat();
            let cut = cut % bytes.len();
            let mut ends = frames.iter().scan(0, |end, frame| { *end += frame.len(); Some(*end) });
            let mut follower = Frames::default();
            prop_assert_eq!(follower.follow(&bytes[..cut], false), cut);
            let is_end = cut == 0 || ends.clone().any(|end| end == cut);
            prop_assert_eq!(follower.is_between(), is_end);
            let next = ends.find(|end| *end > cut).unwrap_or(bytes.len());
            prop_assert_eq!(cut + follower.follow(&bytes[cut..], true), next);
            prop_assert!(follower.is_between());
        }
    }

    /// The example of RFC 6455 section 1.3, and the ends of RFC 4648 section 10.
    #[test]
    fn a_server_proves_that_it_has_read_the_key() {
        let nonce = u128::from_be_bytes(*b"the sample nonce");
        assert_eq!(key(nonce), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (bytes, text) in [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v")] {
            assert_eq!(in_base64(bytes), text);
        }
    }

    #[test]
    fn nothing_follows_a_close() {
        let mut frames = Frames::default();
        let mut bytes = frame(CLOSE, 2, false);
        assert_eq!(frames.follow(&bytes, true), 4);
        assert!(frames.has_closed() && !frames.is_between());
        bytes.truncate(2);
        let mut frames = Frames::default();
        frames.follow(&bytes, true);
        assert!(frames.has_closed(), "from its head on");
        let mut goodbye = Frames::default();
        goodbye.follow(GOING_AWAY, false);
        assert!(goodbye.has_closed() && goodbye.payload == 0);
    }

    #[test]
    fn a_length_that_cannot_be_is_nonsense() {
        let mut frames = Frames::default();
        let bytes = [0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3];
        assert_eq!(frames.follow(&bytes, true), bytes.len());
        assert!(frames.is_nonsense() && !frames.is_between());
    }
}
