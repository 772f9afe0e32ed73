//! A request remembered for later: only what some route, pin or sticky key reads of it.

use super::{Fields, Host, Key, PoolSet, RequestView, RoutingTable, ServiceTable};
use crate::spec::{Name, Spec, StickyKey, UnhealthyPool};
use form_urlencoded::Serializer;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

/// A request that says more than this in what is read of it is not remembered, in bytes.
const LARGEST: usize = 4096;

/// What some route or pin reads, beside method, host and path.
#[derive(Debug, Default)]
pub struct Reads {
    headers: BTreeSet<Name>,
    cookies: BTreeSet<Name>,
    parameters: BTreeSet<Name>,
    /// Where clients are.
    clients: bool,
}

impl Reads {
    pub(super) fn of(spec: &Spec) -> Self {
        let mut reads = Self::default();
        let pins = || spec.services.values().flat_map(|service| &service.pins);
        let routes = spec.routes.iter().map(|route| &route.matches);
        for matches in routes.chain(pins().map(|pin| &pin.matches)) {
            let name = |field: &crate::spec::FieldMatch| field.name.clone();
            reads.headers.extend(matches.headers.iter().map(name));
            reads.cookies.extend(matches.cookies.iter().map(name));
            reads.parameters.extend(matches.query.iter().map(name));
        }
        reads.clients = pins().any(|pin| !pin.from.is_empty());
        reads
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    method: Name,
    /// As it was asked for.
    host: Option<Box<[u8]>>,
    path: Name,
    query: Option<String>,
    fields: Box<[(Name, Box<[u8]>)]>,
    client: Option<IpAddr>,
    /// The sticky key, and the hash of its value.
    sticky: Option<(StickyKey, Key)>,
}

/// Where a request would go: the service, and the share of each pool; what is missing of 1 goes nowhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Fate {
    pub service: Option<Name>,
    pub shares: Vec<(Name, f64)>,
}

/// How two fates differ.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moved {
    /// The share, 0 to 1, that another pool or service answers.
    pub elsewhere: f64,
    /// The share that nobody answers any more.
    pub nowhere: f64,
}

impl Sample {
    /// `None` when it is too large to be remembered.
    pub fn of<F: Fields + ?Sized>(
        view: &RequestView<'_, F>,
        table: &RoutingTable,
        service: &ServiceTable,
    ) -> Option<Self> {
        let reads = &table.reads;
        let mut fields: Vec<(Name, Box<[u8]>)> = Vec::new();
        for name in &reads.headers {
            fields.extend(view.fields.values(name).map(|value| (name.clone(), value.into())));
        }
        let mut cookies = Vec::new();
        for name in &reads.cookies {
            if let Some(value) = view.cookie(name) {
                cookies.extend([name.as_bytes(), b"=", value, b"; "].concat());
            }
        }
        if !cookies.is_empty() {
            fields.push(("cookie".into(), cookies.into()));
        }
        let mut query = Serializer::new(String::new());
        for name in &reads.parameters {
            if let Some(value) = view.parameter(name) {
                query.append_pair(name, &value);
            }
        }
        let query = Some(query.finish()).filter(|query| !query.is_empty());
        let sticky = service.sticky.as_ref();
        let sample = Self {
            method: view.method.into(),
            host: view.host().map(Into::into),
            path: view.path.into(),
            query,
            fields: fields.into(),
            client: reads.clients.then_some(view.client),
            sticky: sticky.and_then(|sticky| Some((sticky.key.clone(), sticky.key(view)?))),
        };
        (sample.size() <= LARGEST).then_some(sample)
    }

    fn size(&self) -> usize {
        let fields = self.fields.iter().map(|(_, value)| value.len());
        let rest = [
            self.method.len(),
            self.path.len(),
            self.host.as_deref().map_or(0, <[u8]>::len),
            self.query.as_deref().map_or(0, str::len),
        ];
        fields.chain(rest).sum()
    }

    /// Where it would go by `table`, as far as is known of it.
    pub fn fate(&self, table: &RoutingTable) -> Fate {
        let host = self.host.as_deref().and_then(|host| Host::parse(host).ok().flatten());
        let client = self.client.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let fields = Remembered(&self.fields);
        let query = self.query.as_deref();
        let view = RequestView::new(&self.method, host, &self.path, query, &fields, client);
        let Some(route) = table.find(&view) else {
            return Fate { service: None, shares: Vec::new() };
        };
        let Some(service) = route.service().map(|number| &table.services[number]) else {
            // The client is sent elsewhere, which is an answer.
            return Fate { service: None, shares: vec![(route.name.clone(), 1.0)] };
        };
        let shares = self.shares(service, service.pin(&view));
        let named = service.pools.iter().zip(shares).filter(|(_, share)| *share > 0.0);
        Fate {
            service: Some(service.name.clone()),
            shares: named.map(|(pool, share)| (pool.name.clone(), share)).collect(),
        }
    }

    fn shares(&self, service: &ServiceTable, pinned: Option<usize>) -> Vec<f64> {
        let undrained = service.undrained();
        let takes = |pool: usize| {
            let mut backends = service.pools[pool].backends.iter();
            undrained.contains(pool) && backends.any(|b| !b.drained && b.weight.get() > 0)
        };
        let pools = service.pools.len();
        let able = PoolSet::of((0..pools).map(takes));
        let (among, lost) = match service.policy.unhealthy_pool {
            UnhealthyPool::Redistribute => (able, PoolSet::EMPTY),
            UnhealthyPool::Fail => (undrained, undrained),
        };
        let known = self.sticky.as_ref().and_then(|(key, value)| {
            let sticky = service.sticky.as_ref().filter(|sticky| sticky.key == *key)?;
            sticky.draw(*value, among)
        });
        let mut shares: Vec<f64> = match pinned.or(known) {
            Some(only) => (0..pools).map(|pool| f64::from(u8::from(pool == only))).collect(),
            None => service.split.shares(among),
        };
        for (pool, share) in shares.iter_mut().enumerate() {
            let is_lost = lost.contains(pool) || pinned == Some(pool);
            if is_lost && !able.contains(pool) {
                *share = 0.0;
            }
        }
        shares
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.host.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        write!(f, "{} {host}{}", self.method, self.path)
    }
}

/// What adding up shares leaves over; the share of the smallest weight is far above it.
const DUST: f64 = 1e-12;

impl Fate {
    /// What changes when `self` becomes `after`.
    pub fn moved(&self, after: &Self) -> Moved {
        let sum = |fate: &Self| fate.shares.iter().map(|(_, share)| share).sum::<f64>();
        let share_of = |pool: &Name| -> f64 {
            let known = after.shares.iter().find(|(name, _)| name == pool);
            known.map_or(0.0, |(_, share)| *share)
        };
        let stays: f64 = match self.service == after.service {
            true => self.shares.iter().map(|(pool, share)| share.min(share_of(pool))).sum(),
            false => 0.0,
        };
        let share = |sum: f64| if sum < DUST { 0.0 } else { sum.min(1.0) };
        let nowhere = share(sum(self) - sum(after));
        Moved { nowhere, elsewhere: share(sum(self) - stays - nowhere) }
    }
}

struct Remembered<'a>(&'a [(Name, Box<[u8]>)]);

impl Fields for Remembered<'_> {
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(known, _)| **known == *name).map(|(_, value)| &**value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        routing::{Salts, compile, testing},
        spec::{FieldMatch, Match, PathMatch, Pin, Route, Sticky, ValueMatch},
    };

    type Asked<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

    fn exact(name: &str, value: &str) -> FieldMatch {
        FieldMatch { name: name.into(), value: ValueMatch::Exact(value.into()) }
    }

    /// blue 3, green 1, each with a backend; a pin by header and one by cookie.
    fn spec() -> Spec {
        let mut shop = testing::service(&[]);
        for (name, version, weight) in [("blue", "v1", 3), ("green", "v2", 1)] {
            shop.pools.insert(name.into(), testing::pool(version, weight, &[1]));
        }
        let pin = |matches| Pin { matches, from: Vec::new(), pool: "green".into() };
        shop.pins = vec![
            pin(Match { headers: vec![exact("canary", "true")], ..Match::default() }),
            pin(Match { cookies: vec![exact("beta", "1")], ..Match::default() }),
        ];
        let route = Route::new("shop".into(), Match::default(), "shop".into());
        testing::spec(vec![("shop", shop)], vec![route])
    }

    fn sample(spec: &Spec, (host, target, fields): Asked<'_>) -> Sample {
        let table = compile(spec, &Salts::default());
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let client = Ipv4Addr::LOCALHOST.into();
        let view = RequestView::new("GET", testing::host_of(host), path, query, fields, client);
        let service = table.find(&view).and_then(|route| route.service()).expect("a service");
        Sample::of(&view, &table, &table.services[service]).expect("small enough")
    }

    fn fate(sample: &Sample, spec: &Spec) -> Fate {
        sample.fate(&compile(spec, &Salts::default()))
    }

    #[test]
    fn only_what_is_read_is_remembered() {
        let asked: Asked<'_> = (
            "a",
            "/x?token=secret&y=1",
            &[("authorization", "secret"), ("canary", "no"), ("cookie", "sid=secret; beta=0")],
        );
        let sample = sample(&spec(), asked);
        assert!(!format!("{sample:?}").contains("secret"), "{sample:?}");
        let kept: Vec<_> = sample.fields.iter().map(|(name, _)| &**name).collect();
        assert_eq!((kept, &sample.query), (vec!["canary", "cookie"], &None));
        assert_eq!(sample.client, None);
        assert_eq!(sample.to_string(), "GET a/x");
    }

    #[test]
    fn sticky_values_are_hashed_and_still_tell_the_pool() {
        let mut spec = spec();
        spec.services["shop"].sticky = Some(testing::sticky(StickyKey::Cookie("user".into())));
        for user in ["ann", "bob", "cyd", "dan", "eve"] {
            let cookie = format!("user={user}");
            let sample = sample(&spec, ("a", "/", &[("cookie", &cookie)]));
            assert!(!format!("{sample:?}").contains(user), "{sample:?}");
            let fate = fate(&sample, &spec);
            assert_eq!(fate.shares.len(), 1, "one user goes to one pool: {fate:?}");
        }
        let other = Sticky {
            key: StickyKey::Cookie("other".into()),
            ..testing::sticky(StickyKey::ClientAddress)
        };
        let known = sample(&spec, ("a", "/", &[("cookie", "user=ann")]));
        spec.services["shop"].sticky = Some(other);
        assert_eq!(fate(&known, &spec).shares.len(), 2, "nobody knows that cookie's value");
    }

    #[test]
    fn what_adding_up_leaves_over_strands_nobody() {
        let of = |weights: &[u32]| {
            let sum = f64::from(weights.iter().sum::<u32>());
            let share = |(at, weight): (usize, &u32)| {
                (Name::from(format!("p{at}")), f64::from(*weight) / sum)
            };
            let shares = weights.iter().enumerate().map(share).collect();
            Fate { service: Some("shop".into()), shares }
        };
        let some = [40, 20, 10, 8, 6, 5, 4, 3, 2, 1, 1, 0];
        for turned in 0..some.len() {
            let mut other = some;
            other[turned] += 17;
            for (before, after) in [(some, other), (other, some)] {
                let Moved { nowhere, elsewhere } = of(&before).moved(&of(&after));
                assert_eq!(nowhere, 0.0, "{turned}");
                assert!(elsewhere > 0.0, "{turned}");
                assert_eq!(of(&before).moved(&of(&before)), Moved::default());
            }
        }
    }

    #[test]
    fn a_change_moves_a_share_or_strands_it() {
        let before = spec();
        let plain = sample(&before, ("a", "/x", &[]));
        let pinned = sample(&before, ("a", "/x", &[("canary", "true")]));
        let by_cookie = sample(&before, ("a", "/x", &[("cookie", "a=1; beta=1")]));
        let moved =
            |sample: &Sample, after: &Spec| fate(sample, &before).moved(&fate(sample, after));
        let both = |sample: &Sample, after: &Spec| {
            let Moved { elsewhere, nowhere } = moved(sample, after);
            (elsewhere, nowhere)
        };
        assert_eq!(both(&plain, &before), (0.0, 0.0));

        let mut cut_over = before.clone();
        let weight = |spec: &mut Spec, pool: &str, weight| {
            let pools = &mut spec.services["shop"].pools;
            pools[pool].weight = crate::spec::Weight::new(weight).unwrap();
        };
        weight(&mut cut_over, "blue", 0);
        assert_eq!(both(&plain, &cut_over), (0.75, 0.0));
        assert_eq!(both(&pinned, &cut_over), (0.0, 0.0));

        let mut unpinned = before.clone();
        unpinned.services["shop"].pins.clear();
        assert_eq!(both(&by_cookie, &unpinned), (0.75, 0.0));

        let mut drained = before.clone();
        drained.services["shop"].pools["green"].drained = true;
        assert_eq!(both(&plain, &drained), (0.25, 0.0));
        assert_eq!(both(&pinned, &drained), (0.0, 1.0));

        let mut empty = before.clone();
        empty.services["shop"].pools["green"].backends.clear();
        assert_eq!(both(&plain, &empty), (0.25, 0.0));
        empty.services["shop"].unhealthy_pool = UnhealthyPool::Fail;
        assert_eq!(both(&plain, &empty), (0.0, 0.25));

        let mut narrower = before.clone();
        narrower.routes[0].matches.path = PathMatch::Prefix("/shop".into());
        assert_eq!(both(&plain, &narrower), (0.0, 1.0));

        let mut other = before.clone();
        other.services.insert("cart".into(), other.services["shop"].clone());
        other.routes[0] = Route::new("shop".into(), Match::default(), "cart".into());
        assert_eq!(both(&plain, &other), (1.0, 0.0));
    }
}
