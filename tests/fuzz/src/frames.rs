//! Frames of HTTP/2, read a second time from RFC 9113 alone.

use crossfade::proxy::fuzzing_http2 as fuzzing;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const ENHANCE_YOUR_CALM: u32 = 11;

/// The first byte says who sends and how it is cut.
pub fn check(input: &[u8]) {
    let Some((choice, bytes)) = super::cut(input) else { return };
    let is_client = choice & 0x80 != 0;
    let (verdict, believed) = fuzzing::guard(is_client, bytes, usize::MAX);
    let piece = super::piece(choice % 4);
    let (in_pieces, believed_in_pieces) = fuzzing::guard(is_client, bytes, piece);
    assert_eq!(verdict, in_pieces, "however it is cut");
    assert!(believed <= bytes.len() && believed_in_pieces <= bytes.len());
    let read = read(is_client, bytes);
    match verdict {
        // It counts what is allowed one by one.
        Some(ENHANCE_YOUR_CALM) => assert!(bytes.len() > 6 * 100, "there is little of it"),
        Some(error) => assert_eq!(Err((error, believed)), read.map_err(|(error, at)| (error, at))),
        None => assert_eq!((Ok(()), believed), (read, bytes.len())),
    }
}

/// # Errors
/// The first error, and how many bytes stand before what it is found in: the payload of a frame whose header is
/// wrong, a setting or an increment.
fn read(is_client: bool, bytes: &[u8]) -> Result<(), (u32, usize)> {
    let mut at = 0;
    let mut block = None;
    let mut is_first = true;
    while let Some(header) = bytes.get(at..at + 9) {
        let len = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (kind, flags) = (header[3], header[4]);
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) << 1 >> 1;
        let is_ack = flags & 1 != 0;
        let error = if is_first && (kind != 4 || is_ack) {
            Some(PROTOCOL_ERROR)
        } else if len > 16_384 {
            Some(FRAME_SIZE_ERROR)
        } else if block.is_some_and(|block| (kind, stream) != (9, block)) {
            Some(PROTOCOL_ERROR)
        } else {
            wrong_frame(kind, is_ack, len, stream)
        };
        if let Some(error) = error {
            return Err((error, at));
        }
        is_first = false;
        if kind == 1 || kind == 9 {
            block = (flags & 4 == 0).then_some(stream);
        }
        let payload = &bytes[at + 9..bytes.len().min(at + 9 + len)];
        let unit = match kind {
            4 => 6,
            8 => 4,
            _ => usize::MAX,
        };
        for (nth, unit) in payload.chunks_exact(unit).enumerate() {
            if let Some(error) = wrong_unit(is_client, kind, unit) {
                return Err((error, at + 9 + nth * unit.len()));
            }
        }
        at += 9 + len;
    }
    Ok(())
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
