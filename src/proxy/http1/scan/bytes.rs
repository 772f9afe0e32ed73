//! Which bytes may stand where, and how far a run of them reaches. The runs are read eight bytes at a
//! time: they are most of what a head consists of.

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const TEXT: u8 = 4;

/// What each byte may be part of.
const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        if byte.is_ascii_alphanumeric() || is_one_of(byte, b"!#$%&'*+-.^_`|~") {
            classes[at] |= TOKEN;
        }
        if byte > b' ' && byte != 0x7f && !is_one_of(byte, b"#<>\\") {
            classes[at] |= TARGET;
        }
        if byte >= b' ' && byte != 0x7f {
            classes[at] |= TEXT;
        }
        at += 1;
    }
    classes
}

const fn is_one_of(byte: u8, set: &[u8]) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// How many bytes at the front are of a token (RFC 9110 section 5.6.2).
#[inline]
pub(super) fn token_run(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        // Tokens are short: leaving at once beats reading all eight.
        for (at, byte) in chunk.iter().enumerate() {
            if !is(*byte, TOKEN) {
                return bytes.len() - rest.len() + at;
            }
        }
        rest = after;
    }
    bytes.len() - rest.len() + run_of(rest, TOKEN)
}

/// How many bytes at the front may stand in a request target: those that are visible or not ASCII,
/// without `#`, which never reaches a server (RFC 9112 section 3.2), and `<`, `>` and `\`, which no
/// URI has (RFC 3986 section 2) and some readers take for others.
#[inline]
pub(super) fn target_run(bytes: &[u8]) -> usize {
    run(bytes, TARGET, |word| {
        below(word, b' ' + 1)
            | equal(word, 0x7f)
            | equal(word, b'#')
            | equal(word, b'\\')
            | equal(word & !spread(b'<' ^ b'>'), b'<')
    })
}

/// How many bytes at the front may stand in a value or a reason (RFC 9110 section 5.5), but for HTAB,
/// which they may have too.
#[inline]
pub(super) fn text_run(bytes: &[u8]) -> usize {
    run(bytes, TEXT, |word| below(word, b' ') | equal(word, 0x7f))
}

/// `stops` sets the high bit of the first byte of a word that ends the run. What it sets above that one
/// means nothing: subtraction borrows from the bytes above.
#[inline]
fn run(bytes: &[u8], class: u8, stops: impl Fn(u64) -> u64) -> usize {
    let mut rest = bytes;
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        let found = stops(u64::from_le_bytes(*chunk));
        if found != 0 {
            return bytes.len() - rest.len() + (found.trailing_zeros() / 8) as usize;
        }
        rest = after;
    }
    bytes.len() - rest.len() + run_of(rest, class)
}

#[inline]
fn run_of(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|byte| !is(*byte, class)).unwrap_or(bytes.len())
}

const HIGH: u64 = spread(0x80);

const fn spread(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The high bit of the first byte that is below `limit`, which is at most 0x80.
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(spread(limit)) & !word & HIGH
}

/// The high bit of the first byte that is `byte`.
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ spread(byte), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Run = fn(&[u8]) -> usize;

    const RUNS: [(Run, u8); 3] = [(token_run, TOKEN), (target_run, TARGET), (text_run, TEXT)];

    #[test]
    fn every_byte_ends_or_continues_a_run_wherever_it_stands() {
        for (run, class) in RUNS {
            for byte in 0..=255u8 {
                for at in 0..20 {
                    let mut bytes = [b'a'; 20];
                    bytes[at] = byte;
                    let length = if is(byte, class) { 20 } else { at };
                    assert_eq!(run(&bytes), length, "{byte:#x} at {at}, class {class}");
                }
            }
        }
    }

    /// The word-wise search marks bytes above a match too: the first one must still win.
    #[test]
    fn the_first_of_several_ends_the_run() {
        for (run, class) in RUNS {
            for first in 0..=255u8 {
                for second in 0..=255u8 {
                    let bytes = [b'a', first, second, b'a', b'a', b'a', b'a', b'a'];
                    let expected = match (is(first, class), is(second, class)) {
                        (false, _) => 1,
                        (true, false) => 2,
                        (true, true) => 8,
                    };
                    assert_eq!(run(&bytes), expected, "{first:#x} {second:#x}, class {class}");
                }
            }
        }
    }
}
