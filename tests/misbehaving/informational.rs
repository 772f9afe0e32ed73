//! Responses before the response (RFC 9110 section 15.2).

use super::case::*;
use crossfade::live::Reason::{BadResponse, UpstreamReset};

const PASSED: &str = "RFC 9110 section 15.2: a proxy passes on what it did not ask for itself";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";

fn interims(name: &str, why: &'static str, before: impl AsRef<str>, seen: &[u16]) -> Case {
    case(format!("1xx: {name}"), why)
        .answers(format!("{}{OK}", before.as_ref()))
        .gets(reply(200, "ok").after(seen))
        .keeps()
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(passed_on());
    cases.extend(too_many());
    cases.extend(malformed());
    cases.extend(expectations());
    cases
}

fn passed_on() -> Vec<Case> {
    vec![
        interims("100", PASSED, "HTTP/1.1 100 Continue\r\n\r\n", &[100]),
        interims("102", PASSED, "HTTP/1.1 102 Processing\r\n\r\n", &[102]),
        interims("103", PASSED, HINTS, &[103]),
        interims(
            "199",
            "RFC 9110 section 15: an unknown code counts as x00",
            "HTTP/1.1 199 X\r\n\r\n",
            &[199],
        ),
        interims(
            "several",
            PASSED,
            format!("HTTP/1.1 100 Continue\r\n\r\n{HINTS}{HINTS}"),
            &[100, 103, 103],
        ),
        interims(
            "with a length",
            "RFC 9112 section 6.3, rule 1: 1xx ends with its head",
            "HTTP/1.1 103 X\r\ncontent-length: 5\r\n\r\n",
            &[103],
        ),
        case("1xx: on its own", PASSED)
                .backend([Ask, say(HINTS), ClientHasInterims(1), say(OK)])
                .gets(reply(200, "ok").after([103]))
                .keeps(),
        case("1xx: byte by byte", PASSED)
                .backend([Ask, bytewise(format!("{HINTS}{OK}"))])
                .gets(reply(200, "ok").after([103]))
                .keeps(),
        case("1xx: with their fields", "RFC 9110 section 7.6.1: all but those of the hop")
                .answers(format!(
                    "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n{OK}"
                ))
                .gets(
                    reply(200, "ok")
                        .after([103])
                        .has("early link: </a.css>")
                        .lacks("early x-hop")
                        .lacks("early connection")
                        .lacks("link"),
                )
                .keeps(),
        interims(
            "with a coding",
            "RFC 9112 section 6.1: none in 1xx; rule 1: it ends with its head",
            "HTTP/1.1 103 X\r\ntransfer-encoding: chunked\r\n\r\n",
            &[103],
        ),
        case("1xx: behind it half a head", "a segment may end anywhere")
            .backend([
                Ask,
                say(format!("{HINTS}HTTP/1.1 200 OK\r\nconte")),
                ClientHasInterims(1),
                say("nt-length: 2\r\n\r\no"),
                ClientHas(1),
                say("k"),
            ])
            .gets(reply(200, "ok").after([103]))
            .keeps(),
        case("1xx: towards HTTP/1.0", "RFC 9110 section 15.2: no 1xx to an HTTP/1.0 client")
            .answers(format!("{HINTS}{OK}"))
            .sends("GET /case HTTP/1.0\r\nhost: a\r\n\r\n")
            .gets(reply(200, "ok").closed())
            .keeps(),
        case("1xx: to HEAD", PASSED)
                .answers(format!("{HINTS}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"))
                .sends(HEAD)
                .gets(reply(200, "").after([103]))
                .keeps(),
        case("1xx: after the response", "bytes beyond the message")
            .answers(format!("{OK}{HINTS}"))
            .gets(reply(200, "ok"))
            .leaves(),
    ]
}

/// What has not been sent yet when the refusal comes need not be.
fn refused_after(interims: &[u16]) -> Vec<Reply> {
    vec![bad_response().after(interims), bad_response()]
}

fn too_many() -> Vec<Case> {
    let bounded = "1xx are bounded in number and bytes";
    let big = format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "a".repeat(8 << 10));
    let endless = HINTS.repeat(100_000);
    vec![
        interims("16", bounded, HINTS.repeat(16), &[103; 16]),
        case("1xx: 17", bounded)
            .answers(format!("{}{OK}", HINTS.repeat(17)))
            .gets(refused_after(&[103; 16]))
            .leaves()
            .fails(BadResponse),
        case("1xx: 10 of 8 KiB", bounded)
            .answers(format!("{}{OK}", big.repeat(10)))
            .gets(refused_after(&[103; 7]))
            .leaves()
            .fails(BadResponse),
        case("1xx: without end", bounded)
            .backend([Ask, say(endless), Gone])
            .answered_soon()
            .gets(refused_after(&[103; 16]))
            .leaves()
            .fails(BadResponse),
    ]
}

fn malformed() -> Vec<Case> {
    let why = "the rules of a head are those of every head";
    let refused = |name: &str, head: &str| {
        case(format!("1xx: {name}"), why)
            .answers(format!("{head}{OK}"))
            .gets(bad_response())
            .leaves()
            .fails(BadResponse)
    };
    vec![
        refused("with a folded line", "HTTP/1.1 103 X\r\na: b\r\n c\r\n\r\n"),
        refused("with a space before a colon", "HTTP/1.1 103 X\r\na : b\r\n\r\n"),
        refused("with NUL", "HTTP/1.1 103 X\r\na: \0\r\n\r\n"),
        refused("with LF", "HTTP/1.1 103 X\na: b\n\n"),
        refused("with a body", "HTTP/1.1 103 X\r\ncontent-length: 5\r\n\r\nhello")
            .gets_instead(refused_after(&[103])),
        case("1xx: and then the end", "no response: some bytes came, nothing is sent again")
            .answers_and_closes("HTTP/1.1 100 Continue\r\n\r\n")
            .tuned(|service| service.retries.attempts = 2)
            .gets(error(UpstreamReset).after([100]))
            .fails(UpstreamReset),
        case("1xx: and then half a head", "no response")
            .answers_and_closes("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
            .gets(error(UpstreamReset).after([100]))
            .fails(UpstreamReset),
        case("1xx: and then a bad head", "no response")
            .answers("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx : 1\r\n\r\n")
            .gets(refused_after(&[100]))
            .fails(BadResponse),
    ]
}

fn expectations() -> Vec<Case> {
    let expects =
        "POST /case HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    let end_to_end = "RFC 9110 section 10.1.1: the expectation is passed on, and so is the answer";
    let refused = "RFC 9110 section 10.1.1: the body does not follow a final answer";
    vec![
        case("expect: 100, then the body", end_to_end)
            .backend([Head, say("HTTP/1.1 100 Continue\r\n\r\n"), Rest, say(OK)])
            .client([say(expects), Interim(100), say("hello"), get(reply(200, "ok"))])
            .with_body("hello")
            .keeps(),
        case("expect: a final answer instead", refused)
            .backend([
                Head,
                say("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"),
                Mark("told"),
                Gone,
            ])
            .client([say(expects), get(reply(403, "no").whole())])
            .on_hyper("the same, after hyper's own 100", |mut case| {
                case.client = vec![say(expects), get(reply(403, "no").whole().after([100]))];
                case
            }),
        case("expect: 100, and then a final answer", "RFC 9110 section 10.1.1")
            .backend([
                Head,
                say("HTTP/1.1 100 Continue\r\n\r\n"),
                Rest,
                say("HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno"),
            ])
            .client([say(expects), Interim(100), say("hello"), get(reply(500, "no"))])
            .keeps(),
        case("expect: nothing but the end", "the client is told")
            .backend([Head, Close])
            .client([say(expects), get(error(UpstreamReset).whole())])
            .fails(UpstreamReset)
            .on_hyper("the same, after hyper's own 100", |mut case| {
                case.client = vec![say(expects), get(error(UpstreamReset).whole().after([100]))];
                case
            }),
    ]
}
