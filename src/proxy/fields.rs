//! Header fields as the data plane sees them, whichever engine read them.

use crate::routing::Fields;
use http::HeaderMap;

/// The fields that a proxy must know about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Other,
    /// `Proxy-Authorization` too.
    Authorization,
    Connection,
    ContentLength,
    Cookie,
    Date,
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
    XForwardedClientCert,
    XForwardedFor,
    XForwardedHost,
    /// Whatever else begins with `X-Forwarded-`.
    XForwardedOther,
    XForwardedProto,
    XRequestId,
}

impl Known {
    /// Of a name in any case.
    pub(super) fn of(name: &[u8]) -> Self {
        if name.first().is_some_and(|byte| byte.eq_ignore_ascii_case(&b'x')) {
            return Self::of_x(name);
        }
        match name.len() {
            2 if is(name, b"te") => Self::Te,
            4 if is(name, b"host") => Self::Host,
            4 if is(name, b"date") => Self::Date,
            6 if is(name, b"cookie") => Self::Cookie,
            6 if is(name, b"expect") => Self::Expect,
            7 if is(name, b"upgrade") => Self::Upgrade,
            7 if is(name, b"trailer") => Self::Trailer,
            9 if is(name, b"forwarded") => Self::Forwarded,
            10 if is(name, b"connection") => Self::Connection,
            10 if is(name, b"keep-alive") => Self::KeepAlive,
            13 if is(name, b"authorization") => Self::Authorization,
            14 if is(name, b"content-length") => Self::ContentLength,
            14 if is(name, b"http2-settings") => Self::Http2Settings,
            16 if is(name, b"proxy-connection") => Self::ProxyConnection,
            17 if is(name, b"transfer-encoding") => Self::TransferEncoding,
            19 if is(name, b"proxy-authorization") => Self::Authorization,
            _ => Self::Other,
        }
    }

    /// Of a name that begins with `x`.
    #[inline(never)]
    fn of_x(name: &[u8]) -> Self {
        match name.len() {
            12 if is(name, b"x-request-id") => Self::XRequestId,
            12 if is_alias(name, b"x-request-id") => Self::ForwardedAlias,
            15 if is(name, b"x-forwarded-for") => Self::XForwardedFor,
            15 if is_alias(name, b"x-forwarded-for") => Self::ForwardedAlias,
            16 if is(name, b"x-forwarded-host") => Self::XForwardedHost,
            16 if is_alias(name, b"x-forwarded-host") => Self::ForwardedAlias,
            17 if is(name, b"x-forwarded-proto") => Self::XForwardedProto,
            17 if is_alias(name, b"x-forwarded-proto") => Self::ForwardedAlias,
            23 if is(name, b"x-forwarded-client-cert") => Self::XForwardedClientCert,
            _ if begins_as_forwarded(name) => match name.contains(&b'_') {
                true => Self::ForwardedAlias,
                false => Self::XForwardedOther,
            },
            _ => Self::Other,
        }
    }

    /// Names of this kind are not told apart by every byte: whether one is a token is not known.
    #[inline]
    pub(super) fn may_be_any(self) -> bool {
        matches!(self, Self::Other | Self::XForwardedOther | Self::ForwardedAlias)
    }

    /// May stand behind a body (RFC 9110 section 6.5.1): nothing that frames, routes or says who asks.
    pub(super) fn may_trail(self) -> bool {
        matches!(self, Self::Other | Self::Date)
    }
}

/// Whether a name is this one, which is in lower case, in any case: in words, because every line of every
/// message is asked.
#[inline(always)]
fn is<const N: usize>(name: &[u8], known: &[u8; N]) -> bool {
    let Ok(name) = <&[u8; N]>::try_from(name) else { return false };
    let case = words(&known.map(|byte| if byte.is_ascii_lowercase() { b'a' ^ b'A' } else { 0 }));
    let (name, known) = (words(name), words(known));
    (0..3).all(|at| name[at] | case[at] == known[at])
}

#[inline(always)]
fn words<const N: usize>(bytes: &[u8; N]) -> [u64; 3] {
    const { assert!(N <= 24, "longer than the words") };
    let mut words = [[0; 8]; 3];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
        word[..bytes.len()].copy_from_slice(bytes);
    }
    words.map(u64::from_le_bytes)
}

/// The same for who takes `_` for `-`, which `known` has.
fn is_alias(name: &[u8], known: &[u8]) -> bool {
    let is_same = |(byte, known): (&u8, &u8)| {
        byte.eq_ignore_ascii_case(known) || (*byte == b'_' && *known == b'-')
    };
    name.len() == known.len() && name.iter().zip(known).all(is_same)
}

/// The same for the beginning that the fields have in common by which proxies tell of clients.
fn begins_as_forwarded(name: &[u8]) -> bool {
    const START: &[u8] = b"x-forwarded-";
    name.get(..START.len()).is_some_and(|start| is_alias(start, START))
}

/// The lines of a header section, wherever an engine keeps them.
pub(super) trait Lines: Fields {
    /// Names (in any case) and values, in order.
    fn lines(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])>;

    /// The line at this place in order as it would be written, with its end, if the engine has it so.
    fn raw(&self, _place: usize) -> Option<&[u8]> {
        None
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [(&str, Known); 21] = [
        ("te", Known::Te),
        ("host", Known::Host),
        ("cookie", Known::Cookie),
        ("date", Known::Date),
        ("expect", Known::Expect),
        ("upgrade", Known::Upgrade),
        ("trailer", Known::Trailer),
        ("forwarded", Known::Forwarded),
        ("connection", Known::Connection),
        ("keep-alive", Known::KeepAlive),
        ("x-request-id", Known::XRequestId),
        ("authorization", Known::Authorization),
        ("content-length", Known::ContentLength),
        ("http2-settings", Known::Http2Settings),
        ("x-forwarded-for", Known::XForwardedFor),
        ("x-forwarded-host", Known::XForwardedHost),
        ("proxy-connection", Known::ProxyConnection),
        ("transfer-encoding", Known::TransferEncoding),
        ("x-forwarded-proto", Known::XForwardedProto),
        ("proxy-authorization", Known::Authorization),
        ("x-forwarded-client-cert", Known::XForwardedClientCert),
    ];

    #[test]
    fn names_are_known_in_any_case() {
        for (name, known) in NAMES {
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
            assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), known, "{name}");
        }
    }

    /// Whatever the byte: the names are asked for before anybody knows that they are tokens.
    #[test]
    fn no_other_byte_passes_for_one_of_a_known_name() {
        for (name, known) in NAMES {
            for at in 0..name.len() {
                for byte in 0..=255u8 {
                    let mut other = name.as_bytes().to_vec();
                    other[at] = byte;
                    let is_same = other.eq_ignore_ascii_case(name.as_bytes());
                    let is_known = Known::of(&other) == known;
                    assert_eq!(is_known, is_same, "{:?}", String::from_utf8_lossy(&other));
                }
            }
        }
    }

    #[test]
    fn aliases_are_known_however_many_dashes_they_change() {
        for alias in [
            "x_forwarded_for",
            "X-Forwarded_Host",
            "x_forwarded-PROTO",
            "X_Request_Id",
            "x-forwarded-client_cert",
        ] {
            assert_eq!(Known::of(alias.as_bytes()), Known::ForwardedAlias, "{alias}");
        }
        for alias in ["x_forwarded_fox", "x-forwarded_port", "x-forwarded-client_cert"] {
            assert_eq!(Known::of(alias.as_bytes()), Known::ForwardedAlias, "{alias}");
        }
        for other in ["x-forwarded+for", "x_request.id", "x_forwarded", "x-forwarder-for"] {
            assert_eq!(Known::of(other.as_bytes()), Known::Other, "{other}");
        }
        for told in ["X-Forwarded-Port", "x-forwarded-", "x-forwarded-prefix-of-a-path"] {
            assert_eq!(Known::of(told.as_bytes()), Known::XForwardedOther, "{told}");
        }
    }
}
