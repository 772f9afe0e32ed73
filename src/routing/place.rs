//! The routes of one host and one path, which differ by method, headers, cookies and query alone.

use super::{
    CompiledRoute, Fields, RequestView,
    matcher::{Rank, has_rest, rest_holds},
};
use crate::spec::{FieldMatch, Match, Name, ValueMatch};
use std::{cmp::Reverse, collections::HashMap, sync::Arc};

/// One way in which a route may match: a route has one for each of its hosts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    rank: Rank,
    /// The number of the route.
    pub(super) route: usize,
    /// There is no other condition than host and path.
    is_free: bool,
}

impl Entry {
    /// Of a route with these `matches`.
    pub(super) fn new(rank: Rank, route: usize, matches: &Match) -> Self {
        Self { rank, route, is_free: !has_rest(matches) }
    }

    pub(super) fn rank(this: &&Self) -> Rank {
        this.rank
    }
}

/// Entries that ask for an exact value of a field are kept by that value, so that one path may be shared
/// by thousands of tenants told apart by a header.
#[derive(Debug, Default)]
pub(super) struct Place {
    plain: Vec<Entry>,
    by_value: Vec<ByValue>,
}

#[derive(Debug)]
struct ByValue {
    field: Field,
    entries: HashMap<Arc<str>, Vec<Entry>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Header(Name),
    Cookie(Name),
    Parameter(Name),
}

impl Place {
    pub(super) fn insert(&mut self, entry: Entry, matches: &Match) {
        let Some((field, value)) = first_exact(matches) else {
            self.plain.push(entry);
            return;
        };
        let at = self.by_value.iter().position(|known| known.field == field).unwrap_or_else(|| {
            self.by_value.push(ByValue { field, entries: HashMap::new() });
            self.by_value.len() - 1
        });
        self.by_value[at].entries.entry(value).or_default().push(entry);
    }

    /// To be called once after the last `insert`.
    pub(super) fn finish(&mut self) {
        let lists = self.by_value.iter_mut().flat_map(|known| known.entries.values_mut());
        lists.chain([&mut self.plain]).for_each(|list| list.sort_by_key(|e| Reverse(e.rank)));
    }

    /// The entry of the highest rank that holds.
    pub(super) fn find<F: Fields + ?Sized>(
        &self,
        routes: &[CompiledRoute],
        view: &RequestView<'_, F>,
    ) -> Option<&Entry> {
        if self.by_value.is_empty()
            && let Some(first) = self.plain.first()
            && first.is_free
        {
            return Some(first);
        }
        let mut best = None;
        for known in &self.by_value {
            known.for_each(view, |entries| best = better(entries, best, routes, view));
        }
        better(&self.plain, best, routes, view)
    }
}

impl ByValue {
    /// The entries that ask for a value the request has.
    fn for_each<'a, F: Fields + ?Sized>(
        &'a self,
        view: &RequestView<'_, F>,
        mut each: impl FnMut(&'a [Entry]),
    ) {
        let mut look_up = |value: &[u8]| {
            let entries = std::str::from_utf8(value).ok().and_then(|value| self.entries.get(value));
            if let Some(entries) = entries {
                each(entries);
            }
        };
        match &self.field {
            Field::Header(name) => view.fields.values(name).for_each(look_up),
            Field::Cookie(name) => view.cookie(name).into_iter().for_each(look_up),
            Field::Parameter(name) => {
                view.parameter(name).into_iter().for_each(|value| look_up(value.as_bytes()));
            }
        }
    }
}

/// The first of `entries`, which are in order of rank, that ranks above `best` and holds; else `best`.
fn better<'a, F: Fields + ?Sized>(
    entries: &'a [Entry],
    best: Option<&'a Entry>,
    routes: &[CompiledRoute],
    view: &RequestView<'_, F>,
) -> Option<&'a Entry> {
    entries
        .iter()
        .take_while(|entry| best.is_none_or(|best| entry.rank > best.rank))
        .find(|entry| entry.is_free || rest_holds(&routes[entry.route].matches, view))
        .or(best)
}

fn first_exact(matches: &Match) -> Option<(Field, Arc<str>)> {
    fn first(
        fields: &[FieldMatch],
        kind: fn(Name) -> Field,
    ) -> impl Iterator<Item = (Field, Arc<str>)> {
        fields.iter().filter_map(move |field| match &field.value {
            ValueMatch::Exact(value) => Some((kind(field.name.clone()), value.clone())),
            _ => None,
        })
    }
    first(&matches.headers, Field::Header)
        .chain(first(&matches.cookies, Field::Cookie))
        .chain(first(&matches.query, Field::Parameter))
        .next()
}
