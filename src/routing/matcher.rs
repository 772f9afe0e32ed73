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

pub(super) fn host_holds(pattern: &HostPattern, host: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    match pattern {
        HostPattern::Exact(name) => host == &**name,
        HostPattern::Suffix(suffix) => host
            .strip_suffix(&**suffix)
            .and_then(|labels| labels.strip_suffix('.'))
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
