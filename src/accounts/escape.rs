//! Texts of strangers as they may stand in a log: nothing in them can end a line, begin another one or steer a
//! terminal.

use crate::spec::may_be_secret;
use percent_encoding::percent_decode;

/// `text` in quotes, as JSON has it (RFC 8259 section 7). What is no UTF-8 is replaced.
pub(super) fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    escaped(text, out);
    out.push(b'"');
}

/// The same without quotes where it needs none to be told from what stands beside it.
pub(super) fn plain_or_quoted(text: &[u8], out: &mut Vec<u8>) {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\=".contains(byte);
    if !text.is_empty() && text.iter().all(is_plain) {
        out.extend_from_slice(text);
    } else {
        quoted(text, out);
    }
}

/// `text` as it stands between quotes.
pub(super) fn escaped(text: &[u8], out: &mut Vec<u8>) {
    if needs_no_escape(text) {
        out.extend_from_slice(text);
        return;
    }
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if steers(c) => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Most texts: looked at many bytes at once.
pub(super) fn needs_no_escape(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| matches!(byte, 0x20..=0x7e) & (*byte != b'"') & (*byte != b'\\');
    let all = |bytes: &[u8]| bytes.iter().fold(true, |all, byte| all & is_plain(byte));
    let (chunks, rest) = text.as_chunks::<16>();
    chunks.iter().fold(true, |so_far, chunk| so_far & all(chunk)) & all(rest)
}

/// Control characters, other ends of lines, and what turns the direction of text. All of them fit into four digits.
fn steers(c: char) -> bool {
    let is_end = matches!(c, '\u{2028}' | '\u{2029}');
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_end || turns
}

/// A query without the values that let somebody in.
pub(super) fn without_secrets(query: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(query.len());
    for (nth, parameter) in query.split(|byte| *byte == b'&').enumerate() {
        if nth > 0 {
            shown.push(b'&');
        }
        match parameter.iter().position(|byte| *byte == b'=') {
            Some(at) if is_secret(&parameter[..at]) => {
                shown.extend_from_slice(&parameter[..=at]);
                shown.extend_from_slice(b"***");
            }
            _ => shown.extend_from_slice(parameter),
        }
    }
    shown
}

fn is_secret(name: &[u8]) -> bool {
    may_be_secret(&percent_decode(name).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_ends_a_line_or_steers_a_terminal() {
        let odd = "a\"b\\c\nd\re\tf\u{1b}[31m\u{7f}\u{85}\u{2028}\u{202e}é";
        let shown = text(|out| quoted(odd.as_bytes(), out));
        assert!(shown.chars().all(|c| !steers(c)), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), odd);
        let broken = text(|out| quoted(b"a\xff\x00b", out));
        assert_eq!(serde_json::from_str::<String>(&broken).unwrap(), "a\u{fffd}\0b");
    }

    #[test]
    fn what_is_to_be_escaped_is_found_anywhere() {
        for length in [1, 15, 16, 17, 40] {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; length];
                    text[place] = byte;
                    let is_good = matches!(byte, 0x20..=0x7e) && !b"\"\\".contains(&byte);
                    assert_eq!(needs_no_escape(&text), is_good, "{byte:#x} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn quotes_stand_where_they_must() {
        for (plain, shown) in [
            ("/a?b", "/a?b"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a=b", "\"a=b\""),
            ("a\"", "\"a\\\"\""),
            ("é", "\"é\""),
        ] {
            assert_eq!(text(|out| plain_or_quoted(plain.as_bytes(), out)), shown);
        }
    }

    #[test]
    fn a_query_keeps_its_secrets() {
        for (query, shown) in [
            ("", ""),
            ("a=b&c", "a=b&c"),
            ("access_token=abc&page=2", "access_token=***&page=2"),
            ("page=2&%70assword=x=y&sig=", "page=2&%70assword=***&sig=***"),
            ("token", "token"),
        ] {
            assert_eq!(without_secrets(query.as_bytes()), shown.as_bytes(), "{query}");
        }
    }
}
