//! HPACK (RFC 7541): header blocks as the guard reads them, beside the library, and as it writes them.

mod huffman;
mod kind;
mod table;

pub(super) use kind::Kind;
pub(super) use table::Field;

use huffman::{NoCode, decode};
use table::Table;

/// Continuations of an integer: more than any size here needs, and what the library takes too.
const LONGEST_INTEGER: u32 = 4;

/// What reads the blocks of one peer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    table: Table,
}

/// Why a block is not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It cannot be: what comes behind it cannot either.
    Broken,
    /// Who is told of the fields has enough.
    Enough,
}

impl From<NoCode> for Stop {
    fn from(_: NoCode) -> Self {
        Self::Broken
    }
}

impl Decoder {
    /// Tells `each` of the fields of a block. False when it has enough.
    ///
    /// # Errors
    /// When it is no block that the peer may send (section 2.2, sections 5 and 6), or `each` has enough.
    pub(super) fn read(
        &mut self,
        block: &[u8],
        mut each: impl FnMut(Field<'_>) -> bool,
    ) -> Result<(), Stop> {
        let mut rest = block;
        let mut is_begun = false;
        let mut text = Vec::new();
        while let Some(first) = rest.first().copied() {
            let goes_on = match first {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    each(self.table.at(index).ok_or(Stop::Broken)?)
                }
                0x20..0x40 => {
                    let size = integer(&mut rest, 5)?;
                    // Section 4.2.
                    if is_begun || !self.table.resize(size) {
                        return Err(Stop::Broken);
                    }
                    continue;
                }
                _ => {
                    let is_kept = first >= 0x40;
                    let index = integer(&mut rest, if is_kept { 6 } else { 4 })?;
                    let name = self.literal(index, &mut rest, &mut text)?;
                    let (name, value) = text.split_at(name);
                    let kind = Kind::of(name, value);
                    if is_kept {
                        self.table.insert(&text, name.len(), kind);
                    }
                    each(Field { name, value, kind })
                }
            };
            is_begun = true;
            if !goes_on {
                return Err(Stop::Enough);
            }
        }
        Ok(())
    }

    /// Puts a name, be it from the tables, and its value into `text`; how long the name is.
    fn literal(&self, index: usize, rest: &mut &[u8], text: &mut Vec<u8>) -> Result<usize, Stop> {
        text.clear();
        // Once for most blocks.
        text.reserve(256);
        match index {
            0 => string(rest, text)?,
            _ => text.extend_from_slice(self.table.at(index).ok_or(Stop::Broken)?.name),
        }
        let name = text.len();
        string(rest, text)?;
        Ok(name)
    }
}

/// Section 5.1.
fn integer(rest: &mut &[u8], bits: u32) -> Result<usize, Stop> {
    let most = (1 << bits) - 1;
    let mut value = usize::from(byte(rest)?) & most;
    if value < most {
        return Ok(value);
    }
    for place in 0..LONGEST_INTEGER {
        let byte = byte(rest)?;
        value += usize::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Stop::Broken)
}

fn byte(rest: &mut &[u8]) -> Result<u8, Stop> {
    let (byte, after) = rest.split_first().ok_or(Stop::Broken)?;
    *rest = after;
    Ok(*byte)
}

/// Section 5.2.
fn string(rest: &mut &[u8], text: &mut Vec<u8>) -> Result<(), Stop> {
    let is_huffman = rest.first().is_some_and(|first| *first >= 0x80);
    let len = integer(rest, 7)?;
    let (string, after) = rest.split_at_checked(len).ok_or(Stop::Broken)?;
    *rest = after;
    if is_huffman {
        decode(string, text)?;
    } else {
        text.extend_from_slice(string);
    }
    Ok(())
}

/// Appends a field that says all of itself and leaves the tables as they are (section 6.2.2).
pub(super) fn write(name: &[u8], value: &[u8], block: &mut Vec<u8>) {
    block.push(0);
    for text in [name, value] {
        let mut rest = text.len();
        if rest < 0x7f {
            block.push(rest as u8);
        } else {
            block.push(0x7f);
            rest -= 0x7f;
            while rest >= 0x80 {
                block.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            block.push(rest as u8);
        }
        block.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests;
