//! Mutations that know lines, fields and chunks; the others are libFuzzer's own.

use libfuzzer_sys::fuzzer_mutate;

/// What goes in somewhere.
const PIECES: &[&[u8]] = &[
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 5, 5\r\n",
    b"content-length: 6\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding: identity\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding:\tCHUNKED \r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, X-A\r\n",
    b"Connection: canary\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Upgrade: h2c\r\nHTTP2-Settings: a\r\n",
    b"Keep-Alive: timeout=5\r\n",
    b"Trailer: X-A\r\n",
    b"TE: trailers\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: a\r\n",
    b"X-A: b\r\n",
    b"X_Forwarded-For: 1\r\n",
    b"Cookie: a=b\r\n",
    b" folded\r\n",
    b"\tfolded: a\r\n",
    b"5\r\nhello\r\n",
    b"5;a=b\r\nhello\r\n",
    b"5;a=\"b\nc\"\r\n",
    b"0\r\n\r\n",
    b"0\r\nX-A: b\r\n\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST http://a/b?c HTTP/1.1\r\nHost: a\r\n",
    b"OPTIONS * HTTP/1.0\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
    b"HTTP/1.0 304 Not Modified\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
];

/// What stands in the place of a CRLF.
const LINE_ENDS: &[&[u8]] =
    &[b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\r\n\r\n", b"\r\n ", b"\0\r\n"];

pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice(u64::from(seed) | 1);
    if size < 2 || dice.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    // The first two bytes are choices.
    let (choices, message) = data[..size].split_at(2);
    let lines = lines(message);
    let line = lines[dice.below(lines.len())].clone();
    let mut mutated = choices.to_vec();
    match dice.below(5) {
        0 => {
            let piece = PIECES[dice.below(PIECES.len())];
            mutated.extend_from_slice(&message[..line.start]);
            mutated.extend_from_slice(piece);
            mutated.extend_from_slice(&message[line.start..]);
        }
        1 => {
            let other = lines[dice.below(lines.len())].clone();
            mutated.extend_from_slice(&message[..line.start]);
            mutated.extend_from_slice(&message[other]);
            mutated.extend_from_slice(&message[line.start..]);
        }
        2 => {
            mutated.extend_from_slice(&message[..line.start]);
            mutated.extend_from_slice(&message[line.end..]);
        }
        3 => {
            let text =
                message[line.clone()].strip_suffix(b"\r\n").unwrap_or(&message[line.clone()]);
            mutated.extend_from_slice(&message[..line.start]);
            mutated.extend_from_slice(text);
            mutated.extend_from_slice(LINE_ENDS[dice.below(LINE_ENDS.len())]);
            mutated.extend_from_slice(&message[line.end..]);
        }
        _ => {
            let piece = PIECES[dice.below(PIECES.len())];
            mutated.extend_from_slice(&message[..line.start]);
            mutated.extend_from_slice(piece);
            mutated.extend_from_slice(&message[line.end..]);
        }
    }
    let length = mutated.len().min(max_size).min(data.len());
    data[..length].copy_from_slice(&mutated[..length]);
    length
}

/// The lines with their ends; at least one, which may be empty.
fn lines(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        lines.push(start..start + line.len());
        start += line.len();
    }
    lines.push(start..start);
    lines
}

/// xorshift64*
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}
