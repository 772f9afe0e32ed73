//! Responses: whatever the engine sends to a client is read the same way by everybody, and is what the backend
//! has sent. What is cut is never whole for a client.

use crate::{
    cut, engine, hyper_reader, piece,
    reader::{
        Fields, Habits, Message, assert_clean, assert_trailers, options, read_response, values,
    },
};
use crossfade::proxy::fuzzing::{End, Question, Response};

/// What concerns one connection, or is said anew.
const NOT_PASSED: [&[u8]; 6] = [
    b"connection",
    b"content-length",
    b"keep-alive",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
];

/// The first two bytes say how the others are cut, and what was asked.
///
/// # Panics
/// When two readers could take what is passed on, or what it came from, differently.
pub fn check(input: &[u8]) {
    let Some((choice, rest)) = cut(input) else { return };
    let Some((asked, bytes)) = cut(rest) else { return };
    let question = Question {
        head: asked & 1 != 0,
        minor: u8::from(asked & 2 == 0),
        trailers: asked & 4 != 0,
        upgrades: asked & 8 != 0,
    };
    let closed = asked & 16 != 0;
    for cut in [usize::MAX, piece(choice)] {
        let response = engine::with(|engine| engine.response(question, bytes, cut, closed));
        match response.end {
            End::Complete => {
                check_complete(question, bytes, closed, cut == usize::MAX, &response);
            }
            End::Switched => check_switched(question, bytes, &response),
            End::Refused | End::Missing => check_cut(question, &response),
        }
        if cut == usize::MAX {
            let pieces =
                engine::with(|engine| engine.response(question, bytes, piece(choice), closed));
            // A line that is wrong may be judged when it is complete, which it may never be.
            let may_wait = response.end == End::Refused && pieces.end == End::Missing;
            assert!(response.end == pieces.end || may_wait, "pieces");
        }
    }
}

/// What comes after the response has ended is found by who takes the connection next; only `at_once` it comes
/// with the response.
fn check_complete(
    question: Question,
    bytes: &[u8],
    closed: bool,
    at_once: bool,
    response: &Response,
) {
    let read = read_response(bytes, question.head, closed, &Habits::STRICT);
    let (interims, source, _) = read.expect("good for the second reader").expect("complete");
    for habits in Habits::ALL {
        if let Ok(other) = read_response(bytes, question.head, closed, habits) {
            let (_, other, _) = other.expect("complete for a lenient reader");
            let same = (&source.start, &source.body, source.end);
            assert_eq!((&other.start, &other.body, other.end), same, "{habits:?}");
        }
    }
    if response.reusable {
        assert!(!at_once || source.end == bytes.len(), "bytes beyond the response");
        assert!(!source.last, "nothing may follow");
    }

    let shown = String::from_utf8_lossy(&response.to_client);
    let read =
        |habits| read_response(&response.to_client, question.head, response.until_close, habits);
    let (passed, message, until_close) = read(&Habits::STRICT)
        .expect("one that everybody reads")
        .unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(message.end, response.to_client.len(), "one message: {shown}");
    for habits in Habits::ALL {
        let (_, other, _) = read(habits).expect("good").expect("complete");
        let same = (&message.start, &message.fields, &message.body, message.end);
        assert_eq!((&other.start, &other.fields, &other.body, other.end), same, "{habits:?}");
    }
    assert!(!until_close || (question.minor == 0 && response.closes), "a body without an end");
    assert_eq!(message.start[0], b"HTTP/1.1");
    assert_eq!(message.start[1..], source.start[1..], "status and reason");
    assert_eq!(message.body, source.body, "body");
    assert_eq!(passed.len(), if question.minor == 0 { 0 } else { interims.len() }, "interims");
    for (passed, interim) in passed.iter().zip(&interims) {
        assert_clean(&passed.fields);
        assert_eq!(passed.start[1..], interim.start[1..], "status and reason");
        assert_eq!(passed.fields, passing(interim), "the fields of an interim response");
    }
    check_fields(question, response, &message, &source);
    if question.trailers && question.minor > 0 {
        assert_trailers(&message.trailers, &source);
    } else {
        assert!(message.trailers.is_empty(), "nobody asked for trailers");
    }
    check_with_hyper(question, response, &message);
}

fn check_with_hyper(question: Question, response: &Response, message: &Message) {
    let status: u16 = String::from_utf8_lossy(&message.start[1]).parse().expect("three digits");
    let read = hyper_reader::read_response(&response.to_client, question.head);
    let (seen, fields, body) = read.unwrap_or_else(|| {
        panic!("not read by hyper: {}", String::from_utf8_lossy(&response.to_client))
    });
    assert_eq!((seen, &body), (status, &message.body), "hyper");
    assert_eq!(fields.len(), message.fields.len(), "hyper's fields");
}

/// The fields that go on, as they came and in their order.
fn passing(source: &Message) -> Fields {
    let named = options(&source.fields);
    let passes = |(name, _): &&(Vec<u8>, Vec<u8>)| {
        let name = name.to_ascii_lowercase();
        !NOT_PASSED.contains(&&name[..]) && !named.contains(&name)
    };
    source.fields.iter().filter(passes).cloned().collect()
}

/// The fields that are not about the connection or the length.
fn others(message: &Message) -> Fields {
    let is_other = |name: &[u8]| !NOT_PASSED.contains(&&name.to_ascii_lowercase()[..]);
    message.fields.iter().filter(|(name, _)| is_other(name)).cloned().collect()
}

fn check_fields(question: Question, response: &Response, message: &Message, source: &Message) {
    assert_clean(&message.fields);
    let sent = |name: &str| values(&message.fields, name.as_bytes());
    let came = |name: &str| values(&source.fields, name.as_bytes());
    let (mut told, expected) = (others(message), passing(source));
    if values(&expected, b"date").is_empty() {
        let date = told.iter().position(|(name, _)| name == b"date").expect("a date");
        told.remove(date);
    }
    assert_eq!(told, expected, "the fields that pass");

    for name in ["keep-alive", "proxy-connection", "upgrade"] {
        assert!(sent(name).is_empty(), "{name}");
    }
    let connection: &[&[u8]] = match (response.closes, question.minor) {
        (true, _) => &[b"close"],
        (false, 0) => &[b"keep-alive"],
        (false, _) => &[],
    };
    assert_eq!(sent("connection"), connection, "what concerns the connection");

    let first = came("content-length").first().and_then(|value| {
        let first = value.split(|byte| *byte == b',').next()?;
        std::str::from_utf8(first).ok()?.trim().parse::<u64>().ok()
    });
    let status = &source.start[1][..];
    let length = first.filter(|_| status != b"204").map(|length| length.to_string());
    assert_eq!(sent("content-length"), Vec::from_iter(length.as_ref().map(String::as_bytes)));
    let has_body = !question.head && !matches!(status, b"204" | b"304");
    let is_coded = !came("transfer-encoding").is_empty();
    let in_chunks =
        question.minor > 0 && (has_body && first.is_none() || question.head && is_coded);
    let coding: &[&[u8]] = if in_chunks { &[b"chunked"] } else { &[] };
    assert_eq!(sent("transfer-encoding"), coding, "a coding");
}

fn check_switched(question: Question, bytes: &[u8], response: &Response) {
    assert!(question.upgrades, "nobody asked for it");
    let read = |bytes| {
        let read = read_response(bytes, false, false, &Habits::STRICT);
        let (_, message, _) = read.expect("good").expect("complete");
        assert_eq!(message.start[1], b"101");
        message
    };
    let (source, message) = (read(bytes), read(&response.to_client));
    assert_clean(&message.fields);
    assert_eq!(message.start[1..], source.start[1..], "status and reason");
    assert_eq!(others(&message), passing(&source), "the fields that pass");
    assert_eq!(values(&message.fields, b"connection"), [b"upgrade"]);
    let protocol = values(&message.fields, b"upgrade");
    assert!(protocol.len() == 1 && protocol[0].eq_ignore_ascii_case(b"websocket"), "{protocol:?}");
    for name in [&b"content-length"[..], b"keep-alive", b"proxy-connection", b"transfer-encoding"] {
        assert!(values(&message.fields, name).is_empty(), "no body, no connection of its own");
    }
}

/// What the client has got is not a whole response for anybody. (One that ends with the connection is ended by
/// a reset.)
fn check_cut(question: Question, response: &Response) {
    for habits in [Habits::STRICT].iter().chain(Habits::ALL) {
        let read = read_response(&response.to_client, question.head, false, habits);
        let shown = String::from_utf8_lossy(&response.to_client);
        assert!(matches!(read, Ok(None)), "{habits:?}: {shown}");
    }
    if !response.until_close {
        let read = hyper_reader::read_response(&response.to_client, question.head);
        assert!(read.is_none(), "whole for hyper");
    }
}
