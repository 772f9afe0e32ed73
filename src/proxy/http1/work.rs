//! What is held while a request is in flight, and given back afterwards.

use super::{
    chunked::{Chunked, Malformed, SizeLine},
    exchange::Exchange,
    scan::{RequestScan, ResponseScan},
};
use crate::proxy::{
    core::Stall,
    framing::Length,
    mirror::{Copying, copy_end, copy_piece},
};

/// Buffers that have grown beyond this are not kept.
const LARGEST_KEPT: usize = 32 << 10;

#[derive(Default)]
pub(super) struct Work {
    /// The head of the request, as it came.
    pub(super) request: Vec<u8>,
    pub(super) scan: RequestScan,
    pub(super) ahead: Ahead,
    pub(super) upload: Upload,
    pub(super) download: Download,
    pub(super) exchange: Option<Exchange>,
}

impl Work {
    /// Empties it; false when it is not worth keeping.
    pub(super) fn clear(&mut self) -> bool {
        self.request.clear();
        self.scan.clear();
        self.ahead.clear();
        self.upload.clear();
        self.download.clear();
        self.exchange = None;
        let buffers = [
            &self.request,
            &self.ahead.bytes,
            &self.upload.head,
            &self.upload.body.bytes,
            &self.download.partial,
            &self.download.out.bytes,
        ];
        buffers.iter().all(|buffer| buffer.capacity() <= LARGEST_KEPT)
    }
}

/// Bytes on their way out, or not yet looked at.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    at: usize,
}

/// What a client has sent beyond the head: its body, and the requests behind it.
pub(super) type Ahead = Outbox;

impl Outbox {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.at = 0;
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn rest_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.at..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Some of it is done with, some is not.
    pub(super) fn is_begun(&self) -> bool {
        self.at > 0
    }

    /// The first `n` bytes are done with.
    pub(super) fn advance(&mut self, n: usize) {
        self.skip(n);
        if self.is_empty() {
            self.clear();
        }
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The same as it was from the beginning, though some of it is done with.
    fn rewind(&mut self) {
        self.at = 0;
    }

    fn skip(&mut self, n: usize) {
        self.at = (self.at + n).min(self.bytes.len());
    }
}

/// How a body comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Incoming {
    /// Nothing more.
    #[default]
    Ended,
    /// So many bytes.
    Exact(u64),
    Chunked,
    UntilClose,
}

impl From<Length> for Incoming {
    fn from(length: Length) -> Self {
        match length {
            Length::Exact(0) => Self::Ended,
            Length::Exact(bytes) => Self::Exact(bytes),
            Length::Chunked => Self::Chunked,
            Length::UntilClose => Self::UntilClose,
        }
    }
}

/// A request on its way to the backend.
#[derive(Default)]
pub(super) struct Upload {
    pub(super) head: Vec<u8>,
    head_at: usize,
    /// The body as the backend gets it.
    pub(super) body: Outbox,
    pub(super) incoming: Incoming,
    pub(super) chunked: Chunked,
    /// The body is sent in chunks.
    is_chunked: bool,
    /// What may trail goes along.
    trailers: bool,
    /// All of the body so far is still in `body`, and so can be sent again.
    is_whole: bool,
    keep_at_most: usize,
    /// Bytes of data so far.
    pub(super) read: u64,
    /// Some byte was written in this attempt.
    pub(super) written: bool,
    /// The backend takes no more.
    pub(super) broken: bool,
    /// Of the request, for another pool.
    pub(super) copying: Option<Box<Copying>>,
}

impl Upload {
    fn clear(&mut self) {
        self.head.clear();
        self.head_at = 0;
        self.body.clear();
        self.chunked.clear();
        self.incoming = Incoming::Ended;
        self.copying = None;
    }

    /// A new request, whose body may bring `trailers`; at most `keep` bytes of it are kept so that they can be
    /// sent again.
    pub(super) fn begin(&mut self, length: Length, trailers: bool, keep: usize) {
        self.clear();
        self.trailers = trailers;
        self.incoming = length.into();
        self.is_chunked = length == Length::Chunked;
        self.is_whole = true;
        self.keep_at_most = keep;
        self.read = 0;
        self.written = false;
        self.broken = false;
    }

    /// The same, for who takes the data out of `body` and frames it otherwise.
    pub(super) fn begin_as_data(&mut self, length: Length) {
        self.begin(length, false, 0);
        self.is_chunked = false;
    }

    /// Another attempt: `head` is to be written anew.
    pub(super) fn rewind(&mut self) {
        self.head.clear();
        self.head_at = 0;
        self.body.rewind();
        self.written = false;
        self.broken = false;
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// There will be no other attempt.
    pub(super) fn stop_keeping(&mut self) {
        self.keep_at_most = 0;
    }

    /// All of it has been handed to the kernel.
    pub(super) fn is_sent(&self) -> bool {
        self.incoming == Incoming::Ended && !self.has_output() && !self.broken
    }

    /// More of the client's body would be taken at once.
    pub(super) fn wants_more(&self) -> bool {
        self.incoming != Incoming::Ended && self.body.is_empty() && !self.broken
    }

    pub(super) fn has_output(&self) -> bool {
        self.head_at < self.head.len() || !self.body.is_empty()
    }

    /// What is to be written next.
    pub(super) fn output(&self) -> (&[u8], &[u8]) {
        (&self.head[self.head_at..], self.body.rest())
    }

    /// The rest of the head, if there is some and nothing comes after it.
    #[inline]
    pub(super) fn head_alone(&self) -> Option<&[u8]> {
        let is_alone = self.incoming == Incoming::Ended && self.body.is_empty() && !self.broken;
        self.head.get(self.head_at..).filter(|head| is_alone && !head.is_empty())
    }

    /// `n` bytes of the output are written. `replay`: the request may be sent again although they are.
    pub(super) fn wrote(&mut self, n: usize, replay: bool) {
        self.written |= n > 0;
        let of_head = n.min(self.head.len() - self.head_at);
        self.head_at += of_head;
        let of_body = n - of_head;
        if replay && self.is_whole && self.body.bytes.len() <= self.keep_at_most {
            self.body.skip(of_body);
        } else {
            if of_body > 0 {
                self.is_whole = false;
            }
            self.body.advance(of_body);
        }
    }

    /// The body goes on with `bytes`, whose data is moved to their front: how many were of the body. The data
    /// goes to the output.
    pub(super) fn take(&mut self, bytes: &mut [u8]) -> Result<usize, Malformed> {
        let (data, read) = decode(&mut self.incoming, &mut self.chunked, bytes)?;
        self.read += data as u64;
        self.copy(&bytes[..data]);
        if self.is_chunked {
            let out = &mut self.body.bytes;
            if data > 0 {
                out.extend_from_slice(SizeLine::new(data).as_bytes());
                out.extend_from_slice(&bytes[..data]);
                out.extend_from_slice(b"\r\n");
            }
            if self.incoming == Incoming::Ended {
                last_chunk(out, self.trailers.then_some(&self.chunked));
            }
        } else {
            self.body.extend(&bytes[..data]);
        }
        Ok(read)
    }

    /// Hands data that was taken over to the copy of the request.
    fn copy(&mut self, data: &[u8]) {
        if self.copying.is_some() {
            copy_piece(&mut self.copying, data);
            if self.incoming == Incoming::Ended {
                copy_end(&mut self.copying);
            }
        }
    }

    /// The same for all that is in `ahead`, without a copy where that is possible.
    pub(super) fn take_ahead(&mut self, ahead: &mut Ahead) -> Result<(), Malformed> {
        if let Incoming::Exact(left) = self.incoming
            && self.body.bytes.is_empty()
            && ahead.at == 0
            && ahead.bytes.len() as u64 <= left
        {
            std::mem::swap(&mut self.body.bytes, &mut ahead.bytes);
            let data = self.body.bytes.len() as u64;
            self.read += data;
            self.incoming =
                if data == left { Incoming::Ended } else { Incoming::Exact(left - data) };
            if self.copying.is_some() {
                copy_piece(&mut self.copying, &self.body.bytes);
                self.copy(&[]);
            }
            return Ok(());
        }
        let read = self.take(ahead.rest_mut())?;
        ahead.advance(read);
        Ok(())
    }
}

/// Takes what is of the body out of `bytes`: bytes of data, which are at the front then, and how many were of
/// the body in all.
fn decode(
    incoming: &mut Incoming,
    chunked: &mut Chunked,
    bytes: &mut [u8],
) -> Result<(usize, usize), Malformed> {
    match *incoming {
        Incoming::Ended => Ok((0, 0)),
        Incoming::Exact(left) => {
            let data = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let left = left - data as u64;
            *incoming = if left == 0 { Incoming::Ended } else { Incoming::Exact(left) };
            Ok((data, data))
        }
        Incoming::UntilClose => Ok((bytes.len(), bytes.len())),
        Incoming::Chunked => {
            let decoded = chunked.decode(bytes)?;
            if decoded.end {
                *incoming = Incoming::Ended;
            }
            Ok((decoded.data, decoded.read))
        }
    }
}

/// The end of a body in chunks, with those of its `trailers` that may pass.
fn last_chunk(out: &mut Vec<u8>, trailers: Option<&Chunked>) {
    use super::message::{Scanned, Wire};
    use crate::proxy::{fields::Lines, headers::Sink};
    out.extend_from_slice(b"0\r\n");
    let (lines, bytes) = trailers.map(Chunked::trailers).unwrap_or_default();
    for (known, name, value) in (Scanned { lines, bytes }).lines() {
        if known.may_trail() {
            Wire(out).line(name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// How a body goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// As it is, because its length was told.
    #[default]
    Plain,
    Chunked,
    /// As it is, up to the end of the connection.
    UntilClose,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Head,
    Body,
    /// 101: what follows is not HTTP.
    Switched,
}

/// A response on its way to the client.
#[derive(Default)]
pub(super) struct Download {
    pub(super) stage: Stage,
    pub(super) scan: ResponseScan,
    /// A head that came in pieces; after 101 what came behind it.
    pub(super) partial: Vec<u8>,
    pub(super) incoming: Incoming,
    pub(super) chunked: Chunked,
    pub(super) outgoing: Outgoing,
    pub(super) trailers: bool,
    pub(super) out: Outbox,
    /// Some byte came from the backend in this attempt.
    pub(super) received: bool,
    /// Some byte of a final response went to the client.
    pub(super) begun: bool,
    /// Interim responses so far, and their bytes.
    pub(super) interims: (u32, usize),
    /// The backend's connection may serve another request.
    pub(super) reusable: bool,
    /// The client's connection ends with this response.
    pub(super) closes: bool,
    /// Bytes of the body so far.
    pub(super) passed: u64,
    /// What the backend switched to is a WebSocket.
    pub(super) websocket: bool,
    /// The client did not take all that it was offered last.
    pub(super) stall: Option<Stall>,
}

impl Download {
    fn clear(&mut self) {
        self.scan.clear();
        self.partial.clear();
        self.chunked.clear();
        self.out.clear();
        self.stall = None;
    }

    pub(super) fn is_slow(&self) -> bool {
        self.stall.is_some()
    }

    pub(super) fn begin(&mut self, closes: bool) {
        self.clear();
        self.stage = Stage::Head;
        self.incoming = Incoming::Ended;
        self.outgoing = Outgoing::Plain;
        self.trailers = false;
        self.received = false;
        self.begun = false;
        self.interims = (0, 0);
        self.passed = 0;
        self.reusable = true;
        self.closes = closes;
    }

    /// Bytes of the body that the client has taken, framing of what has not left included.
    pub(super) fn delivered(&self) -> u64 {
        self.passed.saturating_sub(self.out.rest().len() as u64)
    }

    /// All of the response has come.
    pub(super) fn is_delivered(&self) -> bool {
        self.stage == Stage::Body && self.incoming == Incoming::Ended
    }

    /// The body is complete, and so is what goes to the client.
    pub(super) fn is_done(&self) -> bool {
        self.is_delivered() && self.out.is_empty()
    }

    /// The body goes on with what is in `scratch` from `start` to `end`; there is room before and behind it.
    /// Returns what of `scratch` goes to the client as it is, after the outbox (and before what is added to
    /// that from now on).
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        scratch: &mut [u8],
        start: usize,
        end: usize,
    ) -> Result<std::ops::Range<usize>, Malformed> {
        let (data, read) = decode(&mut self.incoming, &mut self.chunked, &mut scratch[start..end])?;
        self.passed += data as u64;
        // Bytes beyond the message: nobody asked for them, and nobody gets them.
        self.reusable &= start + read == end;
        let mut piece = start..start + data;
        if self.outgoing == Outgoing::Chunked {
            if data > 0 {
                let size = SizeLine::new(data);
                piece.start -= size.as_bytes().len();
                scratch[piece.start..start].copy_from_slice(size.as_bytes());
                scratch[piece.end..piece.end + 2].copy_from_slice(b"\r\n");
                piece.end += 2;
            }
            if self.incoming == Incoming::Ended && !self.has_trailers() {
                let end = super::chunked::END;
                scratch[piece.end..piece.end + end.len()].copy_from_slice(end);
                piece.end += end.len();
            }
        }
        Ok(piece)
    }

    /// The body ended with fields that the client gets.
    pub(super) fn has_trailers(&self) -> bool {
        self.trailers && !self.chunked.trailers().0.is_empty()
    }

    /// What comes behind the last piece of a body in chunks that has trailers.
    pub(super) fn add_trailers(&mut self) {
        last_chunk(&mut self.out.bytes, Some(&self.chunked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_kept_as_long_as_it_may_be_sent_again() {
        let mut upload = Upload::default();
        upload.begin(Length::Exact(6), true, 4);
        upload.head.extend_from_slice(b"head");
        assert_eq!(upload.take(&mut b"abcd"[..].to_vec()).unwrap(), 4);
        assert_eq!(upload.output(), (&b"head"[..], &b"abcd"[..]));
        upload.wrote(6, true);
        assert_eq!(upload.output(), (&b""[..], &b"cd"[..]));
        assert!(upload.is_whole());
        upload.rewind();
        assert_eq!(upload.output(), (&b""[..], &b"abcd"[..]));
        upload.wrote(4, true);
        assert_eq!(upload.take(&mut b"efgh"[..].to_vec()).unwrap(), 2);
        assert_eq!(upload.output().1, b"ef");
        upload.wrote(2, true);
        assert!(!upload.is_whole() && upload.is_sent());
    }

    #[test]
    fn what_must_not_be_sent_again_is_not_kept() {
        let mut upload = Upload::default();
        upload.begin(Length::Exact(4), true, 100);
        let mut ahead = Ahead::default();
        ahead.extend(b"abcd");
        upload.take_ahead(&mut ahead).unwrap();
        assert!(ahead.is_empty() && upload.is_whole());
        upload.wrote(2, false);
        assert!(!upload.is_whole());
        assert_eq!(upload.output().1, b"cd");
    }

    #[test]
    fn what_is_behind_the_body_stays_ahead() {
        let mut upload = Upload::default();
        for (trailers, sent) in
            [(true, &b"3\r\nabc\r\n0\r\nA: b\r\n\r\n"[..]), (false, b"3\r\nabc\r\n0\r\n\r\n")]
        {
            upload.begin(Length::Chunked, trailers, 100);
            let mut ahead = Ahead::default();
            ahead.extend(b"3;x=y\r\nabc\r\n0\r\nA: b\r\nHost: c\r\n\r\nGET /");
            upload.take_ahead(&mut ahead).unwrap();
            assert_eq!(upload.output().1, sent);
            assert_eq!(ahead.rest(), b"GET /");
            assert_eq!(upload.incoming, Incoming::Ended);
        }
    }

    #[test]
    fn a_piece_is_framed_where_it_lies() {
        let mut download = Download::default();
        download.begin(false);
        (download.stage, download.incoming) = (Stage::Body, Incoming::Chunked);
        download.outgoing = Outgoing::Chunked;
        let mut scratch = [0; 100];
        let body = b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
        scratch[32..32 + body.len()].copy_from_slice(body);
        let piece = download.take(&mut scratch, 32, 32 + body.len()).unwrap();
        assert_eq!(scratch[piece], *b"5\r\nabcde\r\n0\r\n\r\n");
        assert!(download.reusable && download.is_done());
    }

    #[test]
    fn bytes_beyond_the_message_spoil_the_connection() {
        let mut download = Download::default();
        download.begin(false);
        (download.stage, download.incoming) = (Stage::Body, Incoming::Exact(2));
        let mut scratch = *b"abcd";
        assert_eq!(download.take(&mut scratch, 0, 4), Ok(0..2));
        assert!(!download.reusable);
    }
}
