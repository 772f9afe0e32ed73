//! Which bytes may be part of what, in whichever version of HTTP they come: for the tables that each reader makes.

/// Of a token (RFC 9110 section 5.6.2).
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || is_one_of(byte, b"!#$%&'*+-.^_`|~")
}

/// Of a request target: those that are visible or not ASCII, without `#`, which never reaches a server (RFC 9112 section
/// 3.2), and `<`, `>` and `\`, which no URI has (RFC 3986 section 2) and some readers take for others.
pub(super) const fn is_target(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && !is_one_of(byte, b"#<>\\")
}

pub(super) const fn is_one_of(byte: u8, set: &[u8]) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}
