//! Heads of responses: status lines, line ends, field syntax, size.

use super::case::*;
use crossfade::live::Reason::BadResponse;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(good_status_lines());
    cases.extend(bad_status_lines());
    cases.extend(line_ends());
    cases.extend(good_fields());
    cases.extend(bad_fields());
    cases.extend(size());
    cases
}

/// A whole response with this head, which is refused.
fn refused(name: &str, why: &'static str, head: impl AsRef<[u8]>) -> Case {
    let mut bytes = head.as_ref().to_vec();
    bytes.extend_from_slice(b"content-length: 2\r\n\r\nok");
    case(format!("head: {name}"), why)
        .answers(bytes)
        .gets(bad_response())
        .leaves()
        .fails(BadResponse)
}

fn accepted(name: &str, why: &'static str, status: u16, head: impl AsRef<[u8]>) -> Case {
    let mut bytes = head.as_ref().to_vec();
    bytes.extend_from_slice(b"content-length: 2\r\n\r\nok");
    case(format!("head: {name}"), why).answers(bytes).gets(reply(status, "ok")).keeps()
}

fn good_status_lines() -> Vec<Case> {
    let reason = "RFC 9112 section 4: the reason phrase may be empty, and clients ignore it";
    vec![
        accepted("no reason", reason, 200, "HTTP/1.1 200 \r\n"),
        accepted("no reason and no space", reason, 200, "HTTP/1.1 200\r\n"),
        accepted("reason in UTF-8", reason, 200, "HTTP/1.1 200 Schön\r\n"),
        accepted("reason in Latin-1", reason, 200, b"HTTP/1.1 200 Sch\xf6n\r\n"),
        accepted("reason with a tab", reason, 200, "HTTP/1.1 200 O\tK\r\n"),
        accepted(
            "status 299",
            "RFC 9110 section 15: unknown codes count as x00",
            299,
            "HTTP/1.1 299 X\r\n",
        ),
        accepted(
            "status 599",
            "RFC 9110 section 15: unknown codes count as x00",
            599,
            "HTTP/1.1 599 X\r\n",
        ),
        accepted(
            "status 999",
            "RFC 9110 section 15: three digits; LinkedIn's",
            999,
            "HTTP/1.1 999 X\r\n",
        ),
    ]
}

fn bad_status_lines() -> Vec<Case> {
    let status = "RFC 9112 section 4: the status code is three digits";
    let version = "RFC 9112 section 2.3: HTTP-name is case-sensitive; 1.x with a known x";
    let space = "RFC 9112 section 4: single spaces";
    vec![
        refused("two digits", status, "HTTP/1.1 20 OK\r\n"),
        refused("four digits", status, "HTTP/1.1 2000 OK\r\n"),
        refused("no digits", status, "HTTP/1.1 abc OK\r\n"),
        refused("a sign", status, "HTTP/1.1 +20 OK\r\n"),
        refused("status 000", status, "HTTP/1.1 000 OK\r\n"),
        refused("status 099", status, "HTTP/1.1 099 OK\r\n"),
        refused("no status", status, "HTTP/1.1\r\n"),
        refused("no status but a space", status, "HTTP/1.1 \r\n"),
        refused("HTTP/1.2", version, "HTTP/1.2 200 OK\r\n"),
        refused("HTTP/2", version, "HTTP/2 200 OK\r\n"),
        refused("HTTP/2.0", version, "HTTP/2.0 200 OK\r\n"),
        refused("HTTP/0.9", version, "HTTP/0.9 200 OK\r\n"),
        refused("lower case", version, "http/1.1 200 OK\r\n"),
        refused("another name", version, "ICY 200 OK\r\n"),
        refused("no version", version, "200 OK\r\n"),
        refused("two spaces", space, "HTTP/1.1  200 OK\r\n"),
        refused("a tab for a space", space, "HTTP/1.1\t200 OK\r\n"),
        refused("a space before it", space, " HTTP/1.1 200 OK\r\n"),
        refused(
            "NUL in the reason",
            "RFC 9112 section 4: VCHAR, HTAB, SP, obs-text",
            "HTTP/1.1 200 O\0K\r\n",
        ),
        refused("another protocol", "no HTTP at all", "SSH-2.0-OpenSSH_9.6\r\n"),
        refused(
            "an alert of TLS",
            "a backend that speaks TLS",
            b"\x15\x03\x01\x00\x02\x02\x16\r\n",
        ),
        refused(
            "an empty line before it",
            "RFC 9112 section 2.2: only servers skip empty lines, before a request line",
            "\r\nHTTP/1.1 200 OK\r\n",
        ),
        case("head: a body and no head", "HTTP/0.9 is not spoken")
            .answers_and_closes("<html>\r\nhello\r\n</html>\r\n")
            .gets(bad_response())
            .fails(BadResponse),
    ]
}

fn line_ends() -> Vec<Case> {
    let why = "RFC 9112 section 2.2: bare LF may be taken for a line end, or not; readers differ";
    let bare_cr = "RFC 9112 section 2.2: a bare CR is invalid or replaced; readers differ";
    vec![
        refused("LF after the status line", why, "HTTP/1.1 200 OK\n"),
        refused("LF after a field", why, "HTTP/1.1 200 OK\r\nx: 1\n"),
        case("head: LF everywhere", why)
            .answers("HTTP/1.1 200 OK\ncontent-length: 2\n\nok")
            .gets(bad_response())
            .fails(BadResponse),
        case("head: LF for the empty line", why)
            .answers("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\nok")
            .gets(bad_response())
            .fails(BadResponse),
        refused("CR after the status line", bare_cr, "HTTP/1.1 200 OK\rx: 1\r\n"),
        refused("CR in a value", bare_cr, "HTTP/1.1 200 OK\r\nx: 1\r2\r\n"),
        refused("CR CR LF", bare_cr, "HTTP/1.1 200 OK\r\nx: 1\r\r\n"),
        case("head: CR CR", bare_cr)
            .answers("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\rok\n")
            .gets(bad_response())
            .fails(BadResponse),
    ]
}

fn good_fields() -> Vec<Case> {
    vec![
        accepted("empty value", "RFC 9110 section 5.5", 200, "HTTP/1.1 200 OK\r\nx:\r\n"),
        accepted("tab in a value", "RFC 9110 section 5.5", 200, "HTTP/1.1 200 OK\r\nx: a\tb\r\n"),
        accepted("no space", "RFC 9112 section 5: OWS", 200, "HTTP/1.1 200 OK\r\nx:1\r\n"),
        accepted("much space", "RFC 9112 section 5.1", 200, "HTTP/1.1 200 OK\r\nx: \t 1 \t \r\n"),
        accepted("Latin-1 value", "RFC 9110 section 5.5", 200, b"HTTP/1.1 200 OK\r\nx: \xe9\r\n"),
        accepted(
            "odd tokens",
            "RFC 9110 section 5.6.2",
            200,
            "HTTP/1.1 200 OK\r\n!#$%&'*+-.^_`|~9: 1\r\n",
        ),
        case(
            "head: values without their spaces",
            "RFC 9112 section 5.1: OWS is no part of the value",
        )
        .answers("HTTP/1.1 200 OK\r\nX-Space: \t a  b \t\r\ncontent-length: 0\r\n\r\n")
        .gets(reply(200, "").has("x-space: a  b"))
        .keeps(),
    ]
}

fn bad_fields() -> Vec<Case> {
    let name = "RFC 9112 section 5.1: a token, directly followed by a colon";
    let value = "RFC 9110 section 5.5: no control characters but HTAB";
    let fold = "RFC 9112 section 5.2: a proxy replaces or refuses line folding";
    vec![
        refused("no colon", name, "HTTP/1.1 200 OK\r\nx\r\n"),
        refused("no name", name, "HTTP/1.1 200 OK\r\n: 1\r\n"),
        refused("space in a name", name, "HTTP/1.1 200 OK\r\nx y: 1\r\n"),
        refused("bracket in a name", name, "HTTP/1.1 200 OK\r\nx(y): 1\r\n"),
        refused("Latin-1 in a name", name, b"HTTP/1.1 200 OK\r\nx\xe9: 1\r\n"),
        refused("NUL in a name", name, "HTTP/1.1 200 OK\r\nx\0: 1\r\n"),
        refused(
            "space before a colon",
            "RFC 9112 section 5.1: a proxy removes it or refuses",
            "HTTP/1.1 200 OK\r\nx : 1\r\n",
        ),
        refused("tab before a colon", "RFC 9112 section 5.1", "HTTP/1.1 200 OK\r\nx\t: 1\r\n"),
        refused(
            "space before the length's colon",
            "RFC 9112 section 5.1",
            "HTTP/1.1 200 OK\r\ncontent-length : 7\r\n",
        ),
        refused("folded line", fold, "HTTP/1.1 200 OK\r\nx: 1\r\n 2\r\n"),
        refused("line folded by a tab", fold, "HTTP/1.1 200 OK\r\nx: 1\r\n\t2\r\n"),
        refused("first line is folded", "RFC 9112 section 2.2", "HTTP/1.1 200 OK\r\n x: 1\r\n"),
        refused("folded to nothing", fold, "HTTP/1.1 200 OK\r\nx: 1\r\n \r\n"),
        refused("NUL in a value", value, "HTTP/1.1 200 OK\r\nx: a\0b\r\n"),
        refused("control in a value", value, "HTTP/1.1 200 OK\r\nx: a\x01b\r\n"),
        refused("escape in a value", value, "HTTP/1.1 200 OK\r\nx: \x1b[2J\r\n"),
        refused("DEL in a value", value, "HTTP/1.1 200 OK\r\nx: a\x7fb\r\n"),
        refused("form feed in a value", value, "HTTP/1.1 200 OK\r\nx: a\x0cb\r\n"),
    ]
}

fn size() -> Vec<Case> {
    let bounded = "what a backend can make the proxy hold is bounded";
    let big = |bytes: usize| format!("HTTP/1.1 200 OK\r\nx: {}\r\n", "a".repeat(bytes));
    // A head of so many bytes with what `accepted` adds.
    let filled = |bytes: usize| big(bytes - big(0).len() - "content-length: 2\r\n\r\n".len());
    let many = |count: usize| format!("HTTP/1.1 200 OK\r\n{}", "x: 1\r\n".repeat(count));
    vec![
        accepted("a field of 16 KiB", "large cookies are common", 200, big(16 << 10)),
        accepted("60 fields", "nothing unusual", 200, many(60)),
        accepted("100 fields", "limits.header_count", 200, many(99)),
        refused("101 fields", "limits.header_count", many(100)),
        accepted("64 KiB", "limits.header_bytes", 200, filled(64 << 10)),
        refused("64 KiB and a byte", "limits.header_bytes", filled((64 << 10) + 1)),
        refused("a field of 1 MiB", bounded, big(1 << 20)),
        refused("10,000 fields", bounded, many(10_000)),
        case("head: a name without end", bounded)
            .backend([Ask, say("HTTP/1.1 200 OK\r\nx"), Pour(64 << 20), Gone])
            .gets(bad_response())
            .fails(BadResponse)
            .pours_at_most(32 << 20),
        case("head: a status line without end", bounded)
            .backend([Ask, say("HTTP/1.1 200 "), Pour(64 << 20), Gone])
            .gets(bad_response())
            .fails(BadResponse)
            .pours_at_most(32 << 20),
        case("head: byte by byte", "a segment may end anywhere")
            .backend([Ask, bytewise(OK)])
            .gets(reply(200, "ok"))
            .keeps(),
        case("head: nothing but an empty line", "no response")
            .answers_and_closes("\r\n")
            .gets(bad_response())
            .fails(BadResponse),
    ]
}
