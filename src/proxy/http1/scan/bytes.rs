//! Which bytes may stand where, and how far a run of them reaches. The runs are read eight bytes at a
//! time: they are most of what a head consists of.

use crate::proxy::octets;

const TOKEN: u8 = 1;
const TARGET: u8 = 2;

/// What each byte may be part of.
const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        if octets::is_token(byte) {
            classes[at] |= TOKEN;
        }
        if octets::is_target(byte) {
            classes[at] |= TARGET;
        }
        at += 1;
    }
    classes
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Whether this is a token (RFC 9110 section 5.6.2).
#[inline(always)]
pub(super) fn is_token(bytes: &[u8]) -> bool {
    // Without a branch for each byte.
    let common = bytes.iter().fold(TOKEN, |common, byte| common & CLASSES[usize::from(*byte)]);
    !bytes.is_empty() && common == TOKEN
}

/// How many bytes come before the first `delimiter`: all, if there is none.
#[inline(always)]
pub(super) fn run_before(delimiter: u8, bytes: &[u8]) -> usize {
    run(bytes, |word| equal(word, delimiter) & !word)
}

/// How many bytes at the front may stand in a request target, and whether they are all ASCII: those that are
/// visible or not ASCII, without `#`, which never reaches a server (RFC 9112 section 3.2), and `<`, `>` and
/// `\`, which no URI has (RFC 3986 section 2) and some readers take for others.
#[inline(always)]
pub(super) fn target_run(bytes: &[u8]) -> (usize, bool) {
    let ascii = run(bytes, |word| {
        below(word, b' ' + 1)
            | equal(word, 0x7f)
            | equal(word, b'#')
            | equal(word, b'\\')
            | equal(word & !spread(b'<' ^ b'>'), b'<')
            | word
    });
    match bytes.get(ascii) {
        Some(0x80..) => {
            (ascii + bytes[ascii..].iter().take_while(|b| is(**b, TARGET)).count(), false)
        }
        _ => (ascii, true),
    }
}

/// How many bytes at the front may stand in a value or a reason (RFC 9110 section 5.5), HTAB aside.
#[inline(always)]
pub(super) fn text_run(bytes: &[u8]) -> usize {
    run(bytes, |word| (below(word, b' ') | equal(word, 0x7f)) & !word)
}

/// How many bytes come before the first that `stops`, which sets the high bit of that byte of a word. What it
/// sets above that byte means nothing (subtraction borrows from there), and neither do the other bits.
#[inline(always)]
fn run(bytes: &[u8], stops: impl Fn(u64) -> u64) -> usize {
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk() {
        let found = stops(u64::from_le_bytes(*word)) & HIGH;
        if found != 0 {
            return bytes.len() - rest.len() + first_high(found);
        }
        rest = after;
    }
    let last = rest.iter().rfold(0, |word, byte| word << 8 | u64::from(*byte));
    bytes.len() - rest.len() + first_high(stops(last) & HIGH).min(rest.len())
}

/// Which byte's high bit is the first that is set: 8 if none is.
#[inline(always)]
fn first_high(word: u64) -> usize {
    (word.trailing_zeros() / 8) as usize
}

const HIGH: u64 = spread(0x80);

const fn spread(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The high bit of the first byte that is below `limit`; also of some that are above 0x7f.
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(spread(limit))
}

/// The high bit of the first byte that is `byte`, which is ASCII; also of some that are not.
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ spread(byte), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run and the bytes that continue it.
    type Run = (fn(&[u8]) -> usize, fn(u8) -> bool);

    const RUNS: [Run; 4] = [
        (|bytes| target_run(bytes).0, |byte| is(byte, TARGET)),
        (text_run, |byte| byte >= b' ' && byte != 0x7f),
        (|bytes| run_before(b' ', bytes), |byte| byte != b' '),
        (|bytes| run_before(b':', bytes), |byte| byte != b':'),
    ];

    #[test]
    fn every_byte_ends_or_continues_a_run_wherever_it_stands() {
        for (place, (run, continues)) in RUNS.into_iter().enumerate() {
            for byte in 0..=255u8 {
                for at in 0..20 {
                    let mut bytes = [b'a'; 20];
                    bytes[at] = byte;
                    let length = if continues(byte) { 20 } else { at };
                    assert_eq!(run(&bytes), length, "{byte:#x} at {at}, run {place}");
                }
            }
        }
    }

    /// The search by words marks bytes above a match too: the first one must still win.
    #[test]
    fn the_first_of_several_ends_the_run() {
        for (place, (run, continues)) in RUNS.into_iter().enumerate() {
            for first in 0..=255u8 {
                for second in 0..=255u8 {
                    let bytes = [b'a', first, second, b'a', b'a', b'a', b'a', b'a'];
                    let expected = match (continues(first), continues(second)) {
                        (false, _) => 1,
                        (true, false) => 2,
                        (true, true) => 8,
                    };
                    assert_eq!(run(&bytes), expected, "{first:#x} {second:#x}, run {place}");
                }
            }
        }
    }

    #[test]
    fn a_target_tells_whether_it_is_ascii() {
        assert_eq!(target_run(b"/abcdefghi "), (10, true));
        assert_eq!(target_run("/abcdefghiä€/b ä".as_bytes()), (17, false));
    }

    #[test]
    fn a_token_is_of_token_bytes_only() {
        for byte in 0..=255u8 {
            for at in 0..12 {
                let mut bytes = [b'a'; 12];
                bytes[at] = byte;
                assert_eq!(is_token(&bytes), is(byte, TOKEN), "{byte:#x} at {at}");
            }
        }
        assert!(!is_token(b""));
    }
}
