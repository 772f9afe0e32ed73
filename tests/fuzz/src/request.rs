//! Requests: whatever the engine sends to a backend is read the same way by everybody, and is what the client
//! has sent.

use crate::{
    cut, engine, hyper_reader, piece,
    reader::{
        Ended, Fields, Habits, Message, assert_clean, assert_trailers, is_alias, options,
        read_requests, tells_of_client, values,
    },
};
use crossfade::proxy::fuzzing::Requests;

/// What the proxy says of its own, or says anew: judged one by one.
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

/// What concerns one connection, or what backends would believe: never on the other side, whoever names it.
const STAYS_BEHIND: [&[u8]; 4] =
    [b"forwarded", b"http2-settings", b"keep-alive", b"proxy-connection"];

/// Fields that no `Connection` may name: they belong to the message, or the proxy adds or reads them.
const NOT_TO_BE_NAMED: [&[u8]; 10] = [
    b"authorization",
    b"canary",
    b"content-length",
    b"cookie",
    b"expect",
    b"host",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-request-id",
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
            // It does not read on behind a `Connection` that is no text for it.
            let before =
                number.checked_sub(1).map(|before| values(&strict[before].fields, b"connection"));
            let is_odd = before.is_some_and(|values| !values.concat().is_ascii());
            assert!(refused || is_odd, "message {number} for hyper");
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
    check_fields(&message.fields, source);
    check_own(message, source, authority);
    assert_trailers(&message.trailers, source);
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

/// All that is not the proxy's own is there as it came, in its order, and nothing else is.
fn check_fields(sent: &Fields, source: &Message) {
    let named = options(&source.fields);
    let named_in_vain = named.iter().find(|name| NOT_TO_BE_NAMED.contains(&&name[..]));
    assert!(named_in_vain.is_none(), "Connection names {named_in_vain:?}");
    let passes = |(name, _): &&(Vec<u8>, Vec<u8>)| {
        let name = name.to_ascii_lowercase();
        !OWN.contains(&&name[..])
            && !STAYS_BEHIND.contains(&&name[..])
            && !named.contains(&name)
            && !tells_of_client(&name)
            && !is_alias(&name)
            && (name != b"expect" || source.start[2] == b"HTTP/1.1")
    };
    let expected: Fields = source.fields.iter().filter(passes).cloned().collect();
    let is_own = |name: &[u8]| OWN.contains(&&name.to_ascii_lowercase()[..]);
    let told: Fields = sent.iter().filter(|(name, _)| !is_own(name)).cloned().collect();
    assert_eq!(told, expected, "the fields that pass");
}

/// What the proxy says of its own is said once, is true, and is not what the client made up.
fn check_own(message: &Message, source: &Message, authority: Option<&[u8]>) {
    let sent = |name: &str| values(&message.fields, name.as_bytes());
    let came = |name: &str| values(&source.fields, name.as_bytes());

    let host = authority.or(came("host").first().copied());
    match host {
        Some(host) => assert_eq!(sent("host"), [host], "host"),
        // The address of a backend.
        None => assert!(matches!(sent("host")[..], [b"127.0.0.1:1" | b"127.0.0.1:2"]), "host"),
    }
    assert_eq!(sent("x-forwarded-for"), [b"192.0.2.1"], "who asks");
    assert_eq!(sent("x-forwarded-proto"), [b"http"], "how");
    assert_eq!(sent("x-forwarded-host"), Vec::from_iter(host), "whom");
    let id = if came("x-request-id").is_empty() { vec![&b"0"[..]] } else { came("x-request-id") };
    assert_eq!(sent("x-request-id"), id, "an id");

    let is_coded = !came("transfer-encoding").is_empty();
    let coding: &[&[u8]] = if is_coded { &[b"chunked"] } else { &[] };
    assert_eq!(sent("transfer-encoding"), coding, "a coding");
    let length = message.body.len().to_string();
    let length = (!came("content-length").is_empty()).then_some(length.as_bytes());
    assert_eq!(sent("content-length"), Vec::from_iter(length), "a length");

    let wants_trailers = list(&came("te")).contains(&b"trailers"[..].to_vec());
    let te: &[&[u8]] = if wants_trailers { &[b"trailers"] } else { &[] };
    assert_eq!(sent("te"), te, "te");
    let upgrade = upgrade(source);
    assert_eq!(sent("upgrade"), Vec::from_iter(upgrade), "a protocol");
    let named = [(upgrade.is_some(), "upgrade"), (wants_trailers, "te")];
    let named: Vec<&str> = named.into_iter().filter_map(|(is, name)| is.then_some(name)).collect();
    let connection = Some(named.join(", ")).filter(|list| !list.is_empty());
    let connection = connection.as_ref().map(String::as_bytes);
    assert_eq!(sent("connection"), Vec::from_iter(connection), "what concerns the connection");
}

/// The members of lists, in lower case.
fn list(values: &[&[u8]]) -> Vec<Vec<u8>> {
    let members = values.iter().flat_map(|value| value.split(|byte| *byte == b','));
    members.map(|member| member.trim_ascii().to_ascii_lowercase()).collect()
}

/// The protocols that a client would switch to, unless one of them is a way around a reader of HTTP.
fn upgrade(source: &Message) -> Option<&[u8]> {
    let is_asked = options(&source.fields).contains(&b"upgrade"[..].to_vec());
    let asked = values(&source.fields, b"upgrade").first().copied()?;
    let is_good = |protocol: &Vec<u8>| {
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-._+".contains(byte);
        protocol.first().is_some_and(u8::is_ascii_alphanumeric)
            && protocol.iter().all(is_name)
            && ![&b"h2"[..], b"h3", b"http", b"tls"].iter().any(|known| protocol.starts_with(known))
    };
    let passes = is_asked && source.start[2] == b"HTTP/1.1" && list(&[asked]).iter().all(is_good);
    passes.then_some(asked)
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
