//! No web page may steer a proxy: who does not name this listener as a client of it would, or comes from a
//! page of somebody else, is refused before anything is looked at (DNS rebinding, cross-site requests).

use super::{access::Peer, problem::Problem};
use crate::spec::{self, AdminAddress, KeyPair};
use axum::{
    extract::Request,
    http::{HeaderMap, Method, header, uri::Authority},
};
use std::net::IpAddr;

/// # Errors
/// When it may be a web page that asks.
pub(super) fn check(request: &Request, peer: &Peer, settings: &spec::Admin) -> Result<(), Problem> {
    let host = match peer {
        Peer::Tcp { local, .. } => {
            let host = host(request)?;
            // Nobody else has a certificate for a name that was made to point here.
            let certified = || certificates(settings).any(|pair| pair.names.cover(host.host()));
            if !is_ours(&host, local.ip(), &settings.address, &settings.hosts) && !certified() {
                return Err(Problem::misdirected(format!(
                    "`{host}` is not a name of the admin API; ask for its address, for localhost, or list \
                     the name in admin.hosts"
                )));
            }
            host
        }
        Peer::Unix(_) => Authority::from_static("localhost"),
    };
    same_origin(request.headers(), &host)?;
    same_site(request.method(), request.headers())
}

fn certificates(settings: &spec::Admin) -> impl Iterator<Item = &KeyPair> {
    settings.tls.iter().flat_map(|tls| &tls.certificates).map(|certificate| &*certificate.pair)
}

/// RFC 9112 section 3.2: the target's authority wins over `Host`, which there must be exactly one of.
fn host(request: &Request) -> Result<Authority, Problem> {
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.clone());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Problem::misdirected("send exactly one Host header"));
    };
    Authority::try_from(host.as_bytes())
        .map_err(|_| Problem::misdirected("Host is not a host name or address"))
}

/// Ports do not matter: a forwarded port is another one, and a name that leads astray does so with any.
fn is_ours(host: &Authority, local: IpAddr, admin: &AdminAddress, listed: &[String]) -> bool {
    let name = host.host();
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        let is_admin = matches!(admin, AdminAddress::Tcp(address) if address.ip() == ip);
        if ip.is_loopback() || ip == local || is_admin {
            return true;
        }
    }
    name.eq_ignore_ascii_case("localhost")
        || listed.iter().any(|listed| {
            listed.eq_ignore_ascii_case(name) || listed.eq_ignore_ascii_case(host.as_str())
        })
}

/// A browser sends `Origin` with whatever a page asks of another site, and with every POST and PUT.
fn same_origin(headers: &HeaderMap, host: &Authority) -> Result<(), Problem> {
    for origin in headers.get_all(header::ORIGIN) {
        let authority = origin.to_str().ok().and_then(|text| {
            text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))
        });
        if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str())) {
            return Err(Problem::cross_origin(
                "pages of other origins may not use the admin API; ask without an Origin header",
            ));
        }
    }
    Ok(())
}

/// What browsers say of their own accord (Fetch Metadata). A link may lead here, since looking changes nothing
/// and the page that has the link sees nothing of the answer.
fn same_site(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let says = |name: &str, word: &str| headers.get(name).is_some_and(|value| value == word);
    let is_link = (method == Method::GET || method == Method::HEAD)
        && says("sec-fetch-mode", "navigate")
        && says("sec-fetch-dest", "document");
    let mut sites = headers.get_all("sec-fetch-site").iter();
    if is_link || sites.all(|site| site == "same-origin" || site == "none") {
        return Ok(());
    }
    Err(Problem::cross_origin("pages of other sites may not use the admin API"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn names_of_the_admin_api() {
        let local: IpAddr = "10.1.2.3".parse().unwrap();
        let admin = AdminAddress::Tcp("0.0.0.0:9900".parse().unwrap());
        let listed = ["proxy.internal".to_string(), "other:9900".to_string()];
        let ours =
            |host: &'static str| is_ours(&Authority::from_static(host), local, &admin, &listed);
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:9900",
            "127.8.8.8",
            "[::1]:9900",
            "10.1.2.3:9900",
            "0.0.0.0:9900",
            "Proxy.Internal:80",
            "other:9900",
        ] {
            assert!(ours(host), "{host}");
        }
        for host in
            ["evil.example", "10.1.2.4", "localhost.evil", "other:80", "[::2]", "notlocalhost"]
        {
            assert!(!ours(host), "{host}");
        }
    }

    #[test]
    fn only_the_same_origin() {
        let host = Authority::from_static("localhost:9900");
        let check = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            same_origin(&headers, &host).is_ok()
        };
        assert!(same_origin(&HeaderMap::new(), &host).is_ok());
        assert!(check("http://localhost:9900") && check("https://LOCALHOST:9900"));
        for origin in ["null", "http://localhost", "http://evil.example", "localhost:9900", ""] {
            assert!(!check(origin), "{origin}");
        }
    }

    #[test]
    fn only_the_same_site_or_a_link() {
        let check = |method: Method, headers: &[(&'static str, &'static str)]| {
            let headers = headers
                .iter()
                .map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            same_site(&method, &headers.collect()).is_ok()
        };
        const LINK: [(&str, &str); 3] = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        let site = |site| [("sec-fetch-site", site)];
        assert!(check(Method::POST, &[]), "no browser");
        assert!(check(Method::POST, &site("same-origin")) && check(Method::GET, &site("none")));
        for from in ["cross-site", "same-site", "", "Same-Origin "] {
            assert!(!check(Method::GET, &site(from)), "{from}");
            assert!(!check(Method::PUT, &site(from)), "{from}");
        }
        assert!(check(Method::GET, &LINK));
        assert!(!check(Method::POST, &LINK), "a form of another site");
        let frame = [LINK[0], LINK[1], ("sec-fetch-dest", "iframe")];
        assert!(!check(Method::GET, &frame));
        let twice = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")];
        assert!(!check(Method::GET, &twice));
    }
}
