//! Upgrades and the tunnels that come of them (RFC 9110 section 7.8).

use super::case::*;
use crossfade::live::{
    Fault,
    Reason::{BadResponse, UpstreamReset},
};

const ASKS: &str = "GET /case HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
const SWITCHES: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(not_asked_for());
    cases.extend(tunnels());
    cases.extend(refused());
    cases
}

fn not_asked_for() -> Vec<Case> {
    let why = "RFC 9110 section 15.2.2: only to what the client asked for; Pingora CVE-2026-2833";
    let wrong = |name: &str, request: &str, answer: &str| {
        case(format!("101: {name}"), why)
            .answers(format!("{answer}hello"))
            .sends(request)
            .gets(bad_response())
            .leaves()
            .fails(BadResponse)
    };
    vec![
        wrong("to GET", GET, SWITCHES),
        wrong("to POST", POST, SWITCHES),
        wrong("to HEAD", HEAD, SWITCHES),
        wrong("to GET, and then a response", GET, &format!("{SWITCHES}{OK}")),
        wrong("another protocol", ASKS, &SWITCHES.replace("echo", "other")),
        wrong("a protocol more", ASKS, &SWITCHES.replace("echo", "echo, other")),
        wrong("the protocol with a version", ASKS, &SWITCHES.replace("echo", "echo/2")),
        wrong(
            "no protocol",
            ASKS,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n",
        ),
        wrong(
            "two protocols on two lines",
            ASKS,
            &SWITCHES.replace("upgrade: echo", "upgrade: echo\r\nupgrade: other"),
        ),
        wrong(
            "to Upgrade without Connection",
            &ASKS.replace("connection: upgrade\r\n", ""),
            SWITCHES,
        ),
        wrong("to h2c", &ASKS.replace("echo", "h2c"), &SWITCHES.replace("echo", "h2c")),
        case("101: to HTTP/1.0", "RFC 9110 section 7.8: Upgrade in HTTP/1.0 is ignored")
            .answers(format!("{SWITCHES}hello"))
            .sends(ASKS.replace("HTTP/1.1", "HTTP/1.0"))
            .gets(bad_response().closed())
            .fails(BadResponse),
        case("101: after 100", "RFC 9110 section 15.2.2")
            .answers(format!("HTTP/1.1 100 Continue\r\n\r\n{SWITCHES}"))
            .gets(vec![bad_response().after([100]), bad_response()])
            .fails(BadResponse),
    ]
}

fn switches() -> Reply {
    reply(101, "").tunnel().has("upgrade: echo").has("connection: upgrade")
}

fn tunnel(name: &str, backend: &[Step], client: &[Step]) -> Case {
    case(format!("tunnel: {name}"), "RFC 9110 section 7.8: after 101 bytes pass both ways, unread")
        .backend(backend)
        .client([say(ASKS), get(switches())])
        .client(client.iter().cloned())
        .leaves()
}

fn tunnels() -> Vec<Case> {
    let early = "bytes that came with the head are not lost, nor sent before the 101";
    let shakes = || [hear("ping"), say("pong")];
    vec![
        tunnel(
            "both ways",
            &[&[Ask, say(SWITCHES)], &shakes()[..], &[HearEnd, Close]].concat(),
            &[say("ping"), hear("pong"), HalfClose, HearEnd],
        ),
        tunnel(
            "bytes right behind the 101",
            &[Ask, say(format!("{SWITCHES}hello")), HearEnd, Close],
            &[hear("hello"), HalfClose, HearEnd],
        ),
        tunnel(
            "what looks like a response behind the 101",
            &[Ask, say(format!("{SWITCHES}{OK}")), HearEnd, Close],
            &[hear(OK), HalfClose, HearEnd],
        ),
        tunnel(
            "what looks like requests",
            &[Ask, say(SWITCHES), hear(GET), say(OK), HearEnd, Close],
            &[say(GET), hear(OK), HalfClose, HearEnd],
        )
        .counting(1),
        case("tunnel: bytes right behind the request", early)
            .backend([Ask, say(SWITCHES), hear("hello"), say("bye"), Close])
            .client([say(format!("{ASKS}hello")), get(switches()), hear("bye"), HearEnd])
            .leaves(),
        tunnel(
            "the client closes one half",
            &[Ask, say(SWITCHES), HearEnd, say("bye"), Close],
            &[HalfClose, hear("bye"), HearEnd],
        ),
        tunnel(
            "the backend closes one half",
            &[Ask, say(SWITCHES), HalfClose, hear("bye"), HearEnd],
            &[HearEnd, say("bye"), HalfClose],
        ),
        tunnel("the backend closes", &[Ask, say(SWITCHES), Close], &[HearEnd, HalfClose]),
        tunnel(
            "the backend resets",
            &[Ask, say(SWITCHES), Mark("up"), ClientHasInterims(1), Reset],
            &[Gone],
        ),
        tunnel("the client closes", &[Ask, say(SWITCHES), Gone], &[Close]),
        tunnel("the client resets", &[Ask, say(SWITCHES), Gone], &[Reset]),
        tunnel(
            "20 MB towards the client",
            &[Ask, say(SWITCHES), Pour(20_000_000), HalfClose, HearEnd],
            &[hear("x".repeat(20_000_000)), HearEnd, HalfClose],
        ),
        tunnel(
            "20 MB towards the backend",
            &[Ask, say(SWITCHES), hear("x".repeat(20_000_000)), HearEnd, Close],
            &[Pour(20_000_000), HalfClose, HearEnd],
        ),
        case("tunnel: the protocol in another case", "RFC 9110 section 7.8: names have no case")
            .backend([Ask, say(SWITCHES.replace("echo", "Echo")), HearEnd, Close])
            .client([
                say(ASKS),
                get(reply(101, "").tunnel().has("upgrade: Echo")),
                HalfClose,
                HearEnd,
            ]),
        case("tunnel: one of several protocols", "RFC 9110 section 7.8: the server chooses")
            .backend([Ask, say(SWITCHES), HearEnd, Close])
            .client([
                say(ASKS.replace("echo", "chat/2, echo")),
                get(switches()),
                HalfClose,
                HearEnd,
            ]),
        case("tunnel: fields of the hop", "RFC 9110 section 7.6.1")
            .backend([
                Ask,
                say(SWITCHES.replace(
                    "connection: upgrade",
                    "connection: upgrade, x-hop\r\nx-hop: 1\r\nx-end: 2\r\nkeep-alive: x",
                )),
                HearEnd,
                Close,
            ])
            .client([
                say(ASKS),
                get(switches().lacks("x-hop").lacks("keep-alive").has("x-end: 2")),
                HalfClose,
                HearEnd,
            ]),
        case("tunnel: silence", "timeouts.tunnel_idle")
            .backend([Ask, say(SWITCHES), Gone])
            .tuned(|service| service.timeouts.tunnel_idle = SHORT)
            .client([say(ASKS), get(switches()), Gone]),
        case("tunnel: a 101 with a length", "RFC 9110 section 8.6: none in 1xx; it frames nothing")
            .backend([
                Ask,
                say(SWITCHES.replace("upgrade: echo", "upgrade: echo\r\ncontent-length: 5")),
                say("hello"),
                Gone,
            ])
            .sends(ASKS)
            .gets(vec![switches().lacks("content-length"), bad_response()])
            .or_fails(BadResponse)
            .leaves(),
        case(
            "tunnel: a 101 with a length that is none",
            "what is malformed is refused, used or not",
        )
        .backend([
            Ask,
            say(SWITCHES.replace("upgrade: echo", "upgrade: echo\r\ncontent-length: x")),
            Gone,
        ])
        .sends(ASKS)
        .gets(bad_response())
        .fails(BadResponse)
        .leaves(),
    ]
}

fn refused() -> Vec<Case> {
    let why = "RFC 9110 section 7.8: the server may ignore the wish";
    vec![
        case("upgrade: refused by 200", why).answers(OK).sends(ASKS).gets(reply(200, "ok")).keeps(),
        case("upgrade: refused by 403", why)
            .answers("HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno")
            .sends(ASKS)
            .gets(reply(403, "no"))
            .keeps(),
        case("upgrade: 426", why)
            .answers("HTTP/1.1 426 Upgrade Required\r\nconnection: upgrade\r\nupgrade: chat\r\ncontent-length: 2\r\n\r\nno")
            .sends(ASKS)
            .gets(reply(426, "no"))
            .keeps(),
        case("upgrade: the end instead of an answer", "no response byte")
            .answers_and_closes("")
            .sends(ASKS)
            .gets(error(UpstreamReset))
            .fails_by(Fault::Upstream, UpstreamReset),
        case("upgrade: half a 101", "no response")
            .answers_and_closes(&SWITCHES[..SWITCHES.len() - 2])
            .sends(ASKS)
            .gets(error(UpstreamReset))
            .fails(UpstreamReset),
    ]
}
