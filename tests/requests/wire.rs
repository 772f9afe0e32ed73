//! A reader of HTTP/1.1 that takes nothing but what RFC 9112 says, written apart from the proxy: what it
//! does not accept from the proxy is wrong.

/// A request as the backend saw it or a response as the client did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Without its line end.
    pub start: Vec<u8>,
    pub fields: Vec<Field>,
    /// Without chunk framing.
    pub body: Vec<u8>,
    pub trailers: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

impl Field {
    /// Its name is `name`, in whatever case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

impl Message {
    /// The values of all lines of this name.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |field| field.is(name)).map(|field| &field.value[..])
    }

    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.is(name)).map(|field| &field.value[..])
    }

    /// Of a request.
    pub fn target(&self) -> &[u8] {
        self.start.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
    }

    /// Of a response.
    pub fn status(&self) -> u16 {
        let status = self.start.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        status.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
}

pub enum Read {
    /// And how many bytes it took.
    Whole(Message, usize),
    Partial,
    /// A response that ends with its connection.
    UntilEnd(Message),
    Wrong(String),
}

/// The head alone, once it is there.
pub fn head(bytes: &[u8]) -> Option<Message> {
    let (start, at) = line(bytes, 0).ok()??;
    let (fields, _) = fields(bytes, at).ok()??;
    Some(Message { start: start.to_vec(), fields, ..Message::default() })
}

pub fn request(bytes: &[u8]) -> Read {
    read(bytes, &|start, _| {
        let mut parts = start.split(|byte| *byte == b' ');
        let (method, target, version) = (parts.next(), parts.next(), parts.next());
        let is_target = |target: &[u8]| {
            !target.is_empty() && target.iter().all(|byte| !byte.is_ascii_control())
        };
        if !method.is_some_and(is_token)
            || !target.is_some_and(is_target)
            || version != Some(b"HTTP/1.1")
            || parts.next().is_some()
        {
            return Err(format!("no request line: {}", start.escape_ascii()));
        }
        Ok(Without::NoLength)
    })
}

/// `answers_head`: there is no body, whatever the fields say.
pub fn response(bytes: &[u8], answers_head: bool) -> Read {
    read(bytes, &|start, _| {
        let is_status = start.len() >= 13
            && matches!(&start[..9], b"HTTP/1.1 " | b"HTTP/1.0 ")
            && start[9..12].iter().all(u8::is_ascii_digit)
            && start[12] == b' ';
        if !is_status {
            return Err(format!("no status line: {}", start.escape_ascii()));
        }
        let bodyless = start[9] == b'1' || matches!(&start[9..12], b"204" | b"304");
        Ok(if answers_head || bodyless { Without::Body } else { Without::End })
    })
}

/// What the fields have no say in.
enum Without {
    /// There is none, whatever they say.
    Body,
    /// Without fields that say so there is none.
    NoLength,
    /// Without fields that say so it ends with the connection.
    End,
}

type Kind<'a> = dyn Fn(&[u8], &[Field]) -> Result<Without, String> + 'a;

fn read(bytes: &[u8], kind: &Kind<'_>) -> Read {
    match try_read(bytes, kind) {
        Ok(Some(read)) => read,
        Ok(None) => Read::Partial,
        Err(why) => Read::Wrong(why),
    }
}

fn try_read(bytes: &[u8], kind: &Kind<'_>) -> Result<Option<Read>, String> {
    let Some((start, at)) = line(bytes, 0)? else { return Ok(None) };
    let Some((fields, at)) = fields(bytes, at)? else { return Ok(None) };
    let without = kind(start, &fields)?;
    let mut message = Message { start: start.to_vec(), fields, ..Message::default() };
    let lengths: Vec<_> = message.values("content-length").map(<[u8]>::to_vec).collect();
    let codings: Vec<_> = message.values("transfer-encoding").map(<[u8]>::to_vec).collect();
    if matches!(without, Without::Body) {
        return Ok(Some(Read::Whole(message, at)));
    }
    match (&lengths[..], &codings[..]) {
        ([], []) if matches!(without, Without::End) => {
            message.body = bytes[at..].to_vec();
            Ok(Some(Read::UntilEnd(message)))
        }
        ([], []) => Ok(Some(Read::Whole(message, at))),
        ([length], []) => {
            let text = String::from_utf8_lossy(length);
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            let length: usize =
                text.parse().ok().filter(|_| is_plain).ok_or(format!("length {text}"))?;
            let Some(body) = bytes.get(at..at.saturating_add(length)) else { return Ok(None) };
            message.body = body.to_vec();
            Ok(Some(Read::Whole(message, at + length)))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => {
            let Some(at) = chunks(bytes, at, &mut message.body)? else { return Ok(None) };
            let Some((trailers, at)) = self::fields(bytes, at)? else { return Ok(None) };
            message.trailers = trailers;
            Ok(Some(Read::Whole(message, at)))
        }
        _ => Err(format!("framing: {} lengths, {} codings", lengths.len(), codings.len())),
    }
}

/// A line and where the next one begins.
fn line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, String> {
    let rest = &bytes[at..];
    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
        // The last byte may be the first half of the line's end.
        let sure = &rest[..rest.len().saturating_sub(1)];
        return match sure.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            true => Err("a bare CR or LF".into()),
            false => Ok(None),
        };
    };
    let line = &rest[..end];
    match line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        true => Err(format!("a bare CR, LF or NUL in {}", line.escape_ascii())),
        false => Ok(Some((line, at + end + 2))),
    }
}

/// The fields up to the empty line and where that ends.
fn fields(bytes: &[u8], mut at: usize) -> Result<Option<(Vec<Field>, usize)>, String> {
    let mut fields = Vec::new();
    loop {
        let Some((text, next)) = line(bytes, at)? else { return Ok(None) };
        at = next;
        if text.is_empty() {
            return Ok(Some((fields, at)));
        }
        let colon = text.iter().position(|byte| *byte == b':').ok_or("a line without a colon")?;
        let (name, value) = (&text[..colon], text[colon + 1..].trim_ascii());
        let is_value = value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
        if !is_token(name) || !is_value {
            return Err(format!("no field: {}", text.escape_ascii()));
        }
        fields.push(Field { name: name.to_vec(), value: value.to_vec() });
    }
}

/// The chunks, up to where the trailers begin. The proxy has no reason to send extensions.
fn chunks(bytes: &[u8], mut at: usize, body: &mut Vec<u8>) -> Result<Option<usize>, String> {
    loop {
        let Some((size, next)) = line(bytes, at)? else { return Ok(None) };
        let is_hex = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
        let text = String::from_utf8_lossy(size);
        let size = usize::from_str_radix(&text, 16).ok().filter(|_| is_hex);
        let size = size.ok_or(format!("chunk size {}", text.escape_debug()))?;
        if size == 0 {
            return Ok(Some(next));
        }
        let end = next.saturating_add(size);
        let Some(data) = bytes.get(next..end) else { return Ok(None) };
        body.extend_from_slice(data);
        match bytes.get(end..end + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at = end + 2,
            Some(_) => return Err("a chunk without its line end".into()),
        }
    }
}

fn is_token(name: &[u8]) -> bool {
    let is_symbol = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || is_symbol(*byte))
}

#[test]
fn the_reader_is_strict() {
    for (bytes, what) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "whole"),
        ("POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nok", "whole"),
        ("POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\no", "partial"),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "whole"),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", "partial"),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2;a\r\nok\r\n0\r\n\r\n", "wrong"),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", "wrong"),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokk\r\n0\r\n\r\n", "wrong"),
        ("POST / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n", "wrong"),
        ("POST / HTTP/1.1\r\ncontent-length: +2\r\n\r\nok", "wrong"),
        ("P / HTTP/1.1\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\n\r\n", "wrong"),
        ("P / HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", "wrong"),
        ("GET  / HTTP/1.1\r\n\r\n", "wrong"),
        ("GET / HTTP/1.0\r\n\r\n", "wrong"),
        ("GET / HTTP/1.1\nhost: a\r\n\r\n", "wrong"),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", "wrong"),
        ("GET / HTTP/1.1\r\nhost: a\r\n b\r\n\r\n", "wrong"),
        ("GET / HTTP/1.1\r\nhost: a\0\r\n\r\n", "wrong"),
    ] {
        let read = match request(bytes.as_bytes()) {
            Read::Whole(_, len) if len == bytes.len() => "whole",
            Read::Whole(..) => "more",
            Read::Partial => "partial",
            Read::UntilEnd(_) => "until end",
            Read::Wrong(_) => "wrong",
        };
        assert_eq!(read, what, "{bytes:?}");
    }
    assert!(matches!(response(b"HTTP/1.1 204 \r\n\r\n", false), Read::Whole(_, 17)));
    assert!(matches!(response(b"HTTP/1.1 200 \r\n\r\n", false), Read::UntilEnd(_)));
    assert!(matches!(
        response(b"HTTP/1.1 200 \r\ncontent-length: 9\r\n\r\n", true),
        Read::Whole(..)
    ));
    assert!(matches!(response(b"HTTP/1.1 2x0 \r\n\r\n", false), Read::Wrong(_)));
}
