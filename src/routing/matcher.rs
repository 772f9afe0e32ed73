//! Whether a match holds for a request, and how specific it is.

use super::{Fields, RequestView};
use crate::spec::{FieldMatch, HostPattern, Match, PathMatch, ValueMatch};
use std::cmp::Reverse;

/// How specific one match is for the requests it holds for; the highest wins. The order of the fields is
/// the order of precedence of the Gateway API (HTTPRouteMatch): host, path, method, headers, query
/// parameters, and at last the place in the file. Where regular expressions stand is left to the
/// implementation: here below exact paths and above prefixes, because whoever writes one next to a prefix
/// means the exception. Cookies count as the headers they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    host: HostRank,
    path: PathRank,
    method: bool,
    headers: usize,
    query: usize,
    place: Reverse<usize>,
}

/// A wildcard ranks by its length: of two that hold for one host, the longer is the narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    Any,
    Suffix(usize),
    Exact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Any,
    Prefix(usize),
    Regex,
    Exact,
}

impl Rank {
    /// Of `matches` when `host` (one of its hosts, or none where it names none) is what held; `place` is
    /// that of the route in the file.
    pub(super) fn new(matches: &Match, host: Option<&HostPattern>, place: usize) -> Self {
        Self {
            host: match host {
                None => HostRank::Any,
                Some(HostPattern::Suffix(suffix)) => HostRank::Suffix(suffix.len()),
                Some(HostPattern::Exact(_)) => HostRank::Exact,
            },
            path: match &matches.path {
                PathMatch::Any => PathRank::Any,
                PathMatch::Prefix(prefix) => PathRank::Prefix(prefix.len()),
                PathMatch::Regex(_) => PathRank::Regex,
                PathMatch::Exact(_) => PathRank::Exact,
            },
            method: !matches.methods.is_empty(),
            headers: matches.headers.len() + matches.cookies.len(),
            query: matches.query.len(),
            place: Reverse(place),
        }
    }
}

/// Whether everything that the match names holds.
pub(super) fn holds<F: Fields + ?Sized>(matches: &Match, view: &RequestView<'_, F>) -> bool {
    (matches.hosts.is_empty()
        || matches.hosts.iter().any(|pattern| host_holds(pattern, view.host())))
        && path_holds(&matches.path, view.path)
        && rest_holds(matches, view)
}

/// There is more to hold than host and path.
pub(super) fn has_rest(matches: &Match) -> bool {
    let Match { hosts: _, path: _, methods, headers, cookies, query } = matches;
    !(methods.is_empty() && headers.is_empty() && cookies.is_empty() && query.is_empty())
}

/// Whether all holds but host and path, which the table has looked up.
pub(super) fn rest_holds<F: Fields + ?Sized>(matches: &Match, view: &RequestView<'_, F>) -> bool {
    (matches.methods.is_empty() || matches.methods.iter().any(|method| &**method == view.method))
        && matches
            .headers
            .iter()
            .all(|field| view.fields.values(&field.name).any(|value| value_holds(field, value)))
        && matches
            .cookies
            .iter()
            .all(|field| view.cookie(&field.name).is_some_and(|value| value_holds(field, value)))
        && matches.query.iter().all(|field| {
            view.parameter(&field.name).is_some_and(|value| value_holds(field, value.as_bytes()))
        })
}

pub(super) fn host_holds(pattern: &HostPattern, host: Option<&[u8]>) -> bool {
    let Some(host) = host else { return false };
    match pattern {
        HostPattern::Exact(name) => host == name.as_bytes(),
        HostPattern::Suffix(suffix) => host
            .strip_suffix(suffix.as_bytes())
            .and_then(|labels| labels.strip_suffix(b"."))
            .is_some_and(|labels| !labels.is_empty()),
    }
}

/// A prefix holds by whole segments. `OPTIONS *` and CONNECT have no path, so for them only matches
/// without one hold.
pub(super) fn path_holds(matches: &PathMatch, path: &str) -> bool {
    match matches {
        PathMatch::Any => true,
        PathMatch::Exact(exact) => path == &**exact,
        PathMatch::Prefix(prefix) => path
            .strip_prefix(&**prefix)
            .is_some_and(|rest| rest.starts_with('/') || (rest.is_empty() && !prefix.is_empty())),
        PathMatch::Regex(pattern) => pattern.is_match(path),
    }
}

fn value_holds(field: &FieldMatch, value: &[u8]) -> bool {
    match &field.value {
        ValueMatch::Exact(exact) => value == exact.as_bytes(),
        ValueMatch::Present => true,
        ValueMatch::Regex(pattern) => {
            std::str::from_utf8(value).is_ok_and(|value| pattern.is_match(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{routing::testing::host_of, spec::Pattern};
    use std::net::Ipv4Addr;

    fn prefix(prefix: &str) -> PathMatch {
        PathMatch::Prefix(prefix.into())
    }

    fn field(name: &str, value: &str) -> FieldMatch {
        FieldMatch { name: name.into(), value: ValueMatch::Exact(value.into()) }
    }

    #[test]
    fn prefixes_hold_by_segment() {
        for (pattern, path, holds) in [
            ("/a", "/a", true),
            ("/a", "/a/", true),
            ("/a", "/a/b", true),
            ("/a", "/ab", false),
            ("/a", "/A", false),
            ("/a/b", "/a", false),
            ("", "/", true),
            ("", "/x", true),
            ("", "*", false),
            ("", "", false),
        ] {
            assert_eq!(path_holds(&prefix(pattern), path), holds, "{pattern} {path}");
        }
        assert!(path_holds(&PathMatch::Any, "*"));
        assert!(!path_holds(&PathMatch::Exact("/a".into()), "/a/"));
        assert!(path_holds(&PathMatch::Regex(Pattern::new("/[ab]").unwrap()), "/b"));
    }

    #[test]
    fn wildcards_hold_for_one_or_more_labels() {
        let suffix = HostPattern::Suffix("example.com".into());
        for (host, holds) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            (".example.com", false),
            ("badexample.com", false),
            ("example.com.evil", false),
        ] {
            assert_eq!(host_holds(&suffix, Some(host.as_bytes())), holds, "{host}");
        }
        assert!(!host_holds(&suffix, None));
        assert!(!host_holds(&HostPattern::Exact("a".into()), None));
    }

    #[test]
    fn everything_named_must_hold() {
        let matches = Match {
            hosts: vec![HostPattern::Exact("a.com".into()), HostPattern::Exact("b.com".into())],
            path: prefix("/a"),
            methods: vec!["GET".into(), "HEAD".into()],
            headers: vec![
                field("x-a", "1"),
                FieldMatch { name: "x-b".into(), value: ValueMatch::Present },
            ],
            cookies: vec![field("c", "2")],
            query: vec![FieldMatch {
                name: "q".into(),
                value: ValueMatch::Regex(Pattern::new("[0-9]+").unwrap()),
            }],
        };
        let good = [("X-A", "0"), ("x-a", "1"), ("X-B", ""), ("cookie", "c=2")];
        let holds = |host: Option<&'static str>, path, method, query, fields: &[(&str, &str)]| {
            let view = RequestView::new(
                method,
                host.and_then(host_of),
                path,
                query,
                fields,
                Ipv4Addr::LOCALHOST.into(),
            );
            holds(&matches, &view)
        };
        assert!(holds(Some("B.com:1"), "/a/x", "HEAD", Some("q=12"), &good));
        assert!(!holds(Some("c.com"), "/a/x", "HEAD", Some("q=12"), &good));
        assert!(!holds(None, "/a/x", "HEAD", Some("q=12"), &good));
        assert!(!holds(Some("a.com"), "/b", "HEAD", Some("q=12"), &good));
        assert!(!holds(Some("a.com"), "/a", "get", Some("q=12"), &good));
        assert!(!holds(Some("a.com"), "/a", "GET", Some("q=a&q=1"), &good), "the first q counts");
        assert!(!holds(Some("a.com"), "/a", "GET", None, &good));
        for without in 1..good.len() {
            let mut fields = good.to_vec();
            fields.remove(without);
            assert!(!holds(Some("a.com"), "/a", "GET", Some("q=1"), &fields), "{without}");
        }
    }

    #[test]
    fn ranks_follow_the_gateway_api() {
        let exact = HostPattern::Exact("a.example.com".into());
        let (long, short) =
            (HostPattern::Suffix("example.com".into()), HostPattern::Suffix("com".into()));
        let path = |path| Match { path, ..Match::default() };
        let regex = path(PathMatch::Regex(Pattern::new(".*").unwrap()));
        let method = Match { methods: vec!["GET".into()], ..path(prefix("/a")) };
        let header = Match { headers: vec![field("a", "1")], ..path(prefix("/a")) };
        let both = Match { cookies: vec![field("c", "1")], ..header.clone() };
        let query = Match { query: vec![field("q", "1"), field("r", "1")], ..path(prefix("/a")) };
        let in_order = [
            Rank::new(&path(PathMatch::Any), Some(&exact), 99),
            Rank::new(&path(PathMatch::Exact("/".into())), Some(&long), 99),
            Rank::new(&path(PathMatch::Exact("/".into())), Some(&short), 99),
            Rank::new(&path(PathMatch::Exact("/".into())), None, 99),
            Rank::new(&regex, None, 99),
            Rank::new(&path(prefix("/a/b")), None, 99),
            Rank::new(&method, None, 99),
            Rank::new(&both, None, 99),
            Rank::new(&header, None, 99),
            Rank::new(&query, None, 99),
            Rank::new(&path(prefix("/a")), None, 1),
            Rank::new(&path(prefix("/a")), None, 2),
            Rank::new(&path(prefix("")), None, 0),
            Rank::new(&path(PathMatch::Any), None, 0),
        ];
        assert!(in_order.is_sorted_by(|a, b| a > b), "{in_order:#?}");
    }
}
