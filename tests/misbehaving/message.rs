//! Messages as they came, and how they differ from what must come.

use super::case::{End, Reply};

/// Why no more can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    Ended,
    Reset,
    Malformed(String),
}

/// A field section, names in lower case.
pub type Fields = Vec<(String, String)>;

/// A response as it came.
#[derive(Debug, Default)]
pub struct Got {
    pub interims: Vec<u16>,
    /// Of all of them.
    pub interim_fields: Fields,
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// To HEAD.
    pub is_head: bool,
    pub end: Option<End>,
}

/// A request as far as it came.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
    pub whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
    Close,
    None,
}

pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub fn framing(fields: &Fields) -> Result<Option<Framing>, Stop> {
    let all = |wanted: &str| -> Vec<&str> {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| &value[..]).collect()
    };
    match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Ok(None),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse().map_err(|_| Stop::Malformed((*length).into()))?;
            Ok(Some(Framing::Length(length)))
        }
        ([list], []) if list.contains(", ") => {
            let mut lengths = list.split(", ").map(str::parse);
            match (lengths.next(), lengths.next()) {
                (Some(Ok(length)), Some(Ok(same))) if length == same => {
                    Ok(Some(Framing::Length(length)))
                }
                _ => Err(Stop::Malformed((*list).into())),
            }
        }
        ([], ["chunked"]) => Ok(Some(Framing::Chunked)),
        (lengths, codings) => {
            Err(Stop::Malformed(format!("lengths {lengths:?}, codings {codings:?}")))
        }
    }
}

fn lines(got: &Got) -> Vec<String> {
    let fields = got.fields.iter().map(|(name, value)| format!("{name}: {value}"));
    let trailers = got.trailers.iter().map(|(name, value)| format!("trailer {name}: {value}"));
    let early = got.interim_fields.iter().map(|(name, value)| format!("early {name}: {value}"));
    fields.chain(trailers).chain(early).collect()
}

/// Why the response is none of these.
pub fn complaint(got: &Got, replies: &[Reply]) -> Option<String> {
    let wrongs: Option<Vec<_>> = replies.iter().map(|reply| difference(got, reply)).collect();
    let wrongs = wrongs?.join(" / ");
    let Got { interims, status, body, end, .. } = got;
    let (lines, length) = (lines(got).join(" | "), body.len());
    let body = String::from_utf8_lossy(body);
    Some(format!(
        "{wrongs}\n    got: {interims:?} {status} [{lines}] {body:.200?}, {length} bytes, {end:?}"
    ))
}

/// What is not as it must be.
fn difference(got: &Got, reply: &Reply) -> Option<String> {
    let wrong = |what: String| Some(what);
    if got.status != reply.status {
        return wrong(format!("status {}, not {}", got.status, reply.status));
    }
    if got.interims != reply.interims {
        return wrong(format!("interims {:?}, not {:?}", got.interims, reply.interims));
    }
    let end = got.end.expect("it has come to an end");
    let is_end = match reply.end {
        End::Whole => matches!(end, End::Kept | End::Closed),
        expected => end == expected,
    };
    if !is_end {
        return wrong(format!("end {end:?}, not {:?}", reply.end));
    }
    let lines = lines(got);
    let error = lines.iter().find_map(|line| line.strip_prefix("x-crossfade-error: "));
    if error != reply.error {
        return wrong(format!("error {error:?}, not {:?}", reply.error));
    }
    let is_body = match (reply.error, reply.end) {
        (Some(reason), _) => got.is_head || got.body.starts_with(reason.as_bytes()),
        (None, End::Cut | End::Reset) => reply.body.starts_with(&got.body),
        (None, _) => got.body[..] == reply.body[..],
    };
    if !is_body {
        return wrong(format!("body, not {:.100?}", String::from_utf8_lossy(&reply.body)));
    }
    if let Some(line) = reply.has.iter().find(|wanted| !lines.iter().any(|line| line == *wanted)) {
        return wrong(format!("no {line:?}"));
    }
    let lacked = |line: &&String| reply.lacks.iter().any(|begin| line.starts_with(begin));
    lines.iter().find(lacked).and_then(|line| wrong(format!("has {line:?}")))
}
