//! The head of a message (RFC 9112 sections 2 to 5): where its parts are and that every byte of it may
//! stand where it stands. What the fields mean is judged elsewhere.
//!
//! A line ends with CRLF and nothing else. What section 2.2 lets a recipient forgive (a bare LF, bare
//! CR, white space before the first field) is refused: readers disagree on it.

mod bytes;
#[cfg(test)]
mod tests;

use crate::proxy::fields::Known;
use bytes::{target_run, text_run, token_run};

/// A range of the bytes that were scanned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The part of `bytes`, which must begin with those that were scanned. Of others it is any part, or
    /// nothing.
    #[inline]
    pub(in crate::proxy) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Of offsets below 4 GiB: no more is scanned.
    #[inline]
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }
}

/// A field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Line {
    pub(in crate::proxy) known: Known,
    /// A token, in the case it came in.
    pub(in crate::proxy) name: Span,
    /// Without the white space around it.
    pub(in crate::proxy) value: Span,
}

/// What a section may have at most.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct ScanLimits {
    /// Bytes with all line ends.
    pub(in crate::proxy) bytes: usize,
    /// Field lines.
    pub(in crate::proxy) fields: usize,
    /// Bytes of a request target.
    pub(in crate::proxy) target: usize,
}

/// Why a section is not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum ScanError {
    Malformed,
    /// The target, or the request line with it.
    TargetTooLong,
    /// More bytes than may be.
    TooLarge,
    /// More fields than may be.
    TooMany,
}

/// How far lines have been read that come in pieces.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The complete lines end here.
    at: usize,
    /// Behind them no line ends before this.
    looked: usize,
    /// The start line is among the complete ones.
    started: bool,
    /// The empty line is, too.
    done: bool,
}

/// The head of a request. `clear` it before the next one.
#[derive(Debug, Default)]
pub(in crate::proxy) struct RequestScan {
    /// A token.
    pub(in crate::proxy) method: Span,
    /// Not empty, and valid UTF-8; nothing else is known of it.
    pub(in crate::proxy) target: Span,
    /// Of HTTP/1: 0 or 1.
    pub(in crate::proxy) minor: u8,
    pub(in crate::proxy) lines: Vec<Line>,
    /// Bytes of the head, once it is complete.
    pub(in crate::proxy) len: usize,
    progress: Progress,
}

impl RequestScan {
    pub(in crate::proxy) fn clear(&mut self) {
        self.lines.clear();
        self.progress = Progress::default();
    }

    /// Reads on in `bytes`, which are all that came since the message began: whether the head is
    /// complete. Lines that have been read are not read again.
    pub(in crate::proxy) fn scan(
        &mut self,
        bytes: &[u8],
        limits: &ScanLimits,
    ) -> Result<bool, ScanError> {
        let Self { method, target, minor, lines, progress, len } = self;
        let is_complete = progress.advance(bytes, limits, |cursor, progress| {
            if !progress.started {
                (*method, *target, *minor) = cursor.request_line(limits.target)?;
                progress.line(cursor);
                progress.started = true;
            }
            cursor.fields(lines, limits.fields, progress)
        });
        *len = progress.at;
        is_complete
    }
}

/// The head of a response. `clear` it before the next one.
#[derive(Debug, Default)]
pub(in crate::proxy) struct ResponseScan {
    /// Of HTTP/1: 0 or 1.
    pub(in crate::proxy) minor: u8,
    /// 100 to 999.
    pub(in crate::proxy) status: u16,
    pub(in crate::proxy) reason: Span,
    pub(in crate::proxy) lines: Vec<Line>,
    /// Bytes of the head, once it is complete.
    pub(in crate::proxy) len: usize,
    progress: Progress,
}

impl ResponseScan {
    pub(in crate::proxy) fn clear(&mut self) {
        self.lines.clear();
        self.progress = Progress::default();
    }

    /// Like [`RequestScan::scan`].
    pub(in crate::proxy) fn scan(
        &mut self,
        bytes: &[u8],
        limits: &ScanLimits,
    ) -> Result<bool, ScanError> {
        let Self { minor, status, reason, lines, progress, len } = self;
        let is_complete = progress.advance(bytes, limits, |cursor, progress| {
            if !progress.started {
                (*minor, *status, *reason) = cursor.status_line()?;
                progress.line(cursor);
                progress.started = true;
            }
            cursor.fields(lines, limits.fields, progress)
        });
        *len = progress.at;
        // There is no target that could be too long.
        is_complete.map_err(|error| match error {
            ScanError::TargetTooLong => ScanError::TooLarge,
            error => error,
        })
    }
}

/// A trailer section (RFC 9112 section 7.1.2): fields and an empty line.
#[derive(Debug, Default)]
pub(super) struct TrailerScan {
    pub(super) lines: Vec<Line>,
    progress: Progress,
}

impl TrailerScan {
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.progress = Progress::default();
    }

    /// Like [`RequestScan::scan`].
    pub(super) fn scan(&mut self, bytes: &[u8], limits: &ScanLimits) -> Result<bool, ScanError> {
        let Self { lines, progress } = self;
        progress.started = true;
        progress.advance(bytes, limits, |cursor, progress| {
            cursor.fields(lines, limits.fields, progress)
        })
    }
}

impl Progress {
    /// Lets `read` go on where it is worth it: at a new line, where a line has ended, or where the limit
    /// leaves no other chance. It never sees more than the limit, so that how the bytes were cut makes no
    /// difference.
    #[inline]
    fn advance<'a>(
        &mut self,
        bytes: &'a [u8],
        limits: &ScanLimits,
        read: impl FnOnce(&mut Cursor<'a>, &mut Self) -> Result<(), Stop>,
    ) -> Result<bool, ScanError> {
        let limit = limits.bytes.min(u32::MAX as usize);
        let seen = bytes.get(..limit).unwrap_or(bytes);
        let is_over = bytes.len() > limit;
        if self.done {
            return Ok(true);
        }
        if self.looked > self.at && !is_over && !holds_line_end(seen, self.looked) {
            self.looked = seen.len();
            return Ok(false);
        }
        let mut cursor = Cursor { rest: seen.get(self.at..).unwrap_or_default(), len: seen.len() };
        match read(&mut cursor, self) {
            Ok(()) => {
                self.line(&cursor);
                self.done = true;
                Ok(true)
            }
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::More) if !is_over => {
                self.looked = seen.len();
                Ok(false)
            }
            Err(Stop::More) if self.started => Err(ScanError::TooLarge),
            Err(Stop::More) => Err(ScanError::TargetTooLong),
        }
    }

    /// A line is complete.
    #[inline]
    fn line(&mut self, cursor: &Cursor<'_>) {
        self.at = cursor.at();
    }
}

fn holds_line_end(bytes: &[u8], from: usize) -> bool {
    bytes.get(from..).is_some_and(|new| new.contains(&b'\n'))
}

/// Why reading stops before the empty line.
enum Stop {
    /// The bytes end, and what there is of the line may begin a good one.
    More,
    Error(ScanError),
}

const MALFORMED: Stop = Stop::Error(ScanError::Malformed);

/// Reads parts of lines, one after the other. None of them reads over the end of a line: bytes that end
/// in the midst of a part hold no LF behind the last complete line.
struct Cursor<'a> {
    rest: &'a [u8],
    /// Of all bytes, those before `rest` too.
    len: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    /// Takes a run of bytes, after which there must be another one.
    #[inline]
    fn take(&mut self, length: usize) -> (Span, Option<u8>) {
        let start = self.at();
        self.rest = &self.rest[length..];
        (Span::new(start, start + length), self.rest.first().copied())
    }

    /// Takes `byte`.
    #[inline]
    fn byte(&mut self, byte: u8) -> Result<(), Stop> {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                Ok(())
            }
            Some(_) => Err(MALFORMED),
            None => Err(Stop::More),
        }
    }

    /// The end of a line (RFC 9112 section 2.2).
    #[inline]
    fn line_end(&mut self) -> Result<(), Stop> {
        match self.rest {
            [b'\r', b'\n', rest @ ..] => {
                self.rest = rest;
                Ok(())
            }
            [] | [b'\r'] => Err(Stop::More),
            _ => Err(MALFORMED),
        }
    }

    /// A token and the delimiter that must follow it at once.
    #[inline]
    fn token(&mut self, delimiter: u8) -> Result<Span, Stop> {
        let (token, next) = self.take(token_run(self.rest));
        match next {
            Some(next) if next == delimiter && token.end > token.start => {
                self.rest = &self.rest[1..];
                Ok(token)
            }
            Some(_) => Err(MALFORMED),
            None => Err(Stop::More),
        }
    }

    /// Method, target and minor version (RFC 9112 section 3). One empty line before it is skipped
    /// (section 2.2).
    #[inline]
    fn request_line(&mut self, longest_target: usize) -> Result<(Span, Span, u8), Stop> {
        if self.rest.first() == Some(&b'\r') {
            self.line_end()?;
        }
        let method = self.token(b' ')?;
        let target = self.target(longest_target)?;
        let minor = match self.rest.split_first_chunk() {
            Some((b"HTTP/1.1\r\n", rest)) => {
                self.rest = rest;
                1
            }
            _ => self.version_and_end()?,
        };
        Ok((method, target, minor))
    }

    /// A target and the space behind it.
    #[inline]
    fn target(&mut self, longest: usize) -> Result<Span, Stop> {
        let run = target_run(self.rest);
        if run > longest {
            return Err(Stop::Error(ScanError::TargetTooLong));
        }
        let bytes = &self.rest[..run];
        let (target, next) = self.take(run);
        match next {
            Some(b' ') if run > 0 && (bytes.is_ascii() || str::from_utf8(bytes).is_ok()) => {
                self.rest = &self.rest[1..];
                Ok(target)
            }
            Some(_) => Err(MALFORMED),
            None => Err(Stop::More),
        }
    }

    #[cold]
    fn version_and_end(&mut self) -> Result<u8, Stop> {
        let minor = self.version()?;
        self.line_end()?;
        Ok(minor)
    }

    /// `HTTP/1.0` or `HTTP/1.1` (RFC 9112 section 2.3): the minor one.
    #[inline]
    fn version(&mut self) -> Result<u8, Stop> {
        match self.rest.split_first_chunk() {
            Some((b"HTTP/1.1", rest)) => {
                self.rest = rest;
                Ok(1)
            }
            Some((b"HTTP/1.0", rest)) => {
                self.rest = rest;
                Ok(0)
            }
            None if [b"HTTP/1.1", b"HTTP/1.0"].iter().any(|v| v.starts_with(self.rest)) => {
                Err(Stop::More)
            }
            _ => Err(MALFORMED),
        }
    }

    /// Minor version, status and reason (RFC 9112 section 4). The space before an empty reason may be
    /// missing: so many servers leave it out that the status is nowhere read otherwise.
    #[inline]
    fn status_line(&mut self) -> Result<(u8, u16, Span), Stop> {
        let minor = self.version()?;
        self.byte(b' ')?;
        let mut status = 0;
        for place in 0..3 {
            match self.rest.split_first() {
                Some((digit @ b'0'..=b'9', rest)) if place > 0 || *digit > b'0' => {
                    status = status * 10 + u16::from(digit - b'0');
                    self.rest = rest;
                }
                Some(_) => return Err(MALFORMED),
                None => return Err(Stop::More),
            }
        }
        let reason = match self.rest.first() {
            Some(b' ') => {
                self.rest = &self.rest[1..];
                self.text()?
            }
            _ => self.take(0).0,
        };
        self.line_end()?;
        Ok((minor, status, reason))
    }

    /// Field lines (RFC 9112 section 5) and the empty line.
    #[inline]
    fn fields(
        &mut self,
        lines: &mut Vec<Line>,
        most: usize,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        loop {
            if self.rest.first().is_none_or(|first| *first == b'\r') {
                return self.line_end();
            }
            if lines.len() == most {
                return Err(Stop::Error(ScanError::TooMany));
            }
            let name_bytes = self.rest;
            let name = self.token(b':')?;
            let value = self.value()?;
            self.line_end()?;
            let known = Known::of(&name_bytes[..(name.end - name.start) as usize]);
            lines.push(Line { known, name, value });
            progress.line(self);
        }
    }

    /// The value of a field, without the white space around it (RFC 9112 section 5.1).
    #[inline]
    fn value(&mut self) -> Result<Span, Stop> {
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
        let bytes = self.rest;
        let mut value = self.text()?;
        let mut trimmed = &bytes[..(value.end - value.start) as usize];
        while let [rest @ .., b' ' | b'\t'] = trimmed {
            trimmed = rest;
            value.end -= 1;
        }
        Ok(value)
    }

    /// Text up to the end of the line (RFC 9110 section 5.5).
    #[inline]
    fn text(&mut self) -> Result<Span, Stop> {
        let start = self.at();
        loop {
            match self.take(text_run(self.rest)).1 {
                Some(b'\r') => return Ok(Span::new(start, self.at())),
                Some(b'\t') => self.rest = &self.rest[1..],
                Some(_) => return Err(MALFORMED),
                None => return Err(Stop::More),
            }
        }
    }
}
