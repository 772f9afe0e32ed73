//! Fields on their way to the client (RFC 9110 section 7.6.1).

use super::case::*;

fn passed(name: &str, why: &'static str, fields: &str, expected: Reply) -> Case {
    case(format!("fields: {name}"), why)
        .answers(format!("HTTP/1.1 200 OK\r\n{fields}\r\ncontent-length: 2\r\n\r\nok"))
        .gets(expected)
}

pub fn cases() -> Vec<Case> {
    let hop = "RFC 9110 section 7.6.1: they concern the backend's connection only";
    let end = "RFC 9110 section 5: what is not of the hop is passed on as it is";
    let ok = || reply(200, "ok");
    let days = ["date: M", "date: T", "date: W", "date: F", "date: S"];
    let one_date = days.into_iter().fold(ok().has("date: x"), Reply::lacks);
    vec![
        passed("Keep-Alive", hop, "keep-alive: timeout=60", ok().lacks("keep-alive")).keeps(),
        passed(
            "Proxy-Connection",
            hop,
            "proxy-connection: keep-alive",
            ok().lacks("proxy-connection"),
        )
        .keeps(),
        passed("Upgrade without 101", hop, "upgrade: h2c", ok().lacks("upgrade")).keeps(),
        passed(
            "Upgrade with its option",
            hop,
            "connection: upgrade\r\nupgrade: h2,h2c",
            ok().lacks("upgrade").lacks("connection"),
        )
        .keeps(),
        passed(
            "named by Connection",
            hop,
            "connection: x-hop\r\nx-hop: 1\r\nx-end: 2",
            ok().lacks("x-hop").lacks("connection").has("x-end: 2"),
        )
        .keeps(),
        passed(
            "named before they come",
            hop,
            "x-hop: 0\r\nconnection: x-hop\r\nx-hop: 1",
            ok().lacks("x-hop"),
        )
        .keeps(),
        passed("named in another case", hop, "connection: X-HOP\r\nx-Hop: 1", ok().lacks("x-hop"))
            .keeps(),
        passed(
            "several named on several lines",
            hop,
            "connection: x-a, x-b\r\nx-a: 1\r\nconnection: x-c\r\nx-b: 2\r\nx-c: 3",
            ok().lacks("x-a").lacks("x-b").lacks("x-c"),
        )
        .keeps(),
        passed("named and not there", hop, "connection: x-hop", ok().lacks("connection")).keeps(),
        passed(
            "an option that is no name",
            hop,
            "connection: x hop, @\r\nx-end: 1",
            ok().has("x-end: 1").lacks("connection"),
        )
        .keeps(),
        passed(
            "200 options",
            hop,
            &format!("connection: {}", "x-hop, ".repeat(200)),
            ok().lacks("connection"),
        )
        .keeps(),
        passed(
            "of a kind, in order",
            end,
            "set-cookie: a=1\r\nset-cookie: b=2",
            ok().has("set-cookie: a=1").has("set-cookie: b=2"),
        )
        .keeps(),
        passed(
            "of the origin",
            end,
            "date: x\r\nserver: y\r\nvia: 1.1 z",
            ok().has("date: x").has("server: y").has("via: 1.1 z"),
        )
        .keeps(),
        passed(
            "one Date",
            "RFC 9110 section 6.6.1: a proxy adds it only where there is none",
            "date: x",
            one_date,
        )
        .keeps(),
        passed(
            "Content-Encoding",
            end,
            "content-encoding: gzip",
            ok().has("content-encoding: gzip"),
        )
        .keeps(),
        passed(
            "WWW-Authenticate",
            end,
            "www-authenticate: Basic",
            ok().has("www-authenticate: Basic"),
        )
        .keeps(),
    ]
}
