//! That paths lead where they are sent, whatever they look like to somebody else.

use super::{
    case::{Case, case},
    frame::ask,
    hpack::Block,
};

/// The stage has one route; what would lead elsewhere is in `tests/requests` and holds for every head.
pub fn cases() -> Vec<Case> {
    let many: Vec<_> = (0..9).map(|n| ask(2 * n + 1, Block::get(&format!("/{n}")))).collect();
    let mut together =
        case("requests side by side", "section 5: each gets its own answer").sends(&many);
    for n in 0..9 {
        together = together.answers(2 * n + 1, 200).forwards(format!("GET /{n}"));
    }
    vec![together.body("/0")]
}
