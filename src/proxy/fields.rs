//! Header fields as the data plane sees them, whichever engine read them.

use crate::routing::Fields;
use http::HeaderMap;

/// The fields that a proxy must know about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Other,
    Connection,
    ContentLength,
    Cookie,
    Expect,
    Forwarded,
    /// What many backends cannot tell from the fields that the proxy adds (CGI turns `-` into `_`).
    ForwardedAlias,
    Host,
    Http2Settings,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XRequestId,
}

impl Known {
    /// Of a name in any case.
    pub(super) fn of(name: &[u8]) -> Self {
        let candidates: &[(&[u8], Self)] = match name.len() {
            2 => &[(b"te", Self::Te)],
            4 => &[(b"host", Self::Host)],
            6 => &[(b"cookie", Self::Cookie), (b"expect", Self::Expect)],
            7 => &[(b"upgrade", Self::Upgrade), (b"trailer", Self::Trailer)],
            9 => &[(b"forwarded", Self::Forwarded)],
            10 => &[(b"connection", Self::Connection), (b"keep-alive", Self::KeepAlive)],
            12 => &[(b"x-request-id", Self::XRequestId)],
            14 => &[
                (b"content-length", Self::ContentLength),
                (b"http2-settings", Self::Http2Settings),
            ],
            15 => &[(b"x-forwarded-for", Self::XForwardedFor)],
            16 => &[
                (b"x-forwarded-host", Self::XForwardedHost),
                (b"proxy-connection", Self::ProxyConnection),
            ],
            17 => &[
                (b"transfer-encoding", Self::TransferEncoding),
                (b"x-forwarded-proto", Self::XForwardedProto),
            ],
            _ => return Self::Other,
        };
        match candidates.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) {
            Some((_, known)) => *known,
            None if is_alias(name, candidates) => Self::ForwardedAlias,
            None => Self::Other,
        }
    }
}

/// The same as `x-forwarded-*` for who takes `_` for `-`.
fn is_alias(name: &[u8], candidates: &[(&[u8], Known)]) -> bool {
    let is_same = |known: &[u8]| {
        let pairs = name.iter().zip(known);
        known.starts_with(b"x-forwarded-")
            && pairs.into_iter().all(|(byte, known)| {
                byte.eq_ignore_ascii_case(known) || (*byte == b'_' && *known == b'-')
            })
    };
    candidates.iter().any(|(known, _)| is_same(known))
}

impl Known {
    /// May stand behind a body (RFC 9110 section 6.5.1): nothing that frames, routes or says who asks.
    pub(super) fn may_trail(self) -> bool {
        self == Self::Other
    }
}

/// The lines of a header section, wherever an engine keeps them.
pub(super) trait Lines: Fields {
    /// Names (in any case) and values, in order.
    fn lines(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])>;
}

impl Lines for HeaderMap {
    fn lines(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.iter().map(|(name, value)| {
            let name = name.as_str().as_bytes();
            (Known::of(name), name, value.as_bytes())
        })
    }
}

/// The value of the first line of this field.
pub(super) fn first(lines: &impl Lines, field: Known) -> Option<&[u8]> {
    lines.lines().find(|(known, ..)| *known == field).map(|(.., value)| value)
}

/// The options that a line of `Connection` names (RFC 9110 section 7.6.1).
pub(super) fn connection_options(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|option| !option.is_empty())
}

/// Whether a comma-separated list has this member, in any case.
pub(super) fn listed(list: &[u8], member: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|known| known.trim_ascii().eq_ignore_ascii_case(member))
}

/// Some `Connection` line names this field.
pub(super) fn is_named(lines: &impl Lines, name: &[u8]) -> bool {
    lines
        .lines()
        .filter(|(known, ..)| *known == Known::Connection)
        .flat_map(|(.., value)| connection_options(value))
        .any(|option| option.eq_ignore_ascii_case(name))
}
