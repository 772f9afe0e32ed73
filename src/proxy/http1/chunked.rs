//! The chunked coding (RFC 9112 section 7.1). The framing is judged byte by byte, because what one reader
//! takes for data another may take for the next message; nothing of it is passed on.

#[cfg(test)]
mod tests;

use super::scan::{Line, ScanLimits, TrailerScan};

/// Digits of a chunk size, which then fits into 64 bits.
const SIZE_DIGITS: u8 = 16;
/// Bytes of a chunk's first line, with its end.
const LINE_BYTES: u16 = 1024;
/// Bytes that all chunk extensions together may have more than the data: they cost work and bring nothing.
const EXTENSION_BYTES: u64 = 16 * 1024;
const TRAILERS: ScanLimits = ScanLimits { bytes: 16 * 1024, fields: 100, target: 0 };

/// The framing is not by the rules: where the body ends is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Malformed;

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Decoded {
    /// So many bytes at the front are now data.
    pub(in crate::proxy) data: usize,
    /// So many bytes were of the body: all, unless it ended.
    pub(in crate::proxy) read: usize,
    /// The body and its trailers are complete.
    pub(in crate::proxy) end: bool,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    /// In the white space between size and extension.
    SizeEnd,
    Extension,
    /// Behind the CR of a chunk's first line.
    LineEnd,
    Data,
    /// Behind the data of a chunk.
    DataEnd,
    /// Behind the CR there.
    DataLf,
    /// Behind the last chunk: the empty line or the first trailer.
    Trailers,
    /// Behind the CR of an empty line right there.
    NoTrailers,
    TrailerLines,
    End,
}

/// Takes the framing out of a body that comes in pieces. `clear` it before the next body.
#[derive(Debug)]
pub(in crate::proxy) struct Chunked {
    place: Place,
    /// Bytes of data that the chunk still has, or its size as far as it is read.
    size: u64,
    /// Digits of the size so far.
    digits: u8,
    /// Bytes of the chunk's first line so far.
    line: u16,
    /// So many more bytes of extensions may come.
    extensions: u64,
    trailers: Vec<u8>,
    scan: TrailerScan,
}

impl Default for Chunked {
    fn default() -> Self {
        Self {
            place: Place::Size,
            size: 0,
            digits: 0,
            line: 0,
            extensions: EXTENSION_BYTES,
            trailers: Vec::new(),
            scan: TrailerScan::default(),
        }
    }
}

impl Chunked {
    pub(in crate::proxy) fn clear(&mut self) {
        self.place = Place::Size;
        self.next_chunk();
        self.extensions = EXTENSION_BYTES;
        self.trailers.clear();
        self.scan.clear();
    }

    /// Reads on: the data among `bytes` is moved to their front.
    pub(in crate::proxy) fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, Malformed> {
        let mut data = 0;
        let mut read = 0;
        while read < bytes.len() && self.place != Place::End {
            match self.place {
                Place::Data => {
                    let length = (bytes.len() - read).min(self.size_in_memory());
                    bytes.copy_within(read..read + length, data);
                    data += length;
                    read += length;
                    self.take_data(length as u64);
                }
                Place::TrailerLines => read += self.trailer_line(&bytes[read..])?,
                place => {
                    self.place = self.framing(place, bytes[read])?;
                    read += usize::from(self.place != Place::TrailerLines);
                }
            }
        }
        Ok(Decoded { data, read, end: self.place == Place::End })
    }

    /// The trailer fields and the bytes that they are ranges of, once the body has ended. Whether they may
    /// be passed on is judged elsewhere.
    pub(in crate::proxy) fn trailers(&self) -> (&[Line], &[u8]) {
        (&self.scan.lines, &self.trailers)
    }

    /// The place behind a byte of framing.
    fn framing(&mut self, place: Place, byte: u8) -> Result<Place, Malformed> {
        match (place, byte) {
            (Place::Size | Place::SizeEnd | Place::Extension, _) => self.first_line(place, byte),
            (Place::LineEnd, b'\n') if self.size == 0 => Ok(Place::Trailers),
            (Place::LineEnd, b'\n') => Ok(Place::Data),
            (Place::DataEnd, b'\r') => Ok(Place::DataLf),
            (Place::DataLf, b'\n') => {
                self.next_chunk();
                Ok(Place::Size)
            }
            (Place::Trailers, b'\r') => Ok(Place::NoTrailers),
            (Place::Trailers, _) => Ok(Place::TrailerLines),
            (Place::NoTrailers, b'\n') => Ok(Place::End),
            _ => Err(Malformed),
        }
    }

    /// Size and extensions. White space may stand before an extension only: behind a size without one
    /// readers disagree on it. Extensions may hold what a line of text may; their grammar does not matter,
    /// because they end here.
    fn first_line(&mut self, place: Place, byte: u8) -> Result<Place, Malformed> {
        self.line += 1;
        // The LF is still to come.
        if self.line >= LINE_BYTES {
            return Err(Malformed);
        }
        if place == Place::Size
            && let Some(digit) = char::from(byte).to_digit(16)
        {
            return self.digit(digit.into());
        }
        let next = match (place, byte) {
            (Place::Size | Place::Extension, b'\r') if self.digits > 0 => {
                return Ok(Place::LineEnd);
            }
            (Place::Size, b' ' | b'\t') if self.digits > 0 => Place::SizeEnd,
            (Place::Size, b';') if self.digits > 0 => Place::Extension,
            (Place::SizeEnd, b' ' | b'\t') => Place::SizeEnd,
            (Place::SizeEnd, b';') => Place::Extension,
            (Place::Extension, b'\t' | b' '..=b'~' | 0x80..) => Place::Extension,
            _ => return Err(Malformed),
        };
        self.extensions = self.extensions.checked_sub(1).ok_or(Malformed)?;
        Ok(next)
    }

    fn digit(&mut self, digit: u64) -> Result<Place, Malformed> {
        self.digits += 1;
        if self.digits > SIZE_DIGITS {
            return Err(Malformed);
        }
        self.size = self.size << 4 | digit;
        Ok(Place::Size)
    }

    fn size_in_memory(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    fn take_data(&mut self, length: u64) {
        self.size -= length;
        self.extensions = self.extensions.saturating_add(length);
        if self.size == 0 {
            self.place = Place::DataEnd;
        }
    }

    fn next_chunk(&mut self) {
        self.size = 0;
        self.digits = 0;
        self.line = 0;
    }

    /// Collects up to the end of a line, and no byte of what may be the next message: how many.
    fn trailer_line(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let length = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        // One byte over the limit is enough for the scan to refuse it.
        let room = TRAILERS.bytes + 1 - self.trailers.len();
        self.trailers.extend_from_slice(&bytes[..length.min(room)]);
        if self.scan.scan(&self.trailers, &TRAILERS).map_err(|_| Malformed)? {
            self.place = Place::End;
        }
        Ok(length)
    }
}

/// Bytes of the longest size line.
const SIZE_LINE: usize = 2 * size_of::<usize>() + 2;

/// The line before a chunk's data.
#[derive(Debug)]
pub(in crate::proxy) struct SizeLine {
    bytes: [u8; SIZE_LINE],
    start: u8,
}

impl SizeLine {
    /// For `size` bytes; a chunk of none would end the body.
    pub(in crate::proxy) fn new(size: usize) -> Self {
        let mut bytes = [0; SIZE_LINE];
        bytes[SIZE_LINE - 2..].copy_from_slice(b"\r\n");
        let mut start = SIZE_LINE - 2;
        let mut rest = size;
        while start > 0 {
            start -= 1;
            bytes[start] = b"0123456789abcdef"[rest & 0xf];
            rest >>= 4;
            if rest == 0 {
                break;
            }
        }
        Self { bytes, start: start as u8 }
    }

    pub(in crate::proxy) fn as_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }
}

/// The last chunk and an empty trailer section.
pub(in crate::proxy) const END: &[u8] = b"0\r\n\r\n";
