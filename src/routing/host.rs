use std::{borrow::Cow, net::Ipv6Addr};

/// The host that a request is for: lower case, without port and trailing dot; an IPv6 address keeps its
/// brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a>(Cow<'a, [u8]>);

/// What is no host: above all one with a user's name, which readers take for the host or do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAHost;

impl<'a> Host<'a> {
    /// Of the value of `Host` or `:authority`: a host and maybe a port (RFC 9110 section 7.2, RFC 3986
    /// section 3.2.2), in any case, or nothing.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &'a [u8]) -> Result<Option<Self>, NotAHost> {
        if text.first() == Some(&b'[') {
            return Self::bracketed(text).map(Some);
        }
        let (mut end, mut seen) = (0, 0);
        for byte in text {
            let class = CLASSES[usize::from(*byte)];
            if class == 0 {
                break;
            }
            end += 1;
            seen |= class;
        }
        let (name, port) = text.split_at(end);
        if !is_port(port)
            || (name.is_empty() && !port.is_empty())
            || (seen & ENCODED != 0 && !is_well_encoded(name))
        {
            return Err(NotAHost);
        }
        let name = name.strip_suffix(b".").unwrap_or(name);
        Ok((!name.is_empty()).then(|| Self::lower(name, seen & UPPER != 0)))
    }

    #[cold]
    fn bracketed(text: &'a [u8]) -> Result<Self, NotAHost> {
        let end = text.iter().position(|byte| *byte == b']').ok_or(NotAHost)?;
        let address = std::str::from_utf8(&text[1..end]).ok();
        if address.is_none_or(|it| it.parse::<Ipv6Addr>().is_err()) || !is_port(&text[end + 1..]) {
            return Err(NotAHost);
        }
        Ok(Self::lower(&text[..=end], true))
    }

    fn lower(name: &'a [u8], has_upper: bool) -> Self {
        Self(match has_upper {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

const NAME: u8 = 1;
const UPPER: u8 = 2;
const ENCODED: u8 = 4;

/// What a registered name consists of (RFC 3986 section 3.2.2).
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            classes[byte] = NAME;
        }
        if (byte as u8).is_ascii_uppercase() {
            classes[byte] |= UPPER;
        }
        byte += 1;
    }
    let others = b"-._~!$&'()*+,;=%";
    let mut at = 0;
    while at < others.len() {
        classes[others[at] as usize] = NAME;
        at += 1;
    }
    classes[b'%' as usize] |= ENCODED;
    classes
};

/// Each `%` stands before two hexadecimal digits.
fn is_well_encoded(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'%')
        .skip(1)
        .all(|rest| rest.get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)))
}

/// Nothing, or a colon and the number that may follow it.
fn is_port(port: &[u8]) -> bool {
    match port.strip_prefix(b":") {
        Some(mut digits) => {
            let fits = digits.len() <= 5;
            while let [b'0'..=b'9', rest @ ..] = digits {
                digits = rest;
            }
            fits && digits.is_empty()
        }
        None => port.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_port_case_and_trailing_dot() {
        for (raw, normal) in [
            ("example.com", Some("example.com")),
            ("Example.COM:8080", Some("example.com")),
            ("example.com.:80", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("a.b-c_d:", Some("a.b-c_d")),
            ("[::1]", Some("[::1]")),
            ("[FE80::1]:443", Some("[fe80::1]")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("%41", Some("%41")),
            ("a%2eB", Some("a%2eb")),
            ("", None),
            (".", None),
        ] {
            let host = Host::parse(raw.as_bytes()).unwrap();
            assert_eq!(host.as_ref().map(Host::as_bytes), normal.map(str::as_bytes), "{raw}");
        }
        let plain = Host::parse(b"shop.example.com:80").unwrap().unwrap();
        assert!(matches!(plain.0, Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_no_host() {
        for text in [
            "a:b", "a:80:80", "a:-1", "::1", "[::1", "a]", "[a]b", "[a]", "[::1]x", ":80", ":",
            "u@a", "a b", "a/", "a%", "%4", "a%zz", "a%4%41", "\u{e4}", "a:123456",
        ] {
            assert_eq!(Host::parse(text.as_bytes()), Err(NotAHost), "{text}");
        }
    }
}
