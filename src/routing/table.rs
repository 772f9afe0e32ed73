use super::{
    Fields, PoolSet, RequestView, Salts, Split, StickyTable, derive_salt, hash::KeyedHash,
    index::Index, matcher::holds,
};
use crate::spec::{
    BackendAddress, Balance, Ejection, Match, Name, Pool, Retries, Service, ServiceLimits,
    ServiceTimeouts, Spec, StickyKey, UnhealthyPool, Weight,
};
use std::{collections::BTreeSet, time::Duration};

/// A spec, compiled for looking up. Immutable.
#[derive(Debug, Default)]
pub struct RoutingTable {
    /// In the spec's order.
    pub routes: Vec<CompiledRoute>,
    /// In the spec's order.
    pub services: Vec<ServiceTable>,
    /// Lower-case names of the headers that a route, a pin or stickiness reads.
    pub header_names: BTreeSet<Name>,
    index: Index,
}

#[derive(Clone, Debug)]
pub struct CompiledRoute {
    pub name: Name,
    pub matches: Match,
    /// An index into the table's services.
    pub service: usize,
}

#[derive(Clone, Debug)]
pub struct ServiceTable {
    pub name: Name,
    /// In the spec's order.
    pub pools: Vec<PoolTable>,
    /// First match wins.
    pub pins: Vec<CompiledPin>,
    pub split: Split,
    pub sticky: Option<StickyTable>,
    pub policy: Policy,
}

#[derive(Clone, Debug)]
pub struct CompiledPin {
    pub matches: Match,
    /// An index into the service's pools.
    pub pool: usize,
}

/// How the requests of a service are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub balance: Balance,
    pub timeouts: ServiceTimeouts,
    pub limits: ServiceLimits,
    pub retries: Retries,
    pub ejection: Ejection,
    pub unhealthy_pool: UnhealthyPool,
    /// Replies carry `x-crossfade-version`.
    pub expose_version: bool,
}

#[derive(Clone, Debug)]
pub struct PoolTable {
    pub name: Name,
    pub version: Name,
    pub weight: Weight,
    /// No new requests, by an operator's wish.
    pub drained: bool,
    /// How long a backend that became healthy takes to reach its full share; zero: at once.
    pub slow_start: Duration,
    /// In the spec's order.
    pub backends: Vec<BackendTable>,
    /// The largest weight of a backend that is not drained.
    pub(super) heaviest: Weight,
}

#[derive(Clone, Debug)]
pub struct BackendTable {
    pub address: BackendAddress,
    pub weight: Weight,
    /// No new requests, by an operator's wish.
    pub drained: bool,
    /// Of the address.
    pub(super) hash: u64,
}

/// Compiles a valid spec. `salts` has those of its services; a service without one gets its derived salt.
pub fn compile(spec: &Spec, salts: &Salts) -> RoutingTable {
    let routes: Vec<CompiledRoute> = spec
        .routes
        .iter()
        .map(|route| CompiledRoute {
            name: route.name.clone(),
            matches: route.matches.clone(),
            service: (spec.services.get_index_of(&route.service))
                .expect("a valid spec has the services its routes name"),
        })
        .collect();
    let services =
        spec.services.iter().map(|(name, service)| ServiceTable::new(name, service, salts));
    let index = Index::new(&routes);
    RoutingTable { index, routes, services: services.collect(), header_names: header_names(spec) }
}

impl RoutingTable {
    /// The route of the highest rank that holds for the request.
    pub fn find<F: Fields + ?Sized>(&self, view: &RequestView<'_, F>) -> Option<&CompiledRoute> {
        self.index.find(&self.routes, view).map(|number| &self.routes[number])
    }
}

impl ServiceTable {
    fn new(name: &Name, service: &Service, salts: &Salts) -> Self {
        let versions = service.pools.values().map(|pool| &*pool.version);
        let salt = salts.get(name).cloned().unwrap_or_else(|| derive_salt(name, versions));
        let pin = |pin: &crate::spec::Pin| CompiledPin {
            matches: pin.matches.clone(),
            pool: (service.pools.get_index_of(&pin.pool))
                .expect("a valid spec has the pools its pins name"),
        };
        Self {
            name: name.clone(),
            pools: service.pools.iter().map(|(name, pool)| PoolTable::new(name, pool)).collect(),
            pins: service.pins.iter().map(pin).collect(),
            split: Split::new(service.pools.values().map(|pool| pool.weight.get())),
            sticky: StickyTable::new(service, &salt),
            policy: Policy {
                balance: service.balance,
                timeouts: service.timeouts,
                limits: service.limits,
                retries: service.retries,
                ejection: service.ejection,
                unhealthy_pool: service.unhealthy_pool,
                expose_version: service.expose_version,
            },
        }
    }

    /// The pool that a pin names for this request, whatever its weight.
    pub fn pin<F: Fields + ?Sized>(&self, view: &RequestView<'_, F>) -> Option<usize> {
        self.pins.iter().find(|pin| holds(&pin.matches, view)).map(|pin| pin.pool)
    }

    /// The pools that are not drained.
    pub fn undrained(&self) -> PoolSet {
        let pools = self.pools.iter().enumerate();
        pools.filter(|(_, pool)| !pool.drained).map(|(index, _)| index).collect()
    }
}

impl PoolTable {
    fn new(name: &Name, pool: &Pool) -> Self {
        let hash = KeyedHash::new("backend");
        let backends = pool.backends.iter().map(|(address, backend)| BackendTable {
            address: address.clone(),
            weight: backend.weight,
            drained: backend.drained,
            hash: hash.of(address.to_string().as_bytes()),
        });
        let candidates = pool.backends.values().filter(|backend| !backend.drained);
        Self {
            name: name.clone(),
            version: pool.version.clone(),
            weight: pool.weight,
            drained: pool.drained,
            slow_start: pool.slow_start,
            backends: backends.collect(),
            heaviest: candidates.map(|backend| backend.weight).max().unwrap_or(Weight::ZERO),
        }
    }
}

fn header_names(spec: &Spec) -> BTreeSet<Name> {
    let pins = spec.services.values().flat_map(|service| &service.pins).map(|pin| &pin.matches);
    let mut names = BTreeSet::new();
    for matches in spec.routes.iter().map(|route| &route.matches).chain(pins) {
        names.extend(matches.headers.iter().map(|header| header.name.clone()));
        if !matches.cookies.is_empty() {
            names.insert("cookie".into());
        }
    }
    for sticky in spec.services.values().filter_map(|service| service.sticky.as_ref()) {
        match &sticky.key {
            StickyKey::Header(name) => names.insert(name.clone()),
            StickyKey::Cookie(_) => names.insert("cookie".into()),
            StickyKey::ClientAddress => false,
        };
    }
    names
}
