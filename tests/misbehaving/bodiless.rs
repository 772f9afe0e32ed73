//! Responses that have no body whatever their fields say (RFC 9112 section 6.3, rule 1).

use super::case::*;
use crossfade::live::Reason::BadResponse;

const RULE: &str = "RFC 9112 section 6.3, rule 1: HEAD, 204 and 304 end with their head";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(head());
    cases.extend(no_content());
    cases.extend(not_modified());
    cases
}

fn of_head(name: &str, response: &str) -> Case {
    case(format!("HEAD: {name}"), RULE).answers(response).sends(HEAD)
}

fn head() -> Vec<Case> {
    vec![
        of_head("with a length", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
            .gets(reply(200, "").has("content-length: 100"))
            .keeps(),
        of_head("without a length", "HTTP/1.1 200 OK\r\n\r\n").gets(reply(200, "")).keeps(),
        of_head("with length 0", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .gets(reply(200, "").has("content-length: 0"))
            .keeps(),
        of_head("chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .gets(reply(200, ""))
            .keeps(),
        of_head("404 with a length", "HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\n")
            .gets(reply(404, "").has("content-length: 9"))
            .keeps(),
        of_head("with a body", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
            .gets(reply(200, ""))
            .leaves(),
        of_head(
            "with a chunked body",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        )
        .gets(reply(200, ""))
        .leaves(),
        case("HEAD: with a body that comes late", RULE)
            .backend([
                Ask,
                say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
                ClientHas(0),
                say("hello"),
            ])
            .sends(HEAD)
            .gets(reply(200, ""))
            .leaves(),
        case(
            "HEAD: with another response for a body",
            "what follows may look like the next answer",
        )
        .answers(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{OK}", OK.len()))
        .sends(HEAD)
        .gets(reply(200, ""))
        .leaves(),
        of_head("until the close", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            .gets(reply(200, ""))
            .leaves(),
        of_head("a bad length", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n")
            .gets(bad_response())
            .leaves()
            .fails(BadResponse),
        of_head(
            "lengths that differ",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        )
        .gets(bad_response())
        .leaves()
        .fails(BadResponse),
        of_head(
            "length and coding",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .gets(bad_response())
        .leaves()
        .fails(BadResponse),
    ]
}

fn no_content() -> Vec<Case> {
    let length = "RFC 9110 section 8.6: no length in a 204";
    vec![
        case("204: nothing", RULE).answers("HTTP/1.1 204 No Content\r\n\r\n").gets(reply(204, "")).keeps(),
        case("204: length 0", length)
            .answers("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n")
            .gets(reply(204, "").lacks("content-length"))
            .keeps(),
        case("204: a length", length)
            .answers("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n")
            .gets(reply(204, "").lacks("content-length"))
            .keeps(),
        case("204: a body", RULE)
            .answers("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello")
            .gets(reply(204, "").lacks("content-length"))
            .leaves(),
        case("204: a body that comes late", RULE)
            .backend([Ask, say("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n"), ClientHas(0), say("hello")])
            .gets(reply(204, "").lacks("content-length"))
            .leaves(),
        case("204: chunked", "RFC 9112 section 6.1: no coding in a 204")
            .answers("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n")
            .gets(reply(204, "").lacks("transfer-encoding"))
            .keeps(),
        case("204: a chunked body", RULE)
            .answers("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .gets(reply(204, "").lacks("transfer-encoding"))
            .leaves(),
        case("204: another response for a body", "what follows may look like the next answer")
            .answers(format!("HTTP/1.1 204 No Content\r\n\r\n{OK}"))
            .gets(reply(204, ""))
            .leaves(),
        case("205: length 0", "RFC 9110 section 15.3.6")
            .answers("HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n")
            .gets(reply(205, ""))
            .keeps(),
    ]
}

fn not_modified() -> Vec<Case> {
    let start = "HTTP/1.1 304 Not Modified\r\n";
    let length = "RFC 9110 section 8.6: the length that a 200 would have had";
    vec![
        case("304: nothing", RULE).answers(format!("{start}\r\n")).gets(reply(304, "")).keeps(),
        case("304: a length", length)
            .answers(format!("{start}content-length: 100\r\netag: \"x\"\r\n\r\n"))
            .gets(reply(304, "").has("etag: \"x\""))
            .keeps(),
        case("304: chunked", RULE)
            .answers(format!("{start}transfer-encoding: chunked\r\n\r\n"))
            .gets(reply(304, ""))
            .keeps(),
        case("304: a body", RULE)
            .answers(format!("{start}content-length: 5\r\n\r\nhello"))
            .gets(reply(304, ""))
            .leaves(),
        case("304: a body that comes late", RULE)
            .backend([
                Ask,
                say(format!("{start}content-length: 5\r\n\r\n")),
                ClientHas(0),
                say("hello"),
            ])
            .gets(reply(304, ""))
            .leaves(),
        case("304: a chunked body", RULE)
            .answers(format!("{start}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
            .gets(reply(304, ""))
            .leaves(),
        case("304: to HEAD", RULE)
            .answers(format!("{start}content-length: 100\r\n\r\n"))
            .sends(HEAD)
            .gets(reply(304, ""))
            .keeps(),
    ]
}
