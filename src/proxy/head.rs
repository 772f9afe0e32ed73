//! The head of a request as decisions see it, whichever engine read it, and what must hold of every one.

use super::{
    fields::{Known, Lines, connection_options, first, listed},
    framing::Framing,
};
use crate::{live::Reason, routing::Host};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    Http10,
    Http11,
    Http2,
}

/// Borrowed from wherever the engine keeps it.
pub(super) struct Head<'a, L> {
    pub(super) method: &'a str,
    pub(super) version: Version,
    /// Of a target in absolute form, or `:authority`.
    pub(super) authority: Option<&'a str>,
    pub(super) path: &'a str,
    /// What follows `?`.
    pub(super) query: Option<&'a str>,
    pub(super) lines: &'a L,
}

/// What the fields of a request ask of a proxy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) framing: Framing,
    pub(super) close: bool,
    /// HTTP/1.0 asks for what is the rule in HTTP/1.1 (RFC 9112 section 9.3).
    pub(super) keep_alive: bool,
    /// `Connection` names fields of its own, which stay behind.
    pub(super) names_fields: bool,
    pub(super) wants_trailers: bool,
    /// To a protocol that this proxy passes on.
    pub(super) upgrades: bool,
    /// The client waits for 100 before it sends its body (RFC 9110 section 10.1.1).
    pub(super) expects_continue: bool,
    pub(super) has_request_id: bool,
    pub(super) cookies: u32,
    /// Every field goes on as it came.
    pub(super) passes: bool,
}

/// The longest target; over 8,000 bytes should be taken (RFC 9112 section 3).
pub(super) const LONGEST_TARGET: usize = 32 << 10;

/// Fields that belong to the message or that the proxy adds: no `Connection` can have them removed. (Those
/// that routes, pins and sticky keys read are seen to by the decision, which knows them.)
const PROTECTED: [&[u8]; 10] = [
    b"host",
    b"content-length",
    b"expect",
    b"cookie",
    b"authorization",
    b"x-request-id",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-client-cert",
];

/// Options of `Connection` that are no names of fields, or of fields that never pass.
const PLAIN_OPTIONS: [&[u8]; 6] =
    [b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings", b"transfer-encoding"];

impl Facts {
    /// # Errors
    /// With what a strict reader must not pass on: more than one way to frame a body (RFC 9112 section 6), no
    /// or two hosts (section 3.2), a path that could mean another one, an expectation that nobody can meet.
    pub(super) fn of<'a, L: Lines>(head: &Head<'a, L>) -> Result<(Self, Option<Host<'a>>), Reason> {
        let mut facts = Self { passes: true, ..Self::default() };
        let (mut hosts, mut host) = (0, None);
        let mut asks_upgrade = false;
        let mut unmet = false;
        for (known, _, value) in head.lines.lines() {
            match known {
                Known::Connection => {
                    facts.passes = false;
                    asks_upgrade |= facts.note_connection(value)?;
                }
                Known::ContentLength => facts.framing.content_length(value),
                Known::TransferEncoding => {
                    facts.passes = false;
                    facts.framing.transfer_encoding(value);
                }
                Known::Host => (hosts, host) = (hosts + 1, Some(value)),
                Known::Te => {
                    facts.passes = false;
                    facts.wants_trailers |= listed(value, b"trailers");
                }
                Known::Expect => {
                    // HTTP/1.0 knows no 100 (RFC 9110 section 10.1.1).
                    let is_continue = value.eq_ignore_ascii_case(b"100-continue");
                    facts.expects_continue |= is_continue && head.version > Version::Http10;
                    unmet |= !is_continue;
                }
                Known::XRequestId => facts.has_request_id = true,
                Known::Cookie => facts.cookies += 1,
                Known::Authorization | Known::Date | Known::Trailer | Known::Other => {}
                Known::Forwarded
                | Known::ForwardedAlias
                | Known::Http2Settings
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::Upgrade
                | Known::XForwardedClientCert
                | Known::XForwardedFor
                | Known::XForwardedHost
                | Known::XForwardedOther
                | Known::XForwardedProto => facts.passes = false,
            }
        }
        let is_declared_oddly =
            facts.framing.declared().is_some() && !facts.framing.is_plainly_declared();
        facts.passes &= !is_declared_oddly && head.version == Version::Http11;
        let minor = u8::from(head.version > Version::Http10);
        if facts.framing.of_request(minor).is_err() {
            return Err(Reason::BadRequest);
        }
        let host = good_host(head, hosts, host).ok_or(Reason::BadRequest)?;
        if head.path.len() + head.query.map_or(0, str::len) > LONGEST_TARGET {
            return Err(Reason::TargetTooLong);
        }
        if head.method == "CONNECT" {
            return Err(Reason::NotSupported);
        }
        if unmet {
            return Err(Reason::Expectation);
        }
        if is_tricky(head.path) {
            return Err(Reason::BadRequest);
        }
        // HTTP/2 has no such fields: there they say what CONNECT asked for.
        facts.upgrades = asks_upgrade && head.version >= Version::Http11 && upgrade(head).is_some();
        Ok((facts, host))
    }

    /// True when it lists `upgrade`.
    fn note_connection(&mut self, value: &[u8]) -> Result<bool, Reason> {
        let mut upgrade = false;
        for option in connection_options(value) {
            let is = |known: &[u8]| option.eq_ignore_ascii_case(known);
            if PROTECTED.iter().any(|name| is(name)) {
                return Err(Reason::BadRequest);
            }
            self.close |= is(b"close");
            self.keep_alive |= is(b"keep-alive");
            upgrade |= is(b"upgrade");
            self.names_fields |= !PLAIN_OPTIONS.iter().any(|name| is(name));
        }
        Ok(upgrade)
    }
}

/// The protocol that a client asks to switch to (RFC 9110 section 7.8), if this proxy passes it on.
/// Other versions of HTTP and TLS (RFC 2817) are not: what came in by them would not be judged.
pub(super) fn upgrade<'a, L: Lines>(head: &Head<'a, L>) -> Option<&'a [u8]> {
    let protocol = first(head.lines, Known::Upgrade)?;
    let mut protocols = protocol.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let hides_http = |protocol: &[u8]| {
        let begins = |known: &[u8]| {
            protocol.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known))
        };
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-._+".contains(byte);
        begins(b"h2")
            || begins(b"h3")
            || begins(b"http")
            || begins(b"tls")
            || !protocol.first().is_some_and(u8::is_ascii_alphanumeric)
            || !protocol.iter().all(is_name)
    };
    (!protocol.is_empty() && !protocols.any(hides_http)).then_some(protocol)
}

/// Whether all that the backend switches to (`answer`) is among what the client `asked` for (RFC 9110 section
/// 7.8).
pub(super) fn is_agreed(asked: &[u8], answer: &[u8]) -> bool {
    answer.split(|byte| *byte == b',').all(|protocol| listed(asked, protocol.trim_ascii()))
}

pub(super) fn is_websocket(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"websocket")
}

/// What the request is for: the authority of the target counts before `Host` (RFC 9112 section 3.2.2).
///
/// # Errors
/// `BadRequest` when one of them is no host.
pub(super) fn host<'a, L: Lines>(head: &Head<'a, L>) -> Result<Option<Host<'a>>, Reason> {
    let host = first(head.lines, Known::Host);
    good_host(head, usize::from(host.is_some()), host).ok_or(Reason::BadRequest)
}

/// Of one that may only have one; `None`: it is not good.
fn good_host<'a, L: Lines>(
    head: &Head<'a, L>,
    hosts: usize,
    host: Option<&'a [u8]>,
) -> Option<Option<Host<'a>>> {
    if hosts > 1 || (hosts == 0 && head.version == Version::Http11) {
        return None;
    }
    let named = match host {
        Some(host) => Host::parse(host).ok()?,
        None => None,
    };
    let Some(authority) = head.authority.map(str::as_bytes) else { return Some(named) };
    let agree = host.is_none_or(|host| host.eq_ignore_ascii_case(authority));
    let asked = Host::parse(authority).ok()?;
    (agree || head.version != Version::Http2).then_some(asked)
}

/// A path with dot segments (also encoded), an encoded NUL or a backslash: backends disagree on what it is.
pub(super) fn is_tricky(path: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn facts(path: &str, fields: &[(&str, &str)]) -> Result<Facts, Reason> {
        let mut lines = HeaderMap::new();
        for (name, value) in fields {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            lines.append(name, value.parse().unwrap());
        }
        let head = Head {
            method: "GET",
            version: Version::Http11,
            authority: None,
            path,
            query: None,
            lines: &lines,
        };
        Facts::of(&head).map(|(facts, _)| facts)
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        assert!(facts("/", &[("host", "a")]).is_ok());
        for (refused, fields) in [
            (Reason::BadRequest, &[][..]),
            (Reason::BadRequest, &[("host", "a"), ("host", "a")]),
            (Reason::BadRequest, &[("host", "user@a")]),
            (
                Reason::BadRequest,
                &[("host", "a"), ("content-length", "1"), ("transfer-encoding", "chunked")],
            ),
            (Reason::BadRequest, &[("host", "a"), ("transfer-encoding", "gzip, chunked")]),
            (Reason::Expectation, &[("host", "a"), ("expect", "200-ok")]),
        ] {
            assert_eq!(facts("/", fields).unwrap_err(), refused, "{fields:?}");
        }
        for path in ["/a/../b", "/./", "/%2e%2E/x", "/a/.%2e", "/a%00", "/a\\b", "/.."] {
            assert!(is_tricky(path), "{path}");
        }
        for path in ["/", "/a.b/..c/...", "/.well-known/x", "/a%2fb", "/%41"] {
            assert!(!is_tricky(path), "{path}");
        }
    }

    #[test]
    fn no_client_can_strip_what_is_added() {
        for named in ["X-Forwarded-For", "host", "x-request-id", "close, Cookie"] {
            let fields = [("host", "a"), ("connection", named)];
            assert_eq!(facts("/", &fields).unwrap_err(), Reason::BadRequest, "{named}");
        }
        let plain = facts("/", &[("host", "a"), ("connection", "keep-alive, close")]).unwrap();
        assert!(plain.close && plain.keep_alive && !plain.names_fields);
        assert!(facts("/", &[("host", "a"), ("connection", "x-a")]).unwrap().names_fields);
    }

    #[test]
    fn upgrades_are_asked_for_twice() {
        let asks = |connection, protocol| {
            let fields = [("host", "a"), ("connection", connection), ("upgrade", protocol)];
            facts("/", &fields).unwrap().upgrades
        };
        assert!(asks("Upgrade", "websocket"));
        assert!(asks("keep-alive, upgrade", "websocket"));
        assert!(!asks("keep-alive", "websocket"));
        assert!(!asks("upgrade", "h2c"));
        assert!(!asks("upgrade", "websocket, H2C"));
        assert!(!asks("upgrade", "HTTP/2.0"));
        assert!(!asks("upgrade", "TLS/1.0"));
        assert!(!asks("upgrade", "/../ h2c"));
        assert!(asks("upgrade", "foo/2, websocket"));
    }
}
