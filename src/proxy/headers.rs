//! What happens to header fields on their way through (RFC 9110 section 7.6.1).

use crate::live::Reason;
use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{self, Entry},
    request::Parts,
};
use std::net::IpAddr;

/// Fields that concern one connection only.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
pub(super) const X_CROSSFADE_ERROR: HeaderName = HeaderName::from_static("x-crossfade-error");
pub(super) const X_CROSSFADE_VERSION: HeaderName = HeaderName::from_static("x-crossfade-version");

/// Who asks, as far as it is known.
#[derive(Clone, Copy)]
pub(super) struct Client {
    /// The peer of the connection.
    pub(super) peer: IpAddr,
    /// Its `X-Forwarded-*` are believed.
    pub(super) trusted: bool,
}

impl Client {
    /// The user's address: behind trusted proxies the last one that they tell.
    pub(super) fn address(&self, headers: &HeaderMap) -> IpAddr {
        if !self.trusted {
            return self.peer;
        }
        headers
            .get_all(X_FORWARDED_FOR)
            .iter()
            .next_back()
            .and_then(|line| line.to_str().ok()?.rsplit(',').next()?.trim().parse().ok())
            .unwrap_or(self.peer)
    }

    /// The user speaks https, if only to a trusted proxy before this one.
    pub(super) fn is_secure(&self, headers: &HeaderMap) -> bool {
        self.trusted && headers.get(X_FORWARDED_PROTO).is_some_and(|proto| proto == "https")
    }
}

/// Refuses what a strict reader must not pass on: two ways to frame a body (RFC 9112 section 6.1), no or
/// two hosts (section 3.2), a path that could mean another one.
pub(super) fn check(parts: &Parts) -> Result<(), Reason> {
    let headers = &parts.headers;
    let is_coded = headers.contains_key(header::TRANSFER_ENCODING);
    if is_framed_twice(headers) || (is_coded && parts.version < Version::HTTP_11) {
        return Err(Reason::BadRequest);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() || (host.is_none() && parts.version == Version::HTTP_11) {
        return Err(Reason::BadRequest);
    }
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if ![host.map(HeaderValue::as_bytes), authority].into_iter().flatten().all(is_host) {
        return Err(Reason::BadRequest);
    }
    if parts.version == Version::HTTP_2
        && let (Some(host), Some(authority)) = (host, parts.uri.authority())
        && !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
    {
        return Err(Reason::BadRequest);
    }
    if parts.method == http::Method::CONNECT {
        return Err(Reason::NotSupported);
    }
    if headers
        .get_all(header::EXPECT)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        return Err(Reason::Expectation);
    }
    if is_tricky(parts.uri.path()) { Err(Reason::BadRequest) } else { Ok(()) }
}

/// Host and port, of the characters that they may consist of (RFC 9110 section 7.2): above all no user's
/// name, which readers take for the host or do not.
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(byte))
}

/// A path with dot segments (also encoded), an encoded NUL or a backslash: backends disagree on what it is.
fn is_tricky(path: &str) -> bool {
    let bytes = path.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'.' | b'\\')) {
        return false;
    }
    if bytes.contains(&b'\\') || bytes.windows(3).any(|window| window == b"%00") {
        return true;
    }
    path.split('/').any(|segment| {
        let mut rest = segment.as_bytes();
        let mut dots = 0;
        while !rest.is_empty() {
            if rest[0] == b'.' {
                rest = &rest[1..];
            } else if rest.len() >= 3 && rest[..3].eq_ignore_ascii_case(b"%2e") {
                rest = &rest[3..];
            } else {
                return false;
            }
            dots += 1;
        }
        dots == 1 || dots == 2
    })
}

/// The protocol that a client asks to switch to (RFC 9110 section 7.8), if this proxy passes it on.
/// `h2c` is not: what came in by it would not be judged.
pub(super) fn upgrade(parts: &Parts) -> Option<HeaderValue> {
    if parts.version != Version::HTTP_11 || !lists(&parts.headers, "upgrade") {
        return None;
    }
    let protocol = parts.headers.get(header::UPGRADE)?;
    let is_h2c = protocol
        .to_str()
        .is_ok_and(|p| p.split(',').any(|p| p.trim().to_ascii_lowercase().starts_with("h2c")));
    (!is_h2c).then(|| protocol.clone())
}

/// `Connection` names this option.
fn lists(headers: &HeaderMap, option: &str) -> bool {
    connection_options(headers).any(|known| known.eq_ignore_ascii_case(option))
}

/// What `Connection` names.
pub(super) fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|option| !option.is_empty())
}

/// Removes what concerned the connection it came by.
///
/// # Errors
/// When `Connection` names a field that must reach the other side (`is_protected`).
fn strip(headers: &mut HeaderMap, is_protected: impl Fn(&str) -> bool) -> Result<(), Reason> {
    if headers.contains_key(header::CONNECTION) {
        let mut named = Vec::new();
        for option in connection_options(headers) {
            if is_protected(option) {
                return Err(Reason::BadRequest);
            }
            if let Ok(name) = HeaderName::from_bytes(option.as_bytes()) {
                named.push(name);
            }
        }
        for name in named {
            // TE: trailers is asked of this proxy and asked anew of the backend.
            if name != header::TE {
                headers.remove(name);
            }
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    Ok(())
}

/// The request's fields as the backend gets them.
///
/// # Errors
/// `BadRequest` when `Connection` names a field that the proxy adds or that belongs to the message. (Those
/// that routes, pins and sticky keys read are refused by the decision, which knows them.)
pub(super) fn to_backend(
    parts: &mut Parts,
    client: Client,
    request_id: impl FnOnce() -> HeaderValue,
    upgrade: Option<&HeaderValue>,
) -> Result<(), Reason> {
    let wants_trailers = parts.headers.get_all(header::TE).iter().any(|line| {
        line.to_str().is_ok_and(|l| l.split(',').any(|c| c.trim().eq_ignore_ascii_case("trailers")))
    });
    strip(&mut parts.headers, |name| {
        let protected = [
            "host",
            "content-length",
            "cookie",
            "authorization",
            "x-request-id",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
        ];
        protected.iter().any(|known| known.eq_ignore_ascii_case(name))
    })?;
    let headers = &mut parts.headers;
    headers.remove(HTTP2_SETTINGS);
    if wants_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(header::TE);
    }
    // The authority of the target counts (RFC 9112 section 3.2.2); HTTP/2 has no other.
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(header::HOST, host);
    }
    forwarded(headers, client);
    if let Entry::Vacant(entry) = headers.entry(X_REQUEST_ID) {
        entry.insert(request_id());
    }
    // Both fields concern the connection, which must say so (RFC 9110 sections 7.8 and 10.1.4).
    let options = match (upgrade, wants_trailers) {
        (Some(_), true) => Some("upgrade, te"),
        (Some(_), false) => Some("upgrade"),
        (None, true) => Some("te"),
        (None, false) => None,
    };
    if let Some(options) = options {
        headers.insert(header::CONNECTION, HeaderValue::from_static(options));
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::UPGRADE, protocol.clone());
    }
    if parts.version == Version::HTTP_2 {
        join_cookies(headers);
    }
    Ok(())
}

/// What many backends cannot tell from the fields that the proxy adds (CGI turns `-` into `_`).
const ALIASES: [HeaderName; 3] = [
    HeaderName::from_static("x_forwarded_for"),
    HeaderName::from_static("x_forwarded_proto"),
    HeaderName::from_static("x_forwarded_host"),
];

/// What trusted proxies say is kept and added to; what others say is replaced.
fn forwarded(headers: &mut HeaderMap, client: Client) {
    for alias in ALIASES {
        headers.remove(alias);
    }
    if !client.trusted {
        // Backends that prefer it (RFC 7239) would believe a stranger.
        headers.remove(FORWARDED);
    }
    let mut text = String::new();
    if client.trusted {
        for line in headers.get_all(X_FORWARDED_FOR) {
            if let Ok(line) = line.to_str() {
                text.push_str(line);
                text.push_str(", ");
            }
        }
    }
    text.push_str(&client.peer.to_string());
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(X_FORWARDED_FOR, value);
    }
    if !(client.trusted && headers.contains_key(X_FORWARDED_PROTO)) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !(client.trusted && headers.contains_key(X_FORWARDED_HOST)) {
        match headers.get(header::HOST).cloned() {
            Some(host) => headers.insert(X_FORWARDED_HOST, host),
            None => headers.remove(X_FORWARDED_HOST),
        };
    }
}

/// HTTP/2 may send cookies in several fields; HTTP/1 servers expect one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Somebody on the way to this proxy may see another end of the message.
pub(super) fn is_framed_twice(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH)
}

/// The response's fields as the client gets them.
pub(super) fn to_client(headers: &mut HeaderMap) {
    // Whatever a backend names is between it and this proxy; content-length frames the message, unless
    // there is a transfer coding (RFC 9112 section 6.3).
    let length = match is_framed_twice(headers) {
        true => headers.remove(header::CONTENT_LENGTH).and(None),
        false => headers.get(header::CONTENT_LENGTH).cloned(),
    };
    // Nothing is protected, so this cannot fail.
    let _ = strip(headers, |_| false);
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Parts {
        build(Request::builder().uri("/")).body(()).unwrap().into_parts().0
    }

    const CLIENT: Client =
        Client { peer: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), trusted: false };

    fn sent(parts: &mut Parts, client: Client) -> Result<(), Reason> {
        to_backend(parts, client, || HeaderValue::from_static("id"), None)
    }

    #[test]
    fn fields_of_the_connection_stay_behind() {
        let mut parts = parts(|b| {
            b.header("host", "a")
                .header("connection", "close, X-Private")
                .header("x-private", "1")
                .header("keep-alive", "timeout=5")
                .header("upgrade", "h2c")
                .header("http2-settings", "x")
                .header("te", "trailers, deflate")
                .header("x-kept", "1")
        });
        sent(&mut parts, CLIENT).unwrap();
        assert_eq!(parts.headers["connection"], "te");
        for gone in ["x-private", "keep-alive", "upgrade", "http2-settings"] {
            assert!(!parts.headers.contains_key(gone), "{gone}");
        }
        assert_eq!(parts.headers["te"], "trailers");
        assert_eq!(parts.headers["x-kept"], "1");
        assert_eq!(parts.headers["x-request-id"], "id");
    }

    #[test]
    fn no_client_can_strip_what_is_added() {
        for named in ["X-Forwarded-For", "host", "x-request-id"] {
            let mut parts = parts(|b| b.header("host", "a").header("connection", named));
            assert_eq!(sent(&mut parts, CLIENT), Err(Reason::BadRequest), "{named}");
        }
    }

    #[test]
    fn forwarded_fields_are_believed_from_trusted_proxies_only() {
        let spoofed = |b: http::request::Builder| {
            b.header("host", "a")
                .header("x-forwarded-for", "203.0.113.9")
                .header("x-forwarded-proto", "https")
                .header("x-forwarded-host", "b")
                .header("x_forwarded_for", "203.0.113.9")
                .header("forwarded", "for=203.0.113.9")
        };
        let mut parts_of_a_stranger = parts(spoofed);
        assert_eq!(CLIENT.address(&parts_of_a_stranger.headers), CLIENT.peer);
        sent(&mut parts_of_a_stranger, CLIENT).unwrap();
        assert_eq!(parts_of_a_stranger.headers["x-forwarded-for"], "192.0.2.1");
        assert_eq!(parts_of_a_stranger.headers["x-forwarded-proto"], "http");
        assert_eq!(parts_of_a_stranger.headers["x-forwarded-host"], "a");
        assert!(!parts_of_a_stranger.headers.contains_key("forwarded"));
        assert!(!parts_of_a_stranger.headers.contains_key("x_forwarded_for"));

        let proxy = Client { trusted: true, ..CLIENT };
        let mut parts = parts(spoofed);
        assert!(proxy.is_secure(&parts.headers));
        assert_eq!(proxy.address(&parts.headers).to_string(), "203.0.113.9");
        sent(&mut parts, proxy).unwrap();
        assert_eq!(parts.headers["x-forwarded-for"], "203.0.113.9, 192.0.2.1");
        assert_eq!(parts.headers["x-forwarded-proto"], "https");
        assert_eq!(parts.headers["x-forwarded-host"], "b");
        assert_eq!(parts.headers["forwarded"], "for=203.0.113.9");
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        let refused = |b: fn(http::request::Builder) -> http::request::Builder| check(&parts(b));
        assert_eq!(refused(|b| b.header("host", "a")), Ok(()));
        assert_eq!(refused(|b| b), Err(Reason::BadRequest));
        assert_eq!(refused(|b| b.header("host", "a").header("host", "a")), Err(Reason::BadRequest));
        assert_eq!(
            refused(|b| b
                .header("host", "a")
                .header("content-length", "1")
                .header("transfer-encoding", "chunked")),
            Err(Reason::BadRequest)
        );
        assert_eq!(
            refused(|b| b.header("host", "a").header("expect", "200-ok")),
            Err(Reason::Expectation)
        );
        for path in ["/a/../b", "/./", "/%2e%2E/x", "/a/.%2e", "/a%00", "/a\\b", "/.."] {
            assert!(is_tricky(path), "{path}");
        }
        for path in ["/", "/a.b/..c/...", "/.well-known/x", "/a%2fb", "/%41"] {
            assert!(!is_tricky(path), "{path}");
        }
    }

    #[test]
    fn crumbs_of_cookies_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("a=1"));
        headers.append("cookie", HeaderValue::from_static("b=2"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn a_backend_cannot_have_the_length_removed() {
        let mut headers = HeaderMap::new();
        headers.append("connection", HeaderValue::from_static("content-length, x-a, close"));
        headers.append("content-length", HeaderValue::from_static("3"));
        headers.append("x-a", HeaderValue::from_static("3"));
        to_client(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["content-length"], "3");
    }
}
