//! Requests: whatever the engine sends to a backend is read the same way by everybody, and is what the client
//! has sent.

use crate::{
    cut, engine, hyper_reader, piece,
    reader::{Ended, Fields, Habits, Message, assert_clean, options, read_requests, values},
};
use crossfade::proxy::fuzzing::Requests;

/// What the proxy says of its own, or says anew.
const OWN: [&[u8]; 10] = [
    b"connection",
    b"content-length",
    b"host",
    b"te",
    b"transfer-encoding",
    b"upgrade",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-request-id",
];

/// What concerns one connection, and so is not passed on as it came.
const HOP_BY_HOP: [&[u8]; 6] =
    [b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"];

/// What is left behind because backends would believe it.
const UNTRUSTED: [&[u8]; 4] =
    [b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"];

/// Fields that a trailer section must not bring (RFC 9110 section 6.5.1).
const NO_TRAILERS: [&[u8]; 7] = [
    b"authorization",
    b"connection",
    b"content-length",
    b"cookie",
    b"host",
    b"te",
    b"transfer-encoding",
];

/// The first byte says how the others are cut.
///
/// # Panics
/// When two readers could take what is forwarded, or what it came from, differently.
pub fn check(input: &[u8]) {
    let Some((choice, bytes)) = cut(input) else { return };
    let whole = engine::with(|engine| engine.requests(bytes, usize::MAX));
    let pieces = engine::with(|engine| engine.requests(bytes, piece(choice)));
    assert_eq!(whole.ends, pieces.ends, "pieces");
    check_input(bytes, &whole);
    for (number, message) in whole.forwarded.iter().enumerate() {
        let source = &read_requests(bytes, &Habits::STRICT).0[number];
        let pieces = &pieces.forwarded[number];
        for output in [message, pieces] {
            check_message(output, source);
        }
    }
    for partial in [&whole.partial, &pieces.partial].into_iter().flatten() {
        check_partial(partial);
    }
}

/// Nobody sees other messages in what came than those that were forwarded.
fn check_input(bytes: &[u8], requests: &Requests) {
    let count = requests.forwarded.len();
    let (strict, ended) = read_requests(bytes, &Habits::STRICT);
    assert!(strict.len() >= count, "forwarded, though {ended:?} for the second reader");
    if requests.partial.is_none() && !requests.refused && ended == Ended::Clean {
        assert_eq!(strict.len(), count, "not forwarded");
    }
    let ends: Vec<usize> = strict.iter().take(count).map(|message| message.end).collect();
    assert_eq!(requests.ends, ends, "the ends of the messages");
    for habits in Habits::ALL {
        let (read, ended) = read_requests(bytes, habits);
        for (number, message) in strict.iter().take(count).enumerate() {
            let Some(other) = read.get(number) else {
                assert_eq!(ended, Ended::Refused, "message {number} for {habits:?}");
                break;
            };
            let same = (&message.start, &message.body, message.end);
            assert_eq!((&other.start, &other.body, other.end), same, "{habits:?}");
        }
    }
    let (seen, refused) = hyper_reader::read_requests(bytes);
    for (number, message) in strict.iter().take(count).enumerate() {
        let Some(other) = seen.get(number) else {
            assert!(refused, "message {number} for hyper");
            break;
        };
        assert_eq!(other.method, message.start[0], "hyper");
        match &other.body {
            Some(body) => assert_eq!(*body, message.body, "hyper"),
            None => assert!(refused, "the body of message {number} has no end for hyper"),
        }
    }
}

/// A forwarded message is one message for everybody, and is what `source` was.
fn check_message(bytes: &[u8], source: &Message) {
    let shown = String::from_utf8_lossy(bytes);
    let (read, ended) = read_requests(bytes, &Habits::STRICT);
    assert!(read.len() == 1 && read[0].end == bytes.len(), "{ended:?}: {shown}");
    let message = &read[0];
    for habits in Habits::ALL {
        let (other, ended) = read_requests(bytes, habits);
        assert!(other.len() == 1, "{ended:?} for {habits:?}: {shown}");
        assert!(
            other[0].end == bytes.len() && other[0].body == message.body,
            "{habits:?}: {shown}"
        );
        assert_eq!((&other[0].start, &other[0].fields), (&message.start, &message.fields));
    }
    check_with_hyper(bytes, message);

    assert_eq!(message.start[0], source.start[0], "method");
    assert_eq!(message.start[2], b"HTTP/1.1");
    assert_eq!(message.body, source.body, "body");
    let (authority, target) = origin_form(&source.start[1], &source.start[0]);
    assert_eq!(message.start[1], target, "target");
    assert_clean(&message.fields);
    check_fields(&message.fields, &source.fields, authority);
    for trailer in &message.trailers {
        assert!(source.trailers.contains(trailer), "a trailer from nowhere");
        let name = trailer.0.to_ascii_lowercase();
        assert!(!NO_TRAILERS.contains(&&name[..]), "a trailer that must not be one");
    }
}

fn check_with_hyper(bytes: &[u8], message: &Message) {
    let (seen, refused) = hyper_reader::read_requests(bytes);
    if seen.is_empty() && message.start[1].parse_as_uri().is_none() {
        // Only its type for targets is narrower.
        assert!(refused);
        return;
    }
    assert!(seen.len() == 1 && !refused, "{}", String::from_utf8_lossy(bytes));
    let seen = &seen[0];
    assert_eq!((&seen.method, seen.body.as_ref()), (&message.start[0], Some(&message.body)));
    assert_eq!(seen.target, message.start[1]);
    let sorted = |fields: &Fields| {
        let lower = fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        let mut fields: Fields = lower.collect();
        fields.sort();
        fields
    };
    assert_eq!(sorted(&seen.fields), sorted(&message.fields), "hyper's fields");
}

trait ParseAsUri {
    fn parse_as_uri(&self) -> Option<hyper::Uri>;
}

impl ParseAsUri for Vec<u8> {
    fn parse_as_uri(&self) -> Option<hyper::Uri> {
        hyper::Uri::try_from(self.as_slice()).ok()
    }
}

fn check_fields(sent: &Fields, came: &Fields, authority: Option<&[u8]>) {
    let named = options(came);
    let lower = |fields: &Fields| -> Fields {
        fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
    };
    let (sent, came) = (lower(sent), lower(came));
    for (name, value) in &sent {
        let is_own = OWN.contains(&&name[..]);
        assert!(is_own || came.contains(&(name.clone(), value.clone())), "a field from nowhere");
        assert!(is_own || !named.contains(name), "a field that Connection names");
        assert!(!UNTRUSTED.contains(&&name[..]) || is_own, "a field that must not be believed");
        let dashed: Vec<u8> = name.iter().map(|b| if *b == b'_' { b'-' } else { *b }).collect();
        assert!(dashed == *name || !UNTRUSTED.contains(&&dashed[..]), "an alias");
    }
    for (name, value) in &came {
        let stays_behind = OWN.contains(&&name[..])
            || HOP_BY_HOP.contains(&&name[..])
            || UNTRUSTED.contains(&&name[..])
            || named.contains(name)
            || name == b"expect"
            || name == b"http2-settings"
            || name.contains(&b'_');
        assert!(stays_behind || sent.contains(&(name.clone(), value.clone())), "a field is lost");
    }
    let hosts = values(&sent, b"host");
    assert_eq!(hosts.len(), 1, "hosts");
    if let Some(host) = authority.or(values(&came, b"host").first().copied()) {
        assert_eq!(hosts[0], host, "host");
    }
    assert_eq!(values(&sent, b"x-forwarded-for"), [b"192.0.2.1"], "who asks");
    assert_eq!(values(&sent, b"x-request-id").len().min(1), 1, "an id");
    let upgrades = values(&sent, b"upgrade");
    let is_h2c = |protocol: &[u8]| protocol.trim_ascii().to_ascii_lowercase().starts_with(b"h2c");
    let protocols = upgrades.iter().flat_map(|value| value.split(|byte| *byte == b','));
    assert!(!protocols.into_iter().any(is_h2c), "h2c");
    assert!(values(&sent, b"http2-settings").is_empty());
}

/// The authority of a target, and the target that a backend gets (RFC 9112 section 3.2).
fn origin_form<'a>(target: &'a [u8], method: &[u8]) -> (Option<&'a [u8]>, Vec<u8>) {
    let lower = target.to_ascii_lowercase();
    let Some(scheme) = [&b"http://"[..], b"https://"].into_iter().find(|s| lower.starts_with(s))
    else {
        return (None, target.to_vec());
    };
    let rest = &target[scheme.len()..];
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let target = match rest {
        [] if method == b"OPTIONS" => b"*".to_vec(),
        [] => b"/".to_vec(),
        [b'?', ..] => [b"/", rest].concat(),
        _ => rest.to_vec(),
    };
    (Some(authority), target)
}

/// What was sent of a message that has no end is no message for anybody.
fn check_partial(bytes: &[u8]) {
    for habits in [Habits::STRICT].iter().chain(Habits::ALL) {
        let (read, ended) = read_requests(bytes, habits);
        let shown = String::from_utf8_lossy(bytes);
        assert!(read.is_empty() && ended == Ended::Incomplete, "{habits:?}, {ended:?}: {shown}");
    }
    let (seen, _) = hyper_reader::read_requests(bytes);
    assert!(seen.iter().all(|seen| seen.body.is_none()), "complete for hyper");
}
