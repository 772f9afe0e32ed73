//! The engine as a function from bytes to bytes, for `tests/fuzz`: everything that judges, decides and writes
//! is the engine's own; only sockets, waiting and second attempts are left out.

use super::{
    chunked::{Chunked, Decoded},
    desk::ROOM,
    exchange::{unfit, write_head},
    interim,
    message::{self, Scanned},
    response::{self, Asked},
    scan::{Line, RequestScan, ResponseScan, ScanError, ScanLimits},
    work::{Download, Incoming, Outgoing, Stage, Work},
};
use crate::{
    live::Live,
    proxy::{
        connection::ClientConnection,
        core::Core,
        decide::{Assignment, Query, decide},
        framing::Length,
        head::{Facts, Head, LONGEST_TARGET},
        headers::{Added, Changes},
        queue::Turn,
    },
    routing::Host,
};
use std::{rc::Rc, sync::Arc};

/// A client's connection without a socket.
pub struct Engine {
    connection: Rc<ClientConnection>,
}

/// What a client's bytes become.
#[derive(Debug, Default)]
pub struct Requests {
    /// Complete messages as the backend gets them.
    pub forwarded: Vec<Vec<u8>>,
    /// How many of the client's bytes each of them, and those before it, took.
    pub ends: Vec<usize>,
    /// What the backend has got of one that was refused halfway or whose rest has not come.
    pub partial: Option<Vec<u8>>,
    /// What follows is not read.
    pub refused: bool,
}

/// A request that a response answers.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    pub head: bool,
    /// Of HTTP/1.
    pub minor: u8,
    pub trailers: bool,
    pub upgrades: bool,
}

/// What becomes of a backend's bytes.
#[derive(Debug)]
pub struct Response {
    pub to_client: Vec<u8>,
    pub end: End,
    /// The backend's connection may serve another request.
    pub reusable: bool,
    /// The client's connection ends with the response.
    pub closes: bool,
    /// The end of the client's connection is the end of the body.
    pub until_close: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Complete,
    /// The backend has switched protocols.
    Switched,
    Refused,
    /// The rest has not come.
    Missing,
}

impl Engine {
    /// Of the first listener of what `live` has published, on its core 0.
    ///
    /// # Panics
    /// When there is no listener.
    pub fn new(live: Arc<Live>) -> Self {
        let listener = live.published.read(|snapshot| snapshot.listeners[0].clone());
        let core = Core::new(0, live);
        Self { connection: ClientConnection::detached(&core, listener) }
    }

    fn limits(&self) -> ScanLimits {
        let limits = &self.connection.listener.spec.limits;
        scan_limits((limits.header_bytes as usize, limits.header_count as usize, LONGEST_TARGET))
    }

    /// Lets a client send `bytes`, in pieces of `cut` bytes.
    pub fn requests(&self, bytes: &[u8], cut: usize) -> Requests {
        let mut pieces = bytes.chunks(cut.max(1));
        let mut work = Work::default();
        let mut requests = Requests::default();
        loop {
            let more = match self.read_head(&mut work, &mut pieces) {
                Ok(is_complete) => {
                    is_complete && self.forward(&mut work, &mut pieces, &mut requests)
                }
                Err(_) => {
                    requests.refused = true;
                    false
                }
            };
            let left = pieces.clone().map(<[u8]>::len).sum::<usize>() + work.ahead.rest().len();
            if requests.ends.len() < requests.forwarded.len() {
                requests.ends.push(bytes.len() - left);
            }
            if !more {
                return requests;
            }
        }
    }

    fn read_head<'a>(
        &self,
        work: &mut Work,
        pieces: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<bool, ScanError> {
        let Work { request, scan, ahead, .. } = work;
        request.clear();
        scan.clear();
        request.extend_from_slice(ahead.rest());
        ahead.clear();
        while !scan.scan(request, &self.limits())? {
            let Some(piece) = pieces.next() else { return Ok(false) };
            request.extend_from_slice(piece);
        }
        ahead.extend(&request[scan.len..]);
        request.truncate(scan.len);
        Ok(true)
    }

    /// True when another request may follow.
    fn forward<'a>(
        &self,
        work: &mut Work,
        pieces: &mut impl Iterator<Item = &'a [u8]>,
        requests: &mut Requests,
    ) -> bool {
        let connection = &self.connection;
        let Work { request, scan, ahead, upload, .. } = work;
        let lines = Scanned { lines: &scan.lines, bytes: request };
        let judged = message::head(scan, request, &lines)
            .and_then(|head| Facts::of(&head).map(|(facts, host)| (head, facts, host)));
        let Ok((head, facts, host)) = judged else {
            requests.refused = true;
            return false;
        };
        let length = facts.framing.of_request(scan.minor).unwrap_or(Length::Exact(0));
        let assignment = self.decide(&head, &facts, host);
        let Some(assignment) = assignment.filter(|a| unfit(&facts, length, a).is_none()) else {
            requests.refused = true;
            return false;
        };
        let changes = Changes::of(&assignment.policy, assignment.withheld.as_deref());
        upload.begin(length, !facts.names_fields && !changes.edit_fields(), 0);
        let added = Added {
            client: &connection.client,
            request_id: b"0",
            backend: assignment.ticket.flight.upstream.authority.as_bytes(),
            changes,
            note: None,
        };
        write_head(&mut upload.head, &head, scan, &facts, length, &added);
        while upload.incoming != Incoming::Ended {
            if ahead.is_empty() {
                let Some(piece) = pieces.next() else { break };
                ahead.extend(piece);
            }
            if upload.take_ahead(ahead).is_err() {
                requests.refused = true;
                break;
            }
        }
        let (head, body) = upload.output();
        let output = [head, body].concat();
        if upload.incoming != Incoming::Ended {
            requests.partial = Some(output);
            return false;
        }
        requests.forwarded.push(output);
        !facts.close && (scan.minor > 0 || facts.keep_alive)
    }

    fn decide(
        &self,
        head: &Head<'_, Scanned<'_>>,
        facts: &Facts,
        host: Option<Host<'_>>,
    ) -> Option<Assignment> {
        let now = self.connection.core.live.clock.now();
        decide(&Query::new(&self.connection, head, facts, host, now), Turn::First).ok()
    }

    /// Lets a backend answer `question` with `bytes`, in pieces of `cut` bytes, and then close its side if it
    /// `closes`.
    pub fn response(&self, question: Question, bytes: &[u8], cut: usize, closes: bool) -> Response {
        let mut download = Download::default();
        download.begin(false);
        let mut to_client = Vec::new();
        let end = self.relay(question, bytes, cut, closes, &mut download, &mut to_client);
        to_client.extend_from_slice(download.out.rest());
        let is_good = matches!(end, Ok(End::Complete));
        Response {
            to_client,
            end: end.unwrap_or(End::Refused),
            reusable: is_good && download.reusable,
            closes: download.closes,
            until_close: download.outgoing == Outgoing::UntilClose,
        }
    }

    /// # Errors
    /// When the response is refused.
    fn relay(
        &self,
        question: Question,
        bytes: &[u8],
        cut: usize,
        closes: bool,
        download: &mut Download,
        to_client: &mut Vec<u8>,
    ) -> Result<End, ()> {
        let assignment = self.any_assignment().ok_or(())?;
        let asked = Asked {
            minor: question.minor,
            is_head: question.head,
            wants_trailers: question.trailers,
        };
        let context = response::Context {
            connection: &self.connection,
            assignment: &assignment,
            asked: &asked,
            upgrade: question.upgrades.then_some(b"websocket"),
            waits_to_send: false,
            now: self.connection.core.live.clock.now(),
        };
        let mut scratch = Vec::new();
        for piece in bytes.chunks(cut.max(1)) {
            let (mut start, end) = (ROOM, ROOM + piece.len());
            scratch.clear();
            scratch.resize(end + ROOM, 0);
            scratch[start..end].copy_from_slice(piece);
            while download.stage == Stage::Head {
                let limits = &self.connection.listener.spec.limits;
                let scanned = response::scan(download, &scratch[start..end], limits);
                let Some(len) = scanned.map_err(drop)? else { break };
                let mut pieces = std::mem::take(&mut download.partial);
                let head;
                (head, start) = response::whole_head(&scratch[..end], start, &pieces, len);
                if download.scan.is_interim() {
                    interim::pass(download, &asked, head).map_err(drop)?;
                } else {
                    response::answer(&context, download, head).map_err(drop)?;
                }
                pieces.clear();
                download.partial = pieces;
                if start == end {
                    break;
                }
            }
            match download.stage {
                Stage::Head => continue,
                Stage::Switched => return Ok(End::Switched),
                Stage::Body => {}
            }
            let range = download.take(&mut scratch, start, end).map_err(drop)?;
            to_client.extend_from_slice(download.out.rest());
            download.out.clear();
            to_client.extend_from_slice(&scratch[range]);
            if download.incoming == Incoming::Ended {
                if download.has_trailers() {
                    download.add_trailers();
                }
                return Ok(End::Complete);
            }
        }
        if closes && download.stage == Stage::Body && download.incoming == Incoming::UntilClose {
            download.reusable = false;
            download.incoming = Incoming::Ended;
            if download.outgoing == Outgoing::Chunked {
                download.add_trailers();
            }
            return Ok(End::Complete);
        }
        Ok(End::Missing)
    }

    fn any_assignment(&self) -> Option<Assignment> {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut scan = RequestScan::default();
        scan.scan(bytes, &self.limits()).ok()?;
        let lines = Scanned { lines: &scan.lines, bytes };
        let head = message::head(&scan, bytes, &lines).ok()?;
        let (facts, host) = Facts::of(&head).ok()?;
        self.decide(&head, &facts, host)
    }
}

/// What a chunked body was.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Body {
    pub data: Vec<u8>,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of all of it.
    pub len: usize,
}

/// Decodes a chunked body that comes in pieces of `cut` bytes. `Ok(None)`: its end has not come.
///
/// # Errors
/// When it is malformed.
pub fn chunked(bytes: &[u8], cut: usize) -> Result<Option<Body>, ()> {
    let mut decoder = Chunked::default();
    let mut body = Body::default();
    for piece in bytes.chunks(cut.max(1)) {
        let mut piece = piece.to_vec();
        let Decoded { data, read, end } = decoder.decode(&mut piece).map_err(drop)?;
        assert!(data <= read && read <= piece.len(), "more data than there were bytes");
        assert!(end || read == piece.len(), "all is read unless it ended");
        body.data.extend_from_slice(&piece[..data]);
        body.len += read;
        if end {
            let (lines, bytes) = decoder.trailers();
            body.trailers = fields(lines, bytes);
            return Ok(Some(body));
        }
    }
    Ok(None)
}

fn fields(lines: &[Line], bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    lines.iter().map(|line| (line.name.of(bytes).to_vec(), line.value.of(bytes).to_vec())).collect()
}

/// The parts of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Method, target and minor version, or minor version, status and reason.
    pub start: [Vec<u8>; 3],
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub len: usize,
}

/// What a scan came to; why it failed is told in words.
pub type Read = Result<Option<Parts>, String>;

/// Limits of a scan: bytes, fields, bytes of the target.
pub type Limits = (usize, usize, usize);

/// Scans the head of a request, of which the scan sees as much as each of `cuts` says, one after the other.
pub fn scan_request(bytes: &[u8], cuts: &[usize], limits: Limits) -> Read {
    let mut scan = RequestScan::default();
    for cut in cuts {
        let seen = &bytes[..(*cut).min(bytes.len())];
        if scan.scan(seen, &scan_limits(limits)).map_err(|error| format!("{error:?}"))? {
            let target = scan.target.of(seen).to_vec();
            let start = [scan.method.of(seen).to_vec(), target, vec![b'0' + scan.minor]];
            let fields = fields(&scan.lines, seen);
            return Ok(Some(Parts { start, fields, len: scan.len }));
        }
    }
    Ok(None)
}

/// The same for a response.
pub fn scan_response(bytes: &[u8], cuts: &[usize], limits: Limits) -> Read {
    let mut scan = ResponseScan::default();
    for cut in cuts {
        let seen = &bytes[..(*cut).min(bytes.len())];
        if scan.scan(seen, &scan_limits(limits)).map_err(|error| format!("{error:?}"))? {
            let status = scan.status.to_string().into_bytes();
            let start = [vec![b'0' + scan.minor], status, scan.reason.of(seen).to_vec()];
            let fields = fields(&scan.lines, seen);
            return Ok(Some(Parts { start, fields, len: scan.len }));
        }
    }
    Ok(None)
}

fn scan_limits((bytes, fields, target): Limits) -> ScanLimits {
    ScanLimits { bytes, fields, target }
}
