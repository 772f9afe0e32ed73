use super::Host;
use std::{borrow::Cow, net::IpAddr};

/// Header fields, wherever an HTTP engine keeps them.
pub trait Fields {
    /// The values of every line of this name, in order. `name` is lower case.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]>;
}

impl Fields for http::HeaderMap {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).iter().map(http::HeaderValue::as_bytes)
    }
}

/// Names and values; names in any case.
impl Fields for [(&str, &str)] {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_bytes())
    }
}

/// A request as routing sees it.
#[derive(Debug)]
pub struct RequestView<'a, F: ?Sized> {
    pub method: &'a str,
    host: Option<Host<'a>>,
    /// As on the wire, without the query.
    pub path: &'a str,
    /// What follows `?`, as on the wire.
    pub query: Option<&'a str>,
    pub fields: &'a F,
    /// The client's address, behind trusted proxies the one they tell.
    pub client: IpAddr,
}

impl<'a, F: Fields + ?Sized> RequestView<'a, F> {
    pub fn new(
        method: &'a str,
        host: Option<Host<'a>>,
        path: &'a str,
        query: Option<&'a str>,
        fields: &'a F,
        client: IpAddr,
    ) -> Self {
        Self { method, host, path, query, fields, client }
    }

    /// The host it asks for.
    pub fn host(&self) -> Option<&[u8]> {
        self.host.as_ref().map(Host::as_bytes)
    }

    /// The value of the first cookie of this name on any `Cookie` line (RFC 6265 section 4.2.1, with
    /// white space forgiven); quotes are part of the value.
    pub(super) fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        self.fields
            .values("cookie")
            .flat_map(|line| line.split(|&byte| byte == b';'))
            .filter_map(|pair| {
                let at = pair.iter().position(|&byte| byte == b'=')?;
                Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
            })
            .find(|(known, _)| *known == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// The value of the first query parameter of this name, percent-decoded and `+` as space.
    pub(super) fn parameter(&self, name: &str) -> Option<Cow<'a, str>> {
        form_urlencoded::parse(self.query?.as_bytes())
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }
}

/// The path as lax readers take it: `%2f` is a slash, what stands behind `;` in a segment is not there, and
/// slashes in a row are one. `None` when that is the path itself.
pub fn folded_path(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let is_suspect = |at: usize, byte: u8| match byte {
        b';' => true,
        b'/' => bytes.get(at + 1) == Some(&b'/'),
        b'%' => encodes_slash(&bytes[at..]),
        _ => false,
    };
    bytes.iter().enumerate().find(|&(at, &byte)| is_suspect(at, byte))?;
    let mut folded = Vec::with_capacity(bytes.len());
    let (mut at, mut is_cut) = (0, false);
    while at < bytes.len() {
        let is_encoded = encodes_slash(&bytes[at..]);
        if is_encoded || bytes[at] == b'/' {
            is_cut = false;
            if folded.last() != Some(&b'/') {
                folded.push(b'/');
            }
        } else if bytes[at] == b';' {
            is_cut = true;
        } else if !is_cut {
            folded.push(bytes[at]);
        }
        at += if is_encoded { 3 } else { 1 };
    }
    // Only whole characters of ASCII were taken out.
    String::from_utf8(folded).ok()
}

fn encodes_slash(bytes: &[u8]) -> bool {
    matches!(bytes, [b'%', b'2', b'f' | b'F', ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn view<'a>(
        query: Option<&'a str>,
        fields: &'a [(&'a str, &'a str)],
    ) -> RequestView<'a, [(&'a str, &'a str)]> {
        RequestView::new("GET", None, "/", query, fields, Ipv4Addr::LOCALHOST.into())
    }

    #[test]
    fn paths_as_lax_readers_take_them() {
        for (path, folded) in [
            ("/", None),
            ("/a/b.c/%41", None),
            ("/a/", None),
            ("//a", Some("/a")),
            ("/a///b//", Some("/a/b/")),
            ("/a%2fb%2F", Some("/a/b/")),
            ("/a/%2f/b", Some("/a/b")),
            ("/a;x/b;y=z", Some("/a/b")),
            ("/;x/b", Some("/b")),
            ("/a;x%2fb", Some("/a/b")),
            ("/\u{e4};x", Some("/\u{e4}")),
        ] {
            assert_eq!(folded_path(path).as_deref(), folded, "{path}");
        }
    }

    #[test]
    fn cookies_come_from_every_line_and_the_first_counts() {
        let fields = [("Cookie", "a=1;b = 2 ; c; =x"), ("cookie", "d=\"q\"; a=3;e==")];
        let view = view(None, &fields);
        let cookie = |name| view.cookie(name).map(|v| std::str::from_utf8(v).unwrap());
        assert_eq!(cookie("a"), Some("1"));
        assert_eq!(cookie("b"), Some("2"));
        assert_eq!(cookie("c"), None);
        assert_eq!(cookie("d"), Some("\"q\""));
        assert_eq!(cookie("e"), Some("="));
        assert_eq!(cookie("A"), None, "names of cookies keep their case");
    }

    #[test]
    fn parameters_are_decoded_and_the_first_counts() {
        let view = view(Some("a=1&b%20c=x+y&a=2&flag"), &[]);
        assert_eq!(view.parameter("a").as_deref(), Some("1"));
        assert_eq!(view.parameter("b c").as_deref(), Some("x y"));
        assert_eq!(view.parameter("flag").as_deref(), Some(""));
        assert_eq!(view.parameter("none"), None);
    }

    #[test]
    fn a_header_map_is_a_set_of_fields() {
        let mut map = http::HeaderMap::new();
        map.append("x-user", "a".parse().unwrap());
        map.append("X-User", "b".parse().unwrap());
        assert_eq!(Fields::values(&map, "x-user").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(Fields::values(&map, "no such name\n").count(), 0);
    }
}
