//! Responses that announce others (RFC 9110 section 15.2).

use super::{
    message::{Scanned, Wire, status_line},
    response::Asked,
    work::Download,
};
use crate::proxy::{
    framing::Ambiguous,
    headers::{Marks, to_client},
};

/// More than any backend has to say before it answers.
const MOST: u32 = 16;
const MOST_BYTES: usize = 64 << 10;

/// Counts one whose head has so many bytes.
///
/// # Errors
/// When there are too many of them.
pub(super) fn count(download: &mut Download, bytes: usize) -> Result<(), Ambiguous> {
    let (count, size) = download.interims;
    download.interims = (count + 1, size + bytes);
    match download.interims.0 > MOST || download.interims.1 > MOST_BYTES {
        true => Err(Ambiguous),
        false => Ok(()),
    }
}

/// Passes an interim response on, whose scan of `head` is complete; the next one can be scanned then.
///
/// # Errors
/// When there are too many of them.
pub(super) fn pass(download: &mut Download, asked: &Asked, head: &[u8]) -> Result<(), Ambiguous> {
    count(download, head.len())?;
    // HTTP/1.0 does not know them.
    if asked.minor > 0 {
        let out = &mut download.out.bytes;
        status_line(out, download.scan.status, download.scan.reason.of(head));
        let lines = Scanned { lines: &download.scan.lines, bytes: head };
        to_client(&lines, None, &Marks::default(), &mut Wire(out));
        out.extend_from_slice(b"\r\n");
    }
    download.scan.clear();
    Ok(())
}
