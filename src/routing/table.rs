use super::{
    Fields, PoolSet, RequestView, Salts, Split, StickyTable, derive_salt, hash::KeyedHash,
    index::Index, matcher::holds,
};
use crate::spec::{
    BackendAddress, Balance, Ejection, Match, Name, Pool, RescueOn, Retries, Service,
    ServiceLimits, ServiceTimeouts, Spec, StickyKey, UnhealthyPool, Weight,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

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
    /// Shared, so that a request need not copy it.
    pub policy: Arc<Policy>,
    /// The pools that are not drained.
    undrained: PoolSet,
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
    pub rescue: Option<RescuePolicy>,
    pub ejection: Ejection,
    pub unhealthy_pool: UnhealthyPool,
    /// Replies carry `x-crossfade-version`.
    pub expose_version: bool,
}

/// Where a request is sent once more that failed on another pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RescuePolicy {
    /// An index into the service's pools.
    pub to: usize,
    /// Rescues as a share of the last 10 s of requests, in percent.
    pub budget_percent: u32,
    pub on: RescueOn,
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
        let rescue = service.rescue.as_ref().map(|rescue| RescuePolicy {
            to: (service.pools.get_index_of(&rescue.to))
                .expect("a valid spec has the pool that its rescue names"),
            budget_percent: rescue.budget_percent,
            on: rescue.on,
        });
        Self {
            name: name.clone(),
            pools: service.pools.iter().map(|(name, pool)| PoolTable::new(name, pool)).collect(),
            pins: service.pins.iter().map(pin).collect(),
            undrained: (service.pools.values().enumerate())
                .filter(|(_, pool)| !pool.drained)
                .map(|(index, _)| index)
                .collect(),
            split: Split::new(service.pools.values().map(|pool| pool.weight.get())),
            sticky: StickyTable::new(service, &salt),
            policy: Arc::new(Policy {
                balance: service.balance,
                timeouts: service.timeouts,
                limits: service.limits,
                retries: service.retries,
                rescue,
                ejection: service.ejection,
                unhealthy_pool: service.unhealthy_pool,
                expose_version: service.expose_version,
            }),
        }
    }

    /// The pool that a pin names for this request, whatever its weight.
    pub fn pin<F: Fields + ?Sized>(&self, view: &RequestView<'_, F>) -> Option<usize> {
        self.pins.iter().find(|pin| holds(&pin.matches, view)).map(|pin| pin.pool)
    }

    /// The pools that are not drained.
    pub fn undrained(&self) -> PoolSet {
        self.undrained
    }
}

impl PoolTable {
    pub(super) fn new(name: &Name, pool: &Pool) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        routing::testing::{host_of, pool, service, spec, sticky},
        spec::{FieldMatch, HostPattern, Pin, Route, ValueMatch},
    };
    use std::net::Ipv4Addr;

    fn header(name: &str, value: &str) -> Match {
        let field = FieldMatch { name: name.into(), value: ValueMatch::Exact(value.into()) };
        Match { headers: vec![field], ..Match::default() }
    }

    fn view<'a>(
        host: Option<&'a str>,
        fields: &'a [(&'a str, &'a str)],
    ) -> RequestView<'a, [(&'a str, &'a str)]> {
        RequestView::new(
            "GET",
            host.and_then(host_of),
            "/",
            None,
            fields,
            Ipv4Addr::LOCALHOST.into(),
        )
    }

    #[test]
    fn a_table_mirrors_the_spec() {
        let mut shop = service(&[]);
        shop.pools.insert("blue".into(), pool("v1", 95, &[1, 2]));
        shop.pools.insert("green".into(), Pool { drained: true, ..pool("v2", 5, &[1]) });
        shop.expose_version = true;
        let routes = [("other", "z.com"), ("shop", "a.com")].map(|(service, host)| Route {
            name: host.into(),
            matches: Match { hosts: vec![HostPattern::Exact(host.into())], ..Match::default() },
            service: service.into(),
        });
        let spec = spec(vec![("shop", shop), ("other", service(&[("a", "1", 1)]))], routes.into());
        let table = compile(&spec, &Salts::default());

        let route = table.find(&view(Some("z.com"), &[])).unwrap();
        assert_eq!((&*route.name, route.service), ("z.com", 1));
        assert!(table.find(&view(Some("y.com"), &[])).is_none());
        assert!(RoutingTable::default().find(&view(None, &[])).is_none());

        let shop = &table.services[0];
        assert!(shop.policy.expose_version && !table.services[1].policy.expose_version);
        assert_eq!(shop.split, Split::new([19, 1]));
        assert_eq!(shop.undrained(), [0].into_iter().collect());
        assert_eq!(shop.pools[0].backends[1].address.to_string(), "test:9001");
        assert_eq!(shop.pools[0].heaviest.get(), 2);
        let [one, two] = &shop.pools[0].backends[..] else { panic!() };
        assert_ne!(one.hash, two.hash);
        assert_eq!(one.hash, shop.pools[1].backends[0].hash, "the same address");
    }

    #[test]
    fn the_first_pin_that_holds_names_the_pool() {
        let mut shop = service(&[("blue", "v1", 100), ("green", "v2", 0), ("red", "v3", 0)]);
        for (matches, pool) in [(header("canary", "true"), "green"), (header("x-red", "1"), "red")]
        {
            shop.pins.push(Pin { matches, pool: pool.into() });
        }
        let table = compile(&spec(vec![("shop", shop)], Vec::new()), &Salts::default());
        let pin = |fields: &[(&str, &str)]| table.services[0].pin(&view(None, fields));
        assert_eq!(pin(&[("Canary", "true")]), Some(1));
        assert_eq!(pin(&[("x-red", "1")]), Some(2));
        assert_eq!(pin(&[("x-red", "1"), ("canary", "true")]), Some(1));
        assert_eq!(pin(&[("canary", "false")]), None);
    }

    #[test]
    fn the_names_of_all_headers_that_are_read_are_known() {
        let mut shop = service(&[("blue", "v1", 1)]);
        shop.sticky = Some(sticky(StickyKey::Header("x-user".into())));
        shop.pins.push(Pin { matches: header("canary", "1"), pool: "blue".into() });
        let mut other = service(&[("a", "1", 1)]);
        let route =
            Route { name: "r".into(), matches: header("x-tenant", "1"), service: "shop".into() };
        let names = |spec: &Spec| {
            let names = compile(spec, &Salts::default()).header_names;
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let base = spec(vec![("shop", shop), ("other", other.clone())], vec![route]);
        assert_eq!(names(&base), ["canary", "x-tenant", "x-user"]);
        other.sticky = Some(sticky(StickyKey::Cookie("user".into())));
        assert_eq!(names(&spec(vec![("other", other)], Vec::new())), ["cookie"]);
    }

    #[test]
    fn a_salt_decides_who_goes_first() {
        let mut shop = service(&[("blue", "v1", 1), ("green", "v2", 1)]);
        shop.sticky = Some(sticky(StickyKey::ClientAddress));
        let spec = spec(vec![("shop", shop)], Vec::new());
        let pools = |salts: &Salts| {
            let table = compile(&spec, salts);
            let sticky = table.services[0].sticky.clone().unwrap();
            (0..64_u8)
                .map(|n| sticky.draw(super::super::Key::of(&[n]), PoolSet::ALL))
                .collect::<Vec<_>>()
        };
        let salt = |salt: &str| [(Name::from("shop"), Name::from(salt))].into_iter().collect();
        assert_eq!(pools(&Salts::default()), pools(&salt("shop:v1,v2")), "derived by default");
        assert_ne!(pools(&Salts::default()), pools(&salt("another")));
    }
}
