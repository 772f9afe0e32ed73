//! Content-Length, Transfer-Encoding, both, neither (RFC 9112 section 6).

use super::case::*;
use crossfade::live::Reason::{BadResponse, UpstreamReset};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(lengths());
    cases.extend(codings());
    cases.extend(both());
    cases.extend(neither());
    cases
}

fn framed(name: &str, why: &'static str, framing: &str, body: &str) -> Case {
    case(format!("framing: {name}"), why)
        .answers(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}"))
}

fn refused(name: &str, why: &'static str, framing: &str, body: &str) -> Case {
    framed(name, why, framing, body).gets(bad_response()).leaves().fails(BadResponse)
}

fn lengths() -> Vec<Case> {
    let invalid = "RFC 9112 section 6.3, rule 5: an invalid length in a response is 502";
    let same = "RFC 9112 section 6.3, rule 5: a list of the same number may be taken as one";
    let good = |name, value: &str| {
        framed(name, "RFC 9110 section 8.6: digits", &format!("content-length:{value}"), "hello")
            .gets(reply(200, "hello").has("content-length: 5"))
            .keeps()
    };
    let bad =
        |name, value: &str| refused(name, invalid, &format!("content-length:{value}"), "hello");
    vec![
        good("length", " 5"),
        good("length in space", " \t5 \t"),
        framed(
            "length with zeros before it",
            "RFC 9110 section 8.6: digits",
            "content-length: 0005",
            "hello",
        )
        .gets(reply(200, "hello"))
        .keeps(),
        framed("length 0", "RFC 9110 section 8.6", "content-length: 0", "")
            .gets(reply(200, "").has("content-length: 0"))
            .keeps(),
        framed("name in odd case", "RFC 9110 section 5.1", "cOnTeNt-LeNgTh: 5", "hello")
            .gets(reply(200, "hello"))
            .keeps(),
        case(
            "framing: length of 2^64 - 1, and the end",
            "a length that lies is a truncated message",
        )
        .backend([
            Ask,
            say("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\nhello"),
            ClientHas(5),
            Close,
        ])
        .gets(reply(200, "hello").cut())
        .fails(UpstreamReset)
        .not_for_http2("the library that plays the client reads no such number"),
        bad("length with a plus", " +5"),
        bad("length with a minus", " -5"),
        bad("length in hex", " 0x5"),
        bad("length in hex digits", " a"),
        bad("length with a fraction", " 5.0"),
        bad("length with a space in it", " 5 5"),
        bad("length with a unit", " 5b"),
        bad("length in quotes", " \"5\""),
        bad("length with a parameter", " 5;x"),
        bad("empty length", ""),
        bad("length of other digits", " \u{0665}"),
        bad("length of 2^64", " 18446744073709551616"),
        bad("length of 2^64 + 5", " 18446744073709551621"),
        bad("length of 40 digits", " 5000000000000000000000000000000000000000"),
        bad("list of lengths that differ", " 5, 6"),
        bad("list of lengths with an empty one", " 5,"),
        bad("list of lengths with an empty one first", " ,5"),
        refused(
            "two lengths that differ",
            invalid,
            "content-length: 5\r\ncontent-length: 6",
            "hello",
        ),
        refused(
            "two lengths, the longer first",
            invalid,
            "content-length: 6\r\ncontent-length: 5",
            "hello",
        ),
        refused(
            "two lengths, one empty",
            invalid,
            "content-length: \r\ncontent-length: 5",
            "hello",
        ),
        refused(
            "two lengths, one no number",
            invalid,
            "content-length: 5\r\ncontent-length: x",
            "hello",
        ),
        framed("two lengths that agree", same, "content-length: 5\r\ncontent-length: 5", "hello")
            .gets(reply(200, "hello").has("content-length: 5"))
            .keeps(),
        framed("list of lengths that agree", same, "content-length: 5, 5", "hello")
            .gets(reply(200, "hello").has("content-length: 5"))
            .keeps(),
        framed(
            "length named by Connection",
            "RFC 9110 section 7.6.1: it belongs to the message",
            "connection: content-length\r\ncontent-length: 5",
            "hello",
        )
        .gets(reply(200, "hello").has("content-length: 5"))
        .keeps(),
    ]
}

const HELLO: &str = "5\r\nhello\r\n0\r\n\r\n";

fn codings() -> Vec<Case> {
    let unknown =
        "RFC 9112 section 6.1: only `chunked` is understood here; readers differ on the rest";
    let good = |name, coding: &str| {
        framed(name, "RFC 9112 section 7: names of codings have no case", coding, HELLO)
            .gets(reply(200, "hello").lacks("content-length"))
            .keeps()
    };
    let bad = |name, coding: &str| refused(name, unknown, coding, HELLO);
    let raw = |name, coding: &str| bad(name, coding).then_closes();
    vec![
        good("chunked", "transfer-encoding: chunked"),
        good("Chunked", "Transfer-Encoding: Chunked"),
        good("chunked in space", "transfer-encoding: \t chunked \t"),
        bad("gzip, chunked", "transfer-encoding: gzip, chunked"),
        bad("chunked twice", "transfer-encoding: chunked, chunked"),
        bad("chunked on two lines", "transfer-encoding: chunked\r\ntransfer-encoding: chunked"),
        bad("comma before chunked", "transfer-encoding: ,chunked"),
        raw("chunked, gzip", "transfer-encoding: chunked, gzip"),
        raw("chunked, identity", "transfer-encoding: chunked, identity"),
        raw("identity", "transfer-encoding: identity"),
        raw("gzip", "transfer-encoding: gzip"),
        raw("xchunked", "transfer-encoding: xchunked"),
        raw("chunkedx", "transfer-encoding: chunkedx"),
        raw("chunked with a parameter", "transfer-encoding: chunked;q=1"),
        raw("chunked in quotes", "transfer-encoding: \"chunked\""),
        raw(
            "chunked and gzip on two lines",
            "transfer-encoding: chunked\r\ntransfer-encoding: gzip",
        ),
        raw("comma after chunked", "transfer-encoding: chunked,"),
        raw("empty coding", "transfer-encoding:"),
        bad("control before chunked", "transfer-encoding: \x0bchunked"),
        bad("folded chunked", "transfer-encoding:\r\n chunked"),
        case("framing: chunked in HTTP/1.0", "RFC 9112 section 6.1: faulty framing in HTTP/1.0")
            .answers_and_closes(format!(
                "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{HELLO}"
            ))
            .gets(bad_response())
            .fails(BadResponse),
        framed(
            "coding named by Connection",
            "RFC 9110 section 7.6.1: the message is framed all the same",
            "connection: transfer-encoding\r\ntransfer-encoding: chunked",
            HELLO,
        )
        .gets(reply(200, "hello"))
        .keeps(),
    ]
}

fn both() -> Vec<Case> {
    let why = "RFC 9112 section 6.3, rule 3: length beside coding ought to be handled as an error";
    vec![
        refused(
            "length, then coding",
            why,
            "content-length: 3\r\ntransfer-encoding: chunked",
            HELLO,
        ),
        refused(
            "coding, then length",
            why,
            "transfer-encoding: chunked\r\ncontent-length: 3",
            HELLO,
        ),
        refused(
            "coding and the right length",
            why,
            "transfer-encoding: chunked\r\ncontent-length: 5",
            HELLO,
        ),
        refused(
            "coding and length 0",
            why,
            "content-length: 0\r\ntransfer-encoding: chunked",
            HELLO,
        ),
        refused(
            "coding and a bad length",
            why,
            "content-length: x\r\ntransfer-encoding: chunked",
            HELLO,
        ),
        refused(
            "length and an unknown coding",
            why,
            "content-length: 5\r\ntransfer-encoding: x",
            "hello",
        )
        .then_closes(),
    ]
}

fn neither() -> Vec<Case> {
    let why = "RFC 9112 section 6.3, rule 8: without a length the close ends the body";
    let old = "HTTP/1.0 200 OK\r\n\r\nhello";
    vec![
        case("framing: until the close", why)
            .answers_and_closes("HTTP/1.1 200 OK\r\n\r\nhello")
            .gets(reply(200, "hello").has("transfer-encoding: chunked")),
        case(
            "framing: until the close, towards HTTP/1.0",
            "RFC 9112 section 6.1: no coding for HTTP/1.0",
        )
        .answers_and_closes("HTTP/1.1 200 OK\r\n\r\nhello")
        .sends("GET /case HTTP/1.0\r\nhost: a\r\n\r\n")
        .gets(reply(200, "hello").closed().lacks("transfer-encoding")),
        case("framing: chunked, towards HTTP/1.0", "RFC 9112 section 6.1: no coding for HTTP/1.0")
            .answers(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{HELLO}"))
            .sends("GET /case HTTP/1.0\r\nhost: a\r\n\r\n")
            .gets(reply(200, "hello").closed().lacks("transfer-encoding"))
            .keeps(),
        case("framing: until the close, nothing", why)
            .answers_and_closes("HTTP/1.1 200 OK\r\n\r\n")
            .gets(reply(200, "")),
        case("framing: until the close, in pieces", why)
            .backend([
                Ask,
                say("HTTP/1.1 200 OK\r\n\r\nhel"),
                ClientHas(3),
                say("lo"),
                ClientHas(5),
                Close,
            ])
            .gets(reply(200, "hello")),
        case("framing: until a half close", why)
            .backend([Ask, say("HTTP/1.1 200 OK\r\n\r\nhello"), HalfClose, Gone])
            .gets(reply(200, "hello")),
        case(
            "framing: until a reset",
            "RFC 9112 section 8: not complete unless the close is clean",
        )
        .backend([Ask, say("HTTP/1.1 200 OK\r\n\r\nhello"), ClientHas(5), Reset])
        .gets(reply(200, "hello").cut())
        .fails(UpstreamReset),
        case(
            "framing: until a reset, towards HTTP/1.0",
            "RFC 9112 section 8: a clean end would look complete",
        )
        .backend([Ask, say("HTTP/1.1 200 OK\r\n\r\nhello"), ClientHas(5), Reset])
        .sends("GET /case HTTP/1.0\r\nhost: a\r\n\r\n")
        .gets(reply(200, "hello").reset())
        .fails(UpstreamReset)
        .on_hyper("the client cannot see the cut", |case| {
            case.gets_instead(reply(200, "hello").closed())
        }),
        case("framing: HTTP/1.0 until the close", why)
            .answers_and_closes(old)
            .gets(reply(200, "hello")),
        case(
            "framing: HTTP/1.0 with a length",
            "RFC 9112 section 9.3: HTTP/1.0 does not persist by itself",
        )
        .answers("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        .gets(reply(200, "hello").has("content-length: 5"))
        .leaves(),
        case(
            "framing: HTTP/1.0 keep-alive with a length",
            "RFC 9112 section 9.3: it may be used again",
        )
        .answers("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello")
        .gets(reply(200, "hello"))
        .may_keep(),
        case(
            "framing: HTTP/1.0 keep-alive until the close",
            "keep-alive cannot do without a length",
        )
        .answers_and_closes("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nhello")
        .gets(reply(200, "hello")),
        case(
            "framing: HTTP/1.1 keep-alive until the close",
            "keep-alive cannot do without a length",
        )
        .answers_and_closes("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\nhello")
        .gets(reply(200, "hello")),
    ]
}
