//! A second reader of HTTP/1, written from RFC 9112 alone and for clarity alone. By default as strict as the
//! engine promises to be; with other [`Habits`] it forgives what some software out there forgives.

/// Names and values, as they came.
pub(crate) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What a reader does where the rules leave room or are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Habits {
    /// A line may end with LF alone.
    bare_lf: bool,
    /// CR may stand anywhere.
    bare_cr: bool,
    /// A line that begins with white space goes on with the value before it.
    folds: bool,
    /// White space before the colon, and control bytes in values.
    sloppy_fields: bool,
    /// Empty lines before a request.
    many_empty_lines: bool,
    both: Both,
    coding: Coding,
    lengths: Lengths,
    /// Chunk sizes as C reads numbers.
    sloppy_chunks: bool,
}

/// Transfer-Encoding and Content-Length at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Both {
    Refused,
    Coding,
    Length,
}

/// What `Transfer-Encoding` must say to mean chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// `chunked`, once, in HTTP/1.1; anything else is refused.
    Exactly,
    /// Chunks if `chunked` is anywhere in it, else nothing.
    Anywhere,
    /// Chunks if it is the last coding, else nothing.
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    /// One number, or the same several times.
    Same,
    First,
    Last,
}

impl Habits {
    pub(crate) const STRICT: Self = Self {
        bare_lf: false,
        bare_cr: false,
        folds: false,
        sloppy_fields: false,
        many_empty_lines: false,
        both: Both::Refused,
        coding: Coding::Exactly,
        lengths: Lengths::Same,
        sloppy_chunks: false,
    };

    /// Readers that differ from the strict one in one way, and some that forgive a lot.
    pub(crate) const ALL: &[Self] = &[
        Self { bare_lf: true, ..Self::STRICT },
        Self { bare_cr: true, ..Self::STRICT },
        Self { folds: true, ..Self::STRICT },
        Self { sloppy_fields: true, ..Self::STRICT },
        Self { many_empty_lines: true, ..Self::STRICT },
        Self { both: Both::Coding, ..Self::STRICT },
        Self { both: Both::Length, ..Self::STRICT },
        Self { coding: Coding::Anywhere, ..Self::STRICT },
        Self { coding: Coding::Last, ..Self::STRICT },
        Self { lengths: Lengths::First, ..Self::STRICT },
        Self { lengths: Lengths::Last, ..Self::STRICT },
        Self { sloppy_chunks: true, ..Self::STRICT },
        Self {
            bare_lf: true,
            bare_cr: true,
            folds: true,
            sloppy_fields: true,
            many_empty_lines: true,
            both: Both::Coding,
            coding: Coding::Anywhere,
            lengths: Lengths::First,
            sloppy_chunks: true,
        },
        Self {
            bare_lf: true,
            bare_cr: true,
            folds: true,
            sloppy_fields: true,
            many_empty_lines: true,
            both: Both::Length,
            coding: Coding::Last,
            lengths: Lengths::Last,
            sloppy_chunks: true,
        },
    ];
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Method, target, version; or version, status, reason.
    pub(crate) start: [Vec<u8>; 3],
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// Where it ends.
    pub(crate) end: usize,
    /// Nothing may follow it on its connection.
    pub(crate) last: bool,
}

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything was read, or nothing more is wanted.
    Clean,
    /// More must come.
    Incomplete,
    Refused,
}

/// Refused: the rules are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// `None`: more must come.
type Part<T> = Result<Option<T>, Broken>;

macro_rules! part {
    ($part:expr) => {
        match $part? {
            Some(part) => part,
            None => return Ok(None),
        }
    };
}

/// Requests one after the other, until the connection would be closed.
pub(crate) fn read_requests(bytes: &[u8], habits: &Habits) -> (Vec<Message>, Ended) {
    let mut messages = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match read_request(bytes, at, habits) {
            Ok(Some(message)) => {
                at = message.end;
                let is_last = message.last;
                messages.push(message);
                if is_last {
                    break;
                }
            }
            Ok(None) => return (messages, Ended::Incomplete),
            Err(Broken) => return (messages, Ended::Refused),
        }
    }
    (messages, Ended::Clean)
}

fn read_request(bytes: &[u8], at: usize, habits: &Habits) -> Part<Message> {
    let mut lines = Lines { bytes, at, habits };
    let mut line = part!(lines.next());
    let mut empty = 0;
    while line.is_empty() {
        empty += 1;
        if empty > 1 && !habits.many_empty_lines {
            return Err(Broken);
        }
        line = part!(lines.next());
    }
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else { return Err(Broken) };
    let minor = minor_of(version)?;
    if !is_token(method) || target.is_empty() {
        return Err(Broken);
    }
    let fields = part!(lines.fields());
    let (body, trailers, end) = match framing(&fields, minor, habits)? {
        Framing::Chunked => part!(lines.chunks()),
        Framing::Length(length) => part!(lines.body(length)),
        Framing::None => (Vec::new(), Vec::new(), lines.at),
    };
    let start = [method, target, version].map(<[u8]>::to_vec);
    let last = !persists(&fields, minor);
    Ok(Some(Message { start, fields, body, trailers, end, last }))
}

/// A response and the interim ones before it; the connection may have been `closed` behind the bytes. `None` for
/// the response when only interim ones are there. Also: whether it ends where the connection does.
pub(crate) fn read_response(
    bytes: &[u8],
    to_head: bool,
    closed: bool,
    habits: &Habits,
) -> Part<(Vec<Message>, Message, bool)> {
    let mut interims = Vec::new();
    let mut lines = Lines { bytes, at: 0, habits };
    loop {
        let line = part!(lines.next());
        let (version, rest) = line.split_at_checked(8).ok_or(Broken)?;
        let minor = minor_of(version)?;
        let (status, reason) = match rest {
            [b' ', a, b, c] => ([*a, *b, *c], &b""[..]),
            [b' ', a, b, c, b' ', reason @ ..] => ([*a, *b, *c], reason),
            _ => return Err(Broken),
        };
        let clean = |byte: &u8| *byte >= b' ' && *byte != 0x7f || *byte == b'\t';
        if !status.iter().all(u8::is_ascii_digit) || status[0] == b'0' {
            return Err(Broken);
        }
        if !reason.iter().all(clean) && !habits.sloppy_fields {
            return Err(Broken);
        }
        let start = [version.to_vec(), status.to_vec(), reason.to_vec()];
        let fields = part!(lines.fields());
        let mut message = Message {
            start,
            fields,
            body: Vec::new(),
            trailers: Vec::new(),
            end: lines.at,
            last: false,
        };
        if status[0] == b'1' && status != *b"101" {
            interims.push(message);
            continue;
        }
        let framing = framing(&message.fields, minor, habits)?;
        let has_none = to_head || matches!(&status, b"101" | b"204" | b"304");
        let mut until_close = false;
        let (body, trailers, end) = match framing {
            _ if has_none => (Vec::new(), Vec::new(), lines.at),
            Framing::Chunked => part!(lines.chunks()),
            Framing::Length(length) => part!(lines.body(length)),
            Framing::None if closed => {
                until_close = true;
                (bytes[lines.at..].to_vec(), Vec::new(), bytes.len())
            }
            Framing::None => return Ok(None),
        };
        message.last = until_close || !persists(&message.fields, minor);
        message.body = body;
        message.trailers = trailers;
        message.end = end;
        return Ok(Some((interims, message, until_close)));
    }
}

/// A chunked body: data, trailers, bytes of it all.
pub(crate) fn read_chunks(bytes: &[u8], habits: &Habits) -> Part<(Vec<u8>, Fields, usize)> {
    Lines { bytes, at: 0, habits }.chunks()
}

enum Framing {
    None,
    Length(usize),
    Chunked,
}

fn framing(fields: &Fields, minor: u8, habits: &Habits) -> Result<Framing, Broken> {
    let codings = values(fields, b"transfer-encoding");
    let lengths = values(fields, b"content-length");
    let is_coded = match habits.coding {
        _ if codings.is_empty() => false,
        Coding::Exactly => match codings[..] {
            [coding] if minor > 0 && coding.eq_ignore_ascii_case(b"chunked") => true,
            _ => return Err(Broken),
        },
        Coding::Anywhere => {
            codings.iter().any(|c| c.to_ascii_lowercase().windows(7).any(|w| w == b"chunked"))
        }
        Coding::Last => codings.last().is_some_and(|c| {
            let last = c.rsplit(|byte| *byte == b',').next().unwrap_or_default();
            last.trim_ascii().eq_ignore_ascii_case(b"chunked")
        }),
    };
    match (is_coded, lengths.is_empty(), habits.both) {
        (true, false, Both::Refused) => return Err(Broken),
        (true, true, _) | (true, false, Both::Coding) => return Ok(Framing::Chunked),
        (false, true, _) => return Ok(Framing::None),
        (true, false, Both::Length) | (false, false, _) => {}
    }
    let mut numbers = Vec::new();
    for value in lengths {
        for number in value.split(|byte| *byte == b',') {
            numbers.push(decimal(number.trim_ascii()).ok_or(Broken)?);
        }
    }
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { return Err(Broken) };
    let chosen = match habits.lengths {
        Lengths::Same if numbers.iter().any(|number| number != first) => return Err(Broken),
        Lengths::Same | Lengths::First => *first,
        Lengths::Last => *last,
    };
    Ok(Framing::Length(usize::try_from(chosen).unwrap_or(usize::MAX)))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn minor_of(version: &[u8]) -> Result<u8, Broken> {
    match version {
        b"HTTP/1.0" => Ok(0),
        b"HTTP/1.1" => Ok(1),
        _ => Err(Broken),
    }
}

fn persists(fields: &Fields, minor: u8) -> bool {
    let options = options(fields);
    let has = |name: &[u8]| options.iter().any(|option| option == name);
    !has(b"close") && (minor > 0 || has(b"keep-alive"))
}

/// What `Connection` lists, in lower case.
pub(crate) fn options(fields: &Fields) -> Vec<Vec<u8>> {
    values(fields, b"connection")
        .into_iter()
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|option| option.trim_ascii().to_ascii_lowercase())
        .filter(|option| !option.is_empty())
        .collect()
}

/// Fields that a trailer section must not bring (RFC 9110 section 6.5.1): they frame, route or say who asks.
const NO_TRAILERS: [&[u8]; 16] = [
    b"authorization",
    b"connection",
    b"content-length",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"http2-settings",
    b"keep-alive",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"x-request-id",
];

/// Whether a field of this name, which is in lower case, is a proxy's word on who asks.
pub(crate) fn tells_of_client(name: &[u8]) -> bool {
    name.starts_with(b"x-forwarded-")
}

/// Whether who takes `_` for `-` could take a name, which is in lower case, for the proxy's own word.
pub(crate) fn is_alias(name: &[u8]) -> bool {
    let dashed: Vec<u8> = name.iter().map(|b| if *b == b'_' { b'-' } else { *b }).collect();
    dashed != name && (tells_of_client(&dashed) || dashed == b"x-request-id")
}

/// Panics unless the trailers `sent` are those of `source` that may go on, as they came: none where `Connection`
/// names fields, which may be among them (RFC 9110 section 7.6.1).
pub(crate) fn assert_trailers(sent: &Fields, source: &Message) {
    let named = options(&source.fields);
    let passes = |(name, _): &&(Vec<u8>, Vec<u8>)| {
        let name = name.to_ascii_lowercase();
        !NO_TRAILERS.contains(&&name[..])
            && !named.contains(&name)
            && !tells_of_client(&name)
            && !is_alias(&name)
    };
    let expected: Fields = source.trailers.iter().filter(passes).cloned().collect();
    let may_be_less = named.iter().any(|option| option != b"close" && option != b"keep-alive");
    assert!(*sent == expected || (may_be_less && sent.is_empty()), "trailers {sent:?}");
}

/// The values of the fields of this name, which is in lower case.
pub(crate) fn values<'a>(fields: &'a Fields, name: &[u8]) -> Vec<&'a [u8]> {
    let named = fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_slice()).collect()
}

fn is_token(bytes: &[u8]) -> bool {
    let is_good = |byte: &u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_good)
}

/// Panics unless all names are tokens and all values text without white space around it.
pub(crate) fn assert_clean(fields: &Fields) {
    for (name, value) in fields {
        assert!(is_token(name), "{:?}", String::from_utf8_lossy(name));
        let is_text = value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
        assert!(is_text, "{:?}", String::from_utf8_lossy(value));
        let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        assert!(!is_space(value.first()) && !is_space(value.last()));
    }
}

struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    habits: &'a Habits,
}

impl<'a> Lines<'a> {
    /// A line without its end.
    fn next(&mut self) -> Part<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        self.at += length + 1;
        let line = match &rest[..length] {
            [line @ .., b'\r'] => line,
            line if self.habits.bare_lf => line,
            _ => return Err(Broken),
        };
        if line.contains(&b'\r') && !self.habits.bare_cr {
            return Err(Broken);
        }
        Ok(Some(line))
    }

    /// Fields and the empty line.
    fn fields(&mut self) -> Part<Fields> {
        let sloppy = self.habits.sloppy_fields;
        let mut fields: Fields = Vec::new();
        loop {
            let line = part!(self.next());
            if line.is_empty() {
                return Ok(Some(fields));
            }
            if matches!(line[0], b' ' | b'\t') && self.habits.folds {
                let (_, value) = fields.last_mut().ok_or(Broken)?;
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
                continue;
            }
            let colon = line.iter().position(|byte| *byte == b':').ok_or(Broken)?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            let name = if sloppy { name.trim_ascii() } else { name };
            let is_text =
                value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
            if !(sloppy || is_token(name) && is_text) {
                return Err(Broken);
            }
            let mut value = value;
            while let [b' ' | b'\t', rest @ ..] = value {
                value = rest;
            }
            while let [rest @ .., b' ' | b'\t'] = value {
                value = rest;
            }
            fields.push((name.to_vec(), value.to_vec()));
        }
    }

    fn body(&self, length: usize) -> Part<(Vec<u8>, Fields, usize)> {
        let rest = &self.bytes[self.at..];
        Ok(rest.get(..length).map(|body| (body.to_vec(), Vec::new(), self.at + length)))
    }

    fn chunks(&mut self) -> Part<(Vec<u8>, Fields, usize)> {
        let mut data = Vec::new();
        loop {
            let line = part!(self.next());
            let size = self.size(line)?;
            if size == 0 {
                let trailers = part!(self.fields());
                return Ok(Some((data, trailers, self.at)));
            }
            let rest = &self.bytes[self.at..];
            let Some(chunk) = rest.get(..size) else { return Ok(None) };
            data.extend_from_slice(chunk);
            self.at += size;
            match &rest[size..] {
                [b'\r', b'\n', ..] => self.at += 2,
                [b'\n', ..] if self.habits.bare_lf => self.at += 1,
                [] | [b'\r'] => return Ok(None),
                _ => return Err(Broken),
            }
        }
    }

    fn size(&self, line: &[u8]) -> Result<usize, Broken> {
        let sloppy = self.habits.sloppy_chunks;
        let line = if sloppy { line.trim_ascii_start() } else { line };
        let line = if sloppy { line.strip_prefix(b"0x").unwrap_or(line) } else { line };
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extension) = line.split_at(digits);
        let is_text = extension.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f));
        let is_extension =
            extension.is_empty() || (extension.trim_ascii_start().starts_with(b";") && is_text);
        if digits.is_empty() || (!sloppy && (digits.len() > 16 || !is_extension)) {
            return Err(Broken);
        }
        // Like C, which wraps around.
        let significant = &digits[digits.len().saturating_sub(16)..];
        let digits = std::str::from_utf8(significant).map_err(|_| Broken)?;
        let size = u64::from_str_radix(digits, 16).map_err(|_| Broken)?;
        Ok(usize::try_from(size).unwrap_or(usize::MAX))
    }
}
