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

/// Fields that mean something to the proxy or to readers, and values that matter.
const FIELDS: &[(&str, &[&str])] = &[
    ("Authorization", &["Basic YTpi"]),
    ("Canary", &["true", "false"]),
    ("Connection", &["close", "keep-alive", "upgrade", "te", "x-a", ""]),
    ("Content-Length", &["0", "3", "5", "05", "5, 5", "5,6", "+5", "99999999999999999999", ""]),
    ("Cookie", &["a=b", "a=b; c=d"]),
    ("Date", &["Sat, 21 Nov 2026 08:00:00 GMT", ""]),
    ("Expect", &["100-continue", "100-Continue", "200-ok", ""]),
    ("Forwarded", &["for=1.2.3.4"]),
    ("Host", &["a", "b:80", "[::1]", "", "a b", "u@a"]),
    ("HTTP2-Settings", &["AAMAAABkAAQAAP__"]),
    ("Keep-Alive", &["timeout=5", "timeout=5, max=3"]),
    ("Proxy-Connection", &["keep-alive", "close"]),
    ("Set-Cookie", &["a=b"]),
    ("TE", &["trailers", "gzip, trailers", "trailers;q=0.5", "chunked", ""]),
    ("Trailer", &["X-A", "Content-Length"]),
    ("Transfer-Encoding", &["chunked", "CHUNKED", "identity", "gzip, chunked", "chunked, chunked"]),
    ("Upgrade", &["websocket", "h2c", "websocket, h2c", "foo/1", "TLS/1.0", ""]),
    ("X-A", &["b", ""]),
    ("X-Forwarded-For", &["1.2.3.4", "1.2.3.4, 5.6.7.8"]),
    ("X-Forwarded-Host", &["b"]),
    ("X-Forwarded-Port", &["443"]),
    ("X-Forwarded-Proto", &["https"]),
    ("X-Request-Id", &["1", ""]),
];

/// What else `Connection` lists.
const OPTIONS: &[&str] = &["close", "keep-alive", "", "x-b", "\"te\""];

const SEPARATORS: &[&str] = &[", ", ",", " ,\t", ",,", ", ,"];

/// What stands between a name and its value.
const COLONS: &[&str] = &[": ", ": ", ":", ":\t", ":  "];

/// Messages to come behind another one.
const MESSAGES: &[&[u8]] = &[
    b"GET /b HTTP/1.1\r\nHost: b\r\n\r\n",
    b"GET /b HTTP/1.0\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /b HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\nConnection: link\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: b\r\n\r\n",
];

pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice(u64::from(seed) | 1);
    if size < 2 || dice.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    // The first two bytes are choices.
    let (choices, message) = data[..size].split_at(2);
    let lines = lines(message);
    let line = lines[dice.below(lines.len())].clone();
    // What goes, and what comes in its place.
    let (old, new) = match dice.below(10) {
        0 => (line.start..line.start, one_of(PIECES, &mut dice).to_vec()),
        1 => {
            let other = lines[dice.below(lines.len())].clone();
            (line.start..line.start, message[other].to_vec())
        }
        2 => (line, Vec::new()),
        3 => {
            let text = message[line.clone()].strip_suffix(b"\r\n").map_or(line.len(), <[u8]>::len);
            (line.start + text..line.end, one_of(LINE_ENDS, &mut dice).to_vec())
        }
        4 => (line, one_of(PIECES, &mut dice).to_vec()),
        5 | 6 => (line.start..line.start, field(&mut dice)),
        7 | 8 => (line.start..line.start, connection(&mut dice)),
        _ if dice.below(2) == 0 => (line.end..line.end, one_of(MESSAGES, &mut dice).to_vec()),
        _ => (message.len()..message.len(), one_of(MESSAGES, &mut dice).to_vec()),
    };
    let mutated = [choices, &message[..old.start], &new, &message[old.end..]].concat();
    let length = mutated.len().min(max_size).min(data.len());
    data[..length].copy_from_slice(&mutated[..length]);
    length
}

fn one_of<T: Copy>(choices: &[T], dice: &mut Dice) -> T {
    choices[dice.below(choices.len())]
}

/// A line of a field that means something.
fn field(dice: &mut Dice) -> Vec<u8> {
    let (name, values) = one_of(FIELDS, dice);
    line(name, one_of(values, dice), dice)
}

fn line(name: &str, value: &str, dice: &mut Dice) -> Vec<u8> {
    format!("{}{}{value}\r\n", spelled(name, dice), one_of(COLONS, dice)).into_bytes()
}

/// A line of `Connection` that lists some of the fields, maybe with one that it names before or behind it.
fn connection(dice: &mut Dice) -> Vec<u8> {
    let mut list = String::new();
    let mut named = Vec::new();
    for place in 0..=dice.below(3) {
        if place > 0 {
            list += one_of(SEPARATORS, dice);
        }
        if dice.below(3) == 0 {
            list += one_of(OPTIONS, dice);
        } else {
            let (name, values) = one_of(FIELDS, dice);
            list += &spelled(name, dice);
            named = line(name, one_of(values, dice), dice);
        }
    }
    let connection = line("Connection", &list, dice);
    match dice.below(3) {
        0 => connection,
        1 => [named, connection].concat(),
        _ => [connection, named].concat(),
    }
}

/// A name in some case, and seldom as those write it who take `_` for `-`.
fn spelled(name: &str, dice: &mut Dice) -> String {
    let mut name = match dice.below(4) {
        0 | 1 => name.to_owned(),
        2 => name.to_ascii_lowercase(),
        _ => name.to_ascii_uppercase(),
    };
    if dice.below(6) == 0 {
        let count = 1 + dice.below(2);
        name = name.replacen('-', "_", count);
    }
    name
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
