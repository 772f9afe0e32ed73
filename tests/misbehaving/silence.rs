//! Backends that say nothing, or not enough.

use super::case::*;
use crossfade::live::{
    Fault,
    Reason::{IdleTimeout, RequestDeadline, ResponseTimeout},
};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(before_the_answer());
    cases.extend(within_the_answer());
    cases
}

fn late(name: &str, request: &str, steps: &[Step]) -> Case {
    case(format!("silence: {name}"), "504 within the timeout, whatever came before it")
        .backend(steps)
        .answered_soon()
        .sends(request)
        .gets(error(ResponseTimeout))
        .leaves()
        .fails(ResponseTimeout)
}

fn before_the_answer() -> Vec<Case> {
    let continued = "HTTP/1.1 100 Continue\r\n\r\n";
    let passed = |case: Case| case.gets_instead(error(ResponseTimeout).after([100]));
    vec![
        late("reads and says nothing", GET, &[Ask, Gone]),
        late("reads nothing, says nothing", GET, &[Stall]).seen(&[&[], &["/after"]]),
        late("instead of an answer to POST", POST, &[Ask, Gone]),
        late("instead of an answer to HEAD", HEAD, &[Ask, Gone]),
        late("after one byte", GET, &[Ask, say("H"), Gone]),
        late("after the status line", GET, &[Ask, say("HTTP/1.1 200 OK\r\n"), Gone]),
        late(
            "before the last LF of a head",
            GET,
            &[Ask, say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r"), Gone],
        ),
        late("a head that drips", GET, &[Ask, say("HTTP/1.1 200 OK\r\nx: "), Drip]),
        passed(late("after 100", GET, &[Ask, say(continued), Gone])),
        passed(late(
            "after 100 and half a head",
            GET,
            &[Ask, say(continued), say("HTTP/1.1 2"), Gone],
        )),
        case("silence: longer than the request may take", "timeouts.request")
            .backend([Ask, Gone])
            .tuned(|service| service.timeouts.request = SHORT)
            .gets(error(RequestDeadline))
            .fails_by(Fault::Proxy, RequestDeadline),
        case("silence: the body drips longer than the request may take", "timeouts.request")
            .backend([Ask, say("HTTP/1.1 200 OK\r\n\r\n"), Drip])
            .tuned(|service| service.timeouts.request = SHORT)
            .gets(reply(200, "a".repeat(1000)).cut())
            .fails_by(Fault::Proxy, RequestDeadline),
    ]
}

fn within_the_answer() -> Vec<Case> {
    let stalled = |name: &str, bytes: &str, body: &str| {
        case(format!("silence: {name}"), "what stalls is cut, and never looks complete")
            .backend([Ask, say(bytes), Gone])
            .streamed_soon()
            .gets(reply(200, body).cut())
            .leaves()
            .fails(IdleTimeout)
    };
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    vec![
        stalled("before the body", length, ""),
        stalled("within the body", &format!("{length}hello"), "hello"),
        stalled("within a size", &format!("{chunked}5"), ""),
        stalled("within a chunk", &format!("{chunked}5\r\nhel"), "hel"),
        stalled("after a chunk", &format!("{chunked}5\r\nhello\r\n"), "hello"),
        stalled("before the last CRLF", &format!("{chunked}5\r\nhello\r\n0\r\n"), "hello"),
        stalled("within the trailers", &format!("{chunked}5\r\nhello\r\n0\r\nx: 1\r\n"), "hello"),
        stalled("instead of the close", "HTTP/1.1 200 OK\r\n\r\nhello", "hello"),
        case("silence: instead of the close, towards HTTP/1.0", "a clean end would look complete")
            .backend([Ask, say("HTTP/1.1 200 OK\r\n\r\nhello"), Gone])
            .streamed_soon()
            .sends("GET /case HTTP/1.0\r\nhost: a\r\n\r\n")
            .gets(reply(200, "hello").reset())
            .fails(IdleTimeout)
            .on_hyper("the client cannot see the cut", |case| {
                case.gets_instead(reply(200, "hello").closed())
            }),
    ]
}
