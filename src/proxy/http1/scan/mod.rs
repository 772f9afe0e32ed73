//! The head of a message (RFC 9112 sections 2 to 5): where its parts are and that every byte of it may
//! stand where it stands. What the fields mean is judged elsewhere.
//!
//! A line ends with CRLF and nothing else. What section 2.2 lets a recipient forgive (a bare LF, bare
//! CR, white space before the first field) is refused: readers disagree on it.

mod bytes;
#[cfg(test)]
mod tests;

use crate::proxy::fields::Known;
use bytes::{is_token, run_before, target_run, text_run};

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

impl Line {
    /// All of it with its end, if that is `name: value` with one blank and nothing else between.
    #[inline]
    pub(in crate::proxy) fn raw(self, bytes: &[u8]) -> Option<&[u8]> {
        let (start, end) = (self.name.start as usize, self.value.end as usize + 2);
        let is_plain = self.value.start == self.name.end + 2
            && bytes.get(self.name.end as usize + 1) == Some(&b' ')
            && bytes.get(end - 2) == Some(&b'\r');
        if is_plain { bytes.get(start..end) } else { None }
    }
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
    /// Some of the field lines among them are not `name: value` with one blank.
    odd: bool,
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
    /// Everything from the method to the last field, if all field lines are as this proxy would write them.
    pub(in crate::proxy) fn even<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        if self.progress.odd {
            return None;
        }
        bytes.get(self.method.start as usize..self.len.saturating_sub(2))
    }

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
                progress.at = cursor.at();
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
    /// Everything up to the last field, if all lines are as this proxy would write them.
    pub(in crate::proxy) fn even<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        const REASON: usize = b"HTTP/1.1 200 ".len();
        let has_reason = self.reason.start as usize == REASON && self.minor == 1;
        if self.progress.odd || !has_reason || !bytes.starts_with(b"HTTP/1.1 ") {
            return None;
        }
        bytes.get(..self.len.saturating_sub(2))
    }

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
                progress.at = cursor.at();
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
                self.at = cursor.at();
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

/// Reads parts of lines, one after the other. What it takes for the beginning of a good line holds no LF, so
/// that a line that has come in part can wait for one.
struct Cursor<'a> {
    rest: &'a [u8],
    /// Of all bytes, those before `rest` too.
    len: usize,
}

// Inlined so that a cursor lives in registers: heads are read for every request.
impl<'a> Cursor<'a> {
    #[inline(always)]
    fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    /// The next `length` bytes, which are there.
    #[inline(always)]
    fn take(&mut self, length: usize) -> (Span, &'a [u8]) {
        let start = self.at();
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        (Span::new(start, start + length), taken)
    }

    /// Takes what must come here.
    #[inline(always)]
    fn expect(&mut self, text: &[u8]) -> Result<(), Stop> {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(amiss(self.rest, text)),
        }
    }

    #[inline(always)]
    fn line_end(&mut self) -> Result<(), Stop> {
        // RFC 9112 section 2.2
        self.expect(b"\r\n")
    }

    /// Method, target and minor version (RFC 9112 section 3). One empty line before it is skipped
    /// (section 2.2).
    #[inline(always)]
    fn request_line(&mut self, longest_target: usize) -> Result<(Span, Span, u8), Stop> {
        if self.rest.first() == Some(&b'\r') {
            self.line_end()?;
        }
        let (method, bytes) = self.before(b' ')?;
        if !is_token(bytes) {
            return Err(MALFORMED);
        }
        let target = self.target(longest_target)?;
        let minor = self.version()?;
        self.line_end()?;
        Ok((method, target, minor))
    }

    /// What comes before `delimiter`, which is taken too. If that is not a token nothing good can come of it.
    #[inline(always)]
    fn before(&mut self, delimiter: u8) -> Result<(Span, &'a [u8]), Stop> {
        let (span, bytes) = self.take(run_before(delimiter, self.rest));
        match self.rest.split_first() {
            Some((_, rest)) => {
                self.rest = rest;
                Ok((span, bytes))
            }
            None if bytes.is_empty() || is_token(bytes) => Err(Stop::More),
            None => Err(MALFORMED),
        }
    }

    /// A target and the space behind it.
    #[inline(always)]
    fn target(&mut self, longest: usize) -> Result<Span, Stop> {
        let (length, is_ascii) = target_run(self.rest);
        let (target, bytes) = self.take(length);
        if length > longest {
            return Err(Stop::Error(ScanError::TargetTooLong));
        }
        self.expect(b" ")?;
        if bytes.is_empty() || !(is_ascii || str::from_utf8(bytes).is_ok()) {
            return Err(MALFORMED);
        }
        Ok(target)
    }

    /// `HTTP/1.0` or `HTTP/1.1` (RFC 9112 section 2.3): the minor one.
    #[inline(always)]
    fn version(&mut self) -> Result<u8, Stop> {
        if let Some(rest) = self.rest.strip_prefix(b"HTTP/1.1") {
            self.rest = rest;
            return Ok(1);
        }
        match self.expect(b"HTTP/1.0") {
            Ok(()) => Ok(0),
            Err(_) if b"HTTP/1.1".starts_with(self.rest) => Err(Stop::More),
            Err(stop) => Err(stop),
        }
    }

    /// Minor version, status and reason (RFC 9112 section 4). The space before an empty reason may be
    /// missing: many servers leave it out, and no reader takes the line for anything else.
    #[inline(always)]
    fn status_line(&mut self) -> Result<(u8, u16, Span), Stop> {
        let minor = self.version()?;
        self.expect(b" ")?;
        let mut status = 0;
        for lowest in [b'1', b'0', b'0'] {
            match self.rest.split_first() {
                Some((digit, rest)) if (lowest..=b'9').contains(digit) => {
                    status = status * 10 + u16::from(digit - b'0');
                    self.rest = rest;
                }
                Some(_) => return Err(MALFORMED),
                None => return Err(Stop::More),
            }
        }
        match self.rest.split_first() {
            Some((b' ', rest)) => self.rest = rest,
            Some((b'\r', _)) => {}
            Some(_) => return Err(MALFORMED),
            None => return Err(Stop::More),
        }
        let reason = self.take(self.text()).0;
        self.line_end()?;
        Ok((minor, status, reason))
    }

    /// Field lines (RFC 9112 section 5) and the empty line.
    #[inline(always)]
    fn fields(
        &mut self,
        lines: &mut Vec<Line>,
        most: usize,
        progress: &mut Progress,
    ) -> Result<(), Stop> {
        loop {
            match self.rest.first() {
                Some(b'\r') | None => return self.line_end(),
                _ if lines.len() == most => return Err(Stop::Error(ScanError::TooMany)),
                _ => {}
            }
            let (name, bytes) = self.before(b':')?;
            let known = Known::of(bytes);
            if known.may_be_any() && !is_token(bytes) {
                return Err(MALFORMED);
            }
            let value = self.value(&mut progress.odd)?;
            lines.push(Line { known, name, value });
            progress.at = self.at();
        }
    }

    /// A value without the white space around it, and the end of its line. `odd`: that is not one blank before
    /// it.
    #[inline(always)]
    fn value(&mut self, odd: &mut bool) -> Result<Span, Stop> {
        let is_even = match self.rest {
            // As nearly everybody writes it.
            [b' ', rest @ ..] if rest.first().is_some_and(|byte| *byte > b' ') => {
                self.rest = rest;
                true
            }
            text => {
                self.rest = without_blanks(text);
                text.len() == self.rest.len() + 1 && text.first() == Some(&b' ')
            }
        };
        let (mut value, bytes) = self.take(self.text());
        self.line_end()?;
        *odd |= !is_even;
        if let [.., b' ' | b'\t'] = bytes {
            value.end -= blanks_behind(bytes);
            *odd = true;
        }
        Ok(value)
    }

    /// Bytes of the text that comes here (RFC 9110 section 5.5).
    #[inline(always)]
    fn text(&self) -> usize {
        let mut length = text_run(self.rest);
        while let Some([b'\t', rest @ ..]) = self.rest.get(length..) {
            length += 1 + text_run(rest);
        }
        length
    }
}

#[cold]
fn without_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

#[cold]
fn blanks_behind(text: &[u8]) -> u32 {
    text.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count() as u32
}

/// Where `expected` should be: it may still come, or does not.
#[cold]
fn amiss(rest: &[u8], expected: &[u8]) -> Stop {
    if expected.starts_with(rest) { Stop::More } else { MALFORMED }
}
