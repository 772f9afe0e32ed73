//! RFC 7541, as far as a test needs it: a writer that writes what it is told, however wrong, and a reader.

use std::{
    collections::{HashMap, VecDeque},
    sync::LazyLock,
};

/// A header block in the making.
#[derive(Clone, Debug, Default)]
pub struct Block(pub Vec<u8>);

impl Block {
    pub fn new() -> Self {
        Self::default()
    }

    /// The pseudo-headers of a good request.
    pub fn request(method: &str, path: &str) -> Self {
        Self::new()
            .field(":method", method)
            .field(":scheme", "http")
            .field(":path", path)
            .field(":authority", "a")
    }

    pub fn get(path: &str) -> Self {
        Self::request("GET", path)
    }

    pub fn post(path: &str) -> Self {
        Self::request("POST", path)
    }

    /// A literal without indexing (section 6.2.2), whatever the bytes.
    pub fn field(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.literal(0, name.as_ref(), value.as_ref())
    }

    /// A literal that goes into the dynamic table (section 6.2.1).
    pub fn indexed(self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.literal(0x40, name.as_ref(), value.as_ref())
    }

    /// What stands at a place of the tables (section 6.1).
    pub fn reference(mut self, index: u64) -> Self {
        integer(&mut self.0, 7, 0x80, index);
        self
    }

    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    fn literal(mut self, kind: u8, name: &[u8], value: &[u8]) -> Self {
        self.0.push(kind);
        for text in [name, value] {
            integer(&mut self.0, 7, 0, text.len() as u64);
            self.0.extend_from_slice(text);
        }
        self
    }
}

/// Section 5.1.
fn integer(out: &mut Vec<u8>, bits: u32, first: u8, mut value: u64) {
    let most = (1u64 << bits) - 1;
    if value < most {
        return out.push(first | value as u8);
    }
    out.push(first | most as u8);
    value -= most;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

type Field = (String, String);

/// Reads header blocks of one sender.
#[derive(Default)]
pub struct Reader {
    dynamic: VecDeque<Field>,
}

impl Reader {
    pub fn read(&mut self, block: &[u8]) -> Result<Vec<Field>, String> {
        let mut rest = block;
        let mut fields = Vec::new();
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = take_integer(&mut rest, 7)?;
                fields.push(self.at(index)?);
            } else if first & 0x40 != 0 {
                let field = self.take_literal(&mut rest, 6)?;
                self.dynamic.push_front(field.clone());
                // The sender was told of no other size than 4,096.
                while self.dynamic.iter().map(|(n, v)| n.len() + v.len() + 32).sum::<usize>() > 4096
                {
                    self.dynamic.pop_back();
                }
                fields.push(field);
            } else if first & 0x20 != 0 {
                take_integer(&mut rest, 5)?;
            } else {
                fields.push(self.take_literal(&mut rest, 4)?);
            }
        }
        Ok(fields)
    }

    fn at(&self, index: u64) -> Result<Field, String> {
        let index = usize::try_from(index).map_err(|e| e.to_string())?;
        if let Some((name, value)) = index.checked_sub(1).and_then(|index| STATIC.get(index)) {
            return Ok(((*name).into(), (*value).into()));
        }
        let field = index.checked_sub(STATIC.len() + 1).and_then(|index| self.dynamic.get(index));
        field.cloned().ok_or_else(|| format!("nothing at {index}"))
    }

    fn take_literal(&self, rest: &mut &[u8], bits: u32) -> Result<Field, String> {
        let name = match take_integer(rest, bits)? {
            0 => take_text(rest)?,
            index => self.at(index)?.0,
        };
        Ok((name, take_text(rest)?))
    }
}

fn take_integer(rest: &mut &[u8], bits: u32) -> Result<u64, String> {
    let most = (1u64 << bits) - 1;
    let mut value = u64::from(take(rest)?) & most;
    let mut shift = 0;
    if value == most {
        loop {
            let byte = take(rest)?;
            value += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 || shift > 28 {
                break;
            }
        }
    }
    Ok(value)
}

fn take(rest: &mut &[u8]) -> Result<u8, String> {
    let (&byte, after) = rest.split_first().ok_or("the block ends")?;
    *rest = after;
    Ok(byte)
}

fn take_text(rest: &mut &[u8]) -> Result<String, String> {
    let is_huffman = rest.first().is_some_and(|byte| byte & 0x80 != 0);
    let len = take_integer(rest, 7)? as usize;
    let (text, after) = rest.split_at_checked(len).ok_or("the block ends")?;
    *rest = after;
    let text = if is_huffman { huffman(text)? } else { text.to_vec() };
    String::from_utf8(text).map_err(|e| e.to_string())
}

/// Section 5.2 and appendix B: the codes of each length follow each other in the order of their symbols.
pub fn huffman(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let (mut code, mut length) = (0u32, 0u8);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        if let Some(symbol) = CODES.get(&(length, code)) {
            out.push(*symbol);
            (code, length) = (0, 0);
        }
        if length > 30 {
            return Err("no Huffman code".into());
        }
    }
    let is_padding = length < 8 && code == (1 << length) - 1;
    if is_padding { Ok(out) } else { Err("no Huffman code".into()) }
}

/// Symbols by the length of their codes and these.
static CODES: LazyLock<HashMap<(u8, u32), u8>> = LazyLock::new(|| {
    let mut codes = HashMap::new();
    let mut code = 0;
    for length in 1..=30 {
        for symbol in (0..=255u8).filter(|symbol| LENGTHS[usize::from(*symbol)] == length) {
            codes.insert((length, code), symbol);
            code += 1;
        }
        code <<= 1;
    }
    codes
});

/// Bits of each symbol's code.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

pub const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[test]
fn what_is_written_is_read() {
    let block = Block::get("/x").indexed("a", "b").reference(62);
    let fields = Reader::default().read(&block.0).unwrap();
    assert_eq!(fields[4], ("a".into(), "b".into()));
    assert_eq!(fields[5], fields[4]);
    assert_eq!(fields[0], (":method".into(), "GET".into()));
}

/// RFC 7541 appendix C.6.1.
#[test]
fn an_example_of_the_rfc() {
    let block = b"\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b";
    let fields = Reader::default().read(block).unwrap();
    assert_eq!(
        fields,
        [(":status".into(), "302".into()), ("cache-control".into(), "private".into())]
    );
}
