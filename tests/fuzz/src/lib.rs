//! What the fuzz targets check, apart from how the bytes are found: each `check` takes any bytes and panics
//! when the engine treats them in a way that two readers of HTTP could take differently.

mod blocks;
mod engine;
mod frames;
/// Written for another suite, which asks more of it.
#[allow(dead_code)]
#[path = "../../http2/hpack.rs"]
mod hpack;
mod hyper_reader;
#[cfg(feature = "libfuzzer")]
pub mod mutate;
mod proxy_header;
mod reader;
mod request;
mod response;
mod websocket;

pub use blocks::check as blocks;
pub use frames::check as frames;
pub use proxy_header::check as proxy_header;
pub use request::check as request;
pub use response::check as response;
pub use websocket::check as websocket;

use crossfade::proxy::fuzzing;
use reader::{Habits, read_chunks};

/// The first byte of a target's input says how the rest is cut.
fn cut(input: &[u8]) -> Option<(u8, &[u8])> {
    input.split_first().map(|(first, rest)| (*first, rest))
}

/// Bytes to a piece: mostly all at once.
fn piece(choice: u8) -> usize {
    match choice % 8 {
        0 => 1,
        1 => 2,
        2 => 7,
        3 => 64,
        _ => usize::MAX,
    }
}

/// A chunked body: the engine's decoder against the reader's, whole and in pieces.
pub fn chunked(input: &[u8]) {
    let Some((choice, bytes)) = cut(input) else { return };
    let whole = fuzzing::chunked(bytes, usize::MAX);
    let pieces = fuzzing::chunked(bytes, piece(choice % 4));
    match (&whole, &pieces) {
        // A trailer line that is wrong may be judged when it is complete.
        (Err(()), Ok(None)) => {
            let with_end = [bytes, b"\n"].concat();
            assert_eq!(fuzzing::chunked(&with_end, piece(choice % 4)), Err(()), "pieces");
        }
        _ => assert_eq!(whole, pieces, "pieces"),
    }
    let read = read_chunks(bytes, &Habits::STRICT);
    match whole {
        Ok(Some(body)) => {
            let (data, trailers, len) = read.expect("read by the second reader").expect("complete");
            assert_eq!((&body.data, &body.trailers, body.len), (&data, &trailers, len));
            for habits in Habits::ALL {
                if let Ok(read) = read_chunks(bytes, habits) {
                    let (data, _, len) = read.expect("complete for a lenient reader");
                    assert_eq!((&body.data, body.len), (&data, len), "{habits:?}");
                }
            }
        }
        Ok(None) => assert!(!matches!(read, Ok(Some(_))), "complete for the second reader"),
        // Limits of size, which the reader does not have, aside: what the engine refuses is not good.
        Err(()) => assert!(!matches!(read, Ok(Some(_))) || bytes.len() > 1000, "refused"),
    }
}

/// A head: never a panic, and the same however it is cut.
pub fn scan(input: &[u8]) {
    let Some((choice, bytes)) = cut(input) else { return };
    let limits = match choice % 4 {
        0 => (64, 3, 16),
        1 => (200, 8, 40),
        _ => (64 << 10, 100, 32 << 10),
    };
    for scan in [fuzzing::scan_request, fuzzing::scan_response] {
        let whole = scan(bytes, &[bytes.len()], limits);
        let step = piece(choice / 4 % 4);
        let mut cuts: Vec<usize> = (0..bytes.len()).step_by(step.max(1)).collect();
        cuts.push(bytes.len());
        let pieces = scan(bytes, &cuts, limits);
        if whole.is_err() && pieces == Ok(None) {
            // A line that is wrong may be judged when it is complete.
            let with_end = [bytes, b"\n"].concat();
            cuts.push(with_end.len());
            assert_eq!(whole, scan(&with_end, &cuts, limits), "pieces");
        } else {
            assert_eq!(whole, pieces, "pieces");
        }
        if let Ok(Some(parts)) = whole {
            assert!(parts.len <= bytes.len().min(limits.0) && parts.fields.len() <= limits.1);
            assert!(bytes[..parts.len].ends_with(b"\r\n\r\n"), "ends with its empty line");
            reader::assert_clean(&parts.fields);
        }
    }
}
