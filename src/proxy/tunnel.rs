//! What both engines need to know of tunnels.

use super::fields::listed;

/// Whether all that the backend switches to (`answer`) is among what the client `asked` for (RFC 9110 section
/// 7.8).
pub(super) fn is_agreed(asked: &[u8], answer: &[u8]) -> bool {
    answer.split(|byte| *byte == b',').all(|protocol| listed(asked, protocol.trim_ascii()))
}
