//! Finds the route of the highest rank without looking at all of them.
//!
//! Rank orders by host first and by path second, so the look-up goes the same way: the hosts that hold,
//! narrowest first; in each the paths that hold, narrowest first; and among the routes of one such place,
//! which differ by the rest, in order of rank. The first that holds wins.

use super::{
    CompiledRoute, Fields, RequestView,
    matcher::Rank,
    place::{Entry, Place},
};
use crate::spec::{HostPattern, PathMatch, Pattern};
use regex::{RegexSet, RegexSetBuilder};
use std::{collections::HashMap, sync::Arc};

#[derive(Debug, Default)]
pub(super) struct Index {
    exact: HashMap<Arc<[u8]>, Paths>,
    suffix: HashMap<Arc<[u8]>, Paths>,
    any: Paths,
}

impl Index {
    pub(super) fn new(routes: &[CompiledRoute]) -> Self {
        let mut index = Self::default();
        for (number, route) in routes.iter().enumerate() {
            let matches = &route.matches;
            if matches.hosts.is_empty() {
                index
                    .any
                    .insert(Entry::new(Rank::new(matches, None, number), number, matches), routes);
            }
            for host in &matches.hosts {
                let paths = match host {
                    HostPattern::Exact(name) => index.exact.entry(name.clone().into()).or_default(),
                    HostPattern::Suffix(name) => {
                        index.suffix.entry(name.clone().into()).or_default()
                    }
                };
                paths.insert(
                    Entry::new(Rank::new(matches, Some(host), number), number, matches),
                    routes,
                );
            }
        }
        let hosts = index.exact.values_mut().chain(index.suffix.values_mut());
        hosts.chain([&mut index.any]).for_each(Paths::finish);
        index
    }

    /// The number of the route.
    pub(super) fn find<F: Fields + ?Sized>(
        &self,
        routes: &[CompiledRoute],
        view: &RequestView<'_, F>,
    ) -> Option<usize> {
        let of_host = view.host().and_then(|host| {
            let exact = self.exact.get(host).and_then(|paths| paths.find(routes, view));
            exact.or_else(|| self.find_suffix(host, routes, view))
        });
        of_host.or_else(|| self.any.find(routes, view)).map(|entry| entry.route)
    }

    fn find_suffix<F: Fields + ?Sized>(
        &self,
        host: &[u8],
        routes: &[CompiledRoute],
        view: &RequestView<'_, F>,
    ) -> Option<&Entry> {
        if self.suffix.is_empty() {
            return None;
        }
        suffixes(host)
            .filter_map(|suffix| self.suffix.get(suffix))
            .find_map(|paths| paths.find(routes, view))
    }
}

/// What is left of a host after one label, after two, and so on. Each is hashed, so a name longer than any
/// that exists in the DNS (RFC 1035 section 2.3.4) has none.
fn suffixes(host: &[u8]) -> impl Iterator<Item = &[u8]> {
    let name = if host.len() > 253 { &[] } else { host };
    let is_dot = |&(at, byte): &(usize, &u8)| at > 0 && *byte == b'.';
    name.iter().enumerate().filter(is_dot).map(|(at, _)| &name[at + 1..])
}

/// The routes of one host, by path.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Arc<str>, Place>,
    regexes: Vec<(Pattern, Place)>,
    /// All of `regexes` in one, where they are not too large together.
    set: Option<RegexSet>,
    prefixes: Prefixes,
    any: Place,
}

/// Bytes that one set of regular expressions may compile to.
const SET_LIMIT: usize = 16 << 20;

impl Paths {
    fn insert(&mut self, entry: Entry, routes: &[CompiledRoute]) {
        let matches = &routes[entry.route].matches;
        let place = match &matches.path {
            PathMatch::Any => &mut self.any,
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default(),
            PathMatch::Prefix(prefix) => self.prefixes.place(prefix),
            PathMatch::Regex(pattern) => {
                let known = self.regexes.iter().position(|(known, _)| known == pattern);
                let at = known.unwrap_or_else(|| {
                    self.regexes.push((pattern.clone(), Place::default()));
                    self.regexes.len() - 1
                });
                &mut self.regexes[at].1
            }
        };
        place.insert(entry, matches);
    }

    fn finish(&mut self) {
        self.exact.values_mut().for_each(Place::finish);
        self.regexes.iter_mut().for_each(|(_, place)| place.finish());
        self.prefixes.nodes.iter_mut().for_each(|node| node.place.finish());
        self.any.finish();
        if self.regexes.len() > 1 {
            let sources = self.regexes.iter().map(|(pattern, _)| pattern.anchored());
            self.set = RegexSetBuilder::new(sources).size_limit(SET_LIMIT).build().ok();
        }
    }

    fn find<F: Fields + ?Sized>(
        &self,
        routes: &[CompiledRoute],
        view: &RequestView<'_, F>,
    ) -> Option<&Entry> {
        (self.exact.get(view.path).and_then(|place| place.find(routes, view)))
            .or_else(|| self.find_regex(routes, view))
            .or_else(|| self.prefixes.find(routes, view))
            .or_else(|| self.any.find(routes, view))
    }

    /// Regular expressions rank alike, so all that hold are compared.
    fn find_regex<F: Fields + ?Sized>(
        &self,
        routes: &[CompiledRoute],
        view: &RequestView<'_, F>,
    ) -> Option<&Entry> {
        let found = |at: usize| self.regexes[at].1.find(routes, view);
        match &self.set {
            // Most paths match none, and `is_match` needs no memory to tell.
            Some(set) if !set.is_match(view.path) => None,
            Some(set) => {
                set.matches(view.path).into_iter().filter_map(found).max_by_key(Entry::rank)
            }
            None => (0..self.regexes.len())
                .filter(|&at| self.regexes[at].0.is_match(view.path))
                .filter_map(found)
                .max_by_key(Entry::rank),
        }
    }
}

/// Prefixes as a tree of path segments. A path walks down it once, however long it is, no deeper than the
/// longest prefix; then back up, since the longest prefix that holds wins.
#[derive(Debug)]
struct Prefixes {
    /// The first is the root, the empty prefix.
    nodes: Vec<Segment>,
}

#[derive(Debug, Default)]
struct Segment {
    parent: usize,
    children: HashMap<Box<str>, usize>,
    place: Place,
}

impl Default for Prefixes {
    fn default() -> Self {
        Self { nodes: vec![Segment::default()] }
    }
}

impl Prefixes {
    fn place(&mut self, prefix: &str) -> &mut Place {
        let mut at = 0;
        for segment in segments(prefix) {
            at = match self.nodes[at].children.get(segment) {
                Some(&child) => child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Segment { parent: at, ..Segment::default() });
                    self.nodes[at].children.insert(segment.into(), child);
                    child
                }
            };
        }
        &mut self.nodes[at].place
    }

    fn find<F: Fields + ?Sized>(
        &self,
        routes: &[CompiledRoute],
        view: &RequestView<'_, F>,
    ) -> Option<&Entry> {
        if !view.path.starts_with('/') {
            return None;
        }
        let mut at = 0;
        if self.nodes[0].children.is_empty() {
            return self.nodes[0].place.find(routes, view);
        }
        for segment in segments(view.path) {
            match self.nodes[at].children.get(segment) {
                Some(&child) => at = child,
                None => break,
            }
        }
        loop {
            let node = &self.nodes[at];
            if let Some(entry) = node.place.find(routes, view) {
                return Some(entry);
            }
            if at == 0 {
                return None;
            }
            at = node.parent;
        }
    }
}

/// What stands after each slash.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        routing::{
            Destination,
            matcher::{host_holds, path_holds, rest_holds},
            testing::host_of,
        },
        spec::{FieldMatch, Match, Redirect, RedirectCode, RedirectUrl, ValueMatch},
    };
    use proptest::{prelude::*, sample::select};
    use std::net::Ipv4Addr;

    fn route(matches: Match) -> CompiledRoute {
        let redirect = Redirect { url: RedirectUrl::new("/").unwrap(), code: RedirectCode::Found };
        CompiledRoute { name: "".into(), matches, destination: Destination::Elsewhere(redirect) }
    }

    fn find(routes: &[Match], host: Option<&str>, path: &str) -> Option<usize> {
        find_with(routes, host, path, &[])
    }

    fn find_with(
        routes: &[Match],
        host: Option<&str>,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Option<usize> {
        let routes: Vec<CompiledRoute> = routes.iter().cloned().map(route).collect();
        let view = RequestView::new(
            "GET",
            host.and_then(host_of),
            path,
            None,
            fields,
            Ipv4Addr::LOCALHOST.into(),
        );
        Index::new(&routes).find(&routes, &view)
    }

    fn hosts(hosts: &[&str]) -> Vec<HostPattern> {
        let host = |host: &&str| match host.strip_prefix("*.") {
            Some(suffix) => HostPattern::Suffix(suffix.into()),
            None => HostPattern::Exact((*host).into()),
        };
        hosts.iter().map(host).collect()
    }

    /// All routes, one after the other.
    fn scan<F: Fields + ?Sized>(
        routes: &[CompiledRoute],
        view: &RequestView<'_, F>,
    ) -> Option<usize> {
        let ways = routes.iter().enumerate().flat_map(|(number, route)| {
            let matches = &route.matches;
            let named = matches.hosts.iter().filter(|host| host_holds(host, view.host())).map(Some);
            let any = matches.hosts.is_empty().then_some(None);
            named.chain(any).map(move |host| (Rank::new(matches, host, number), number))
        });
        ways.filter(|&(_, number)| {
            let matches = &routes[number].matches;
            path_holds(&matches.path, view.path) && rest_holds(matches, view)
        })
        .max()
        .map(|(_, number)| number)
    }

    fn a_value() -> impl Strategy<Value = ValueMatch> {
        prop_oneof![
            4 => select(&["1", "2", "3"][..]).prop_map(|value| ValueMatch::Exact(value.into())),
            1 => Just(ValueMatch::Regex(Pattern::new("[12]").unwrap())),
            1 => Just(ValueMatch::Present),
        ]
    }

    fn some_fields() -> impl Strategy<Value = Vec<FieldMatch>> {
        let field = (select(&["x-a", "x-b"][..]), a_value())
            .prop_map(|(name, value)| FieldMatch { name: name.into(), value });
        prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(field, 1..3)]
    }

    fn a_path() -> impl Strategy<Value = PathMatch> {
        prop_oneof![
            Just(PathMatch::Any),
            select(&["/", "/a", "/a/b", "/a/", "//"][..])
                .prop_map(|path| PathMatch::Exact(path.into())),
            select(&["", "/a", "/a/b", "/b", "/a//b", "/a/b/c"][..])
                .prop_map(|path| PathMatch::Prefix(path.into())),
            select(&["/a.*", "/[ab](/b)?", ".*/c", "/"][..])
                .prop_map(|path| PathMatch::Regex(Pattern::new(path).unwrap())),
        ]
    }

    fn a_match() -> impl Strategy<Value = Match> {
        const HOSTS: &[&str] = &["a.com", "b.a.com", "*.a.com", "*.b.a.com", "*.com"];
        const METHODS: &[&[&str]] = &[&[], &[], &["GET"], &["GET", "PUT"]];
        let hosts_of = prop::collection::vec(select(HOSTS), 0..3).prop_map(|names| hosts(&names));
        (hosts_of, a_path(), select(METHODS), some_fields(), some_fields(), some_fields()).prop_map(
            |(hosts, path, methods, headers, cookies, query)| Match {
                hosts,
                path,
                methods: methods.iter().map(|&method| method.into()).collect(),
                headers,
                cookies,
                query,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn finds_what_a_scan_of_all_routes_finds(
            matches in prop::collection::vec(a_match(), 0..40),
            requests in prop::collection::vec((
                select(&[None, Some("a.com"), Some("B.a.com:1"), Some("c.b.a.com."), Some("x.com"), Some("com"), Some("y")][..]),
                select(&["/", "/a", "/a/", "/a/b", "/a/b/c", "/a//b", "//", "/b", "/ab", "*", ""][..]),
                select(&["GET", "PUT", "POST"][..]),
                select(&[None, Some("x-a=1"), Some("x-b=2&x-a=3&x-a=1")][..]),
                prop::collection::vec(select(&[
                    ("x-a", "1"), ("X-A", "2"), ("x-b", "3"), ("x-b", "2"),
                    ("cookie", "x-a=1; x-b=2"), ("Cookie", "x-b=1"), ("x-a", "\u{e9}"),
                ][..]), 0..5),
            ), 1..20),
        ) {
            let routes: Vec<CompiledRoute> = matches.into_iter().map(route).collect();
            let index = Index::new(&routes);
            for (host, path, method, query, fields) in &requests {
                let view = RequestView::new(
                    method, host.and_then(host_of), path, *query, &fields[..], Ipv4Addr::LOCALHOST.into(),
                );
                prop_assert_eq!(index.find(&routes, &view), scan(&routes, &view));
            }
        }
    }

    #[test]
    fn falls_through_to_wider_hosts_and_shorter_prefixes() {
        let of = |names, path: &str| Match {
            hosts: hosts(names),
            path: PathMatch::Prefix(path.into()),
            ..Match::default()
        };
        let routes = [
            of(&["a.example.com"], "/x"),
            of(&["*.example.com"], "/y"),
            of(&[], "/y/z"),
            of(&[], ""),
        ];
        assert_eq!(find(&routes, Some("a.example.com"), "/x/1"), Some(0));
        assert_eq!(find(&routes, Some("a.example.com"), "/y/z"), Some(1));
        assert_eq!(find(&routes, Some("example.com"), "/y/z"), Some(2));
        assert_eq!(find(&routes, None, "/y"), Some(3));
        assert_eq!(find(&routes[..2], None, "/y"), None, "no host, no route with hosts");
    }

    #[test]
    fn regular_expressions_are_found_alike_with_and_without_a_set() {
        let regex = |source: &str| Match {
            path: PathMatch::Regex(Pattern::new(source).unwrap()),
            ..Match::default()
        };
        let method = Match { methods: vec!["GET".into()], ..regex("/c.*") };
        let routes = ["/a.*", "/b", "/[ac].*", "/a.*"].map(regex).into_iter().chain([method]);
        let routes: Vec<CompiledRoute> = routes.map(route).collect();
        let with = Index::new(&routes);
        let mut without = Index::new(&routes);
        assert!(with.any.set.is_some());
        without.any.set = None;
        for (path, found) in [("/a1", Some(0)), ("/b", Some(1)), ("/c", Some(4)), ("/d", None)] {
            let view =
                RequestView::new("GET", None, path, None, &[][..], Ipv4Addr::LOCALHOST.into());
            assert_eq!(with.find(&routes, &view), found, "{path}");
            assert_eq!(without.find(&routes, &view), found, "{path}");
        }
    }

    #[test]
    fn thousands_of_tenants_on_one_path_are_told_apart_by_a_header() {
        let tenant = |n: usize| Match {
            path: PathMatch::Prefix("".into()),
            headers: vec![FieldMatch {
                name: "x-tenant".into(),
                value: ValueMatch::Exact(format!("t{n}").into()),
            }],
            ..Match::default()
        };
        let mut routes: Vec<Match> = (0..10_000).map(tenant).collect();
        routes.push(Match::default());
        assert_eq!(find_with(&routes, None, "/a", &[("X-Tenant", "t9999")]), Some(9999));
        assert_eq!(find_with(&routes, None, "/a", &[("x-tenant", "t10000")]), Some(10_000));
        assert_eq!(
            find_with(&routes, None, "/a", &[("x-tenant", "t8"), ("x-tenant", "t3")]),
            Some(3),
            "of two that hold the first in the file"
        );
    }

    #[test]
    fn hostile_names_and_paths_cost_no_more_than_their_length() {
        let routes = [Match {
            hosts: hosts(&["*.com"]),
            path: PathMatch::Prefix("/a/b".into()),
            ..Match::default()
        }];
        let slashes = "/".repeat(1 << 20);
        let dots = format!("{}com", ".".repeat(1 << 20));
        assert_eq!(find(&routes, Some("a.com"), &slashes), None);
        assert_eq!(find(&routes, Some("a.com"), &format!("/a/b{slashes}")), Some(0));
        assert_eq!(find(&routes, Some(&dots), "/a/b"), None);
        assert_eq!(find(&routes, Some(".com"), "/a/b"), None);
        assert_eq!(find(&routes, Some(&format!("{}.com", "a".repeat(300))), "/a/b"), None);
    }
}
