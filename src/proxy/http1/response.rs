//! The head of a backend's final response: judged, and turned into the client's.

use super::{
    message::{Scanned, Wire, status_line},
    scan::{ResponseScan, ScanError, ScanLimits},
    work::{Download, Outgoing, Stage},
};
use crate::{
    live::{Moment, Reason},
    proxy::{
        connection::ClientConnection,
        decide::Assignment,
        fields::{Known, connection_options, is_named},
        framing::{Framing, Length},
        head::{is_agreed, is_websocket},
        headers::{Declared, Marks, Sink, keep_alive_timeout, mark, to_client},
    },
    spec::ListenerLimits,
};
use std::time::Duration;

/// What the request says of its response.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// Of the client's HTTP/1.
    pub(super) minor: u8,
    pub(super) is_head: bool,
    pub(super) wants_trailers: bool,
}

pub(super) struct Context<'a> {
    pub(super) connection: &'a ClientConnection,
    pub(super) assignment: &'a Assignment,
    pub(super) asked: &'a Asked,
    /// The protocol that the client would switch to.
    pub(super) upgrade: Option<&'a [u8]>,
    /// The client has not begun its body, because it waits for 100: whether it still sends it cannot be known.
    pub(super) waits_to_send: bool,
    pub(super) now: Moment,
}

impl ResponseScan {
    /// There is another one to come.
    pub(super) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Reads on in a response's head; its length once it is complete. What is not complete is kept.
#[inline(always)]
pub(super) fn scan(
    download: &mut Download,
    bytes: &[u8],
    limits: &ListenerLimits,
) -> Result<Option<usize>, ScanError> {
    let limits = ScanLimits {
        bytes: limits.header_bytes as usize,
        fields: limits.header_count as usize,
        target: 0,
    };
    let Download { scan, partial, .. } = download;
    let is_complete = if partial.is_empty() {
        let is_complete = scan.scan(bytes, &limits)?;
        if !is_complete {
            partial.extend_from_slice(bytes);
        }
        is_complete
    } else {
        partial.extend_from_slice(bytes);
        scan.scan(partial, &limits)?
    };
    Ok(is_complete.then_some(scan.len))
}

/// A head of `len` bytes that `scan` has found complete, and where in `bytes` that goes on which is behind it. It
/// begins at `start`, or came in `pieces`, which have been put together: what is behind lies in `bytes` all the same.
#[inline(always)]
pub(super) fn whole_head<'a>(
    bytes: &'a [u8],
    start: usize,
    pieces: &'a [u8],
    len: usize,
) -> (&'a [u8], usize) {
    if pieces.is_empty() {
        (&bytes[start..start + len], start + len)
    } else {
        (&pieces[..len], bytes.len() - (pieces.len() - len))
    }
}

/// What the fields of a response say to this proxy.
#[derive(Default)]
pub(super) struct Facts<'a> {
    pub(super) framing: Framing,
    coded: bool,
    close: bool,
    keep_alive: bool,
    /// `Connection` names fields of its own.
    names_fields: bool,
    /// How long the backend keeps the connection.
    pub(super) announced: Option<Duration>,
    upgrade: Option<&'a [u8]>,
    /// Which of several is meant cannot be known.
    upgrades: u32,
    has_date: bool,
    /// There is a field that stays behind.
    sheds: bool,
}

impl<'a> Facts<'a> {
    // Messages are read by it too, and a call would cost the others more than the copy.
    #[inline(always)]
    pub(super) fn of(lines: &'a Scanned<'_>) -> Self {
        let mut facts = Self::default();
        // Not by `lines()`: most fields are of no interest here, and need not be cut out.
        for line in lines.lines {
            let value = || line.value.of(lines.bytes);
            match line.known {
                Known::Connection => {
                    facts.sheds = true;
                    for option in connection_options(value()) {
                        let is = |known: &[u8]| option.eq_ignore_ascii_case(known);
                        facts.close |= is(b"close");
                        facts.keep_alive |= is(b"keep-alive");
                        facts.names_fields |= !is(b"close") && !is(b"keep-alive");
                    }
                }
                Known::ContentLength => facts.framing.content_length(value()),
                Known::TransferEncoding => {
                    facts.framing.transfer_encoding(value());
                    facts.coded = true;
                    facts.sheds = true;
                }
                Known::ProxyConnection => facts.sheds = true,
                Known::KeepAlive => {
                    facts.sheds = true;
                    facts.announced = keep_alive_timeout(value()).map(Duration::from_secs);
                }
                Known::Upgrade => {
                    facts.sheds = true;
                    facts.upgrade = Some(value());
                    facts.upgrades += 1;
                }
                Known::Date => facts.has_date = true,
                _ => {}
            }
        }
        facts
    }

    /// The connection of HTTP/1.`minor` does (RFC 9112 section 9.3).
    pub(super) fn stays(&self, minor: u8) -> bool {
        !self.close && (minor > 0 || self.keep_alive)
    }

    /// Every field goes on as it came.
    fn passes(&self, status: u16) -> bool {
        let is_declared = self.framing.declared().is_some();
        !self.sheds && (!is_declared || (self.framing.is_plainly_declared() && status != 204))
    }
}

/// Judges the head, whose scan is complete, and puts the client's into the outbox. Returns how long the
/// backend says that it keeps the connection.
///
/// # Errors
/// `BadResponse` when it is ambiguous where the response ends, or it switches to what nobody asked for.
pub(super) fn answer(
    context: &Context<'_>,
    download: &mut Download,
    head: &[u8],
) -> Result<Option<Duration>, Reason> {
    let Download { scan, out, .. } = download;
    let lines = Scanned { lines: &scan.lines, bytes: head };
    let facts = Facts::of(&lines);
    let asked = context.asked;
    let length = facts
        .framing
        .of_response(scan.minor, scan.status, asked.is_head)
        .map_err(|_| Reason::BadResponse)?;
    if scan.status == 101 {
        let protocol = agreed(context.upgrade, &facts).ok_or(Reason::BadResponse)?;
        status_line(&mut out.bytes, scan.status, scan.reason.of(head));
        let mut wire = Wire(&mut out.bytes);
        to_client(&lines, None, &Marks::default(), &mut wire);
        wire.line(b"connection", b"upgrade");
        wire.line(b"upgrade", protocol);
        out.extend(b"\r\n");
        download.stage = Stage::Switched;
        download.websocket = is_websocket(protocol);
        return Ok(None);
    }
    let outgoing = match length {
        Length::Exact(_) => Outgoing::Plain,
        _ if asked.minor > 0 => Outgoing::Chunked,
        _ => Outgoing::UntilClose,
    };
    download.reusable &= facts.stays(scan.minor) && length != Length::UntilClose;
    download.closes |= outgoing == Outgoing::UntilClose
        || context.waits_to_send
        || context.connection.is_leaving();

    let Assignment { ticket, policy, issued, .. } = context.assignment;
    let marks = Marks {
        edits: policy.response.as_ref(),
        cookie: issued.as_ref().map(|issued| &issued.cookie),
        version: policy.expose_version.then_some(&ticket.flight.upstream.version),
    };
    // RFC 9110 section 8.6: not with 204, and a coding overrides it.
    let declared = Declared::of(&facts.framing).filter(|_| scan.status != 204);
    match scan.even(head) {
        // Nothing of it is to be changed: what was judged is sent byte for byte.
        Some(all) if facts.passes(scan.status) && marks.edits.is_none() => {
            out.extend(all);
            mark(&marks, &mut Wire(&mut out.bytes));
        }
        _ => {
            status_line(&mut out.bytes, scan.status, scan.reason.of(head));
            to_client(&lines, declared, &marks, &mut Wire(&mut out.bytes));
        }
    }
    let mut wire = Wire(&mut out.bytes);
    let would_be_coded = asked.is_head && facts.coded && asked.minor > 0;
    if outgoing == Outgoing::Chunked || would_be_coded {
        wire.line(b"transfer-encoding", b"chunked");
    }
    if !facts.has_date || (facts.names_fields && is_named(&lines, b"date")) {
        let core = &context.connection.core;
        core.desk.add_date(context.now.millis(), wire.0);
    }
    if let Some(option) = persistence(download.closes, asked.minor) {
        wire.line(b"connection", option);
    }
    out.extend(b"\r\n");
    download.stage = Stage::Body;
    download.incoming = length.into();
    download.outgoing = outgoing;
    // `Connection` may name trailers too (RFC 9110 section 7.6.1).
    let may_trail = asked.wants_trailers && !facts.names_fields;
    download.trailers = may_trail && outgoing == Outgoing::Chunked;
    Ok(facts.announced)
}

/// What `Connection` must say (RFC 9112 section 9.3): only what is not the rule.
pub(super) fn persistence(closes: bool, minor: u8) -> Option<&'static [u8]> {
    match (closes, minor) {
        (true, _) => Some(b"close"),
        (false, 0) => Some(b"keep-alive"),
        (false, _) => None,
    }
}

/// What the backend switches to, if the client asked for all of it (RFC 9110 section 7.8).
pub(super) fn agreed<'a>(wanted: Option<&[u8]>, facts: &Facts<'a>) -> Option<&'a [u8]> {
    let (Some(wanted), Some(answer), 1) = (wanted, facts.upgrade, facts.upgrades) else {
        return None;
    };
    let has_body = facts.coded || facts.framing.declared().is_some_and(|length| length > 0);
    (!has_body && is_agreed(wanted, answer)).then_some(answer)
}
