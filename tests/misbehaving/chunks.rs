//! The chunked coding (RFC 9112 section 7).

use super::case::*;
use crossfade::live::Reason::{BadResponse, UpstreamReset};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(good_chunks());
    cases.extend(bad_sizes());
    cases.extend(bad_line_ends());
    cases.extend(extensions());
    cases.extend(trailers());
    cases
}

/// These chunks, which make `hello`.
fn good(name: &str, why: &'static str, chunks: impl AsRef<str>) -> Case {
    case(format!("chunks: {name}"), why)
        .answers(format!("{CHUNKED}{}", chunks.as_ref()))
        .gets(reply(200, "hello"))
        .keeps()
}

/// Data that may come before the error is noticed.
const LONGEST: &str = "helloworld\r";

/// What comes after `hello` in a first chunk is wrong, both at once and with the beginning delivered.
fn bad(name: &str, why: &'static str, rest: impl AsRef<[u8]>) -> [Case; 2] {
    let start = format!("{CHUNKED}5\r\nhello\r\n");
    let at_once = [start.as_bytes(), rest.as_ref()].concat();
    [
        case(format!("chunks: {name}"), why)
            .answers(at_once)
            .gets(broken(LONGEST))
            .fails(BadResponse),
        case(format!("chunks: {name}, later"), why)
            .backend([Ask, say(start), ClientHas(5), say(rest)])
            .gets(reply(200, LONGEST).cut())
            .fails(BadResponse),
    ]
}

fn good_chunks() -> Vec<Case> {
    let size = "RFC 9112 section 7.1: 1*HEXDIG";
    let many = "1\r\nx\r\n".repeat(5000);
    let piece = "y".repeat(300_000);
    vec![
        good("two", size, "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        good("zeros before the size", size, "0005\r\nhello\r\n0\r\n\r\n"),
        good("16 digits", size, "0000000000000005\r\nhello\r\n0\r\n\r\n"),
        good(
            "many zeros for the last",
            "RFC 9112 section 7.1: 1*(\"0\")",
            "5\r\nhello\r\n0000\r\n\r\n",
        ),
        good(
            "extension",
            "RFC 9112 section 7.1.1: unknown ones are ignored",
            "5;a=b\r\nhello\r\n0;c\r\n\r\n",
        ),
        good(
            "space before an extension",
            "RFC 9112 section 7.1.1: BWS is removed",
            "5 ;a\r\nhello\r\n0\r\n\r\n",
        ),
        good("quoted extension", "RFC 9112 section 7.1.1", "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n"),
        case("chunks: hex digits in either case", size)
            .answers(format!("{CHUNKED}A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"))
            .gets(reply(200, "01234567890123456789"))
            .keeps(),
        case("chunks: none", "RFC 9112 section 7.1: *chunk")
            .answers(format!("{CHUNKED}0\r\n\r\n"))
            .gets(reply(200, ""))
            .keeps(),
        case("chunks: byte by byte", "a segment may end anywhere")
            .backend([Ask, bytewise(format!("{CHUNKED}5;a=b\r\nhello\r\n0\r\n\r\n"))])
            .gets(reply(200, "hello"))
            .keeps(),
        case("chunks: 5,000 of one byte", "tiny pieces are no attack by themselves")
            .answers(format!("{CHUNKED}{many}0\r\n\r\n"))
            .gets(reply(200, "x".repeat(5000)))
            .keeps(),
        case("chunks: one of 300 KB", "larger than any buffer")
            .answers(format!("{CHUNKED}{:x}\r\n{piece}\r\n0\r\n\r\n", piece.len()))
            .gets(reply(200, &piece))
            .keeps(),
        case("chunks: each on its own", "the client need not wait for the next one")
            .backend([
                Ask,
                say(CHUNKED),
                ClientHas(0),
                say("2\r\nhe\r\n"),
                ClientHas(2),
                say("3\r\nllo\r\n"),
                ClientHas(5),
                say("0\r\n\r\n"),
            ])
            .gets(reply(200, "hello"))
            .keeps(),
    ]
}

fn bad_sizes() -> Vec<Case> {
    let why = "RFC 9112 section 7.1: hex digits and nothing else; readers differ";
    let overflow = "RFC 9112 section 7.1: recipients must not overflow";
    let mut cases = Vec::new();
    cases.extend(bad("no digit", why, "g\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("digits, then none", why, "5g\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("empty size", why, "\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("0x", why, "0x5\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("plus", why, "+5\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("minus", why, "-5\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("space before", why, " 5\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("space after", why, "5 \r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("space between", why, "5 5\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("underscore", why, "0_5\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("NUL", why, "5\0\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("17 digits", overflow, "00000000000000005\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("2^64 + 5", overflow, "10000000000000005\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("2^68 - 1", overflow, "fffffffffffffffff\r\nworld\r\n0\r\n\r\n"));
    cases.push(
        case("chunks: 2^64 - 1, and the end", "a size that lies is a truncated message")
            .backend([Ask, say(format!("{CHUNKED}ffffffffffffffff\r\nhello")), ClientHas(5), Close])
            .gets(reply(200, "hello").cut())
            .fails(UpstreamReset),
    );
    cases
}

fn bad_line_ends() -> Vec<Case> {
    let lf =
        "RFC 9112 section 7.1: CRLF; one reader's line end is another's data (TERM.EXT and kin)";
    let data = "RFC 9112 section 7.1: CRLF follows the data";
    let mut cases = Vec::new();
    cases.extend(bad("LF after a size", lf, "5\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("CR after a size", lf, "5\rworld\r\n0\r\n\r\n"));
    cases.extend(bad("CR CR LF after a size", lf, "5\r\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("LF after the data", data, "5\r\nworld\n0\r\n\r\n"));
    cases.extend(bad("CR after the data", data, "5\r\nworld\r0\r\n\r\n"));
    cases.extend(bad("nothing after the data", data, "5\r\nworld0\r\n\r\n"));
    cases.extend(bad("more data than the size", data, "5\r\nworlds\r\n0\r\n\r\n"));
    cases.extend(bad("much more data than the size", data, "5\r\nworld, and more\r\n0\r\n\r\n"));
    cases.extend(bad("less data than the size", data, "6\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("LF after the last size", lf, "0\n\r\n"));
    cases.extend(bad("LF for the end", lf, "0\r\n\n").map(Case::then_closes));
    cases.extend(bad("CR for the end", lf, "0\r\n\rx"));
    cases
}

fn extensions() -> Vec<Case> {
    let lf = "RFC 9112 section 7.1.1: LF in an extension ends the line for some readers (TERM.EXT)";
    let flood = "Go CVE-2023-39326: extensions cost the reader and bring nothing";
    let long = format!("5;{}\r\nworld\r\n0\r\n\r\n", "a".repeat(100_000));
    let many = format!("1;{}\r\nx\r\n", "a".repeat(900)).repeat(200);
    let mut cases = Vec::new();
    cases.extend(bad("LF in an extension", lf, "5;a\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("CR in an extension", lf, "5;a\rb\r\nworld\r\n0\r\n\r\n"));
    cases.extend(bad("an extension of 100 KB", flood, long));
    cases.push(
        case("chunks: 200 extensions of 900 bytes", flood)
            .answers(format!("{CHUNKED}{many}0\r\n\r\n"))
            .gets(broken(Box::leak("x".repeat(200).into_boxed_str())))
            .fails(BadResponse),
    );
    cases
}

fn trailers() -> Vec<Case> {
    let line = "RFC 9112 section 7.1.2: a field section, with its rules";
    let framing = "RFC 9110 section 6.5.1: fields of framing, routing and control are no trailers";
    let asks = "GET /case HTTP/1.1\r\nhost: a\r\nconnection: te\r\nte: trailers\r\n\r\n";
    let declared = "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut cases = vec![
        good("trailers that nobody asked for", "RFC 9110 section 6.5.2: they may be dropped", "5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"),
        case("chunks: trailers for who asks", "RFC 9110 section 6.5.2: passed on where they are understood")
            .answers(format!("{declared}5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"))
            .sends(asks)
            .gets(reply(200, "hello").has("trailer x-sum: 1"))
            .keeps(),
        case("chunks: trailers that Connection names", "RFC 9110 section 7.6.1: they stay behind")
            .answers("HTTP/1.1 200 OK\r\nconnection: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n")
            .sends(asks)
            .gets(reply(200, "hello").lacks("trailer x-sum"))
            .keeps(),
        case("chunks: trailers that come late", "the body does not wait for them")
            .backend([Ask, say(format!("{declared}5\r\nhello\r\n0\r\n")), ClientHas(5), say("x-sum: 1\r\n\r\n")])
            .sends(asks)
            .gets(reply(200, "hello").has("trailer x-sum: 1"))
            .keeps(),
        case("chunks: trailers of framing", framing)
            .answers(format!(
                "{declared}5\r\nhello\r\n0\r\nx-sum: 1\r\ncontent-length: 7\r\ntransfer-encoding: gzip\r\n\
                host: b\r\nconnection: close\r\n\r\n"
            ))
            .sends(asks)
            .gets(
                reply(200, "hello")
                    .lacks("content-length")
                    .lacks("trailer content-length")
                    .lacks("trailer transfer-encoding")
                    .lacks("trailer host")
                    .lacks("trailer connection"),
            )
            .keeps(),
        case("chunks: trailers are no fields", "RFC 9110 section 6.5.1: not merged into the head")
            .answers(format!("{declared}5\r\nhello\r\n0\r\nx-sum: 1\r\nset-cookie: a=b\r\n\r\n"))
            .gets(reply(200, "hello").lacks("set-cookie").lacks("x-sum"))
            .keeps(),
    ];
    cases.extend(bad("trailer without a colon", line, "0\r\nx\r\n\r\n"));
    cases.extend(bad("trailer with a space before the colon", line, "0\r\nx : 1\r\n\r\n"));
    cases.extend(bad("trailer that is folded", line, "0\r\nx: 1\r\n 2\r\n\r\n"));
    cases.extend(bad("trailer with LF", line, "0\r\nx: 1\n\r\n").map(Case::then_closes));
    cases.extend(bad("trailer with NUL", line, "0\r\nx: \0\r\n\r\n"));
    cases.extend(bad(
        "trailers of 1 MB",
        "bounded like a head",
        format!("0\r\nx: {}\r\n\r\n", "a".repeat(1 << 20)),
    ));
    cases.extend(bad(
        "50,000 trailers",
        "bounded like a head",
        format!("0\r\n{}\r\n", "x: 1\r\n".repeat(50_000)),
    ));
    cases
}
