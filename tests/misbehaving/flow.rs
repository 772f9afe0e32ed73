//! How much, how fast, in which pieces: bounded buffers and back-pressure both ways.

use super::case::*;
use crossfade::live::{
    Fault,
    Reason::{ClientClosed, IdleTimeout, ResponseTimeout},
};

/// More than any buffer.
const ENDLESS: u64 = 1 << 30;

/// What the kernel's buffers of four sockets may hold, and as much again.
const BOUND: u64 = 160 << 20;

const UPLOAD: &str = "POST /case HTTP/1.1\r\nhost: a\r\ncontent-length: 1073741824\r\n\r\n";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(back_pressure());
    cases.extend(sizes());
    cases.extend(clients_that_leave());
    cases
}

fn back_pressure() -> Vec<Case> {
    let unread = "a client that does not read holds what buffers hold, and is given up";
    let endless = |name: &str, head: &str| {
        case(format!("flow: {name} to a client that does not read"), unread)
            .backend([Ask, say(head), Pour(ENDLESS), Gone])
            .streamed_soon()
            .client([say(GET), Played(1)])
            .leaves()
            .fails_by(Fault::Downstream, IdleTimeout)
            .pours_at_most(BOUND)
    };
    let unheard = "a backend that reads nothing of an upload holds what buffers hold";
    vec![
        endless("a body without end", "HTTP/1.1 200 OK\r\n\r\n"),
        endless("a long body", "HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n"),
        endless(
            "a large chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n40000000\r\n",
        ),
        case("flow: an upload that is not read", unheard)
            .backend([Head, Stall])
            .answered_soon()
            .client([say(UPLOAD), Pour(ENDLESS)])
            .gets(error(ResponseTimeout).whole())
            .leaves()
            .fails(ResponseTimeout)
            .pours_at_most(BOUND),
        case("flow: an upload of which not even the head is read", unheard)
            .backend([Stall])
            .answered_soon()
            .client([say(UPLOAD), Pour(ENDLESS)])
            .gets(error(ResponseTimeout).whole())
            .seen(&[&[], &["/after"]])
            .fails(ResponseTimeout)
            .pours_at_most(BOUND),
    ]
}

fn sizes() -> Vec<Case> {
    let whole = "every byte arrives, in order";
    let body: String = (0..200_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    let length = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let chunks: String = body
        .as_bytes()
        .chunks(777)
        .map(|c| format!("{:X}\r\n{}\r\n", c.len(), String::from_utf8_lossy(c)))
        .collect();
    vec![
        case("flow: byte by byte", "a segment may end anywhere")
            .backend([Ask, bytewise("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789")])
            .gets(reply(200, "0123456789"))
            .keeps(),
        case("flow: 200 KB with a length", whole).answers(length).gets(reply(200, &body)).keeps(),
        case("flow: 200 KB in odd chunks", whole)
            .answers(format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
            ))
            .gets(reply(200, &body))
            .keeps(),
        case("flow: 200 KB until the close", whole)
            .answers_and_closes(format!("HTTP/1.1 200 OK\r\n\r\n{body}"))
            .gets(reply(200, &body))
            .leaves(),
        case("flow: 5 MB in odd chunks", whole)
            .answers(format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
                chunks.repeat(25)
            ))
            .gets(reply(200, body.repeat(25)))
            .keeps(),
        case("flow: 5 MB in odd chunks, towards HTTP/1.0", whole)
            .answers(format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
                chunks.repeat(25)
            ))
            .sends("GET /case HTTP/1.0\r\nhost: a\r\n\r\n")
            .gets(reply(200, body.repeat(25)).closed())
            .keeps(),
        case("flow: 5 MB until the close", whole)
            .answers_and_closes(format!("HTTP/1.1 200 OK\r\n\r\n{}", body.repeat(25)))
            .gets(reply(200, body.repeat(25)))
            .leaves(),
        case("flow: head and body apart", whole)
            .backend([
                Ask,
                say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
                ClientHas(0),
                say("hello"),
            ])
            .gets(reply(200, "hello"))
            .keeps(),
        case("flow: the head split in its last CRLF", "a segment may end anywhere")
            .backend([
                Ask,
                say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r"),
                say("\nhel"),
                ClientHas(3),
                say("lo"),
            ])
            .gets(reply(200, "hello"))
            .keeps(),
        case("flow: an upload of 20 MB that is read", whole)
            .answers(OK)
            .client([
                say("POST /case HTTP/1.1\r\nhost: a\r\ncontent-length: 20000000\r\n\r\n"),
                Pour(20_000_000),
                get(reply(200, "ok")),
            ])
            .with_body("x".repeat(20_000_000))
            .keeps(),
        case("flow: 20 MB that are read", whole)
            .backend([
                Ask,
                say("HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\n"),
                Pour(20_000_000),
            ])
            .gets(reply(200, "x".repeat(20_000_000)))
            .keeps(),
    ]
}

fn clients_that_leave() -> Vec<Case> {
    let why = "the backend is let go, and it is nobody's failure but the client's";
    let left = |name: &str, steps: &[Step], client: &[Step]| {
        case(format!("flow: {name}"), why)
            .backend(steps)
            .client(client.iter().cloned())
            .leaves()
            .fails_by(Fault::Downstream, ClientClosed)
    };
    let unseen = "nobody reads from the client, and so nobody sees that it has gone";
    let endless = [Ask, say("HTTP/1.1 200 OK\r\n\r\n"), Pour(ENDLESS), Gone];
    vec![
        left(
            "a client that resets before the answer",
            &[Ask, Mark("asked"), Gone],
            &[say(GET), Until("asked"), Reset],
        ),
        left(
            "a client that resets with another request on its way",
            &[Ask, Mark("asked"), Gone],
            &[say(format!("{GET}{GET}")), Until("asked"), Reset],
        )
        .on_hyper(unseen, |case| case.answered_soon().fails(ResponseTimeout)),
        left(
            "a client that resets within an upload that is not read",
            &[Head, Stall],
            &[say(UPLOAD), Pour(ENDLESS), Stuck, Reset],
        )
        .on_hyper(unseen, |case| case.answered_soon().fails(ResponseTimeout)),
        left(
            "a client that resets within an upload",
            &[Head, Mark("asked"), Gone],
            &[say(UPLOAD), Until("asked"), Reset],
        ),
        left("a client that resets within the answer", &endless, &[say(GET), Hears(1), Reset]),
        left("a client that closes within the answer", &endless, &[say(GET), Hears(1), Close]),
    ]
}
