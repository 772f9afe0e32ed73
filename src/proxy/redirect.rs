//! Clients that speak HTTP in the clear and are to speak HTTPS.

use super::{
    failure::{Redirected, Reply},
    fields::{Known, Lines, first},
    head::Head,
};
use crate::{live::Reason, routing::Host};

/// Keeps the method and the body (RFC 9110 section 15.4.9).
const PERMANENT_REDIRECT: u16 = 308;

/// Sends the client to the same place by HTTPS. Who came by the usual port is sent to the usual port: nobody
/// here knows from where that leads to a listener. Who named a port gets that of the listener that speaks TLS.
pub(super) fn to_https<L: Lines>(
    head: &Head<'_, L>,
    host: Option<&Host<'_>>,
    https_port: Option<u16>,
) -> Reply {
    let Some(host) = host.and_then(|host| std::str::from_utf8(host.as_bytes()).ok()) else {
        return Reason::BadRequest.into();
    };
    let asked = head.authority.map(str::as_bytes).or(first(head.lines, Known::Host));
    let mut location = format!("https://{host}");
    match https_port {
        Some(port) if port != 443 && asked.is_some_and(has_port) => {
            location.push_str(&format!(":{port}"));
        }
        _ => {}
    }
    // `OPTIONS *` is about the server as a whole.
    location.push_str(if head.path.starts_with('/') { head.path } else { "/" });
    if let Some(query) = head.query {
        location.push('?');
        location.push_str(query);
    }
    Reply::Redirect(Redirected { code: PERMANENT_REDIRECT, location })
}

/// Of a host that was judged; an empty one is none.
fn has_port(host: &[u8]) -> bool {
    let name = host.iter().rposition(|byte| *byte == b']').map_or(host, |end| &host[end..]);
    name.iter().position(|byte| *byte == b':').is_some_and(|at| at + 1 < name.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::head::Version;
    use http::HeaderMap;

    fn location(host: &str, path: &str, query: Option<&str>, port: Option<u16>) -> String {
        let mut lines = HeaderMap::new();
        lines.insert("host", host.parse().unwrap());
        let method = "GET";
        let head =
            Head { method, version: Version::Http11, authority: None, path, query, lines: &lines };
        let host = Host::parse(host.as_bytes()).unwrap();
        match to_https(&head, host.as_ref(), port) {
            Reply::Redirect(Redirected { code: 308, location }) => location,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_place_is_the_same() {
        for (host, path, query, port, expected) in [
            ("a", "/", None, None, "https://a/"),
            ("A.example", "/x%20y", Some("a=b&c"), Some(443), "https://a.example/x%20y?a=b&c"),
            ("a:80", "/", None, None, "https://a/"),
            ("a", "/", None, Some(8443), "https://a/"),
            ("a:8080", "/", None, Some(8443), "https://a:8443/"),
            ("a:8080", "/", None, Some(443), "https://a/"),
            ("[::1]", "/", None, Some(8443), "https://[::1]/"),
            ("[::1]:80", "/", None, Some(8443), "https://[::1]:8443/"),
            ("a:", "/", None, Some(8443), "https://a/"),
            ("a", "//evil", None, None, "https://a//evil"),
            ("a", "*", None, None, "https://a/"),
        ] {
            assert_eq!(location(host, path, query, port), expected);
        }
    }
}
