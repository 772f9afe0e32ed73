//! What a field is and whether it may be, whatever stands around it.

use crate::proxy::octets;

/// A field with a place in the tables is judged once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// In no message of HTTP/2.
    Bad,
    Method,
    /// `CONNECT` and `OPTIONS`, for which other rules hold.
    Connect,
    Options,
    Scheme,
    Path,
    /// `:path` of a request that is for the server.
    Asterisk,
    Authority,
    /// Those that can be read, and that nobody can be asked for by.
    OddPath,
    OddAuthority,
    Protocol,
    Status,
    /// That of an interim response.
    Interim,
    Host,
    Plain,
}

/// The library takes no longer one for a name.
const LONGEST_NAME: usize = u16::MAX as usize;

const NAME: u8 = 1;
const TOKEN: u8 = 2;
const TARGET: u8 = 4;
const AUTHORITY: u8 = 8;

/// What each byte may be part of.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        if octets::is_token(byte) {
            classes[at] |= TOKEN | if byte.is_ascii_uppercase() { 0 } else { NAME };
        }
        if octets::is_target(byte) {
            classes[at] |= TARGET;
        }
        if byte.is_ascii_alphanumeric() || octets::is_one_of(byte, b"-._~!$&'()*+,;=%:[]") {
            classes[at] |= AUTHORITY;
        }
        at += 1;
    }
    classes
};

/// Whether there is something, and all of it is of the class.
fn is_all(bytes: &[u8], class: u8) -> bool {
    // Without a branch for each byte.
    let common = bytes.iter().fold(class, |common, byte| common & CLASSES[usize::from(*byte)]);
    !bytes.is_empty() && common == class
}

impl Kind {
    /// RFC 9113 sections 8.2 and 8.3; RFC 8441 section 4.
    pub(in super::super) fn of(name: &[u8], value: &[u8]) -> Self {
        if let Some((b':', name)) = name.split_first() {
            return Self::of_pseudo_header(name, value);
        }
        if !is_all(name, NAME) || name.len() > LONGEST_NAME || !is_good_value(value) {
            return Self::Bad;
        }
        match name {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => Self::Bad,
            b"te" if value != b"trailers" => Self::Bad,
            b"content-length" if !is_length(value) => Self::Bad,
            b"host" => Self::Host,
            _ => Self::Plain,
        }
    }

    fn of_pseudo_header(name: &[u8], value: &[u8]) -> Self {
        match (name, value) {
            (b"method", b"CONNECT") => Self::Connect,
            (b"method", b"OPTIONS") => Self::Options,
            (b"method", _) if is_all(value, TOKEN) => Self::Method,
            (b"scheme", b"http" | b"https") => Self::Scheme,
            (b"path", b"*") => Self::Asterisk,
            (b"path", [b'/', ..]) => Self::of_path(value),
            (b"authority", _) if is_all(value, AUTHORITY) => Self::Authority,
            (b"authority", [_, ..]) if value.iter().all(u8::is_ascii_graphic) => Self::OddAuthority,
            (b"protocol", _) if is_all(value, TOKEN) => Self::Protocol,
            (b"status", [b'1', b'0'..=b'9', b'0'..=b'9']) => Self::Interim,
            (b"status", [b'2'..=b'9', b'0'..=b'9', b'0'..=b'9']) => Self::Status,
            _ => Self::Bad,
        }
    }

    /// As in HTTP/1, where UTF-8 passes too.
    fn of_path(path: &[u8]) -> Self {
        let is_good = |byte: &u8| CLASSES[usize::from(*byte)] & TARGET != 0;
        let is_text = || path.is_ascii() || std::str::from_utf8(path).is_ok();
        if is_all(path, TARGET) && is_text() {
            Self::Path
        } else if path.iter().all(|byte| *byte == b'\\' || is_good(byte)) && is_text() {
            Self::OddPath
        } else {
            Self::Bad
        }
    }
}

/// RFC 9110 section 5.5, and no white space at the ends (RFC 9113 section 8.2.1).
fn is_good_value(value: &[u8]) -> bool {
    let is_control = |byte: u8| (byte < b' ') & (byte != b'\t') | (byte == 0x7f);
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !value.iter().fold(false, |found, byte| found | is_control(*byte))
        && !is_blank(value.first())
        && !is_blank(value.last())
}

/// What the library takes for a length: it knows of none of 10^19 bytes and more.
fn is_length(value: &[u8]) -> bool {
    (1..20).contains(&value.len()) && value.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_by_their_kinds() {
        let cases: [(&[u8], &[u8], Kind); 21] = [
            (b":method", b"GET", Kind::Method),
            (b":method", b"brew!", Kind::Method),
            (b":method", b"CONNECT", Kind::Connect),
            (b":method", b"OPTIONS", Kind::Options),
            (b":scheme", b"https", Kind::Scheme),
            (b":path", b"/a%2f?b=\"|{}", Kind::Path),
            (b":path", b"/\xc3\xa9", Kind::Path),
            (b":path", b"/a\\b", Kind::OddPath),
            (b":path", b"*", Kind::Asterisk),
            (b":authority", b"user@a", Kind::OddAuthority),
            (b":authority", b"[::1]:80", Kind::Authority),
            (b":protocol", b"websocket", Kind::Protocol),
            (b":status", b"999", Kind::Status),
            (b":status", b"103", Kind::Interim),
            (b"host", b"", Kind::Host),
            (b"te", b"trailers", Kind::Plain),
            (b"content-length", b"9999999999999999999", Kind::Plain),
            (b"x-a", b"", Kind::Plain),
            (b"x-a", b"a \t\xe9", Kind::Plain),
            (b"09!#$%&'*+-.^_`|~az", b"x", Kind::Plain),
            (b"connections", b"close", Kind::Plain),
        ];
        for (name, value, kind) in cases {
            assert_eq!(Kind::of(name, value), kind, "{:?}", name.escape_ascii().to_string());
        }
    }

    #[test]
    fn what_the_library_takes_for_a_name() {
        for (bytes, kind) in [(LONGEST_NAME, Kind::Plain), (LONGEST_NAME + 1, Kind::Bad)] {
            let name = vec![b'x'; bytes];
            assert_eq!(Kind::of(&name, b""), kind);
            assert_eq!(http::HeaderName::from_bytes(&name).is_ok(), kind == Kind::Plain);
        }
    }

    #[test]
    fn what_may_not_be() {
        let bad: [(&[u8], &[u8]); 38] = [
            (b"", b"x"),
            (b":", b"x"),
            (b":paths", b"/"),
            (b":Path", b"/"),
            (b"X", b"x"),
            (b"x y", b"x"),
            (b"x:y", b"x"),
            (b"x\r\ny", b"x"),
            (b"x\x80", b"x"),
            (b"x\0", b"x"),
            (b"x", b"a\0"),
            (b"x", b"a\nb"),
            (b"x", b"a\rb"),
            (b"x", b"\x7f"),
            (b"x", b" a"),
            (b"x", b"a\t"),
            (b":method", b""),
            (b":method", b"GE T"),
            (b":scheme", b"HTTP"),
            (b":scheme", b"ftp"),
            (b":path", b""),
            (b":path", b"x"),
            (b":path", b"/#"),
            (b":path", b"/<"),
            (b":path", b"/ x"),
            (b":path", b"/\xc3"),
            (b":authority", b""),
            (b":authority", b"a b"),
            (b":authority", b"a\xc3\xa9"),
            (b":status", b"099"),
            (b":status", b"20"),
            (b":status", b"2000"),
            (b"connection", b"x"),
            (b"transfer-encoding", b""),
            (b"te", b"gzip"),
            (b"content-length", b""),
            (b"content-length", b"+1"),
            (b"content-length", b"18446744073709551615"),
        ];
        for (name, value) in bad {
            let field = [name, b"=", value].concat().escape_ascii().to_string();
            assert_eq!(Kind::of(name, value), Kind::Bad, "{field}");
        }
    }
}
