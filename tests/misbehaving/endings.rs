//! Messages that end too early: at every place where one may think that it has ended.

use super::case::*;
use crossfade::live::Reason::{ConnectFailed, UpstreamReset};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(before_a_byte());
    cases.extend(in_the_head());
    cases.extend(in_a_length());
    cases.extend(in_chunks());
    cases.extend(by_a_bad_address());
    cases
}

fn before_a_byte() -> Vec<Case> {
    let why = "no response byte came, on a fresh connection; with one attempt there is no other";
    let silent = |name, steps: &[Step]| {
        case(format!("end: {name}"), why)
            .backend(steps)
            .gets(error(UpstreamReset))
            .fails(UpstreamReset)
    };
    // It may come before the proxy knows that it is connected.
    let unasked = |name, end: Step| {
        silent(name, &[end])
            .gets_instead(vec![error(UpstreamReset), error(ConnectFailed)])
            .seen(&[&[], &["/after"]])
            .or_fails(ConnectFailed)
    };
    let post = "RFC 9110 section 9.2.2: what is not idempotent is not sent again";
    vec![
        silent("instead of an answer", &[Ask, Close]),
        silent("a reset instead of an answer", &[Ask, Reset]),
        silent("a half close instead of an answer", &[Ask, HalfClose, Gone]),
        unasked("before the request", Close),
        unasked("a reset before the request", Reset),
        case("end: instead of an answer to POST", post)
            .answers_and_closes("")
            .sends(POST)
            .gets(error(UpstreamReset))
            .fails(UpstreamReset),
        case("end: a reset instead of an answer to POST", post)
            .backend([Ask, Reset])
            .sends(POST)
            .gets(error(UpstreamReset))
            .fails(UpstreamReset),
        case("end: tried again elsewhere", "RFC 9110 section 9.2.2: GET is idempotent")
            .answers_and_closes("")
            .tuned(|service| service.retries.attempts = 2)
            .gets(reply(200, "/case"))
            .seen(&[&["/case"], &["/case", "/after"]])
            .fails(UpstreamReset),
        case("end: POST with two attempts", post)
            .answers_and_closes("")
            .tuned(|service| service.retries.attempts = 2)
            .sends(POST)
            .gets(error(UpstreamReset))
            .fails(UpstreamReset),
        case(
            "end: within a head, with two attempts",
            "some of a response came: there is no other attempt",
        )
        .answers_and_closes("HTTP/1.1 200 OK\r\n")
        .tuned(|service| service.retries.attempts = 2)
        .gets(error(UpstreamReset))
        .fails(UpstreamReset),
    ]
}

fn in_the_head() -> Vec<Case> {
    let why = "RFC 9112 section 8: a head that is not complete is no response";
    let places = [
        ("after one byte", "H"),
        ("in the version", "HTTP/1."),
        ("after the version", "HTTP/1.1 "),
        ("in the status", "HTTP/1.1 20"),
        ("after the status", "HTTP/1.1 200"),
        ("in the reason", "HTTP/1.1 200 O"),
        ("in the first CRLF", "HTTP/1.1 200 OK\r"),
        ("after the status line", "HTTP/1.1 200 OK\r\n"),
        ("in a name", "HTTP/1.1 200 OK\r\ncontent-"),
        ("after a colon", "HTTP/1.1 200 OK\r\ncontent-length:"),
        ("in a value", "HTTP/1.1 200 OK\r\ncontent-length: 2"),
        ("in a field's CRLF", "HTTP/1.1 200 OK\r\ncontent-length: 2\r"),
        ("after a field", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"),
        ("in the last CRLF", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r"),
    ];
    places
        .into_iter()
        .flat_map(|(place, bytes)| {
            let cut = |how: &str, end: Step| {
                case(format!("end: {how} {place}"), why)
                    .backend([Ask, say(bytes), end])
                    .gets(error(UpstreamReset))
                    .fails(UpstreamReset)
            };
            [cut("close", Close), cut("reset", Reset)]
        })
        .collect()
}

/// The same cut in four ways: at once and after the client has all of it, by a close and by a reset.
fn cut(place: &str, why: &'static str, bytes: &str, body: &str) -> [Case; 4] {
    let cut = |how: &str, steps: &[Step]| {
        case(format!("end: {how} {place}"), why).backend(steps).fails(UpstreamReset)
    };
    let honest = || vec![reply(200, body).cut(), error(UpstreamReset)];
    [
        cut("close at once", &[Ask, say(bytes), Close]).gets(honest()),
        cut("reset at once", &[Ask, say(bytes), Reset]).gets(honest()),
        cut("close", &[Ask, say(bytes), ClientHas(body.len()), Close]).gets(reply(200, body).cut()),
        cut("reset", &[Ask, say(bytes), ClientHas(body.len()), Reset]).gets(reply(200, body).cut()),
    ]
}

fn in_a_length() -> Vec<Case> {
    let why = "RFC 9112 section 6.3, rule 6: fewer bytes than announced are incomplete";
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
    let mut cases = Vec::new();
    for (place, body) in
        [("before the body", ""), ("in the body", "hello"), ("before the last byte", "123456789")]
    {
        cases.extend(cut(place, why, &format!("{head}{body}"), body));
    }
    cases.push(
        case("end: in the body, towards HTTP/1.0", "the length tells the client")
            .backend([Ask, say(format!("{head}hello")), ClientHas(5), Close])
            .sends("GET /case HTTP/1.0\r\nhost: a\r\n\r\n")
            .gets(reply(200, "hello").cut())
            .fails(UpstreamReset),
    );
    cases.push(
        case("end: in the body of an answer to POST", "an answer has begun: nothing is sent again")
            .backend([Ask, say(format!("{head}hello")), ClientHas(5), Close])
            .sends(POST)
            .gets(reply(200, "hello").cut())
            .fails(UpstreamReset),
    );
    cases.push(
        case("end: in a body of 1 GiB", "a length is a promise, not a reservation")
            .backend([
                Ask,
                say("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\nhello"),
                ClientHas(5),
                Close,
            ])
            .gets(reply(200, "hello").cut())
            .fails(UpstreamReset),
    );
    cases
}

fn in_chunks() -> Vec<Case> {
    let why = "RFC 9112 section 8: without the last chunk and the empty line it is incomplete";
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let places = [
        ("before the first chunk", "", ""),
        ("in a size", "1", ""),
        ("after a size", "5", ""),
        ("in an extension", "5;a", ""),
        ("in a size's CRLF", "5\r", ""),
        ("before the data", "5\r\n", ""),
        ("in the data", "5\r\nhel", "hel"),
        ("after the data", "5\r\nhello", "hello"),
        ("in the data's CRLF", "5\r\nhello\r", "hello"),
        ("after a chunk", "5\r\nhello\r\n", "hello"),
        ("after the last size", "5\r\nhello\r\n0", "hello"),
        ("in the last size's CRLF", "5\r\nhello\r\n0\r", "hello"),
        ("before the end", "5\r\nhello\r\n0\r\n", "hello"),
        ("in the CRLF of the end", "5\r\nhello\r\n0\r\n\r", "hello"),
        ("in a trailer", "5\r\nhello\r\n0\r\nx: 1", "hello"),
        ("in a trailer's CRLF", "5\r\nhello\r\n0\r\nx: 1\r", "hello"),
        ("after a trailer", "5\r\nhello\r\n0\r\nx: 1\r\n", "hello"),
        ("in the CRLF after the trailers", "5\r\nhello\r\n0\r\nx: 1\r\n\r", "hello"),
    ];
    let mut cases: Vec<_> = places
        .into_iter()
        .flat_map(|(place, chunks, body)| cut(place, why, &format!("{head}{chunks}"), body))
        .collect();
    cases.push(
        case(
            "end: in chunks, towards HTTP/1.0",
            "RFC 9112 section 8: a clean end would look complete",
        )
        .backend([Ask, say(format!("{head}5\r\nhello\r\n")), ClientHas(5), Close])
        .sends("GET /case HTTP/1.0\r\nhost: a\r\n\r\n")
        .gets(reply(200, "hello").reset())
        .fails(UpstreamReset)
        .on_hyper("the client cannot see the cut", |case| {
            case.gets_instead(reply(200, "hello").closed())
        }),
    );
    cases
}

fn by_a_bad_address() -> Vec<Case> {
    let why = "who cannot be connected to got nothing";
    vec![
        case("end: refused", why)
            .listening(Listening::No)
            .gets(error(ConnectFailed))
            .seen(&[])
            .fails(ConnectFailed),
        case("end: refused to POST", why)
            .listening(Listening::No)
            .sends(POST)
            .gets(error(ConnectFailed).whole())
            .seen(&[])
            .fails(ConnectFailed),
        case("end: neither accepted nor refused", why)
            .listening(Listening::Full)
            .tuned(|service| service.timeouts.connect = SHORT)
            .gets(error(ConnectFailed))
            .seen(&[])
            .fails(ConnectFailed),
    ]
}
