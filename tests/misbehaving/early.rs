//! Answers before the request is whole.

use super::case::*;
use crossfade::live::Reason::UpstreamReset;

const UPLOAD: &str = "POST /case HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhel";
const BIG: &str = "POST /case HTTP/1.1\r\nhost: a\r\ncontent-length: 50000000\r\n\r\n";
const BIG_BYTES: u64 = 50_000_000;
const EARLY: &str =
    "RFC 9112 section 9.5: an answer may come while the request is sent, and is passed on";
const TOO_LARGE: &str =
    "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(in_a_small_upload());
    cases.extend(in_a_large_upload());
    cases.extend(without_an_answer());
    cases
}

fn in_a_small_upload() -> Vec<Case> {
    let unfinished =
        "a body that was not sent whole: the next request would be taken for the rest of it";
    vec![
        case("early: the client waits for the answer and goes", unfinished)
            .backend([Head, say(OK), Gone])
            .sends(UPLOAD)
            .gets(reply(200, "ok").whole())
            .leaves(),
        case("early: chunked upload, the client goes", unfinished)
            .backend([Head, say(OK), Gone])
            .sends(
                "POST /case HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n",
            )
            .gets(reply(200, "ok").whole())
            .leaves(),
        case("early: the client sends the rest after the answer", EARLY)
            .backend([Head, say(OK)])
            .sends(UPLOAD)
            .gets(reply(200, "ok").whole())
            .sends("lo")
            .may_keep(),
        case("early: both at once", EARLY)
            .backend([
                Head,
                say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"),
                Rest,
                say("5\r\nheard\r\n0\r\n\r\n"),
            ])
            .client([say(UPLOAD), say_after(2, "lo"), get(reply(200, "okheard"))])
            .with_body("hello")
            .keeps(),
        case("early: an answer without a length", EARLY)
            .backend([Head, hear("hel"), say("HTTP/1.1 200 OK\r\n\r\nok"), ClientHas(2), Close])
            .sends(UPLOAD)
            .gets(reply(200, "ok").whole())
            .leaves(),
        case("early: an answer that is cut", "an honest abort")
            .backend([
                Head,
                hear("hel"),
                say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok"),
                ClientHas(2),
                Close,
            ])
            .sends(UPLOAD)
            .gets(reply(200, "ok").cut())
            .fails(UpstreamReset)
            .leaves(),
        case("early: a bad answer", "as bad as a late one")
            .backend([Head, say("HTTP/1.1 200 OK\r\nx : 1\r\n\r\n"), Gone])
            .sends(UPLOAD)
            .gets(bad_response().whole())
            .fails(crossfade::live::Reason::BadResponse)
            .leaves(),
        case("early: two answers", "one too many, and too early")
            .backend([Head, say(format!("{OK}{OK}")), Gone])
            .sends(UPLOAD)
            .gets(reply(200, "ok").whole())
            .leaves(),
    ]
}

fn in_a_large_upload() -> Vec<Case> {
    let upload = |name: &str, steps: &[Step]| {
        case(format!("early: {name}"), EARLY).backend(steps).client([say(BIG), Pour(BIG_BYTES)])
    };
    vec![
        upload("the backend reads on", &[Head, say(OK)]).gets(reply(200, "ok").whole()).may_keep(),
        upload("the backend reads no more", &[Head, say(OK), Stall])
            .gets(reply(200, "ok").whole())
            .leaves(),
        upload("413, close said", &[Head, say(TOO_LARGE), Gone])
            .gets(reply(413, "no").whole())
            .leaves(),
        upload(
            "413, and a reset when the client has it",
            &[Head, say(TOO_LARGE), ClientHas(2), Reset],
        )
        .gets(reply(413, "no").whole())
        .leaves(),
        // What the kernel has not given to the proxy yet, a reset may take away.
        upload("413, and an end that resets", &[Head, say(TOO_LARGE), Close])
            .gets(vec![reply(413, "no").whole(), error(UpstreamReset).whole()])
            .leaves()
            .or_fails(UpstreamReset),
        upload("413, and a half close", &[Head, say(TOO_LARGE), HalfClose, Gone])
            .gets(reply(413, "no").whole())
            .leaves(),
    ]
}

fn without_an_answer() -> Vec<Case> {
    let why = "the client is told, although it is still sending";
    vec![
        case("early: the end within an upload", why)
            .backend([Head, Close])
            .client([say(BIG), Pour(BIG_BYTES)])
            .gets(error(UpstreamReset).whole())
            .fails(UpstreamReset),
        case("early: a reset within an upload", why)
            .backend([Head, Reset])
            .client([say(BIG), Pour(BIG_BYTES)])
            .gets(error(UpstreamReset).whole())
            .fails(UpstreamReset),
        case("early: the end within an upload that rests", why)
            .backend([Head, Close])
            .sends(UPLOAD)
            .gets(error(UpstreamReset).whole())
            .fails(UpstreamReset),
    ]
}
