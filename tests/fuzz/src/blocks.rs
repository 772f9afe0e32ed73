//! Header blocks of HTTP/2, read a second time from RFC 7541 and RFC 9113 alone, and by the library that gets to see what
//! the guard lets through.

use super::{
    frames::{self, COMPRESSION_ERROR, ENHANCE_YOUR_CALM, Frame},
    hpack,
};
use crossfade::proxy::fuzzing_http2 as fuzzing;
use std::{
    collections::HashMap,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What heads may take here, so that small ones are too large.
const LIMITS: (usize, usize) = (500, 6);

type Field = (Vec<u8>, Vec<u8>);

/// Section 2 of RFC 7541, the slow way.
#[derive(Clone)]
pub struct Table {
    entries: Vec<Field>,
    most: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: Vec::new(), most: 4096 }
    }
}

impl Table {
    /// The fields of a block, if it is one.
    pub fn read(&mut self, block: &[u8]) -> Option<Vec<Field>> {
        let mut fields = Vec::new();
        let mut rest = block;
        while let Some(first) = rest.first() {
            let first = *first;
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                fields.push(self.at(index)?);
            } else if first & 0xe0 == 0x20 {
                let most = integer(&mut rest, 5)?;
                if most > 4096 || !fields.is_empty() {
                    return None;
                }
                self.most = most;
                self.shrink();
            } else {
                let is_kept = first & 0x40 != 0;
                let name = match integer(&mut rest, if is_kept { 6 } else { 4 })? {
                    0 => string(&mut rest)?,
                    index => self.at(index)?.0,
                };
                let field = (name, string(&mut rest)?);
                if is_kept {
                    self.entries.insert(0, field.clone());
                    self.shrink();
                }
                fields.push(field);
            }
        }
        Some(fields)
    }

    fn at(&self, index: usize) -> Option<Field> {
        let index = index.checked_sub(1)?;
        match hpack::STATIC.get(index) {
            Some((name, value)) => Some((name.as_bytes().to_vec(), value.as_bytes().to_vec())),
            None => self.entries.get(index - hpack::STATIC.len()).cloned(),
        }
    }

    /// What came last stays, if all that came before it must go and it alone is not too large.
    fn shrink(&mut self) {
        while size(&self.entries) > self.most {
            self.entries.pop();
        }
    }
}

fn size(fields: &[Field]) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
}

fn integer(rest: &mut &[u8], bits: u32) -> Option<usize> {
    let take = |rest: &mut &[u8]| {
        let (first, after) = rest.split_first()?;
        *rest = after;
        Some(usize::from(*first))
    };
    let most = (1 << bits) - 1;
    let first = take(rest)? & most;
    if first < most {
        return Some(first);
    }
    let mut value = most;
    for shift in [0, 7, 14, 21] {
        let byte = take(rest)?;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    // Of more bytes than these nobody here has a use.
    None
}

fn string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let is_huffman = rest.first()? & 0x80 != 0;
    let len = integer(rest, 7)?;
    let (text, after) = rest.split_at_checked(len)?;
    *rest = after;
    if is_huffman { hpack::huffman(text).ok() } else { Some(text.to_vec()) }
}

/// Which part of a message a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Request,
    Response,
    Trailers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Good,
    Malformed,
    Odd,
    TooLarge,
}

/// RFC 9113 sections 8.1 to 8.3, RFC 8441 section 4.
fn judge(part: Part, ends: bool, fields: &[Field]) -> Finding {
    let pseudo = |name: &str| -> Vec<&[u8]> {
        let is = |(known, _): &&Field| known == name.as_bytes();
        fields.iter().filter(is).map(|(_, value)| &value[..]).collect()
    };
    let is_pseudo = |(name, _): &Field| name.starts_with(b":");
    let known = [":method", ":scheme", ":path", ":authority", ":protocol", ":status"];
    let [method, scheme, path, authority, protocol, status] = known.map(pseudo);
    let behind = fields.iter().skip_while(|field| is_pseudo(field));
    let count = fields.iter().filter(|field| !is_pseudo(field)).count();
    let is_orderly = behind.clone().all(|field| !is_pseudo(field))
        && fields
            .iter()
            .filter(|field| is_pseudo(field))
            .all(|(name, _)| known.iter().any(|known| known.as_bytes() == name))
        && [&method, &scheme, &path, &authority, &protocol, &status].iter().all(|it| it.len() < 2);
    let host = behind.clone().any(|(name, _)| name == b"host");
    let is_whole = match part {
        Part::Trailers => fields.iter().all(|field| !is_pseudo(field)) && ends,
        Part::Response => {
            let others = [&method, &scheme, &path, &authority, &protocol];
            let is_interim = status.first().is_some_and(|status| status.starts_with(b"1"));
            status.len() == 1 && others.iter().all(|it| it.is_empty()) && !(is_interim && ends)
        }
        Part::Request if method == [b"CONNECT"] && protocol.is_empty() => {
            scheme.is_empty() && path.is_empty() && status.is_empty() && authority.len() == 1
        }
        Part::Request => {
            let is_connect = method == [b"CONNECT"];
            [&method, &scheme, &path].iter().all(|it| it.len() == 1)
                && status.is_empty()
                && (is_connect || protocol.is_empty())
                && (path != [b"*"] || method == [b"OPTIONS"])
                && (host || authority.len() == 1)
        }
    };
    if !is_orderly || !is_whole || !fields.iter().all(|(name, value)| is_good(name, value)) {
        Finding::Malformed
    } else if path.iter().any(|path| path.contains(&b'\\'))
        || authority.iter().any(|it| it.iter().any(|byte| b"\"/#<>?@\\^`{|}".contains(byte)))
    {
        Finding::Odd
    } else if size(fields) > LIMITS.0 || count > LIMITS.1 {
        Finding::TooLarge
    } else {
        Finding::Good
    }
}

fn is_good(name: &[u8], value: &[u8]) -> bool {
    let is_token = |text: &[u8]| {
        let is = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        !text.is_empty() && text.iter().all(is)
    };
    let is_digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    match name {
        b":method" | b":protocol" => is_token(value),
        b":scheme" => value == b"http" || value == b"https",
        b":path" => {
            let is =
                |byte: &u8| !byte.is_ascii() || byte.is_ascii_graphic() && !b"#<>".contains(byte);
            let is_text = value.iter().all(is) && std::str::from_utf8(value).is_ok();
            value == b"*" || value.starts_with(b"/") && is_text
        }
        b":authority" => !value.is_empty() && value.iter().all(u8::is_ascii_graphic),
        b":status" => value.len() == 3 && is_digits(value) && value[0] != b'0',
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            false
        }
        b"te" => value == b"trailers",
        b"content-length" => (1..20).contains(&value.len()) && is_digits(value),
        _ => {
            let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
            is_token(name)
                && !name.iter().any(u8::is_ascii_uppercase)
                && !value.iter().any(is_control)
                && value.trim_ascii() == value
        }
    }
}

/// What is to be seen of a block.
struct Wanted {
    part: Part,
    finding: Finding,
    ends: bool,
    fields: Vec<Field>,
}

/// The first byte says who sends and how it is cut; then come blocks, each with a byte that says how it is framed and
/// one that says how long it is.
pub fn check(input: &[u8]) {
    let Some((choice, mut rest)) = super::cut(input) else { return };
    let is_client = choice & 0x80 != 0;
    let mut bytes = frame(4, 0, 0, b"");
    let mut asked = Vec::new();
    let mut wanted = Vec::new();
    let mut error = None;
    let mut table = Table::default();
    // Streams, and whether their heads have been.
    let mut open = HashMap::new();
    let mut last = 0u32;
    for stream in (1..200).step_by(2).filter(|_| !is_client) {
        asked.extend(frame(1, 5, stream, b""));
    }
    while let [how, len, after @ ..] = rest
        && error.is_none()
        && last < 199
    {
        let (block, after) = after.split_at(after.len().min(usize::from(*len)));
        rest = after;
        let ends = how & 1 != 0;
        let has_head = open.get(&last).copied().filter(|_| how & 2 != 0);
        if has_head.is_none() {
            last += 2 - u32::from(last == 0);
        }
        let part = match has_head {
            Some(true) => Part::Trailers,
            None if is_client => Part::Request,
            Some(false) | None => Part::Response,
        };
        let (framed, is_sound) = framed(*how, last, block);
        bytes.extend(framed);
        let Some(fields) = table.read(block) else {
            error = Some(COMPRESSION_ERROR);
            break;
        };
        if size(&fields) > 8 * LIMITS.0 {
            // It may be found before what is broken behind it.
            error = Some(ENHANCE_YOUR_CALM);
            break;
        }
        let is_interim = part == Part::Response
            && fields
                .iter()
                .rfind(|(name, value)| name == b":status" && is_good(name, value))
                .is_some_and(|(_, value)| value[0] == b'1');
        match ends {
            true => open.remove(&last),
            false => open.insert(last, !is_interim),
        };
        let finding = if is_sound { judge(part, ends, &fields) } else { Finding::Malformed };
        wanted.push(Wanted { part, finding, ends, fields });
    }
    let guard = |piece| fuzzing::guard(is_client, LIMITS, &asked, &bytes, piece);
    let (verdict, shown) = guard(usize::MAX);
    let (in_pieces, shown_in_pieces) = guard(super::piece(choice % 4));
    assert_eq!(verdict, in_pieces, "however it is cut");
    assert_eq!(frames::frames(&shown), frames::frames(&shown_in_pieces), "however it is cut");
    match (error, verdict) {
        (Some(COMPRESSION_ERROR), Some(ENHANCE_YOUR_CALM)) => {}
        _ => assert_eq!(error, verdict),
    }
    let shown_frames = frames::frames(&shown);
    compare(&shown_frames[1..], &wanted);
    if is_client {
        // What the library makes of the frames as they are, in one case, and written together in the other.
        for shown in [shown, shown_in_pieces] {
            ask_library(&shown, &wanted);
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The frames of a block, and whether they say that a stream depends on itself.
fn framed(how: u8, stream: u32, block: &[u8]) -> (Vec<u8>, bool) {
    let (first, second) = match how & 4 != 0 {
        true => block.split_at(block.len() / 2),
        false => (block, &[][..]),
    };
    let mut flags = how & 1;
    let mut payload = Vec::new();
    if how & 8 != 0 {
        flags |= 8;
        payload.push(3);
    }
    let mut is_sound = true;
    if how & 16 != 0 {
        flags |= 0x20;
        is_sound = how & 32 == 0;
        let on = if is_sound { 0 } else { stream };
        payload.extend(on.to_be_bytes());
        payload.push(15);
    }
    payload.extend(first);
    payload.extend(vec![0; if how & 8 != 0 { 3 } else { 0 }]);
    let end = if how & 4 == 0 { 4 } else { 0 };
    let mut frames = frame(1, flags | end, stream, &payload);
    if how & 4 != 0 {
        frames.extend(frame(9, 4, stream, second));
    }
    (frames, is_sound)
}

/// What is shown is what is good, and of the rest nothing.
fn compare(shown: &[Frame], wanted: &[Wanted]) {
    assert_eq!(shown.len(), wanted.len());
    let mut table = Table::default();
    for (frame, wanted) in shown.iter().zip(wanted) {
        let fields = table.read(&frame.payload).expect("a block that can be read");
        assert_eq!(frame.flags & 1 != 0, wanted.ends);
        let value = |name: &[u8]| fields.iter().find(|(known, _)| known == name).map(|f| &f.1[..]);
        match (wanted.finding, wanted.part) {
            (Finding::Good, _) => assert_eq!(fields, wanted.fields),
            (_, Part::Response | Part::Trailers) => {
                assert_eq!(value(b"connection"), Some(&b""[..]))
            }
            (finding, Part::Request) => {
                let path = match finding {
                    Finding::Odd => fuzzing::ODD,
                    Finding::TooLarge => fuzzing::TOO_LARGE,
                    _ => fuzzing::MALFORMED,
                };
                assert_eq!((fields.len(), value(b":path")), (3, Some(path.as_bytes())));
            }
        }
    }
}

/// Says what it was given, and takes whatever it is told.
struct Script<'a> {
    says: &'a [u8],
}

impl AsyncRead for Script<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (said, rest) = self.says.split_at(self.says.len().min(buf.remaining()));
        buf.put_slice(said);
        self.says = rest;
        if said.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncWrite for Script<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The library takes all that it is shown, and comes to the same requests.
fn ask_library(shown: &[u8], wanted: &[Wanted]) {
    let says = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", shown].concat();
    let mut script = Script { says: &says };
    let cx = &mut Context::from_waker(Waker::noop());
    let requests = {
        let mut builder = h2::server::Builder::new();
        let handshake = builder.enable_connect_protocol().handshake::<_, bytes::Bytes>(&mut script);
        let mut handshake = std::pin::pin!(handshake);
        let Poll::Ready(connection) = handshake.as_mut().poll(cx) else { return };
        let mut connection = connection.expect("a connection");
        let mut requests = Vec::new();
        while let Poll::Ready(accepted) = connection.poll_accept(cx) {
            let (request, respond) = accepted.expect("the connection goes on").expect("a request");
            requests.push((respond.stream_id().as_u32(), request, respond));
        }
        let parts =
            requests.into_iter().map(|(stream, request, _)| (stream, request.into_parts().0));
        parts.collect::<Vec<_>>()
    };
    let wanted: Vec<_> = wanted.iter().filter(|wanted| wanted.part == Part::Request).collect();
    let mut seen = vec![false; wanted.len()];
    for (stream, parts) in requests {
        let nth = (stream as usize - 1) / 2;
        seen[nth] = true;
        let Wanted { finding, fields, .. } = wanted[nth];
        let mark = match finding {
            Finding::Good => {
                let mut others: Vec<_> =
                    fields.iter().filter(|(name, _)| !name.starts_with(b":")).cloned().collect();
                let taken = parts.headers.iter();
                let mut taken: Vec<Field> = taken
                    .map(|(name, value)| (name.as_str().into(), value.as_bytes().into()))
                    .collect();
                others.sort();
                taken.sort();
                assert_eq!(taken, others);
                let method = fields.iter().find(|(name, _)| name == b":method");
                assert_eq!(
                    method.map(|field| &field.1[..]),
                    Some(parts.method.as_str().as_bytes())
                );
                let path = fields.iter().find(|(name, _)| name == b":path");
                let target = parts.uri.path_and_query().map(|target| target.as_str().as_bytes());
                assert_eq!(path.map(|field| &field.1[..]), target);
                continue;
            }
            Finding::Malformed => fuzzing::MALFORMED,
            Finding::Odd => fuzzing::ODD,
            Finding::TooLarge => fuzzing::TOO_LARGE,
        };
        assert_eq!(parts.uri.path(), mark);
    }
    // What it does not take itself, for what it knows of URIs and lengths, it resets.
    for (wanted, seen) in wanted.iter().zip(seen) {
        assert!(
            seen || wanted.finding == Finding::Good,
            "the library takes what says what is wrong"
        );
    }
}
