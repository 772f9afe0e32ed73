//! What happens to header fields on their way through (RFC 9110 section 7.6.1), for both engines: each line
//! is kept, changed or left behind, and the proxy adds its own.

use super::{
    fields::{Known, Lines, first, is_named},
    framing::Framing,
    head::{self, Facts, Head, Version},
    note::Note,
    secured::Secured,
    tell::tell_more,
    trace,
    withheld::Withheld,
};
use crate::{
    routing::{FieldEdits, PathRewrite, Policy},
    spec::Listener,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::{IpAddr, SocketAddr};

pub(super) const X_CROSSFADE_ERROR: &str = "x-crossfade-error";
const X_CROSSFADE_VERSION: &[u8] = b"x-crossfade-version";

/// Where an engine puts the lines of the message that it sends.
pub(super) trait Sink {
    fn line(&mut self, name: &[u8], value: &[u8]);

    /// Several lines, which `block` has as they would be written.
    fn block(&mut self, _block: &[u8], lines: &[(&[u8], &[u8])]) {
        lines.iter().for_each(|(name, value)| self.line(name, value));
    }

    /// The same for a line that is there already as it would be written.
    fn raw(&mut self, _line: &[u8], name: &[u8], value: &[u8]) {
        self.line(name, value);
    }
}

/// Passes on the line at `place`.
fn pass(lines: &impl Lines, place: usize, name: &[u8], value: &[u8], sink: &mut impl Sink) {
    match lines.raw(place) {
        Some(line) => sink.raw(line, name, value),
        None => sink.line(name, value),
    }
}

impl Sink for HeaderMap {
    fn line(&mut self, name: &[u8], value: &[u8]) {
        // Both come from a head that was judged; what this map cannot hold could not have come.
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            self.append(name, value);
        }
    }
}

/// Who asks, as far as it is known.
pub(super) struct Client {
    /// The peer of the connection.
    pub(super) peer: IpAddr,
    /// The same, as `x-forwarded-for` says it.
    pub(super) text: Box<str>,
    /// What it speaks itself.
    pub(super) proto: &'static str,
    /// Who it is by the certificate that it showed.
    identity: Option<Box<str>>,
    /// The lines that a stranger's request gets, as they are written.
    block: Box<[u8]>,
    /// Its `X-Forwarded-*` are believed.
    pub(super) trusted: bool,
    /// Backends are told of it by `Forwarded` too.
    pub(super) forwarded: bool,
    pub(super) via: bool,
    /// Requests that belong to no trace begin one.
    pub(super) traces: bool,
    /// Backends are told of more than is told by default.
    tells_more: bool,
}

impl Client {
    pub(super) fn new(
        peer: IpAddr,
        trusted: bool,
        listener: &Listener,
        secured: Option<&Secured>,
    ) -> Self {
        let text = peer.to_string();
        let proto = if secured.is_some() { "https" } else { "http" };
        let mut block = format!("x-forwarded-for: {text}\r\nx-forwarded-proto: {proto}\r\n");
        let identity = secured.and_then(|secured| secured.identity.clone());
        if let Some(identity) = &identity {
            block.push_str(&format!("x-forwarded-client-cert: {identity}\r\n"));
        }
        let Listener { forwarded, via, starts_traces: traces, .. } = *listener;
        let tells_more = forwarded || via || traces;
        let (text, block) = (text.into(), block.into_bytes().into());
        Self { peer, text, proto, identity, block, trusted, forwarded, via, traces, tells_more }
    }

    /// The user's address: of those that proxies tell the last one that is no trusted proxy itself, since what
    /// is told before it is anybody's word.
    pub(super) fn address(&self, lines: &impl Lines, listener: &Listener) -> IpAddr {
        if !self.trusted {
            return self.peer;
        }
        let told: Vec<&[u8]> = lines.values("x-forwarded-for").collect();
        let hops = told.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        let mut address = self.peer;
        for hop in hops {
            // Whoever is not named by an address stands behind the one that told of it.
            let Some(known) = address_of(hop) else { break };
            address = known;
            if !listener.trusts(address) {
                break;
            }
        }
        address
    }

    /// The user speaks https, if only to a trusted proxy before this one.
    pub(super) fn is_secure(&self, lines: &impl Lines) -> bool {
        let told = if self.trusted { first(lines, Known::XForwardedProto) } else { None };
        told.unwrap_or(self.proto.as_bytes()) == b"https"
    }
}

/// An IP address as proxies tell it; some add the port.
fn address_of(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let address = match text.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => match text.parse::<SocketAddr>() {
            Ok(address) => address.ip(),
            Err(_) => text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?,
        },
    };
    Some(address.to_canonical())
}

/// What the proxy says of its own in a request.
pub(super) struct Added<'a> {
    pub(super) client: &'a Client,
    /// For a request that has none, and for a trace that begins with it; the same for all attempts.
    pub(super) request_id: &'a [u8],
    /// `Host` for a request of HTTP/1.0 without one: HTTP/1.1 does not know such requests.
    pub(super) backend: &'a [u8],
    pub(super) changes: Changes<'a>,
    /// Of a request that is written down, whose backend may be told so.
    pub(super) note: Option<&'a Note>,
}

/// What is changed in a request because of its route or because of pins.
#[derive(Clone, Copy, Default)]
pub(super) struct Changes<'a> {
    pub(super) rewrite: Option<&'a PathRewrite>,
    pub(super) edits: Option<&'a FieldEdits>,
    pub(super) withheld: Option<&'a Withheld>,
}

impl<'a> Changes<'a> {
    pub(super) fn of(policy: &'a Policy, withheld: Option<&'a Withheld>) -> Self {
        let (rewrite, edits) = (policy.rewrite.as_ref(), policy.request.as_ref());
        Self { rewrite, edits, withheld }
    }

    pub(super) fn are_none(&self) -> bool {
        self.rewrite.is_none() && !self.edit_fields()
    }

    pub(super) fn edit_fields(&self) -> bool {
        self.edits.is_some() || self.withheld.is_some()
    }

    /// A field of this name stays behind.
    fn remove(&self, name: &[u8]) -> bool {
        self.edits.is_some_and(|edits| edits.removes(name))
            || self.withheld.is_some_and(|withheld| withheld.has_header(name))
    }

    /// The cookies that pass, if there are any that do not.
    fn cookies(&self) -> Option<&'a Withheld> {
        self.withheld.filter(|withheld| withheld.has_cookies())
    }
}

/// The request's fields as the backend gets them, except those that frame its body otherwise than by
/// `Content-Length`.
pub(super) fn to_backend<L: Lines>(
    head: &Head<'_, L>,
    facts: &Facts,
    added: &Added<'_>,
    sink: &mut impl Sink,
) {
    let client = added.client;
    let line = match head.authority {
        Some(_) => None,
        None => head.lines.lines().enumerate().find(|(_, (known, ..))| *known == Known::Host),
    };
    let host = head.authority.map(str::as_bytes).or(line.map(|(_, (.., value))| value));
    match line {
        Some((place, (_, name, value))) => pass(head.lines, place, name, value, sink),
        None => sink.line(b"host", host.unwrap_or(added.backend)),
    }
    let (mut has_proto, mut has_host) = (false, false);
    let told = added.note.and_then(Note::told);
    let begins_trace = told.is_none() && client.traces && !trace::is_part_of_one(head.lines);
    let loses_parent = told.is_some() || begins_trace;
    let loses_state = told.as_ref().map_or(begins_trace, |told| !told.keeps_state);
    for (place, (known, name, value)) in head.lines.lines().enumerate() {
        let mut pass = || pass(head.lines, place, name, value, sink);
        match known {
            _ if facts.names_fields && is_named(head.lines, name) => {}
            Known::Other if loses_parent && trace::is_parent(name) => {}
            Known::Other if loses_state && trace::is_state(name) => {}
            Known::Other | Known::Authorization | Known::Cookie | Known::Date
                if added.changes.remove(name) => {}
            Known::Other
            | Known::Authorization
            | Known::Date
            | Known::XRequestId
            | Known::Trailer => pass(),
            Known::Cookie if added.changes.cookies().is_some() => {}
            Known::Cookie if facts.cookies < 2 || head.version < Version::Http2 => pass(),
            Known::Expect if facts.expects_continue => pass(),
            // Backends that prefer it (RFC 7239) would believe a stranger.
            Known::Forwarded if client.trusted && !client.forwarded => pass(),
            Known::XForwardedOther if client.trusted => pass(),
            // What trusted proxies say is kept; what others say is replaced.
            Known::XForwardedProto if client.trusted => {
                has_proto = true;
                pass();
            }
            Known::XForwardedHost if client.trusted => {
                has_host = true;
                pass();
            }
            Known::ContentLength if facts.framing.is_plainly_declared() => pass(),
            _ => {}
        }
    }
    if let Some(length) = facts.framing.declared()
        && !facts.framing.is_plainly_declared()
    {
        sink.line(b"content-length", Decimal::new(length).as_bytes());
    }
    let passes_cookies = !added.changes.remove(b"cookie");
    if let (Some(withheld), true) = (added.changes.cookies(), passes_cookies) {
        let crumbs: Vec<&[u8]> = head.lines.values("cookie").collect();
        if let Some(rest) = withheld.rest_of_cookies(&crumbs.join(&b"; "[..])) {
            sink.line(b"cookie", &rest);
        }
    } else if facts.cookies > 1 && head.version == Version::Http2 && passes_cookies {
        // HTTP/1 servers expect one field (RFC 9113 section 8.2.3).
        let crumbs: Vec<&[u8]> = head.lines.values("cookie").collect();
        sink.line(b"cookie", &crumbs.join(&b"; "[..]));
    }
    if let Some(told) = &told {
        sink.line(trace::TRACEPARENT.as_bytes(), &told.parent);
    }
    let has = Told { proto: has_proto, host: has_host };
    add(head, facts, added, host, has, sink);
}

/// Only what the proxy says of its own, when all the others pass as they came ([`Facts::passes`]).
pub(super) fn add_to_backend<L: Lines>(
    head: &Head<'_, L>,
    facts: &Facts,
    added: &Added<'_>,
    sink: &mut impl Sink,
) {
    if let Some(told) = added.note.and_then(Note::told) {
        sink.line(trace::TRACEPARENT.as_bytes(), &told.parent);
    }
    let host = first(head.lines, Known::Host);
    add(head, facts, added, host, Told::default(), sink);
}

/// What trusted proxies have told already.
#[derive(Default)]
struct Told {
    proto: bool,
    host: bool,
}

fn add<L: Lines>(
    head: &Head<'_, L>,
    facts: &Facts,
    added: &Added<'_>,
    host: Option<&[u8]>,
    told: Told,
    sink: &mut impl Sink,
) {
    let client = added.client;
    if client.trusted {
        forwarded_for(head.lines, client, sink);
        if !told.proto {
            sink.line(b"x-forwarded-proto", client.proto.as_bytes());
        }
        if let Some(identity) = &client.identity {
            sink.line(b"x-forwarded-client-cert", identity.as_bytes());
        }
    } else {
        let identity = client.identity.as_deref();
        let lines: [(&[u8], &[u8]); 3] = [
            (b"x-forwarded-for", client.text.as_bytes()),
            (b"x-forwarded-proto", client.proto.as_bytes()),
            (b"x-forwarded-client-cert", identity.unwrap_or_default().as_bytes()),
        ];
        let told = if identity.is_some() { &lines[..] } else { &lines[..2] };
        sink.block(&client.block, told);
    }
    if !told.host
        && let Some(host) = host
    {
        sink.line(b"x-forwarded-host", host);
    }
    if !facts.has_request_id {
        sink.line(b"x-request-id", added.request_id);
    }
    if client.tells_more {
        tell_more(head, added, host, sink);
    }
    let upgrade = if facts.upgrades { head::upgrade(head) } else { None };
    // Both fields concern the connection, which must say so (RFC 9110 sections 7.8 and 10.1.4).
    match (upgrade, facts.wants_trailers) {
        (Some(_), true) => sink.line(b"connection", b"upgrade, te"),
        (Some(_), false) => sink.line(b"connection", b"upgrade"),
        (None, true) => sink.line(b"connection", b"te"),
        (None, false) => {}
    }
    if let Some(protocol) = upgrade {
        sink.line(b"upgrade", protocol);
    }
    if facts.wants_trailers {
        sink.line(b"te", b"trailers");
    }
    if let Some(edits) = added.changes.edits {
        put_in(edits, sink);
    }
}

/// What a route sets and adds.
fn put_in(edits: &FieldEdits, sink: &mut impl Sink) {
    for (name, value) in &edits.added {
        sink.line(name.as_bytes(), value.as_bytes());
    }
}

fn forwarded_for(lines: &impl Lines, client: &Client, sink: &mut impl Sink) {
    let peer = client.text.as_bytes();
    if first(lines, Known::XForwardedFor).is_some() {
        let mut hops: Vec<&[u8]> = lines.values("x-forwarded-for").collect();
        hops.push(peer);
        sink.line(b"x-forwarded-for", &hops.join(&b", "[..]));
    } else {
        sink.line(b"x-forwarded-for", peer);
    }
}

/// What the proxy says of its own in a response, and what its route changes there.
#[derive(Default)]
pub(super) struct Marks<'a> {
    pub(super) edits: Option<&'a FieldEdits>,
    /// The sticky cookie that the client is given.
    pub(super) cookie: Option<&'a HeaderValue>,
    /// What `x-crossfade-version` says.
    pub(super) version: Option<&'a HeaderValue>,
}

/// A response's length, which is told however the message is framed.
#[derive(Clone, Copy)]
pub(super) enum Declared {
    /// The one line that there is says so.
    Plainly,
    As(u64),
}

impl Declared {
    pub(super) fn of(framing: &Framing) -> Option<Self> {
        let plainly = framing.is_plainly_declared();
        framing.declared().map(|length| if plainly { Self::Plainly } else { Self::As(length) })
    }
}

/// The response's fields as the client gets them, except those that frame its body otherwise than by
/// `Content-Length`, which is the backend's, as a number, where there is one.
///
/// Whatever a backend's `Connection` names is between it and this proxy; it cannot name the length away.
pub(super) fn to_client(
    lines: &impl Lines,
    length: Option<Declared>,
    marks: &Marks<'_>,
    sink: &mut impl Sink,
) {
    let names_fields = first(lines, Known::Connection).is_some();
    for (place, (known, name, value)) in lines.lines().enumerate() {
        match known {
            Known::ContentLength if matches!(length, Some(Declared::Plainly)) => {
                pass(lines, place, name, value, sink);
            }
            Known::Connection
            | Known::ContentLength
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade => {}
            _ if names_fields && is_named(lines, name) => {}
            _ if marks.edits.is_some_and(|edits| edits.removes(name)) => {}
            _ => pass(lines, place, name, value, sink),
        }
    }
    if let Some(Declared::As(length)) = length {
        sink.line(b"content-length", Decimal::new(length).as_bytes());
    }
    mark(marks, sink);
}

/// Only what the proxy says of its own in a response.
pub(super) fn mark(marks: &Marks<'_>, sink: &mut impl Sink) {
    if let Some(edits) = marks.edits {
        put_in(edits, sink);
    }
    if let Some(cookie) = marks.cookie {
        sink.line(b"set-cookie", cookie.as_bytes());
    }
    if let Some(version) = marks.version {
        sink.line(X_CROSSFADE_VERSION, version.as_bytes());
    }
}

/// How long a backend keeps an idle connection, if it says so, in seconds: `Keep-Alive: timeout=N` (RFC 2068
/// section 19.7.1.1).
pub(super) fn keep_alive_timeout(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.parse().ok())?
    })
}

/// A number as text, without an allocation.
pub(super) struct Decimal {
    text: [u8; 20],
    from: usize,
}

impl Decimal {
    pub(super) fn new(mut number: u64) -> Self {
        let mut text = [b'0'; 20];
        let mut from = text.len() - 1;
        while number > 9 {
            text[from] = b'0' + (number % 10) as u8;
            number /= 10;
            from -= 1;
        }
        text[from] = b'0' + number as u8;
        Self { text, from }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.text[self.from..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn client(trusted: bool) -> Client {
        Client::new(Ipv4Addr::new(192, 0, 2, 1).into(), trusted, &listener(), None)
    }

    fn listener() -> Listener {
        let mut listener = Listener::new("127.0.0.1:80".parse().unwrap());
        listener.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
        listener
    }

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut lines = HeaderMap::new();
        for (name, value) in fields {
            lines.line(name.as_bytes(), value.as_bytes());
        }
        lines
    }

    fn sent_over(version: Version, lines: &HeaderMap, client: &Client) -> HeaderMap {
        let head = Head { method: "GET", version, authority: None, path: "/", query: None, lines };
        let (facts, _) = Facts::of(&head).unwrap();
        let mut sent = HeaderMap::new();
        let changes = Changes::default();
        let (request_id, backend) = (b"id", b"10.0.0.1:80");
        let added = Added { client, request_id, backend, changes, note: None };
        to_backend(&head, &facts, &added, &mut sent);
        sent
    }

    fn sent(fields: &[(&str, &str)], client: &Client) -> HeaderMap {
        sent_over(Version::Http11, &map(fields), client)
    }

    #[test]
    fn fields_of_the_connection_stay_behind() {
        let sent = sent(
            &[
                ("host", "a"),
                ("connection", "close, X-Private, Trailer"),
                ("x-private", "1"),
                ("keep-alive", "timeout=5"),
                ("upgrade", "h2c"),
                ("http2-settings", "x"),
                ("te", "trailers, deflate"),
                ("x-kept", "1"),
                ("trailer", "x-sum"),
            ],
            &client(false),
        );
        assert_eq!(sent["connection"], "te");
        for gone in ["x-private", "keep-alive", "upgrade", "http2-settings", "trailer"] {
            assert!(!sent.contains_key(gone), "{gone}");
        }
        assert_eq!(sent["te"], "trailers");
        assert_eq!(sent["x-kept"], "1");
        assert_eq!(sent["x-request-id"], "id");
    }

    #[test]
    fn forwarded_fields_are_believed_from_trusted_proxies_only() {
        let fields = [
            ("host", "a"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "b"),
            ("x_forwarded_for", "203.0.113.9"),
            ("forwarded", "for=203.0.113.9"),
        ];
        let lines = map(&fields);
        let stranger = client(false);
        assert_eq!(stranger.address(&lines, &listener()), stranger.peer);
        let from_a_stranger = sent(&fields, &stranger);
        assert_eq!(from_a_stranger["x-forwarded-for"], "192.0.2.1");
        assert_eq!(from_a_stranger["x-forwarded-proto"], "http");
        assert_eq!(from_a_stranger["x-forwarded-host"], "a");
        assert!(!from_a_stranger.contains_key("forwarded"));
        assert!(!from_a_stranger.contains_key("x_forwarded_for"));

        let proxy = client(true);
        assert!(proxy.is_secure(&lines));
        assert_eq!(proxy.address(&lines, &listener()).to_string(), "203.0.113.9");
        let sent = sent(&fields, &proxy);
        assert_eq!(sent["x-forwarded-for"], "203.0.113.9, 192.0.2.1");
        assert_eq!(sent["x-forwarded-proto"], "https");
        assert_eq!(sent["x-forwarded-host"], "b");
        assert_eq!(sent["forwarded"], "for=203.0.113.9");
    }

    #[test]
    fn the_user_is_the_last_who_is_no_trusted_proxy() {
        let address = |told: &[&str]| {
            let fields: Vec<(&str, &str)> =
                told.iter().map(|line| ("x-forwarded-for", *line)).collect();
            client(true).address(&map(&fields), &listener()).to_string()
        };
        for (told, user) in [
            (&[][..], "192.0.2.1"),
            (&["203.0.113.9"], "203.0.113.9"),
            (&["203.0.113.9, 10.0.0.2 ,10.0.0.1"], "203.0.113.9"),
            (&["1.1.1.1, 203.0.113.9", "10.0.0.2"], "203.0.113.9"),
            (&["10.0.0.9, 203.0.113.9"], "203.0.113.9"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["1.1.1.1,"], "192.0.2.1"),
            (&["203.0.113.9:4711"], "203.0.113.9"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["2001:db8::1"], "2001:db8::1"),
            (&["203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
        ] {
            assert_eq!(address(told), user, "{told:?}");
        }
    }

    #[test]
    fn all_of_x_forwarded_is_the_word_of_trusted_proxies_alone() {
        let fields = [
            ("host", "a"),
            ("x-forwarded-port", "443"),
            ("X-Forwarded-Prefix", "/x"),
            ("x_forwarded_prefix", "/y"),
            ("x-forwarder", "kept"),
        ];
        let from_a_stranger = sent(&fields, &client(false));
        assert!(!from_a_stranger.contains_key("x-forwarded-port"));
        assert!(!from_a_stranger.contains_key("x-forwarded-prefix"));
        assert_eq!(from_a_stranger["x-forwarder"], "kept");
        let from_a_proxy = sent(&fields, &client(true));
        assert_eq!(from_a_proxy["x-forwarded-port"], "443");
        assert_eq!(from_a_proxy["x-forwarded-prefix"], "/x");
        for sent in [from_a_stranger, from_a_proxy] {
            assert!(!sent.contains_key("x_forwarded_prefix"));
        }
    }

    #[test]
    fn forwarded_and_via_are_there_if_they_are_asked_for() {
        let mut listener = listener();
        (listener.forwarded, listener.via) = (true, true);
        let v6 = "2001:db8::1".parse().unwrap();
        let fields =
            [("host", "a:80"), ("forwarded", "for=x"), ("forwarded", "for=y"), ("via", "1.0 z")];
        let from_a_stranger = sent(&fields, &Client::new(v6, false, &listener, None));
        assert_eq!(from_a_stranger["forwarded"], "for=\"[2001:db8::1]\";host=\"a:80\";proto=http");
        let vias: Vec<_> = from_a_stranger.get_all("via").iter().collect();
        assert_eq!(vias, ["1.0 z", "1.1 crossfade"]);
        let v4 = "192.0.2.1".parse().unwrap();
        let from_a_proxy = sent(&fields, &Client::new(v4, true, &listener, None));
        let all: Vec<_> = from_a_proxy.get_all("forwarded").iter().collect();
        assert_eq!(all, ["for=x, for=y, for=192.0.2.1;host=\"a:80\";proto=http"]);
        let plain = sent(&fields, &client(false));
        assert!(!plain.contains_key("forwarded"));
        assert_eq!(plain["via"], "1.0 z", "what others have said is passed on");
    }

    #[test]
    fn crumbs_of_cookies_are_joined() {
        let lines = map(&[("host", "a"), ("cookie", "a=1"), ("cookie", "b=2")]);
        let cookies = |version| {
            let sent = sent_over(version, &lines, &client(false));
            sent.get_all("cookie").iter().cloned().collect::<Vec<_>>()
        };
        assert_eq!(cookies(Version::Http2), ["a=1; b=2"]);
        assert_eq!(cookies(Version::Http11), ["a=1", "b=2"]);
    }

    #[test]
    fn a_request_without_a_host_gets_the_backends() {
        let sent = sent_over(Version::Http10, &HeaderMap::new(), &client(false));
        assert_eq!(sent["host"], "10.0.0.1:80");
        assert!(!sent.contains_key("x-forwarded-host"));
    }

    #[test]
    fn a_backend_cannot_have_the_length_removed() {
        let lines = map(&[
            ("connection", "content-length, x-a, close"),
            ("content-length", "3"),
            ("x-a", "3"),
        ]);
        let mut sent = HeaderMap::new();
        to_client(&lines, Some(Declared::Plainly), &Marks::default(), &mut sent);
        assert_eq!(sent.len(), 1);
        assert_eq!(sent["content-length"], "3");
    }

    #[test]
    fn keep_alive_parameters() {
        let timeout = |text: &str| keep_alive_timeout(text.as_bytes());
        assert_eq!(timeout("timeout=5"), Some(5));
        assert_eq!(timeout("max=100, Timeout = 15"), Some(15));
        assert_eq!(timeout("timeout=\"7\""), Some(7));
        assert_eq!(timeout("max=100"), None);
        assert_eq!(timeout("timeout=x"), None);
    }

    #[test]
    fn decimals() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            assert_eq!(Decimal::new(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
