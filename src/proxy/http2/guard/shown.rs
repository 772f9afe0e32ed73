//! What the library gets to see of what has come.

use std::ops::Range;

/// Of some bytes that have come: as many as possible as they are, without being copied, and the rest behind those.
pub(super) struct Shown<'a> {
    bytes: &'a [u8],
    passed: usize,
    instead: &'a mut Vec<u8>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(bytes: &'a [u8], instead: &'a mut Vec<u8>) -> Self {
        Self { bytes, passed: 0, instead }
    }

    pub(super) fn at(&self, range: Range<usize>) -> &'a [u8] {
        &self.bytes[range]
    }

    /// These are next, as they are.
    pub(super) fn pass(&mut self, range: Range<usize>) {
        if self.instead.is_empty() && range.start == self.passed {
            self.passed = range.end;
        } else {
            self.instead.extend_from_slice(&self.bytes[range]);
        }
    }

    /// Something else is next.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.instead.extend_from_slice(bytes);
    }

    /// For something else that is next.
    pub(super) fn instead(&mut self) -> &mut Vec<u8> {
        self.instead
    }

    pub(super) fn as_they_are(&self) -> usize {
        self.passed
    }
}
