//! Section 8.2: fields, and what becomes of them in HTTP/1.

use super::{
    case::{Case, case},
    frame::*,
    hpack::Block,
    pseudo::BAD_BYTES,
};

pub fn cases() -> Vec<Case> {
    [names(), values(), connection(), cookies(), amounts(), added()].into_iter().flatten().collect()
}

fn field(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<Vec<u8>> {
    vec![ask(1, Block::get("/x").field(name, value))]
}

fn names() -> Vec<Case> {
    let bad: [&[u8]; 18] = [
        b"X-A",
        b"x-A",
        b"Content-Length",
        b"",
        b"x a",
        b" x",
        b"x ",
        b"x:a",
        b"x\r\ny",
        b"x\0",
        b"x\ny",
        b"x\x7f",
        b"x\x80",
        b"\xe9",
        b"x(a)",
        b"x,a",
        b"transfer-encoding: chunked\r\nx",
        b"\t",
    ];
    let mut cases: Vec<_> = bad
        .iter()
        .map(|name| {
            case(
                format!("the field name {:?}", name.escape_ascii().to_string()),
                "section 8.2.1: lower case, a token",
            )
            .sends(&field(name, "1"))
            .malformed()
        })
        .collect();
    cases.push(
        case("a name of every kind of character", "RFC 9110 section 5.6.2")
            .sends(&field("x!#$%&'*+-.^_`|~09az", "1"))
            .answers(1, 200)
            .forwards("GET /x")
            .with("x!#$%&'*+-.^_`|~09az", "1"),
    );
    cases
}

fn values() -> Vec<Case> {
    let mut cases = Vec::new();
    for (what, bytes) in BAD_BYTES {
        for (place, value) in [
            ("in the middle", [b"a", bytes, b"b"].concat()),
            ("at the end", [b"a", bytes].concat()),
            ("at the front", [bytes, b"a"].concat()),
        ] {
            cases.push(
                case(format!("a value with {what} {place}"), "section 8.2.1, request smuggling")
                    .sends(&field("x-a", value))
                    .malformed(),
            );
        }
    }
    for (what, value) in [
        ("a blank in front", " a"),
        ("a blank behind", "a "),
        ("a tab in front", "\ta"),
        ("a tab behind", "a\t"),
    ] {
        cases.push(
            case(format!("a value with {what}"), "section 8.2.1: no white space at its ends")
                .sends(&field("x-a", value))
                .malformed(),
        );
    }
    for (what, value) in [
        ("smuggled head", "a\r\nx-b: 1"),
        ("smuggled request", "a\r\n\r\nGET /y HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        cases.push(
            case(format!("a {what}"), "section 10.3").sends(&field("x-a", value)).malformed(),
        );
    }
    for control in [1u8, 8, 0x1b, 0x7f] {
        cases.push(
            case(format!("a value with byte {control}"), "RFC 9110 section 5.5: no controls")
                .sends(&field("x-a", [b'a', control, b'b']))
                .malformed(),
        );
    }
    for (what, value) in [("nothing in it", ""), ("a tab in it", "a\tb"), ("blanks in it", "a  b")]
    {
        cases.push(
            case(format!("a value with {what}"), "RFC 9110 section 5.5")
                .sends(&field("x-a", value))
                .answers(1, 200)
                .forwards("GET /x")
                .with("x-a", value),
        );
    }
    cases.push(
        case("a value beyond ASCII", "RFC 9110 section 5.5: opaque")
            .sends(&field("x-a", "\u{fffd}"))
            .answers(1, 200)
            .forwards("GET /x")
            .with("x-a", "\u{fffd}"),
    );
    cases
}

fn connection() -> Vec<Case> {
    const WHY: &str = "section 8.2.2: fields of a connection make a request malformed";
    let mut cases: Vec<_> = [
        ("connection", "close"),
        ("connection", "x-a"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, deflate"),
        ("te", ""),
    ]
    .into_iter()
    .map(|(name, value)| {
        case(format!("{name}: {value}"), WHY).sends(&field(name, value)).malformed()
    })
    .collect();
    cases.push(
        case("transfer-encoding with a body", "section 8.2.2, H2.TE")
            .sends(&[
                begin(1, Block::post("/x").field("transfer-encoding", "chunked")),
                last_data(1, "0\r\n\r\nGET /y HTTP/1.1\r\nhost: a\r\n\r\n"),
            ])
            .malformed(),
    );
    cases.push(
        case("te: trailers", "section 8.2.2")
            .sends(&field("te", "trailers"))
            .answers(1, 200)
            .forwards("GET /x")
            .with("te", "trailers"),
    );
    cases.push(
        case("http2-settings", "RFC 9113 section 3.1: obsolete, and never passed on")
            .sends(&field("http2-settings", "AAMAAABk"))
            .answers(1, 200)
            .forwards("GET /x")
            .without("http2-settings"),
    );
    cases
}

fn cookies() -> Vec<Case> {
    let crumbs = Block::get("/x").field("cookie", "a=1").field("x-a", "1").field("cookie", "b=2");
    vec![
        case("a cookie in crumbs", "section 8.2.3: HTTP/1 gets one field")
            .sends(&[ask(1, crumbs)])
            .answers(1, 200)
            .forwards("GET /x")
            .with("cookie", "a=1; b=2"),
        case("one cookie", "section 8.2.3")
            .sends(&field("cookie", "a=1; b=2"))
            .answers(1, 200)
            .forwards("GET /x")
            .with("cookie", "a=1; b=2"),
    ]
}

fn amounts() -> Vec<Case> {
    let many = |count: usize, name: &dyn Fn(usize) -> String| {
        (0..count).fold(Block::get("/x"), |block, at| block.field(name(at), "1"))
    };
    let numbered = |at: usize| format!("x-{at}");
    let crumb = |_: usize| "cookie".to_owned();
    let split = |block: Block| {
        let pieces: Vec<_> = block.0.chunks(16 << 10).map(<[u8]>::to_vec).collect();
        let count = pieces.len();
        pieces
            .into_iter()
            .enumerate()
            .map(|(at, piece)| {
                let kind = if at == 0 { HEADERS } else { CONTINUATION };
                let end = if at + 1 == count { END_HEADERS } else { 0 };
                let stream = if at == 0 { END_STREAM } else { 0 };
                frame(kind, end | stream, 1, piece)
            })
            .collect::<Vec<_>>()
    };
    let large = |bytes: usize| split(Block::get("/x").field("x-a", "x".repeat(bytes)));
    const WHY: &str = "limits.header_count and header_bytes";
    vec![
        case("as many fields as allowed", WHY)
            .sends(&[ask(1, many(100, &numbered))])
            .answers(1, 200)
            .forwards("GET /x"),
        case("one field more than allowed", WHY)
            .sends(&[ask(1, many(101, &numbered))])
            .refuses(431, "headers_too_large"),
        case("a crumb more than allowed", "CVE-2026-47774: crumbs are counted one by one")
            .sends(&[ask(1, many(101, &crumb))])
            .refuses(431, "headers_too_large"),
        case("a field as large as allowed", WHY)
            .sends(&large(60 << 10))
            .answers(1, 200)
            .forwards("GET /x"),
        case("a field larger than allowed", WHY)
            .sends(&large(66 << 10))
            .refuses(431, "headers_too_large"),
        case("a field much larger than allowed", WHY)
            .sends(&large(140 << 10))
            .refuses(431, "headers_too_large"),
        case("a field that never ends", WHY).sends(&large(150 << 10)).goaway(&[ENHANCE_YOUR_CALM]),
        case("pseudo-headers count too", WHY)
            .sends(&split(
                Block::request("GET", &("/".to_owned() + &"x".repeat(30 << 10)))
                    .field("x-a", "x".repeat(36 << 10)),
            ))
            .refuses(431, "headers_too_large"),
        case("a path longer than 32 KiB", "RFC 9112 section 3")
            .sends(&split(Block::request("GET", &("/".to_owned() + &"x".repeat(40 << 10)))))
            .refuses(414, "target_too_long"),
        case("one-byte references to a large field", "an HPACK bomb: CVE-2026-47774")
            .sends(&[ask(
                1,
                (0..12_000).fold(Block::get("/x").indexed("x-a", "x".repeat(3000)), |b, _| {
                    b.reference(62)
                }),
            )])
            .goaway(&[ENHANCE_YOUR_CALM]),
        case("empty fields without end", "section 10.5.1: each counts 32 bytes")
            .sends(&[ask(
                1,
                (0..15_000).fold(Block::get("/x").indexed("a", ""), |block, _| block.reference(62)),
            )])
            .refuses(431, "headers_too_large"),
    ]
}

fn added() -> Vec<Case> {
    let spoof = |name: &str, value: &str| field(name, value);
    vec![
        case("a stranger's x-forwarded-for", "only trusted proxies are believed")
            .sends(&spoof("x-forwarded-for", "1.2.3.4"))
            .answers(1, 200)
            .forwards("GET /x")
            .with("x-forwarded-for", "127.0.0.1"),
        case("a stranger's x-forwarded-proto", "only trusted proxies are believed")
            .sends(&spoof("x-forwarded-proto", "https"))
            .answers(1, 200)
            .forwards("GET /x")
            .with("x-forwarded-proto", "http"),
        case("a stranger's x-forwarded-host", "only trusted proxies are believed")
            .sends(&spoof("x-forwarded-host", "b"))
            .answers(1, 200)
            .forwards("GET /x")
            .with("x-forwarded-host", "a"),
        case("an alias of x-forwarded-for", "CGI turns one into the other")
            .sends(&spoof("x_forwarded_for", "1.2.3.4"))
            .answers(1, 200)
            .forwards("GET /x")
            .without("x_forwarded_for"),
        case("a stranger's forwarded", "RFC 7239")
            .sends(&spoof("forwarded", "for=1.2.3.4"))
            .answers(1, 200)
            .forwards("GET /x")
            .without("forwarded"),
        case("a request's own id", "it is kept")
            .sends(&spoof("x-request-id", "mine"))
            .answers(1, 200)
            .forwards("GET /x")
            .with("x-request-id", "mine"),
    ]
}
