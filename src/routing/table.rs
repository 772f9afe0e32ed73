use super::{
    FieldEdits, Fields, Observed, PathRewrite, PoolSet, Reads, RequestView, Salts, Split,
    StickyTable, derive_salt, hash::KeyedHash, index::Index, matcher::holds,
};
use crate::spec::{
    Action, BackendAddress, Balance, Ejection, Forward, Match, Name, Pool, Redirect, RescueOn,
    Retries, Route, Service, ServiceLimits, ServiceTimeouts, Spec, StickyKey, UnhealthyPool,
    Weight,
};
use ipnet::IpNet;
use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

/// A spec, compiled for looking up. Immutable.
#[derive(Debug, Default)]
pub struct RoutingTable {
    /// In the spec's order.
    pub routes: Vec<CompiledRoute>,
    /// In the spec's order.
    pub services: Vec<ServiceTable>,
    /// Lower-case names of the headers that a route, a pin or stickiness reads.
    pub header_names: BTreeSet<Name>,
    pub reads: Reads,
    /// What is written down of requests, those that are refused included.
    pub observed: Option<Arc<Observed>>,
    index: Index,
}

#[derive(Clone, Debug)]
pub struct CompiledRoute {
    pub name: Name,
    pub matches: Match,
    pub destination: Destination,
}

/// Where the requests of a route go.
#[derive(Clone, Debug)]
pub enum Destination {
    Service {
        /// An index into the table's services.
        service: usize,
        policy: Arc<Policy>,
        /// A number of the policy among those of the service, 0 for the service's own.
        number: usize,
        /// The route's own number among those that lead to the service, from 0.
        nth: usize,
    },
    Elsewhere(Redirect),
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
    /// Some pin is for clients of some networks only.
    denies: bool,
}

#[derive(Clone, Debug)]
pub struct CompiledPin {
    pub matches: Match,
    /// Only for clients of these networks; empty: for anybody.
    from: Vec<IpNet>,
    /// An index into the service's pools.
    pub pool: usize,
}

/// How the requests of a service, or of one of its routes, are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub balance: Balance,
    pub timeouts: ServiceTimeouts,
    pub limits: ServiceLimits,
    pub retries: Retries,
    pub rescue: Option<RescuePolicy>,
    pub mirror: Option<MirrorPolicy>,
    /// What is written down of them.
    pub observed: Option<Arc<Observed>>,
    /// One of these two is there, which most requests have none of.
    pub is_attended: bool,
    pub ejection: Ejection,
    pub unhealthy_pool: UnhealthyPool,
    /// Replies carry `x-crossfade-version`.
    pub expose_version: bool,
    /// What the path becomes.
    pub rewrite: Option<PathRewrite>,
    /// What becomes of a request's fields.
    pub request: Option<FieldEdits>,
    /// What becomes of the fields of a backend's response.
    pub response: Option<FieldEdits>,
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

/// Which requests another pool gets copies of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorPolicy {
    /// An index into the service's pools.
    pub to: usize,
    /// In percent.
    pub share_percent: u32,
    /// The largest body of a copy.
    pub body_bytes: u32,
    /// Copies in flight, over all cores.
    pub in_flight: u32,
    methods: Vec<Name>,
}

impl MirrorPolicy {
    /// Requests of this method are copied.
    pub fn takes(&self, method: &str) -> bool {
        self.methods.iter().any(|known| **known == *method)
    }
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
    let observed = Observed::of(spec);
    let services: Vec<ServiceTable> = (spec.services.iter())
        .map(|(name, service)| ServiceTable::new(name, service, salts, observed.as_ref()))
        .collect();
    let (mut policies, mut counts) = (vec![0; services.len()], vec![0; services.len()]);
    let routes: Vec<CompiledRoute> = (spec.routes.iter())
        .map(|route| CompiledRoute {
            name: route.name.clone(),
            matches: route.matches.clone(),
            destination: match &route.action {
                Action::Redirect(redirect) => Destination::Elsewhere(redirect.clone()),
                Action::Forward(forward) => {
                    let service = (spec.services.get_index_of(&forward.service))
                        .expect("a valid spec has the services its routes name");
                    let nth = counts[service];
                    counts[service] += 1;
                    let own = &services[service].policy;
                    let changed = own.for_route(route, forward);
                    if changed == **own {
                        Destination::Service { service, policy: own.clone(), number: 0, nth }
                    } else {
                        policies[service] += 1;
                        let (policy, number) = (Arc::new(changed), policies[service]);
                        Destination::Service { service, policy, number, nth }
                    }
                }
            },
        })
        .collect();
    let index = Index::new(&routes);
    RoutingTable {
        index,
        routes,
        services,
        header_names: header_names(spec),
        reads: Reads::of(spec),
        observed,
    }
}

impl RoutingTable {
    /// The route of the highest rank that holds for the request.
    pub fn find<F: Fields + ?Sized>(&self, view: &RequestView<'_, F>) -> Option<&CompiledRoute> {
        self.index.find(&self.routes, view).map(|number| &self.routes[number])
    }
}

impl ServiceTable {
    fn new(
        name: &Name,
        service: &Service,
        salts: &Salts,
        observed: Option<&Arc<Observed>>,
    ) -> Self {
        let versions = service.pools.values().map(|pool| &*pool.version);
        let salt = salts.get(name).cloned().unwrap_or_else(|| derive_salt(name, versions));
        let pin = |pin: &crate::spec::Pin| CompiledPin {
            matches: pin.matches.clone(),
            from: pin.from.clone(),
            pool: (service.pools.get_index_of(&pin.pool))
                .expect("a valid spec has the pools its pins name"),
        };
        let rescue = service.rescue.as_ref().map(|rescue| RescuePolicy {
            to: (service.pools.get_index_of(&rescue.to))
                .expect("a valid spec has the pool that its rescue names"),
            budget_percent: rescue.budget_percent,
            on: rescue.on,
        });
        let mirror = service.mirror.as_ref().map(|mirror| MirrorPolicy {
            to: (service.pools.get_index_of(&mirror.to))
                .expect("a valid spec has the pool that its mirror names"),
            share_percent: mirror.share_percent,
            body_bytes: mirror.body_bytes,
            in_flight: mirror.in_flight,
            methods: mirror.methods.clone(),
        });
        Self {
            name: name.clone(),
            pools: service.pools.iter().map(|(name, pool)| PoolTable::new(name, pool)).collect(),
            pins: service.pins.iter().map(pin).collect(),
            denies: service.pins.iter().any(|pin| !pin.from.is_empty()),
            undrained: PoolSet::of(service.pools.values().map(|pool| !pool.drained)),
            split: Split::new(service.pools.values().map(|pool| pool.weight.get())),
            sticky: StickyTable::new(service, &salt),
            policy: Arc::new(Policy {
                balance: service.balance,
                timeouts: service.timeouts,
                limits: service.limits,
                retries: service.retries,
                rescue,
                is_attended: mirror.is_some() || observed.is_some(),
                mirror,
                observed: observed.cloned(),
                ejection: service.ejection,
                unhealthy_pool: service.unhealthy_pool,
                expose_version: service.expose_version,
                rewrite: None,
                request: None,
                response: None,
            }),
        }
    }

    /// The pool that a pin names for this request, whatever its weight.
    pub fn pin<F: Fields + ?Sized>(&self, view: &RequestView<'_, F>) -> Option<usize> {
        let pin = self.pins.iter().find(|pin| pin.admits(view.client) && holds(&pin.matches, view));
        pin.map(|pin| pin.pool)
    }

    /// The pins that would hold for this request if it came from another network, by what it says in its
    /// headers or cookies.
    pub fn denied<'a, F: Fields + ?Sized>(
        &'a self,
        view: &'a RequestView<'_, F>,
    ) -> impl Iterator<Item = &'a CompiledPin> {
        let pins = if self.denies { &self.pins[..] } else { &[] };
        pins.iter().filter(|pin| {
            let Match { headers, cookies, .. } = &pin.matches;
            let is_claimed = !headers.is_empty() || !cookies.is_empty();
            is_claimed && !pin.admits(view.client) && holds(&pin.matches, view)
        })
    }

    /// The pools that are not drained.
    pub fn undrained(&self) -> PoolSet {
        self.undrained
    }
}

impl CompiledRoute {
    /// An index into the table's services; `None`: it leads to none.
    pub fn service(&self) -> Option<usize> {
        match self.destination {
            Destination::Service { service, .. } => Some(service),
            Destination::Elsewhere(_) => None,
        }
    }
}

impl CompiledPin {
    fn admits(&self, client: IpAddr) -> bool {
        self.from.is_empty() || self.from.iter().any(|network| network.contains(&client))
    }
}

impl Policy {
    /// The same for a route, with what it has of its own.
    fn for_route(&self, route: &Route, forward: &Forward) -> Self {
        Self {
            observed: self.observed.as_ref().map(|observed| observed.by(&route.name)),
            timeouts: forward.timeouts.over(self.timeouts),
            limits: forward.limits.over(self.limits),
            rewrite: PathRewrite::new(&route.matches, forward),
            request: FieldEdits::new(&forward.request_headers),
            response: FieldEdits::new(&forward.response_headers),
            ..self.clone()
        }
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
        spec::{FieldMatch, HostPattern, Pin, RedirectCode, RedirectUrl, ValueMatch},
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
        let routes = [("other", "z.com"), ("shop", "a.com")].map(|(service, host)| {
            let hosts = vec![HostPattern::Exact(host.into())];
            Route::new(host.into(), Match { hosts, ..Match::default() }, service.into())
        });
        let spec = spec(vec![("shop", shop), ("other", service(&[("a", "1", 1)]))], routes.into());
        let table = compile(&spec, &Salts::default());

        let route = table.find(&view(Some("z.com"), &[])).unwrap();
        assert_eq!(&*route.name, "z.com");
        assert!(matches!(route.destination, Destination::Service { service: 1, number: 0, .. }));
        assert!(table.find(&view(Some("y.com"), &[])).is_none());
        assert!(RoutingTable::default().find(&view(None, &[])).is_none());

        let shop = &table.services[0];
        assert!(shop.policy.expose_version && !table.services[1].policy.expose_version);
        assert_eq!(shop.split, Split::new([19, 1]));
        assert_eq!(shop.undrained(), PoolSet::of([true, false].into_iter()));
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
            shop.pins.push(Pin { matches, from: Vec::new(), pool: pool.into() });
        }
        let table = compile(&spec(vec![("shop", shop)], Vec::new()), &Salts::default());
        let pin = |fields: &[(&str, &str)]| table.services[0].pin(&view(None, fields));
        assert_eq!(pin(&[("Canary", "true")]), Some(1));
        assert_eq!(pin(&[("x-red", "1")]), Some(2));
        assert_eq!(pin(&[("x-red", "1"), ("canary", "true")]), Some(1));
        assert_eq!(pin(&[("canary", "false")]), None);
    }

    #[test]
    fn a_limited_pin_is_denied_to_clients_of_other_networks() {
        let mut shop = service(&[("blue", "v1", 100), ("green", "v2", 0), ("red", "v3", 0)]);
        for (from, pool) in [(&["10.0.0.0/8", "fd00::/8"][..], "green"), (&[], "red")] {
            let from = from.iter().map(|network| network.parse().unwrap()).collect();
            shop.pins.push(Pin { matches: header("canary", "true"), from, pool: pool.into() });
        }
        let table = compile(&spec(vec![("shop", shop)], Vec::new()), &Salts::default());
        let shop = &table.services[0];
        let asked = |client: &str, value: &str| {
            let fields = [("canary", value)];
            let client = client.parse().unwrap();
            let view = RequestView::new("GET", None, "/", None, &fields[..], client);
            (shop.pin(&view), shop.denied(&view).map(|pin| pin.pool).collect::<Vec<_>>())
        };
        assert_eq!(asked("10.1.2.3", "true"), (Some(1), vec![]));
        assert_eq!(asked("fd00::1", "true"), (Some(1), vec![]));
        assert_eq!(asked("192.0.2.1", "true"), (Some(2), vec![1]), "the next one may hold");
        assert_eq!(asked("192.0.2.1", "false"), (None, vec![]));
    }

    #[test]
    fn a_route_overrides_its_service_and_shares_what_it_does_not() {
        let mut forward = Forward::to("shop".into());
        forward.timeouts.response = Some(Duration::from_secs(1));
        forward.limits.body_bytes = Some(7);
        let route = |name: &str, forward: &Forward| Route {
            name: name.into(),
            matches: header("x-route", name),
            action: Action::Forward(forward.clone()),
        };
        let plain = Forward::to("shop".into());
        let url = RedirectUrl::new("/new").unwrap();
        let redirect = Redirect { url, code: RedirectCode::Found };
        let away = Route { action: Action::Redirect(redirect.clone()), ..route("away", &plain) };
        let routes = vec![route("a", &forward), route("b", &plain), away, route("c", &forward)];
        let spec = spec(vec![("shop", service(&[("blue", "v1", 1)]))], routes);
        let table = compile(&spec, &Salts::default());
        let own = &table.services[0].policy;
        let policies: Vec<_> = (table.routes.iter())
            .filter_map(|route| match &route.destination {
                Destination::Service { policy, number, .. } => Some((policy, *number)),
                Destination::Elsewhere(to) => {
                    assert_eq!(*to, redirect);
                    None
                }
            })
            .collect();
        assert_eq!(policies.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [1, 0, 2]);
        assert!(Arc::ptr_eq(policies[1].0, own));
        let changed = policies[0].0;
        assert_eq!(changed.timeouts.response, Duration::from_secs(1));
        assert_eq!(changed.timeouts.connect, own.timeouts.connect);
        assert_eq!(changed.limits.body_bytes, 7);
        assert!(changed.rewrite.is_none() && changed.request.is_none());
    }

    #[test]
    fn the_names_of_all_headers_that_are_read_are_known() {
        let mut shop = service(&[("blue", "v1", 1)]);
        shop.sticky = Some(sticky(StickyKey::Header("x-user".into())));
        shop.pins.push(Pin {
            matches: header("canary", "1"),
            from: vec!["10.0.0.0/8".parse().unwrap()],
            pool: "blue".into(),
        });
        let mut other = service(&[("a", "1", 1)]);
        let route = Route::new("r".into(), header("x-tenant", "1"), "shop".into());
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
