//! The live parts of what is in force: from a spec to the pools, backends and slots that its snapshot
//! speaks of, carrying over all that stays.

use super::warm::Warm;
use crate::{
    live::{
        Ejected, Gate, HealthState, LiveBackend, LivePool, LiveService, PoolEntry, Slots, Weighted,
    },
    spec::{Backend, BackendAddress, HealthCheck, Name, Pool, ProxyVersion, Service, Spec, Weight},
};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

/// What is in force now.
pub(super) struct Parts {
    cores: usize,
    service_slots: Slots,
    backend_slots: Slots,
    /// Of all services together.
    whole: Arc<Gate>,
    services: Vec<LiveService>,
    placed: Vec<Placed>,
    /// Where those of each service and pool are.
    places: HashMap<(Name, Name), Range<usize>>,
    pools: HashMap<PoolKey, KnownPool>,
    warm: Warm,
}

/// Service, pool and version.
type PoolKey = (Name, Name, Name);

/// The live backends that can be taken up again, by pool and address.
type Carried<'a> = HashMap<(*const LivePool, &'a BackendAddress), &'a Arc<LiveBackend>>;

struct KnownPool {
    pool: Arc<LivePool>,
    presence: Presence,
}

#[derive(Clone, Copy)]
enum Presence {
    Current,
    /// Not in the snapshot any more; requests may be in flight.
    Leaving,
    /// Its series are shown until then.
    Idle(Instant),
}

/// A backend in the table.
#[derive(Clone)]
pub(super) struct Placed {
    pub(super) service: Name,
    pub(super) pool: Name,
    pub(super) backend: Arc<LiveBackend>,
    pub(super) settings: Backend,
    pub(super) pool_weight: Weight,
    pub(super) pool_drained: bool,
    announces: Option<ProxyVersion>,
    /// The path of its health check.
    pub(super) checked: Option<(Name, Option<Name>)>,
    /// It was removed and leaves as soon as another backend of its pool is proven, or then.
    pub(super) lingers_until: Option<Instant>,
}

impl Placed {
    pub(super) fn drained(&self) -> bool {
        self.settings.drained || self.pool_drained
    }

    /// It gets requests while it is healthy.
    pub(super) fn in_service(&self) -> bool {
        !self.drained() && self.settings.weight > Weight::ZERO
    }

    /// It is healthy and gets requests.
    pub(super) fn serves(&self) -> bool {
        self.in_service() && self.backend.health.is_available()
    }
}

/// What the next snapshot is made of.
pub(super) struct Plan {
    /// The desired spec with what lingers; what is compiled.
    pub(super) effective: Arc<Spec>,
    pub(super) services: Vec<LiveService>,
    pub(super) placed: Vec<Placed>,
}

impl Parts {
    pub(super) fn new(cores: usize) -> Self {
        Self {
            cores,
            service_slots: Slots::default(),
            backend_slots: Slots::default(),
            whole: Arc::default(),
            services: Vec::new(),
            placed: Vec::new(),
            places: HashMap::new(),
            pools: HashMap::new(),
            warm: Warm::default(),
        }
    }

    /// Every backend in the table, by service and pool in the spec's order.
    pub(super) fn placed(&self) -> &[Placed] {
        &self.placed
    }

    /// Of the snapshot, a pool each.
    pub(super) fn pools(&self) -> impl Iterator<Item = &Arc<LivePool>> {
        self.services.iter().flat_map(|service| &service.pools).map(|entry| &entry.pool)
    }

    /// Some of the last hour's requests, by service.
    pub(super) fn recent(&self, now_millis: u64) -> Vec<(Name, Vec<Weighted>)> {
        let services = self.services.iter();
        services.map(|service| (service.name.clone(), service.recent.look(now_millis))).collect()
    }

    /// The backends in the table of one pool.
    pub(super) fn placed_in(&self, service: &Name, pool: &Name) -> &[Placed] {
        let range = self.places.get(&(service.clone(), pool.clone()));
        range.map_or(&[], |range| &self.placed[range.clone()])
    }

    /// A backend of the pool that stays is healthy and gets requests.
    pub(super) fn has_healthy(&self, service: &Name, pool: &Name) -> bool {
        let mut placed = self.placed_in(service, pool).iter();
        placed.any(|p| p.lingers_until.is_none() && p.serves())
    }

    /// A backend of the pool would be healthy and get requests, were `after` in force.
    pub(super) fn would_serve(&self, service: &Name, pool: &Name, after: &Spec) -> bool {
        let Some(settings) = after.services.get(service) else { return false };
        let question = settings.health_check.as_ref().map(HealthCheck::question);
        let Some(pool_settings) = settings.pools.get(pool) else { return false };
        let placed = self.placed_in(service, pool);
        let serves = |(address, backend): (&BackendAddress, &Backend)| {
            let mut known = placed.iter().filter(|p| p.backend.address.is_of(address)).peekable();
            let is_well = match (known.peek().is_some(), &question) {
                (true, _) => known.any(|p| p.backend.health.is_available()),
                (false, Some(question)) => self.is_proven(address, question),
                (false, None) => true,
            };
            is_well && !backend.drained && backend.weight > Weight::ZERO
        };
        !pool_settings.drained && pool_settings.backends.iter().any(serves)
    }

    /// What left the table and is probed on.
    pub(super) fn warm(&self) -> &Warm {
        &self.warm
    }

    /// Lets go of what need not be probed any more. True: there was some.
    pub(super) fn cool(&mut self, now: Instant) -> bool {
        self.warm.cool(now)
    }

    /// What was removed but still gets requests.
    pub(super) fn lingering(&self) -> impl Iterator<Item = &Placed> {
        self.placed.iter().filter(|placed| placed.lingers_until.is_some())
    }

    /// What is in the table or in `draining` and wanted is carried over. `now_millis` is of the process's
    /// clock.
    pub(super) fn plan<'a>(
        &'a self,
        spec: &Arc<Spec>,
        draining: impl Iterator<Item = &'a Arc<LiveBackend>>,
        now: Instant,
        now_millis: u64,
    ) -> Plan {
        let carried: Carried<'_> = draining
            .chain(self.placed.iter().map(|placed| &placed.backend))
            .map(|backend| ((Arc::as_ptr(&backend.pool), &backend.address), backend))
            .collect();
        let known: HashMap<&Name, &LiveService> =
            self.services.iter().map(|service| (&service.name, service)).collect();
        let mut plan = Plan { effective: counted(spec), services: Vec::new(), placed: Vec::new() };
        for (name, service) in &spec.services {
            let mut pools = Vec::with_capacity(service.pools.len());
            for (pool_name, pool) in &service.pools {
                let before = self.placed_in(name, pool_name);
                let site = Site { service_name: name, service, pool_name, pool, before };
                let live = self.pool(name, pool_name, &pool.version);
                let mut placed = self.place(&site, &live, &carried, now_millis);
                let lingering = site.lingering(&placed, now);
                if !lingering.is_empty() {
                    let effective = Arc::make_mut(&mut plan.effective);
                    let backends = &mut effective.services[name].pools[pool_name].backends;
                    for p in &lingering {
                        backends.insert(p.backend.address.clone(), p.settings);
                    }
                }
                placed.extend(lingering);
                let backends = placed.iter().map(|p| p.backend.clone()).collect();
                pools.push(PoolEntry { pool: live, backends });
                plan.placed.extend(placed);
            }
            plan.services.push(match known.get(name) {
                Some(&known) => LiveService { hold: None, trial: None, pools, ..known.clone() },
                None => LiveService {
                    name: name.clone(),
                    slot: Arc::new(self.service_slots.take()),
                    gate: Arc::new(Gate::below(self.whole.clone())),
                    recent: Arc::default(),
                    hold: None,
                    trial: None,
                    pools,
                },
            });
        }
        plan
    }

    /// The plan has been published, in place of what `before` said. Returns the pools with series to show.
    pub(super) fn replace(
        &mut self,
        plan: Plan,
        before: &Spec,
        now: Instant,
    ) -> Vec<Arc<LivePool>> {
        self.warm.follow(&self.placed, &plan.placed, before, now);
        self.adopt(plan)
    }

    /// The plan has been published. Returns the pools with series to show.
    pub(super) fn adopt(&mut self, plan: Plan) -> Vec<Arc<LivePool>> {
        self.whole.set_limit(plan.effective.limits.in_flight);
        for known in self.pools.values_mut() {
            if matches!(known.presence, Presence::Current) {
                known.presence = Presence::Leaving;
            }
        }
        let entries = plan.services.iter().flat_map(|service| &service.pools).map(|e| &e.pool);
        // What lingers may be of another version than its pool is now.
        for pool in entries.chain(plan.placed.iter().map(|placed| &placed.backend.pool)) {
            let key = (pool.service.clone(), pool.name.clone(), pool.version.clone());
            let known = KnownPool { pool: pool.clone(), presence: Presence::Current };
            self.pools.insert(key, known);
        }
        self.services = plan.services;
        self.placed = plan.placed;
        self.places.clear();
        for (index, placed) in self.placed.iter().enumerate() {
            placed.backend.set_announces(placed.announces);
            let place = (placed.service.clone(), placed.pool.clone());
            self.places.entry(place).or_insert(index..index).end = index + 1;
        }
        self.series()
    }

    /// Forgets the pools that left and whose last request ended more than `linger` ago. Returns the pools
    /// with series to show when they are others than before.
    pub(super) fn sweep(&mut self, now: Instant, linger: Duration) -> Option<Vec<Arc<LivePool>>> {
        let known = self.pools.len();
        self.pools.retain(|_, known| match known.presence {
            Presence::Current => true,
            Presence::Leaving => {
                if known.pool.backends().iter().all(|backend| backend.open() == 0) {
                    known.presence = Presence::Idle(later(now, linger));
                }
                true
            }
            Presence::Idle(until) => now < until,
        });
        (self.pools.len() < known).then(|| self.series())
    }

    /// When there is something to do, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let lingering = self.placed.iter().filter_map(|placed| placed.lingers_until);
        let idle = self.pools.values().filter_map(|known| match known.presence {
            Presence::Idle(until) => Some(until),
            Presence::Current | Presence::Leaving => None,
        });
        lingering.chain(idle).chain(self.warm.next_deadline()).min()
    }

    /// Something lingers that need not any more, or may not.
    pub(super) fn linger_is_over(&self, now: Instant) -> bool {
        self.lingering().any(|p| {
            p.lingers_until.is_some_and(|until| now >= until)
                || !p.serves()
                || self.has_healthy(&p.service, &p.pool)
        })
    }

    /// In an order that stays, so that two pages of metrics can be compared.
    fn series(&self) -> Vec<Arc<LivePool>> {
        let mut known: Vec<_> = self.pools.iter().collect();
        known.sort_unstable_by_key(|(key, _)| *key);
        known.into_iter().map(|(_, known)| known.pool.clone()).collect()
    }

    fn pool(&self, service: &Name, name: &Name, version: &Name) -> Arc<LivePool> {
        let key = (service.clone(), name.clone(), version.clone());
        self.pools.get(&key).map_or_else(
            || LivePool::new(self.cores, service.clone(), name.clone(), version.clone()),
            |known| known.pool.clone(),
        )
    }

    /// The backends of a pool as the spec wants them.
    fn place(
        &self,
        site: &Site<'_>,
        live: &Arc<LivePool>,
        carried: &Carried<'_>,
        now_millis: u64,
    ) -> Vec<Placed> {
        let place = |(address, settings): (&BackendAddress, &Backend)| {
            let drained = settings.drained || site.pool.drained;
            // What was cut cancels every request; only what gets none may stay so.
            let usable = |backend: &&Arc<LiveBackend>| {
                backend.protocol == site.pool.protocol && (drained || !backend.is_cut())
            };
            let backend = carried.get(&(Arc::as_ptr(live), address)).copied().filter(usable);
            let backend = backend
                .cloned()
                .unwrap_or_else(|| self.new_backend(site, live, address, now_millis));
            Placed {
                service: site.service_name.clone(),
                pool: site.pool_name.clone(),
                backend,
                settings: *settings,
                pool_weight: site.pool.weight,
                pool_drained: site.pool.drained,
                announces: site.pool.proxy_protocol,
                checked: site.service.health_check.as_ref().map(HealthCheck::question),
                lingers_until: None,
            }
        };
        site.pool.backends.iter().map(place).collect()
    }

    /// Some pool's backend at this address passes the same check: a pool or service that is only renamed
    /// does not have to wait for a probe.
    fn is_proven(&self, address: &BackendAddress, question: &(Name, Option<Name>)) -> bool {
        self.placed.iter().any(|placed| {
            placed.backend.address == *address
                && placed.checked.as_ref() == Some(question)
                && placed.backend.health.is_available()
        }) || self.warm.is_proven(address, question)
    }

    fn new_backend(
        &self,
        site: &Site<'_>,
        live: &Arc<LivePool>,
        address: &BackendAddress,
        now_millis: u64,
    ) -> Arc<LiveBackend> {
        // What is known of an address stays known when only the label of its version changes.
        let known =
            site.before.iter().find(|p| p.backend.address == *address).map(|p| &p.backend.health);
        let (state, since) = match (known, &site.service.health_check) {
            (Some(health), _) => (health.state(), health.since_millis()),
            (None, Some(check)) if self.is_proven(address, &check.question()) => {
                (HealthState::Healthy, now_millis)
            }
            (None, Some(_)) => (HealthState::Unproven, now_millis),
            (None, None) => (HealthState::Healthy, now_millis),
        };
        let slot = self.backend_slots.take();
        let health = (state, since);
        let protocol = site.pool.protocol;
        let backend =
            LiveBackend::new(self.cores, address.clone(), live.clone(), protocol, health, slot);
        backend.set_announces(site.pool.proxy_protocol);
        if known.is_some_and(|health| health.is_ejected_for(Ejected::Unreachable)) {
            backend.health.eject(Ejected::Unreachable);
        }
        backend
    }
}

/// With a limit on the whole proxy the requests of each service are counted, be it against a limit that is none.
fn counted(spec: &Arc<Spec>) -> Arc<Spec> {
    let mut counted = spec.clone();
    if spec.limits.in_flight.is_some() {
        for service in Arc::make_mut(&mut counted).services.values_mut() {
            service.limits.in_flight.get_or_insert(u32::MAX);
        }
    }
    counted
}

/// A pool of the spec, and what its place in the table held before.
struct Site<'a> {
    service_name: &'a Name,
    service: &'a Service,
    pool_name: &'a Name,
    pool: &'a Pool,
    before: &'a [Placed],
}

impl Site<'_> {
    /// The backends that are to leave, but stay as long as the pool has traffic and nobody else serves it:
    /// until a newcomer is proven or the time for a drain has passed. Without anybody to wait for they
    /// leave at once, as asked.
    fn lingering(&self, wanted: &[Placed], now: Instant) -> Vec<Placed> {
        let pinned = || self.service.pins.iter().any(|pin| pin.pool == *self.pool_name);
        let has_traffic = self.pool.weight > Weight::ZERO || pinned();
        let in_service = || wanted.iter().filter(|p| p.in_service());
        if !has_traffic || in_service().count() == 0 || in_service().any(Placed::serves) {
            return Vec::new();
        }
        // As texts: the same address may have been found for another name.
        let addresses: HashSet<_> = wanted.iter().map(|p| p.backend.address.to_string()).collect();
        let stays = |p: &&Placed| {
            p.serves()
                && p.lingers_until.is_none_or(|until| now < until)
                && !addresses.contains(&p.backend.address.to_string())
        };
        let until = later(now, self.service.timeouts.drain);
        let linger = |p: &Placed| Placed {
            lingers_until: p.lingers_until.or(Some(until)),
            pool_weight: self.pool.weight,
            pool_drained: false,
            announces: self.pool.proxy_protocol,
            ..p.clone()
        };
        self.before.iter().filter(stays).map(linger).collect()
    }
}

/// `now` and `duration` more; a duration that no clock can hold is as good as thirty years.
pub(super) fn later(now: Instant, duration: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    now.checked_add(duration).unwrap_or_else(|| now + LONG)
}
