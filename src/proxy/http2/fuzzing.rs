//! The guard as a function, for `tests/fuzz`.

use super::guard::{self, Guard, Limits, Side};

/// Paths of requests that are not let through.
pub const MALFORMED: &str = guard::MALFORMED;
pub const ODD: &str = guard::ODD;
pub const TOO_LARGE: &str = guard::TOO_LARGE;

/// What the guard says to a peer's `bytes` (behind the preface, if a client sends one) that come in pieces of `piece`, where
/// heads may take so many bytes and have so many fields, and `asked` is what was sent before: the code of its error, and
/// what the library gets to see.
pub fn guard(
    is_client: bool,
    (bytes, fields): (usize, usize),
    asked: &[u8],
    input: &[u8],
    piece: usize,
) -> (Option<u32>, Vec<u8>) {
    let side = if is_client { Side::Server } else { Side::Client };
    let mut guard = Guard::new(side, u32::MAX, Limits { bytes, fields }, 0);
    let mut instead = Vec::new();
    if is_client {
        guard.take_in(super::PREFACE, 0, &mut instead);
    } else {
        guard.take_out(super::PREFACE, 0);
        guard.take_out(asked, 0);
    }
    let mut shown = Vec::new();
    for piece in input.chunks(piece.max(1)) {
        instead.clear();
        let passed = guard.take_in(piece, 0, &mut instead);
        shown.extend_from_slice(&piece[..passed]);
        shown.extend_from_slice(&instead);
        if guard.verdict().is_some() {
            break;
        }
    }
    (guard.verdict().map(u32::from), shown)
}
