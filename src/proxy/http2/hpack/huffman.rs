//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B). The codes of each length follow each other in the
//! order of their symbols, so that their lengths say all.

/// The longest code.
const LONGEST: usize = 30;

/// By the eight bits at the front: the symbol whose code they begin with, and how long that is; 0: longer than they are.
const SHORT: [(u8, u8); 256] = {
    let mut table = [(0, 0); 256];
    let mut at = 0;
    while at < SYMBOLS.len() {
        let length = LENGTHS[SYMBOLS[at] as usize];
        if length <= 8 {
            let row = ROWS[length as usize];
            let code = (row.first >> 24) as usize + ((at - row.place) << (8 - length));
            let mut below = 0;
            while below < 1 << (8 - length) {
                table[code + below] = (SYMBOLS[at], length);
                below += 1;
            }
        }
        at += 1;
    }
    table
};

/// The symbols by the length of their codes.
const SYMBOLS: [u8; 256] = {
    let mut symbols = [0; 256];
    let (mut at, mut length) = (0, 1);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                symbols[at] = symbol as u8;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
};

/// The codes of one length.
#[derive(Clone, Copy)]
struct Row {
    /// The first of them, and what comes behind the last, at the front of 32 bits.
    first: u32,
    end: u32,
    /// Where the symbol of the first one is.
    place: usize,
}

const ROWS: [Row; LONGEST + 1] = {
    let mut rows = [Row { first: 0, end: 0, place: 0 }; LONGEST + 1];
    let (mut first, mut place, mut length) = (0, 0, 1);
    while length <= LONGEST {
        let mut count = 0;
        let mut symbol = 0;
        while symbol < 256 {
            count += (LENGTHS[symbol] as usize == length) as usize;
            symbol += 1;
        }
        let end = first + ((count as u32) << (32 - length));
        rows[length] = Row { first, end, place };
        (first, place, length) = (end, place + count, length + 1);
    }
    rows
};

/// What is no code: with the end of the string in it, or with padding that is not the beginning of that, or is a byte or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoCode;

/// Appends what `bytes` stand for.
///
/// # Errors
/// When they are no code.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), NoCode> {
    // The shortest codes have five bits.
    out.reserve(bytes.len() * 8 / 5);
    let mut rest = bytes.iter();
    // What was not decoded is at the front.
    let (mut window, mut bits) = (0u64, 0u32);
    loop {
        while bits <= 56
            && let Some(byte) = rest.next()
        {
            window |= u64::from(*byte) << (56 - bits);
            bits += 8;
        }
        let (symbol, length) = match SHORT[(window >> 56) as usize] {
            (_, 0) => long((window >> 32) as u32).ok_or(NoCode)?,
            short => short,
        };
        let Some(left) = bits.checked_sub(u32::from(length)) else { break };
        out.push(symbol);
        (window, bits) = (window << length, left);
    }
    let is_padding = bits < 8 && window == !(u64::MAX >> bits);
    if is_padding { Ok(()) } else { Err(NoCode) }
}

/// The symbol of a code of more than eight bits, and how long that is; `None`: the end of the string.
fn long(window: u32) -> Option<(u8, u8)> {
    let length = (9..=LONGEST).find(|length| window < ROWS[*length].end)?;
    let row = ROWS[length];
    let nth = (window - row.first) >> (32 - length);
    Some((SYMBOLS[row.place + nth as usize], length as u8))
}

/// Bits of each symbol's code.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, NoCode> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| out)
    }

    /// The code of a symbol and its length, from what decodes it.
    fn code(symbol: u8) -> (u32, usize) {
        let place = SYMBOLS.iter().position(|known| *known == symbol).unwrap();
        let length = usize::from(LENGTHS[usize::from(symbol)]);
        let row = ROWS[length];
        ((row.first >> (32 - length)) + (place - row.place) as u32, length)
    }

    fn encode(text: &[u8], padding: bool) -> Vec<u8> {
        let mut bits = Vec::new();
        for symbol in text {
            let (code, length) = code(*symbol);
            bits.extend((0..length).rev().map(|at| code >> at & 1 == 1));
        }
        while bits.len() % 8 > 0 {
            bits.push(padding);
        }
        bits.chunks(8)
            .map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit)))
            .collect()
    }

    /// Appendix B.
    #[test]
    fn codes_are_those_of_the_rfc() {
        for (symbol, known) in [
            (b'0', (0x0, 5)),
            (b'z', (0x7b, 7)),
            (b'X', (0xfc, 8)),
            (b'&', (0xf8, 8)),
            (b'!', (0x3f8, 10)),
            (b'|', (0x7fc, 11)),
            (b'#', (0xffa, 12)),
            (b'\\', (0x7fff0, 19)),
            (0, (0x1ff8, 13)),
            (1, (0x7f_ffd8, 23)),
            (9, (0xff_ffea, 24)),
            (10, (0x3fff_fffc, 30)),
            (13, (0x3fff_fffd, 30)),
            (22, (0x3fff_fffe, 30)),
            (127, (0xfff_fffc, 28)),
            (249, (0xfff_fffe, 28)),
            (255, (0x3ff_ffee, 26)),
        ] {
            assert_eq!(code(symbol), known, "{symbol}");
        }
    }

    /// Appendix C.4 and C.6.
    #[test]
    fn examples_of_the_rfc() {
        for (code, text) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], &b"www.example.com"[..]),
            (b"\xa8\xeb\x10\x64\x9c\xbf", b"no-cache"),
            (b"\x64\x02", b"302"),
            (
                b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3",
                b"https://www.example.com",
            ),
            (b"", b""),
        ] {
            assert_eq!(decoded(code).as_deref(), Ok(text));
            assert_eq!(encode(text, true), code);
        }
    }

    #[test]
    fn what_is_no_code_is_none() {
        for wrong in [
            &[0xff][..],
            &[0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xfc],
            &[0x1f, 0xff],
            &[0x1c & 0xf8],
            &[0x00],
            &[0xfe],
            &[0xff, 0xff, 0xff, 0xf0],
        ] {
            assert_eq!(decoded(wrong), Err(NoCode), "{wrong:x?}");
        }
        assert_eq!(decoded(&[0x1f]).as_deref(), Ok(&b"a"[..]));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let bits: usize = text.iter().map(|symbol| code(*symbol).1).sum();
            prop_assert_eq!(decoded(&encode(&text, true)), Ok(text.clone()));
            let with_zeros = decoded(&encode(&text, false)) == Ok(text);
            prop_assert_eq!(with_zeros, bits.is_multiple_of(8), "padding is of ones");
        }
    }
}
