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
    exact: HashMap<Arc<str>, Paths>,
    suffix: HashMap<Arc<str>, Paths>,
    any: Paths,
}

impl Index {
    pub(super) fn new(routes: &[CompiledRoute]) -> Self {
        let mut index = Self::default();
        for (number, route) in routes.iter().enumerate() {
            let matches = &route.matches;
            if matches.hosts.is_empty() {
                index.any.insert(Entry::new(Rank::new(matches, None, number), number), routes);
            }
            for host in &matches.hosts {
                let paths = match host {
                    HostPattern::Exact(name) => index.exact.entry(name.clone()).or_default(),
                    HostPattern::Suffix(name) => index.suffix.entry(name.clone()).or_default(),
                };
                paths.insert(Entry::new(Rank::new(matches, Some(host), number), number), routes);
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
        let hosts = view.host().into_iter().flat_map(|host| {
            self.exact.get(host).into_iter().chain(
                suffixes(host)
                    .take_while(|_| !self.suffix.is_empty())
                    .filter_map(|suffix| self.suffix.get(suffix)),
            )
        });
        hosts.chain([&self.any]).find_map(|paths| paths.find(routes, view)).map(|entry| entry.route)
    }
}

/// What is left of a host after one label, after two, and so on. Each is hashed, so a name longer than any
/// that exists in the DNS (RFC 1035 section 2.3.4) has none.
fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    let dots = if host.len() > 253 { "" } else { host }.match_indices('.');
    dots.filter(|&(at, _)| at > 0).map(|(at, _)| &host[at + 1..])
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
