use super::AddressError;
use percent_encoding::{CONTROLS, utf8_percent_encode};
use std::{net::Ipv6Addr, sync::Arc};

/// Where clients are sent, and with which status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub url: RedirectUrl,
    pub code: RedirectCode,
}

/// A status that a redirect may have (RFC 9110 section 15.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectCode {
    MovedPermanently,
    #[default]
    Found,
    SeeOther,
    TemporaryRedirect,
    PermanentRedirect,
}

impl RedirectCode {
    pub const ALL: [Self; 5] = [
        Self::MovedPermanently,
        Self::Found,
        Self::SeeOther,
        Self::TemporaryRedirect,
        Self::PermanentRedirect,
    ];

    pub fn status(self) -> u16 {
        match self {
            Self::MovedPermanently => 301,
            Self::Found => 302,
            Self::SeeOther => 303,
            Self::TemporaryRedirect => 307,
            Self::PermanentRedirect => 308,
        }
    }
}

/// A URL with places for parts of the request: `{host}` without its port, `{path}` as it was asked for, and
/// `{query}` with its `?`, or nothing.
///
/// No request can lead it to a host that is neither written here nor the one that the request names: the part
/// that says the host is settled before `{path}`, and a URL without one begins with a path that cannot be
/// taken for a host.
#[derive(Clone, Debug)]
pub struct RedirectUrl {
    source: Arc<str>,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Host,
    Path,
    Query,
}

impl RedirectUrl {
    /// # Errors
    /// With what is wrong, and how it would be right.
    pub fn new(source: &str) -> Result<Self, AddressError> {
        let wrong = |why: &str| Err(AddressError(why.into()));
        if source.len() > 2048 {
            return wrong("it is too long: use at most 2048 characters");
        }
        let parts = parts(source)?;
        let is_sendable = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`|#".contains(&byte))
        };
        if !parts.iter().all(|part| !matches!(part, Part::Text(text) if !is_sendable(text))) {
            return wrong("percent-encode spaces and the like, and leave `#` out");
        }
        let Some(Part::Text(start)) = parts.first() else {
            return wrong(
                "begin it with `https://`, `http://` or a path, such as `https://{host}{path}`",
            );
        };
        match start.strip_prefix("https://").or_else(|| start.strip_prefix("http://")) {
            Some(rest) => {
                if !has_good_authority(rest, &parts[1..]) {
                    return wrong(
                        "the host is wrong: write it out, or use `{host}`, perhaps with a port",
                    );
                }
            }
            None if **start == *"/" && parts.get(1) == Some(&Part::Path) => {
                return wrong(
                    "`/{path}` begins with `//`: write `https://{host}{path}`, or `/old{path}`",
                );
            }
            None if start.starts_with("//") => {
                return wrong(
                    "`//` is taken for a host: begin it with `https://`, or with one slash",
                );
            }
            None if start.starts_with('/') => {}
            None => return wrong("begin it with `https://`, `http://` or a path"),
        }
        Ok(Self { source: source.into(), parts })
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// For a request of this host (without its port), path and query. `None` when the host is needed and there
    /// is none, or the path is needed and the request is for none (`OPTIONS *`).
    pub fn of(&self, host: Option<&str>, path: &str, query: Option<&str>) -> Option<String> {
        let mut url = String::with_capacity(self.source.len() + path.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => url.push_str(text),
                Part::Host => url.push_str(host?),
                Part::Path if path.starts_with('/') => url.extend(ascii(path)),
                Part::Path => return None,
                Part::Query => {
                    if let Some(query) = query {
                        url.push('?');
                        url.extend(ascii(query));
                    }
                }
            }
        }
        Some(url)
    }
}

impl PartialEq for RedirectUrl {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for RedirectUrl {}

/// What a URL cannot have is percent-encoded (RFC 3986 section 2.5).
fn ascii(text: &str) -> impl Iterator<Item = &str> {
    utf8_percent_encode(text, CONTROLS)
}

fn parts(source: &str) -> Result<Vec<Part>, AddressError> {
    let mut parts = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find(['{', '}']) {
        if at > 0 {
            parts.push(Part::Text(rest[..at].into()));
        }
        let (part, length) =
            [("{host}", Part::Host), ("{path}", Part::Path), ("{query}", Part::Query)]
                .into_iter()
                .find(|(name, _)| rest[at..].starts_with(name))
                .map(|(name, part)| (part, name.len()))
                .ok_or_else(|| {
                    AddressError("only `{host}`, `{path}` and `{query}` may stand in braces".into())
                })?;
        parts.push(part);
        rest = &rest[at + length..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.into()));
    }
    Ok(parts)
}

/// Whether what follows `https://` begins with a host and maybe a port, and then ends or goes on with a path or
/// a query. `text` is what is written there before the first of `parts`.
fn has_good_authority(text: &str, parts: &[Part]) -> bool {
    let mut authority = String::new();
    let texts = std::iter::once(text).chain(parts.iter().map(|part| match part {
        Part::Text(text) => &**text,
        Part::Host => HOST,
        Part::Path | Part::Query => "/",
    }));
    for text in texts {
        let end = text.find(['/', '?']);
        authority.push_str(&text[..end.unwrap_or(text.len())]);
        if end.is_some() {
            break;
        }
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => &authority,
    };
    match host.strip_suffix(HOST) {
        // A name below the one that was asked for.
        Some(above) => above.is_empty() || above.strip_suffix('.').is_some_and(is_name),
        None => is_v6(host) || is_name(host),
    }
}

const HOST: &str = "{host}";

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_v6(host: &str) -> bool {
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inside.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

fn is_name(host: &str) -> bool {
    host.split('.').all(|label| {
        let is_of_a_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.bytes().all(is_of_a_label)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_that_could_lead_elsewhere_are_refused() {
        for good in [
            "https://{host}{path}{query}",
            "https://{host}:8443{path}",
            "http://www.{host}{path}",
            "https://new.example.com",
            "https://new.example.com:444/x?from={path}",
            "https://[2001:db8::1]:444{path}",
            "https://[::1]/",
            "https://new_1.example.com{query}",
            "/new",
            "/",
            "/?old",
            "/{query}",
            "/old{path}{query}",
        ] {
            let url = RedirectUrl::new(good).unwrap_or_else(|error| panic!("{good}: {error}"));
            assert_eq!(url.source(), good);
        }
        for (bad, says) in [
            ("", "begin it"),
            ("new", "begin it"),
            ("ftp://a/", "begin it"),
            ("{path}", "begin it"),
            ("{host}/x", "begin it"),
            ("//a/x", "`//`"),
            ("//{host}{path}", "`//`"),
            ("/{path}", "`/{path}`"),
            ("/\\a", "percent-encode"),
            ("/a b", "percent-encode"),
            ("/a#b", "percent-encode"),
            ("/\u{e4}", "percent-encode"),
            ("/{uri}", "in braces"),
            ("/{", "in braces"),
            ("/}", "in braces"),
            ("https://", "the host is wrong"),
            ("https:///x", "the host is wrong"),
            ("https://{path}", "the host is wrong"),
            ("https://a:0/", "the host is wrong"),
            ("https://a:/", "the host is wrong"),
            ("https://a:+80/", "the host is wrong"),
            ("https://u@a/", "the host is wrong"),
            ("https://a..b/", "the host is wrong"),
            ("https://[::g]/", "the host is wrong"),
            ("https://a{host}/", "the host is wrong"),
            ("https://{host}.a/", "the host is wrong"),
            ("https://{host}{host}/", "the host is wrong"),
            ("https://a:{host}/", "the host is wrong"),
        ] {
            let error = RedirectUrl::new(bad).expect_err(bad);
            assert!(error.0.contains(says), "{bad}: {error}");
        }
        assert!(RedirectUrl::new(&format!("/{}", "a".repeat(2048))).is_err());
    }

    #[test]
    fn parts_of_the_request_stand_in_their_places() {
        let of = |url, host, path, query| RedirectUrl::new(url).unwrap().of(host, path, query);
        let all = "https://www.{host}:444/x{path}{query}";
        assert_eq!(
            of(all, Some("a.com"), "/b%2f//c", Some("d=e?f")).as_deref(),
            Some("https://www.a.com:444/x/b%2f//c?d=e?f")
        );
        assert_eq!(of("/x{path}", None, "/\u{e4}%", None).as_deref(), Some("/x/%C3%A4%"));
        assert_eq!(of("/new{query}", None, "*", None).as_deref(), Some("/new"));
        assert_eq!(of(all, None, "/", None), None);
        assert_eq!(of(all, Some("a"), "*", None), None);
    }

    proptest! {
        /// Whatever is asked for, the host is the one that is written or that was asked for.
        #[test]
        fn no_path_leads_to_another_host(
            url in prop::sample::select(vec!["https://a.com{path}", "https://{host}{path}", "/x{path}", "/{query}"]),
            path in "/[/a-z.@:%\\\\]{0,12}",
            query in prop::option::of("[/a-z.@:]{0,8}"),
        ) {
            let to = RedirectUrl::new(url).unwrap().of(Some("a.com"), &path, query.as_deref()).unwrap();
            let rest = to.strip_prefix("https://a.com").unwrap_or(&to);
            prop_assert!(rest.starts_with('/'));
            prop_assert!(to.len() > rest.len() || !rest.starts_with("//"), "{}", to);
        }
    }
}
