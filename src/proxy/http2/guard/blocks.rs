//! Header blocks, kept back until they are whole and judged. A good one goes on as it came. Instead of another one the
//! library is shown something by which the stream fails, and nothing else: it would give the connection up, or let
//! some of what is wrong pass. From then on its table is not the peer's, so that later blocks are written anew.

use super::{
    super::hpack::{self, Decoder, Stop},
    LARGEST_FRAME, Side,
    frames::{self, Header, kind},
    sum::{Finding, Limits, Part, Sum},
};
use h2::Reason;
use std::ops::Range;

/// By these paths the library is shown requests that are not let through: no client's path that goes on has a `\`.
pub(in super::super) const MALFORMED: &str = "/\\malformed";
pub(in super::super) const ODD: &str = "/\\odd";
pub(in super::super) const TOO_LARGE: &str = "/\\too-large";

/// Their method, if theirs cannot be told.
const SOME_METHOD: &[u8] = b"UNKNOWN";

/// A block with which fields come to so many times what they may is not read to its end.
const ABSURD: usize = 8;

/// Streams that a client may have begun at once: those beyond its limit are refused when they are seen.
const MOST_OPEN: usize = 10_000;

#[derive(Debug)]
pub(super) struct Blocks {
    side: Side,
    limits: Limits,
    decoder: Decoder,
    /// The library has not seen all of what the peer's table is made of.
    is_parted: bool,
    /// The highest number of a stream that was asked for.
    newest: u32,
    open: Vec<Open>,
    /// The first frame of the block that comes, and what it says so far if that is not all.
    first: Header,
    kept: Vec<u8>,
    /// That frame depends on no other one, or on another stream.
    is_sound: bool,
}

/// A stream on which the peer has not said all; they are in order.
#[derive(Debug)]
struct Open {
    stream: u32,
    has_head: bool,
}

impl Blocks {
    pub(super) fn new(side: Side, limits: Limits) -> Self {
        Self {
            side,
            limits,
            decoder: Decoder::default(),
            is_parted: false,
            newest: 0,
            open: Vec::new(),
            first: Header::default(),
            kept: Vec::new(),
            is_sound: true,
        }
    }

    /// This side has asked for something.
    pub(super) fn note_asked(&mut self, stream: u32) {
        if stream > self.newest {
            self.newest = stream;
            self.open.push(Open { stream, has_head: false });
        }
    }

    /// The peer has said all on the stream, or nobody listens any more.
    pub(super) fn note_over(&mut self, stream: u32) {
        if let Ok(place) = self.place(stream) {
            self.open.remove(place);
        }
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    fn place(&self, stream: u32) -> Result<usize, usize> {
        self.open.binary_search_by_key(&stream, |open| open.stream)
    }

    /// A frame of a block begins.
    pub(super) fn begin(&mut self, header: &Header) {
        if header.kind == kind::HEADERS {
            self.first = *header;
        }
    }

    /// Judges a block that came in one frame and one piece: true when it may go on as it is; else what goes on is in
    /// `instead`.
    ///
    /// # Errors
    /// With what ends the connection.
    pub(super) fn take_whole(
        &mut self,
        payload: &[u8],
        instead: &mut Vec<u8>,
    ) -> Result<bool, Reason> {
        let (block, is_sound) = within(&self.first, payload)?;
        self.is_sound = is_sound;
        self.judge(&payload[block], instead)
    }

    /// Keeps a piece of a frame.
    ///
    /// # Errors
    /// When the block gets too large for an answer.
    pub(super) fn keep(&mut self, piece: &[u8]) -> Result<(), Reason> {
        // One that says as much as it may takes about half of this.
        if self.kept.len() + piece.len() > 2 * self.limits.bytes + LARGEST_FRAME {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        self.kept.extend_from_slice(piece);
        Ok(())
    }

    /// A frame is all there. If its block is too, what goes on is in `instead`.
    ///
    /// # Errors
    /// With what ends the connection.
    pub(super) fn end(&mut self, header: &Header, instead: &mut Vec<u8>) -> Result<(), Reason> {
        if header.kind == kind::HEADERS {
            let (block, is_sound) = within(header, &self.kept)?;
            self.is_sound = is_sound;
            self.kept.truncate(block.end);
            self.kept.drain(..block.start);
        }
        if header.has(frames::END_HEADERS) {
            let block = std::mem::take(&mut self.kept);
            if self.judge(&block, instead)? {
                frame(&self.first, &block, instead);
            }
        }
        Ok(())
    }

    fn judge(&mut self, block: &[u8], instead: &mut Vec<u8>) -> Result<bool, Reason> {
        let part = self.part();
        let (sum, anew) = self.read(block)?;
        let ends = self.first.has(frames::END_STREAM);
        // Sections 8.1 and 15.2 of RFC 9110: trailers end a message, an interim response does not.
        let is_in_place = match part {
            Part::Trailers => ends,
            Part::Response => !(ends && sum.is_interim()),
            Part::Request | Part::Nothing => true,
        };
        let finding = match self.is_sound && is_in_place {
            true => sum.finding(part, self.limits),
            false => Finding::Malformed,
        };
        self.note_read(part, &sum)?;
        match finding {
            Finding::Good if !self.is_parted => return Ok(true),
            Finding::Good => frame(&self.first, &anew, instead),
            Finding::Malformed => self.replace(part, MALFORMED, &sum, instead),
            Finding::Odd => self.replace(part, ODD, &sum, instead),
            Finding::TooLarge => self.replace(part, TOO_LARGE, &sum, instead),
        }
        Ok(false)
    }

    fn part(&self) -> Part {
        let stream = self.first.stream;
        match self.place(stream) {
            Ok(place) if self.open[place].has_head => Part::Trailers,
            Ok(_) => Part::Response,
            Err(_) if self.side == Side::Server && stream > self.newest => Part::Request,
            Err(_) => Part::Nothing,
        }
    }

    /// What a block says; and once that is needed, what says the same without a table.
    fn read(&mut self, block: &[u8]) -> Result<(Sum, Vec<u8>), Reason> {
        let (mut sum, mut anew) = (Sum::default(), Vec::new());
        let most = self.limits.bytes;
        let is_parted = self.is_parted;
        let read = self.decoder.read(block, |field| {
            sum.add(&field);
            if is_parted && sum.bytes() <= most {
                hpack::write(field.name, field.value, &mut anew);
            }
            sum.bytes() <= most.saturating_mul(ABSURD)
        });
        match read {
            Ok(()) => Ok((sum, anew)),
            Err(Stop::Broken) => Err(Reason::COMPRESSION_ERROR),
            Err(Stop::Enough) => Err(Reason::ENHANCE_YOUR_CALM),
        }
    }

    fn note_read(&mut self, part: Part, sum: &Sum) -> Result<(), Reason> {
        let Header { stream, .. } = self.first;
        if part == Part::Request {
            self.newest = stream;
        }
        if self.first.has(frames::END_STREAM) {
            self.note_over(stream);
            return Ok(());
        }
        match part {
            Part::Request if self.open.len() >= MOST_OPEN => return Err(Reason::ENHANCE_YOUR_CALM),
            Part::Request => self.open.push(Open { stream, has_head: true }),
            Part::Response => {
                if let Ok(place) = self.place(stream) {
                    self.open[place].has_head = !sum.is_interim();
                }
            }
            Part::Trailers | Part::Nothing => {}
        }
        Ok(())
    }

    fn replace(&mut self, part: Part, path: &str, sum: &Sum, instead: &mut Vec<u8>) {
        self.is_parted = true;
        let mut block = Vec::new();
        match (part, self.side) {
            (Part::Response | Part::Trailers, _) => hpack::write(b"connection", b"", &mut block),
            // What nobody will see.
            (Part::Nothing | Part::Request, Side::Client) => {
                hpack::write(b":status", b"200", &mut block);
            }
            (Part::Nothing | Part::Request, Side::Server) => {
                hpack::write(b":method", sum.method().unwrap_or(SOME_METHOD), &mut block);
                hpack::write(b":scheme", b"http", &mut block);
                hpack::write(b":path", path.as_bytes(), &mut block);
            }
        }
        frame(&self.first, &block, instead);
    }
}

/// Which part of the payload of HEADERS is of the block (section 6.2), and whether the stream depends on another one
/// than itself, if on any (RFC 7540 section 5.3.1).
///
/// # Errors
/// When the frame is no HEADERS.
pub(super) fn within(header: &Header, payload: &[u8]) -> Result<(Range<usize>, bool), Reason> {
    let mut block = 0..payload.len();
    let mut is_sound = true;
    let mut padding = 0;
    if header.has(frames::PADDED) {
        padding = usize::from(*payload.first().ok_or(Reason::FRAME_SIZE_ERROR)?);
        block.start += 1;
    }
    if header.has(frames::PRIORITY) {
        let priority = payload[block.start..].first_chunk::<5>().ok_or(Reason::FRAME_SIZE_ERROR)?;
        let [p0, p1, p2, p3, _] = *priority;
        is_sound = u32::from_be_bytes([p0 & 0x7f, p1, p2, p3]) != header.stream;
        block.start += 5;
    }
    if padding > block.len() {
        return Err(Reason::PROTOCOL_ERROR);
    }
    block.end -= padding;
    Ok((block, is_sound))
}

/// Appends the frames of a block.
fn frame(first: &Header, block: &[u8], out: &mut Vec<u8>) {
    let mut rest = block;
    let (mut kind, mut flags) = (kind::HEADERS, first.flags & frames::END_STREAM);
    loop {
        let (piece, after) = rest.split_at(rest.len().min(LARGEST_FRAME));
        if after.is_empty() {
            flags |= frames::END_HEADERS;
        }
        let header = Header { len: piece.len(), kind, flags, ..*first };
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(piece);
        if after.is_empty() {
            return;
        }
        (rest, kind, flags) = (after, kind::CONTINUATION, 0);
    }
}
