//! The guard as a function, for `tests/fuzz`.

use super::guard::{Guard, Side};

/// What the guard says to a peer's `bytes` (behind the preface, if a client sends one) that come in pieces of `piece`:
/// the code of its error, and how many of the bytes the library gets to see.
pub fn guard(is_client: bool, bytes: &[u8], piece: usize) -> (Option<u32>, usize) {
    let side = if is_client { Side::Server } else { Side::Client };
    let mut guard = Guard::new(side, u32::MAX, 0);
    if is_client {
        guard.take_in(super::PREFACE, 0);
    }
    let mut believed = 0;
    for piece in bytes.chunks(piece.max(1)) {
        believed += guard.take_in(piece, 0);
        if guard.verdict().is_some() {
            break;
        }
    }
    (guard.verdict().map(u32::from), believed)
}
