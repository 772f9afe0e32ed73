//! Bytes that nobody asked for: behind a message, on an idle connection, before the request. They are
//! never taken for an answer.

use super::case::*;
use crossfade::live::Reason::BadResponse;

const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
/// What some servers say when they have waited for long enough.
const GOODBYE: &str =
    "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const BEYOND: &str =
    "RFC 9112 section 6.3: what follows is no part of the message; nobody asked for it";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (message, bytes, body) in [("a length", OK, "ok"), ("chunks", CHUNKED, "hello")] {
        for (what, surplus) in [
            ("one byte", "x"),
            ("CRLF", "\r\n"),
            ("LF", "\n"),
            ("a second response", POISON),
            ("half a response", "HTTP/1.1 200 OK\r\ncontent-"),
            ("an informational response", "HTTP/1.1 100 Continue\r\n\r\n"),
            (
                "a 408 for an idle connection",
                "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n",
            ),
        ] {
            cases.push(
                case(format!("surplus: {what} behind {message}"), BEYOND)
                    .answers(format!("{bytes}{surplus}"))
                    .gets(reply(200, body))
                    .leaves(),
            );
            cases.push(
                case(format!("surplus: {what} after {message}"), BEYOND)
                    .backend([Ask, say(bytes), ClientHas(body.len()), say(surplus)])
                    .gets(reply(200, body))
                    .leaves(),
            );
        }
    }
    cases.extend(behind_other_messages());
    cases.extend(before_the_next_request());
    cases.extend(before_the_request());
    cases
}

fn behind_other_messages() -> Vec<Case> {
    let endless = "x".repeat(1 << 20);
    vec![
        case("surplus: a second response behind none", BEYOND)
            .answers(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n{POISON}"))
            .gets(reply(200, ""))
            .leaves(),
        case("surplus: 1 MiB behind a length", BEYOND)
            .answers(format!("{OK}{endless}"))
            .gets(reply(200, "ok"))
            .leaves(),
        case("surplus: 1 MiB on an idle connection", BEYOND)
            .backend([Ask, say(OK), ClientHas(2), say(endless), Gone])
            .gets(reply(200, "ok"))
            .leaves(),
        case("surplus: a second response behind a large one", BEYOND)
            .answers(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n{}{POISON}",
                "x".repeat(300_000)
            ))
            .gets(reply(200, "x".repeat(300_000)))
            .leaves(),
        case("surplus: a second response to POST", BEYOND)
            .answers(format!("{OK}{POISON}"))
            .sends(POST)
            .gets(reply(200, "ok"))
            .leaves(),
        case("surplus: a body twice as long as said", BEYOND)
            .answers("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhellohello")
            .gets(reply(200, "hello"))
            .leaves(),
        case("surplus: a body with length 0", BEYOND)
            .answers("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nhello")
            .gets(reply(200, ""))
            .leaves(),
        case("surplus: data behind the last chunk", BEYOND)
            .answers(format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n"))
            .gets(reply(200, "hello"))
            .leaves(),
        case("surplus: in the same write as the last byte", BEYOND)
            .backend([
                Ask,
                say("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no"),
                ClientHas(1),
                say(format!("k{POISON}")),
            ])
            .gets(reply(200, "ok"))
            .leaves(),
    ]
}

/// The client sends its next request only when the bytes are there.
fn before_the_next_request() -> Vec<Case> {
    let next = |name: &str, request: &str, surplus: &'static str| {
        case(format!("surplus: {name}"), "they were there before the request: no answer to it")
            .backend([Ask, say(OK), ClientHas(2), say(surplus), Mark("said")])
            .sends(GET.replace("/case", "/first"))
            .gets(reply(200, "ok"))
            .client([Until("said"), say(request)])
            .gets(reply(200, "/case"))
            .seen(&[&["/first"], &["/case", "/after"]])
    };
    vec![
        next("a response before GET", GET, POISON),
        next("a response before POST", POST, POISON),
        next("half a response before GET", GET, "HTTP/1.1 200 OK\r\n"),
        next("a byte before POST", POST, "x"),
        next("an end of life before GET", GET, GOODBYE),
        next("an end of life before POST", POST, GOODBYE),
        next("an end of life and the end before GET", GET, GOODBYE).then_closes(),
        next("an end of life and the end before POST", POST, GOODBYE).then_closes(),
        case(
            "surplus: pipelined requests, two answers at once",
            "each answer belongs to a request that was sent",
        )
        .answers(format!("{OK}{POISON}"))
        .sends(format!("{}{}", GET.replace("/case", "/first"), GET))
        .gets(reply(200, "ok"))
        .gets(reply(200, "/case"))
        .counting(2)
        .seen(&[&["/first"], &["/case", "/after"]]),
    ]
}

/// A fresh connection: whatever the backend says first may reach the proxy before or after it has sent the
/// request, so an answer may count as one, and the request may never come.
fn before_the_request() -> Vec<Case> {
    let why =
        "a backend that talks first: whatever its answer is worth, the connection is worth nothing";
    let talks = |name: &str, first: &str| {
        case(format!("surplus: {name}"), why)
            .backend([say(first), Gone])
            .gets(bad_response())
            .seen(&[&[], &["/after"]])
            .fails(BadResponse)
    };
    vec![
        talks("two answers before the request", &format!("{OK}{POISON}"))
            .gets_instead(vec![reply(200, "ok"), bad_response()])
            .succeeds()
            .or_fails(BadResponse),
        talks("a greeting of SMTP", "220 mail ESMTP\r\n"),
        talks("an unasked 101", "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"),
        talks("an empty line before the request", "\r\n"),
    ]
}
