//! Section 8.3: pseudo-headers, and what becomes of them in HTTP/1.

use super::{
    case::{Case, case},
    frame::ask,
    hpack::Block,
};

pub fn cases() -> Vec<Case> {
    [control_data(), methods(), paths(), hosts()].into_iter().flatten().collect()
}

/// The four of a good request, but for one.
fn without(name: &str) -> Block {
    let all = [(":method", "GET"), (":scheme", "http"), (":path", "/x"), (":authority", "a")];
    let others = all.iter().filter(|(known, _)| *known != name);
    others.fold(Block::new(), |block, (name, value)| block.field(name, value))
}

fn instead(name: &str, value: impl AsRef<[u8]>) -> Block {
    without(name).field(name, value)
}

fn control_data() -> Vec<Case> {
    const REQUIRED: &str = "section 8.3.1: exactly one each of :method, :scheme and :path";
    let mut cases = Vec::new();
    for name in [":method", ":scheme", ":path"] {
        cases
            .push(case(format!("no {name}"), REQUIRED).sends(&[ask(1, without(name))]).malformed());
        cases.push(
            case(format!("an empty {name}"), REQUIRED)
                .sends(&[ask(1, instead(name, ""))])
                .malformed(),
        );
    }
    for (name, value) in
        [(":method", "GET"), (":scheme", "http"), (":path", "/x"), (":authority", "a")]
    {
        cases.push(
            case(format!("{name} twice"), "section 8.3.1")
                .sends(&[ask(1, Block::get("/x").field(name, value))])
                .malformed(),
        );
        cases.push(
            case(format!("{name} behind a field"), "section 8.3: before all regular fields")
                .sends(&[ask(1, without(name).field("x-a", "1").field(name, value))])
                .malformed(),
        );
        cases.push(
            case(format!("{name} in capitals"), "section 8.2.1")
                .sends(&[ask(1, without(name).field(name.to_uppercase(), value))])
                .malformed(),
        );
        for (what, bad) in BAD_BYTES {
            let value = [value.as_bytes(), bad, b"x: y"].concat();
            cases.push(
                case(format!("{name} with {what}"), "section 8.2.1, request smuggling")
                    .sends(&[ask(1, instead(name, value))])
                    .malformed(),
            );
        }
    }
    let unknown = |name: &str| {
        case(format!("the pseudo-header {name}"), "section 8.3: none but those of a request")
            .sends(&[ask(1, Block::get("/x").field(name, "1"))])
            .malformed()
    };
    cases.extend([":foo", ":host", ":", ":status2"].map(unknown));
    cases.push(
        case(":status in a request", "section 8.3.1")
            .sends(&[ask(1, Block::get("/x").field(":status", "200"))])
            .malformed(),
    );
    for scheme in ["ftp", "http://a", "file", "ht tp"] {
        cases.push(
            case(format!("the scheme {scheme}"), "section 8.3.1: nothing that this proxy speaks")
                .sends(&[ask(1, instead(":scheme", scheme))])
                .malformed(),
        );
    }
    cases
}

pub const BAD_BYTES: [(&str, &[u8]); 4] =
    [("CR LF", b"\r\n"), ("LF", b"\n"), ("CR", b"\r"), ("NUL", b"\0")];

fn methods() -> Vec<Case> {
    let bad = |method: &str| {
        case(format!("the method {method:?}"), "RFC 9110 section 9.1: a token")
            .sends(&[ask(1, instead(":method", method))])
            .malformed()
    };
    let mut cases: Vec<_> =
        ["GET /y HTTP/1.1", "GE T", "GET:", "G\u{e9}T", "GET\t"].map(bad).into();
    cases.push(
        case("a method that nobody knows", "RFC 9110 section 9.1")
            .sends(&[ask(1, instead(":method", "BREW"))])
            .answers(1, 200)
            .forwards("BREW /x"),
    );
    cases.push(
        case("CONNECT", "section 8.5: not supported here")
            .sends(&[ask(1, Block::new().field(":method", "CONNECT").field(":authority", "a:443"))])
            .refuses(501, "not_supported"),
    );
    cases.push(
        case("CONNECT with a path", "section 8.5: no :scheme and :path")
            .sends(&[ask(1, instead(":method", "CONNECT"))])
            .malformed(),
    );
    cases.push(
        case("CONNECT without an authority", "section 8.5: it says where to")
            .sends(&[ask(1, Block::new().field(":method", "CONNECT"))])
            .malformed(),
    );
    cases.push(
        case("CONNECT for an unknown protocol", "RFC 8441 section 4; RFC 9220 section 3: 501")
            .sends(&[ask(1, instead(":method", "CONNECT").field(":protocol", "connect-udp"))])
            .refuses(501, "not_supported"),
    );
    cases.push(
        case("CONNECT for a WebSocket without a path", "RFC 8441 section 4")
            .sends(&[ask(
                1,
                Block::new()
                    .field(":method", "CONNECT")
                    .field(":protocol", "websocket")
                    .field(":scheme", "http")
                    .field(":authority", "a"),
            )])
            .malformed(),
    );
    cases.push(
        case(":protocol without CONNECT", "RFC 8441 section 4")
            .sends(&[ask(1, Block::get("/x").field(":protocol", "websocket"))])
            .malformed(),
    );
    cases
}

fn paths() -> Vec<Case> {
    let bad = |path: &str| {
        case(format!("the path {path:?}"), "section 8.3.1 and RFC 9112 section 3.2")
            .sends(&[ask(1, instead(":path", path))])
            .malformed()
    };
    let mut cases: Vec<_> = [
        "x",
        "?x",
        "http://b/x",
        "/x y",
        "/x\ty",
        "*",
        "/x HTTP/1.1\r\nHost: b\r\n\r\n",
        "/a/../b",
        "/a/./b",
        "/..",
        "/%2e%2e/b",
        "/a/%2E",
        "/%00",
        "/a\\b",
        "/\u{7f}",
        " /x",
        "/x#/y",
        "#",
        "/<x>",
        // What the proxy itself says of what it has refused.
        "/\\malformed",
        "/\\odd",
        "/\\too-large",
    ]
    .map(bad)
    .into();
    for path in ["/", "//x", "/a;b", "/a%2fb", "/a?b?c", "/a/.b/..c", "/~x!$&'()*+,;=:@", "/x?"] {
        cases.push(
            case(format!("the good path {path:?}"), "what is matched is what is sent")
                .sends(&[ask(1, instead(":path", path))])
                .answers(1, 200)
                .forwards(format!("GET {path}"))
                .body(path),
        );
    }
    cases.push(
        case("OPTIONS for the server", "section 8.3.1: :path is *")
            .sends(&[ask(1, Block::request("OPTIONS", "*"))])
            .answers(1, 200)
            .forwards("OPTIONS *"),
    );
    cases
}

fn hosts() -> Vec<Case> {
    let bad = |authority: &str| {
        case(format!("the authority {authority:?}"), "section 8.3.1: a host and maybe a port")
            .sends(&[ask(1, instead(":authority", authority))])
            .malformed()
    };
    let mut cases: Vec<_> = [
        "user@a",
        "user:pw@a",
        "a b",
        "a/x",
        "a:x",
        "a?b",
        "a#b",
        "[::1",
        "[::g]",
        "a:123456",
        "a,b@c",
    ]
    .map(bad)
    .into();
    for authority in ["a", "a:8080", "[::1]:80", "A.Example"] {
        cases.push(
            case(format!("the good authority {authority:?}"), "it becomes Host")
                .sends(&[ask(1, instead(":authority", authority))])
                .answers(1, 200)
                .forwards("GET /x")
                .with("host", authority),
        );
    }
    cases.push(
        case("Host that says the same", "section 8.3.1")
            .sends(&[ask(1, Block::get("/x").field("host", "a"))])
            .answers(1, 200)
            .forwards("GET /x")
            .with("host", "a"),
    );
    cases.push(
        case("Host alone", "section 8.3.1: instead of :authority")
            .sends(&[ask(1, without(":authority").field("host", "b:1"))])
            .answers(1, 200)
            .forwards("GET /x")
            .with("host", "b:1"),
    );
    cases.push(
        case("neither Host nor :authority", "section 8.3.1: http has an authority")
            .sends(&[ask(1, without(":authority"))])
            .malformed(),
    );
    cases.push(
        case("an empty authority", "section 8.3.1")
            .sends(&[ask(1, instead(":authority", ""))])
            .malformed(),
    );
    for host in ["b", "a:80", "a.", ""] {
        cases.push(
            case(
                format!("Host {host:?} against :authority"),
                "section 8.3.1: one of them is a lie",
            )
            .sends(&[ask(1, Block::get("/x").field("host", host))])
            .malformed(),
        );
    }
    cases.push(
        case("Host twice", "RFC 9112 section 3.2")
            .sends(&[ask(1, without(":authority").field("host", "a").field("host", "a"))])
            .malformed(),
    );
    cases.push(
        case("Host with a list", "RFC 9112 section 3.2")
            .sends(&[ask(1, without(":authority").field("host", "a, b"))])
            .malformed(),
    );
    cases
}
