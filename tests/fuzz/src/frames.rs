//! Frames of HTTP/2, read a second time from RFC 9113 alone.

use super::blocks::Table;
use crossfade::proxy::fuzzing_http2 as fuzzing;

pub const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// As a listener has them by default.
const LIMITS: (usize, usize) = (64 << 10, 100);

/// The first byte says who sends and how it is cut.
pub fn check(input: &[u8]) {
    let Some((choice, bytes)) = super::cut(input) else { return };
    let is_client = choice & 0x80 != 0;
    let guard = |piece| fuzzing::guard(is_client, LIMITS, &[], bytes, piece);
    let (verdict, shown) = guard(usize::MAX);
    let (in_pieces, shown_in_pieces) = guard(super::piece(choice % 4));
    assert_eq!(verdict, in_pieces, "however it is cut");
    let seen = frames(&shown);
    assert_eq!(seen, frames(&shown_in_pieces), "however it is cut");
    let (error, frames) = read(is_client, bytes);
    match verdict {
        // It counts what is allowed one by one.
        Some(ENHANCE_YOUR_CALM) => {
            assert!(bytes.len() > 6 * 100, "there is little of it");
            return;
        }
        verdict => assert_eq!(verdict, error),
    }
    assert_eq!(seen.len(), frames.len());
    for (seen, frame) in seen.iter().zip(&frames) {
        let of = |frame: &Frame| (frame.kind, frame.flags, frame.stream);
        assert_eq!(of(seen), of(frame));
        // What is shown of header blocks is seen to by another target.
        assert!(frame.kind == HEADERS || seen.payload == frame.payload);
    }
}

/// Of those of a header block there is one, with nothing but the block.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What is good in itself; of the last frame, if it is not of a header block, maybe a part.
pub fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::<Frame>::new();
    let mut rest = bytes;
    while let Some(header) = rest.first_chunk::<9>() {
        let len = length(header).min(rest.len() - 9);
        let (kind, mut flags) = (header[3], header[4]);
        let mut payload = rest[9..9 + len].to_vec();
        rest = &rest[9 + len..];
        match kind {
            CONTINUATION => {
                let block = frames.last_mut().expect("it goes on");
                block.payload.extend(payload);
                continue;
            }
            HEADERS => {
                payload = fragment(flags, stream(header), &payload).expect("it was judged").0;
                flags &= END_STREAM;
            }
            // Of what is judged by units, pieces may pass before they are one.
            _ => payload.truncate(payload.len() / unit(kind) * unit(kind)),
        }
        frames.push(Frame { kind, flags, stream: stream(header), payload });
    }
    assert!(rest.is_empty(), "a header of a frame comes whole");
    frames
}

/// How many bytes of a payload are judged at a time.
fn unit(kind: u8) -> usize {
    match kind {
        4 => 6,
        8 => 4,
        _ => 1,
    }
}

fn length(header: &[u8]) -> usize {
    u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize
}

fn stream(header: &[u8]) -> u32 {
    u32::from_be_bytes([header[5], header[6], header[7], header[8]]) << 1 >> 1
}

/// Section 6.2: without padding and priority; and whether the stream depends on itself.
///
/// # Errors
/// When there is less than must be there, or more padding than the rest.
pub fn fragment(flags: u8, stream: u32, payload: &[u8]) -> Result<(Vec<u8>, bool), u32> {
    let mut rest = payload.to_vec();
    let mut padding = 0;
    if flags & 8 != 0 {
        if rest.is_empty() {
            return Err(FRAME_SIZE_ERROR);
        }
        padding = usize::from(rest.remove(0));
    }
    let mut depends_on_itself = false;
    if flags & 0x20 != 0 {
        if rest.len() < 5 {
            return Err(FRAME_SIZE_ERROR);
        }
        let priority: Vec<u8> = rest.drain(..5).collect();
        let on = u32::from_be_bytes([priority[0], priority[1], priority[2], priority[3]]);
        depends_on_itself = on << 1 >> 1 == stream;
    }
    if padding > rest.len() {
        return Err(PROTOCOL_ERROR);
    }
    rest.truncate(rest.len() - padding);
    Ok((rest, depends_on_itself))
}

/// The first error, and what was good before it, down to the payload of a frame that is wrong in the middle.
fn read(is_client: bool, bytes: &[u8]) -> (Option<u32>, Vec<Frame>) {
    let mut at = 0;
    let mut frames = Vec::<Frame>::new();
    let mut block = None::<Frame>;
    let mut table = Table::default();
    let mut is_first = true;
    while let Some(header) = bytes.get(at..at + 9) {
        let len = length(header);
        let (kind, flags) = (header[3], header[4]);
        let stream = stream(header);
        let is_ack = flags & 1 != 0;
        let is_continued = kind == CONTINUATION;
        let error = if is_first && (kind != 4 || is_ack) {
            Some(PROTOCOL_ERROR)
        } else if len > 16_384 {
            Some(FRAME_SIZE_ERROR)
        } else if block.as_ref().map(|block| block.stream) != is_continued.then_some(stream) {
            Some(PROTOCOL_ERROR)
        } else {
            wrong_frame(kind, is_ack, len, stream)
        };
        if error.is_some() {
            return (error, frames);
        }
        is_first = false;
        let payload = &bytes[at + 9..bytes.len().min(at + 9 + len)];
        at += 9 + len;
        if kind == HEADERS || is_continued {
            if payload.len() < len {
                break;
            }
            let payload = match kind {
                HEADERS => match fragment(flags, stream, payload) {
                    Ok((payload, _)) => payload,
                    Err(error) => return (Some(error), frames),
                },
                _ => payload.to_vec(),
            };
            match &mut block {
                Some(block) => block.payload.extend(payload),
                None => {
                    let flags = flags & END_STREAM;
                    block = Some(Frame { kind: HEADERS, flags, stream, payload });
                }
            }
            if flags & END_HEADERS != 0
                && let Some(block) = block.take()
            {
                if table.read(&block.payload).is_none() {
                    return (Some(COMPRESSION_ERROR), frames);
                }
                frames.push(block);
            }
            continue;
        }
        let unit = unit(kind);
        let wrong =
            payload.chunks_exact(unit).position(|u| wrong_unit(is_client, kind, u).is_some());
        let good = wrong.unwrap_or(payload.len() / unit) * unit;
        frames.push(Frame { kind, flags, stream, payload: payload[..good].to_vec() });
        if let Some(wrong) = wrong {
            let unit = &payload[wrong * unit..(wrong + 1) * unit];
            return (wrong_unit(is_client, kind, unit), frames);
        }
    }
    (None, frames)
}

/// Sections 6.1 to 6.10.
fn wrong_frame(kind: u8, is_ack: bool, len: usize, stream: u32) -> Option<u32> {
    let (is_good_size, is_good_stream) = match kind {
        0 | 1 | 9 => (true, stream != 0),
        2 => (len == 5, stream != 0),
        3 => (len == 4, stream != 0),
        4 => (if is_ack { len == 0 } else { len % 6 == 0 }, stream == 0),
        5 => (true, false),
        6 => (len == 8, stream == 0),
        7 => (len >= 8, stream == 0),
        8 => (len == 4, true),
        _ => (true, true),
    };
    match (is_good_stream, is_good_size) {
        (false, _) => Some(PROTOCOL_ERROR),
        (true, false) => Some(FRAME_SIZE_ERROR),
        (true, true) => None,
    }
}

/// Sections 6.5.2 and 6.9; RFC 8441 section 3.
fn wrong_unit(is_client: bool, kind: u8, unit: &[u8]) -> Option<u32> {
    let (id, value) = match (kind, unit) {
        (8, &[a, b, c, d]) => {
            return (u32::from_be_bytes([a & 0x7f, b, c, d]) == 0).then_some(PROTOCOL_ERROR);
        }
        (4, &[i, j, a, b, c, d]) => (u16::from_be_bytes([i, j]), u32::from_be_bytes([a, b, c, d])),
        _ => return None,
    };
    match id {
        2 if value > 1 || (value == 1 && !is_client) => Some(PROTOCOL_ERROR),
        4 if value >= 1 << 31 => Some(FLOW_CONTROL_ERROR),
        5 if !(16_384..=16_777_215).contains(&value) => Some(PROTOCOL_ERROR),
        8 if value > 1 => Some(PROTOCOL_ERROR),
        _ => None,
    }
}
