//! Connections that are kept, that are not, and that close just when they are used again.

use super::case::*;
use crossfade::live::Reason::UpstreamReset;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(kept());
    cases.extend(closed());
    cases.extend(announced());
    cases.extend(closed_while_idle());
    cases.extend(races());
    cases
}

fn kept() -> Vec<Case> {
    let head = |field: &str| format!("HTTP/1.1 200 OK\r\n{field}\r\ncontent-length: 2\r\n\r\nok");
    let why = "RFC 9112 section 9.3: HTTP/1.1 persists";
    vec![
        case("kept: by default", why).answers(OK).gets(reply(200, "ok")).keeps(),
        case("kept: said so", why)
            .answers(head("connection: keep-alive"))
            .gets(reply(200, "ok").lacks("connection"))
            .keeps(),
        case("kept: with a long timeout", why)
            .answers(head("keep-alive: timeout=60, max=100"))
            .gets(reply(200, "ok").lacks("keep-alive"))
            .keeps(),
        case("kept: after an error", "500 is an answer as good as any")
            .answers("HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops")
            .gets(reply(500, "oops"))
            .keeps(),
        case("kept: close in a field that is not Connection", why)
            .answers(head("x-connection: close"))
            .gets(reply(200, "ok").has("x-connection: close"))
            .keeps(),
        case("kept: for HTTP/1.0 clients too", why)
            .answers(OK)
            .sends("GET /case HTTP/1.0\r\nhost: a\r\n\r\n")
            .gets(reply(200, "ok").closed())
            .keeps(),
        case("kept: after POST", why)
            .answers(OK)
            .sends(POST)
            .gets(reply(200, "ok"))
            .with_body("hello")
            .keeps(),
    ]
}

fn closed() -> Vec<Case> {
    let why = "RFC 9112 section 9.6: after `close` the client sends no more, and closes";
    let says = |name: &str, fields: &str| {
        case(format!("close: {name}"), why)
            .backend([
                Ask,
                say(format!("HTTP/1.1 200 OK\r\n{fields}\r\ncontent-length: 2\r\n\r\nok")),
                Gone,
            ])
            .gets(reply(200, "ok").lacks("connection"))
            .leaves()
    };
    vec![
        says("said", "connection: close"),
        says("in upper case", "Connection: CLOSE"),
        says("in a list", "connection: x-a, close"),
        says("in an untidy list", "connection: ,close ,"),
        says("on the second line", "connection: x-a\r\nconnection: close"),
        says("beside keep-alive", "connection: keep-alive, close"),
        case("close: and chunked", why)
            .backend([
                Ask,
                say("HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
                Gone,
            ])
            .gets(reply(200, "ok").lacks("connection"))
            .leaves(),
        case("close: with a 204", why)
            .backend([Ask, say("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"), Gone])
            .gets(reply(204, ""))
            .leaves(),
        case("close: to HEAD", why)
            .backend([Ask, say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n"), Gone])
            .sends(HEAD)
            .gets(reply(200, ""))
            .leaves(),
    ]
}

fn announced() -> Vec<Case> {
    let why = "RFC 2068 section 19.7.1.1: how long the backend will wait";
    let says = |name: &str, field: &str| {
        case(format!("keep-alive: {name}"), why)
            .backend([
                Ask,
                say(format!("HTTP/1.1 200 OK\r\n{field}\r\ncontent-length: 2\r\n\r\nok")),
                Gone,
            ])
            .gets(reply(200, "ok").lacks("keep-alive"))
            .leaves()
    };
    vec![
        says("timeout=0", "keep-alive: timeout=0"),
        says("timeout=1", "keep-alive: timeout=1"),
        says("timeout among others", "keep-alive: max=5, timeout=\"1\""),
        case("keep-alive: no longer than the proxy wants", "timeouts.upstream_idle")
            .backend([Ask, say(OK), Gone])
            .tuned(|service| service.timeouts.upstream_idle = SHORT)
            .gets(reply(200, "ok"))
            .leaves(),
    ]
}

const FIRST: &str = "GET /first HTTP/1.1\r\nhost: a\r\n\r\n";

/// A connection that has served `/first`; then the backend does this, and then the request is sent.
fn idle(name: &str, request: &str, steps: &[Step]) -> Case {
    let script = [&[Ask, say(OK), ClientHas(2)], steps].concat();
    case(format!("idle: {name}"), "a connection that is known to be closed costs nobody anything")
        .backend(script)
        .sends(FIRST)
        .gets(reply(200, "ok"))
        .client([Played(1), say(request)])
        .gets(reply(200, "/case"))
        .seen(&[&["/first"], &["/case", "/after"]])
}

fn closed_while_idle() -> Vec<Case> {
    let half = [HalfClose];
    vec![
        idle("closed, then GET", GET, &[Close]),
        idle("closed, then POST", POST, &[Close]).with_body("hello"),
        idle("reset, then GET", GET, &[Reset]),
        idle("reset, then POST", POST, &[Reset]).with_body("hello"),
        idle("half closed, then GET", GET, &half),
        idle("half closed, then POST", POST, &half).with_body("hello"),
    ]
}

/// The second request of a connection meets this.
fn race(name: &str, why: &'static str, request: impl AsRef<[u8]>, steps: &[Step]) -> Case {
    case(format!("race: {name}"), why)
        .backend([&[Ask, say(OK)], steps].concat())
        .sends(FIRST)
        .gets(reply(200, "ok"))
        .sends(request)
}

fn races() -> Vec<Case> {
    let again = "RFC 9112 section 9.3.1: what is idempotent is sent again on a fresh connection";
    let never = "RFC 9112 section 9.3.1: what is not idempotent is not";
    let replayed = |name, request: &str, steps: &[Step]| {
        race(name, again, request, steps)
            .gets(reply(200, "/case"))
            .seen(&[&["/first", "/case"], &["/case", "/after"]])
    };
    let lost = |name, request: &str, steps: &[Step]| {
        race(name, never, request, steps)
            .gets(error(UpstreamReset))
            .seen(&[&["/first", "/case"], &["/after"]])
            .fails(UpstreamReset)
    };
    let with_body = |method| POST.replace("POST", method);
    let without = |method| GET.replace("GET", method);
    let big = format!(
        "PUT /case HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n{}",
        "x".repeat(100_000)
    );
    vec![
        replayed("close for an answer to GET", GET, &[Ask, Close]),
        replayed("reset for an answer to GET", GET, &[Ask, Reset]),
        replayed("half close for an answer to GET", GET, &[Ask, HalfClose, Gone]),
        replayed("close for an answer to OPTIONS", &without("OPTIONS"), &[Ask, Close]),
        replayed("close for an answer to DELETE", &without("DELETE"), &[Ask, Close]),
        replayed("close for an answer to PUT", &with_body("PUT"), &[Ask, Close]).with_body("hello"),
        replayed("reset for an answer to PUT", &with_body("PUT"), &[Ask, Reset]).with_body("hello"),
        race("close for an answer to HEAD", again, HEAD, &[Ask, Close])
            .gets(reply(200, "").has("content-length: 5"))
            .seen(&[&["/first", "/case"], &["/case", "/after"]]),
        replayed(
            "close for an answer to chunked PUT",
            "PUT /case HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            &[Ask, Close],
        )
        .with_body("hello"),
        lost("close for an answer to POST", POST, &[Ask, Close]),
        lost("reset for an answer to POST", POST, &[Ask, Reset]),
        lost("close for an answer to POST without a body", &without("POST"), &[Ask, Close]),
        lost("close for an answer to PATCH", &with_body("PATCH"), &[Ask, Close]),
        lost("close for an answer to an unknown method", &with_body("FROB"), &[Ask, Close]),
        lost("close for an answer to a PUT too big to keep", &big, &[Ask, Close]),
        lost("one byte of an answer to GET", GET, &[Ask, say("H"), Close]),
        lost("half a head for an answer to GET", GET, &[Ask, say("HTTP/1.1 200 OK\r\n"), Close]),
        lost("a reset after half a head", GET, &[Ask, say("HTTP/1.1 200 OK\r\n"), Reset]),
        race("close within a PUT", again, &with_body("PUT")[..with_body("PUT").len() - 2], &[Head, Mark("closed"), Close])
            .client([Until("closed"), say("lo")])
            .gets(reply(200, "/case"))
            .seen(&[&["/first", "/case"], &["/case", "/after"]])
            .with_body("hello"),
        race("close within a POST", never, &POST[..POST.len() - 2], &[Head, Close])
            .gets(error(UpstreamReset).whole())
            .seen(&[&["/first", "/case"], &["/after"]])
            .fails(UpstreamReset),
        race("twice", "once is enough", GET, &[Ask, Close])
            .answers_and_closes("")
            .gets(error(UpstreamReset))
            .seen(&[&["/first", "/case"], &["/case"], &["/after"]])
            .fails(UpstreamReset),
    ]
}
