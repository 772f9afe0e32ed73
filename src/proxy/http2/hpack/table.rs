//! The tables of HPACK (RFC 7541 section 2.3): what is known beforehand, and what the peer has put in since.

use super::kind::Kind;
use std::collections::VecDeque;

/// What the peer may put in, as it starts out (RFC 9113 section 6.5.2): nobody was offered another size.
pub(super) const LARGEST: usize = 4096;

/// What a field costs beside its name and value (RFC 7541 section 4.1).
pub(super) const FIELD: usize = 32;

/// A field that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Field<'a> {
    pub(in super::super) name: &'a [u8],
    pub(in super::super) value: &'a [u8],
    pub(in super::super) kind: Kind,
}

impl Field<'_> {
    pub(in super::super) fn size(&self) -> usize {
        self.name.len() + self.value.len() + FIELD
    }
}

#[derive(Debug)]
struct Entry {
    /// Name and value in one.
    text: Box<[u8]>,
    name: u16,
    kind: Kind,
}

#[derive(Debug)]
pub(super) struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, most: LARGEST }
    }
}

impl Table {
    /// What stands at a place of both tables, which are counted from 1.
    pub(super) fn at(&self, index: usize) -> Option<Field<'_>> {
        let index = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(index) {
            let (name, value) = (name.as_bytes(), value.as_bytes());
            return Some(Field { name, value, kind: STATIC_KINDS[index] });
        }
        let entry = self.entries.get(index - STATIC.len())?;
        let (name, value) = entry.text.split_at(usize::from(entry.name));
        Some(Field { name, value, kind: entry.kind })
    }

    /// Section 4.4: what is larger than the table empties it.
    pub(super) fn insert(&mut self, text: &[u8], name: usize, kind: Kind) {
        let size = text.len() + FIELD;
        self.shrink(self.most.saturating_sub(size));
        if size <= self.most
            && let Ok(name) = u16::try_from(name)
        {
            self.size += size;
            self.entries.push_front(Entry { text: text.into(), name, kind });
        }
    }

    /// False when it may not have that size.
    pub(super) fn resize(&mut self, most: usize) -> bool {
        if most > LARGEST {
            return false;
        }
        self.most = most;
        self.shrink(most);
        true
    }

    fn shrink(&mut self, most: usize) {
        while self.size > most
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.text.len() + FIELD;
        }
    }
}

/// What those of the static table are.
const STATIC_KINDS: [Kind; 61] = {
    let mut kinds = [Kind::Plain; 61];
    let mut at = 0;
    while at < kinds.len() {
        kinds[at] = match at + 1 {
            // Names alone, of what must have a value or must not be there.
            1 | 28 | 57 => Kind::Bad,
            2 | 3 => Kind::Method,
            4 | 5 => Kind::Path,
            6 | 7 => Kind::Scheme,
            8..=14 => Kind::Status,
            38 => Kind::Host,
            _ => Kind::Plain,
        };
        at += 1;
    }
    kinds
};

/// Appendix A.
pub(super) const STATIC: [(&str, &str); 61] = [
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_what_is_known_beforehand() {
        let table = Table::default();
        for index in 1..=STATIC.len() {
            let field = table.at(index).unwrap();
            assert_eq!(field.kind, Kind::of(field.name, field.value), "{index}");
        }
        assert_eq!((table.at(0), table.at(62)), (None, None));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut table = Table::default();
        assert!(table.resize(100));
        let names = |table: &Table| -> Vec<u8> {
            (62..).map_while(|index| table.at(index)).map(|field| field.name[0]).collect()
        };
        table.insert(b"ax", 1, Kind::Plain);
        table.insert(b"bx", 1, Kind::Plain);
        assert_eq!(names(&table), b"ba");
        table.insert(b"cx", 1, Kind::Plain);
        assert_eq!(names(&table), b"cb");
        table.insert(&[b'd'; 69], 1, Kind::Plain);
        assert_eq!(names(&table), b"", "what is larger than all of it");
        table.insert(&[b'e'; 68], 1, Kind::Plain);
        assert_eq!((names(&table).len(), table.size), (1, 100));
        assert!(table.resize(99) && names(&table).is_empty());
        assert!(table.resize(LARGEST) && !table.resize(LARGEST + 1));
    }
}
