//! What backends are told of clients only where a listener's keys ask for it.

use super::{
    fields::Lines,
    head::{Head, Version},
    headers::{Added, Client, Sink},
    trace,
};
use std::net::IpAddr;

/// What some listeners' requests get besides.
pub(super) fn tell_more<L: Lines>(
    head: &Head<'_, L>,
    added: &Added<'_>,
    host: Option<&[u8]>,
    sink: &mut impl Sink,
) {
    let client = added.client;
    if client.forwarded {
        forwarded(head.lines, client, host, sink);
    }
    if client.via {
        let via: &[u8] = match head.version {
            Version::Http10 => b"1.0 crossfade",
            Version::Http11 => b"1.1 crossfade",
            Version::Http2 => b"2.0 crossfade",
        };
        sink.line(b"via", via);
    }
    let is_told = added.note.is_some_and(|note| note.told().is_some());
    if client.traces && !is_told && !trace::is_part_of_one(head.lines) {
        sink.line(trace::TRACEPARENT.as_bytes(), &trace::begin(added.request_id));
    }
}

/// RFC 7239 section 4, behind what trusted proxies have told.
fn forwarded(lines: &impl Lines, client: &Client, host: Option<&[u8]>, sink: &mut impl Sink) {
    let mut elements: Vec<&[u8]> = Vec::new();
    if client.trusted {
        elements.extend(lines.values("forwarded"));
    }
    let mut element = match client.peer {
        IpAddr::V4(_) => format!("for={}", client.text),
        // Sections 4 and 6: colons and brackets are not of tokens.
        IpAddr::V6(_) => format!("for=\"[{}]\"", client.text),
    }
    .into_bytes();
    // A host that was judged has neither quotes nor backslashes.
    if let Some(host) = host {
        element.extend_from_slice(b";host=\"");
        element.extend_from_slice(host);
        element.push(b'"');
    }
    element.extend_from_slice(b";proto=");
    element.extend_from_slice(client.proto.as_bytes());
    elements.push(&element);
    sink.line(b"forwarded", &elements.join(&b", "[..]));
}
