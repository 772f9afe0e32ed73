//! What a publish leaves behind. PURE.

use super::{Command, LeftInFlight, Open, parts::Placed};
use crate::{
    live::{LiveBackend, LivePool},
    spec::{BackendAddress, Name, Spec, Weight},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// A backend that stopped getting new requests.
#[derive(Clone)]
pub(super) struct Left {
    pub(super) backend: Arc<LiveBackend>,
    /// The whole pool stopped getting them.
    pub(super) whole_pool: bool,
    /// It was removed or is drained by an operator's wish; else it only has no weight any more.
    pub(super) drains: bool,
}

/// What got requests by the table `before` and gets none by the one `after`.
pub(super) fn left(before: &[Placed], after: &[Placed]) -> Vec<Left> {
    let places: HashMap<_, _> = after.iter().map(|p| (Arc::as_ptr(&p.backend), p)).collect();
    let pools: HashSet<_> = after.iter().map(|p| Arc::as_ptr(&p.backend.pool)).collect();
    let left = |p: &Placed| {
        let (whole_pool, drains) = match places.get(&Arc::as_ptr(&p.backend)) {
            None => (!pools.contains(&Arc::as_ptr(&p.backend.pool)), true),
            Some(now) if now.drained() => (now.pool_drained, true),
            Some(now) if lost(p.pool_weight, now.pool_weight) => (true, false),
            Some(now) if lost(p.settings.weight, now.settings.weight) => (false, false),
            Some(_) => return None,
        };
        Some(Left { backend: p.backend.clone(), whole_pool, drains })
    };
    before.iter().filter(|p| !p.drained()).filter_map(left).collect()
}

fn lost(before: Weight, after: Weight) -> bool {
    before > Weight::ZERO && after == Weight::ZERO
}

/// For a command that changes nothing, because all is as it asks already: what of that gets no new requests,
/// so that who asks again can wait for its end too. `draining` has left the table, or is drained in it.
pub(super) fn left_before<'a>(
    command: &Command,
    placed: &'a [Placed],
    draining: impl Iterator<Item = &'a Arc<LiveBackend>>,
) -> Vec<Arc<LiveBackend>> {
    let idle =
        |p: &&Placed| p.drained() || [p.pool_weight, p.settings.weight].contains(&Weight::ZERO);
    spoken_of(command, placed.iter().filter(idle).map(|p| &p.backend).chain(draining))
}

/// What of that drains now: who has removed what was drained before waits for its end too.
pub(super) fn drained<'a>(
    command: &Command,
    placed: &'a [Placed],
    draining: impl Iterator<Item = &'a Arc<LiveBackend>>,
) -> Vec<Arc<LiveBackend>> {
    let drained = placed.iter().filter(|p| p.drained());
    spoken_of(command, drained.map(|p| &p.backend).chain(draining))
}

/// Each once.
fn spoken_of<'a>(
    command: &Command,
    backends: impl Iterator<Item = &'a Arc<LiveBackend>>,
) -> Vec<Arc<LiveBackend>> {
    let scope = Scope::of(command);
    let mut all: Vec<Arc<LiveBackend>> = Vec::new();
    for backend in backends {
        if speaks_of(&scope, backend) && !all.iter().any(|known| Arc::ptr_eq(known, backend)) {
            all.push(backend.clone());
        }
    }
    all
}

/// The command may take requests away from this backend.
fn speaks_of(scope: &Scope, backend: &LiveBackend) -> bool {
    let pool = &backend.pool;
    scope.covers(&pool.service, &pool.name, |address| backend.address.is_of(address))
}

/// What a command may take requests away from.
#[derive(Clone, Debug)]
enum Scope {
    Nothing,
    Everything,
    Service(Name),
    Pool(Name, Name),
    Backends(Name, Name, Vec<BackendAddress>),
}

impl Scope {
    fn of(command: &Command) -> Self {
        match command {
            Command::Load { .. }
            | Command::Replace { .. }
            | Command::Undo { service: None, .. } => Self::Everything,
            Command::Undo { service: Some(service), .. }
            | Command::SetWeights { service, .. }
            | Command::Cutover { service, .. }
            | Command::Drain { service, pool: None, .. }
            | Command::Hold { service, .. }
            | Command::StartRollout { service, .. }
            | Command::RetryRollout { service }
            | Command::SteerRollout { service, .. }
            | Command::MoveRollout { service } => Self::Service(service.clone()),
            Command::PutPool { service, name, .. } | Command::DeletePool { service, name } => {
                Self::Pool(service.clone(), name.clone())
            }
            Command::PutBackend { service, pool, address, .. }
            | Command::DeleteBackend { service, pool, address } => {
                Self::Backends(service.clone(), pool.clone(), vec![address.clone()])
            }
            Command::Drain { service, pool: Some(pool), backends } if backends.is_empty() => {
                Self::Pool(service.clone(), pool.clone())
            }
            Command::Drain { service, pool: Some(pool), backends } => {
                Self::Backends(service.clone(), pool.clone(), backends.clone())
            }
            Command::Undrain { .. } | Command::Release { .. } => Self::Nothing,
        }
    }

    fn covers(&self, service: &str, pool: &str, is: impl Fn(&BackendAddress) -> bool) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Service(name) => **name == *service,
            Self::Pool(of, name) => **of == *service && **name == *pool,
            Self::Backends(of, name, addresses) => {
                **of == *service && **name == *pool && addresses.iter().any(is)
            }
        }
    }
}

/// What who made a change waits for in the processes before this one: they may have requests on what this process has
/// never had any on, because it was drained, or had left, before it began.
#[derive(Clone, Debug)]
pub(super) struct Elsewhere {
    scope: Scope,
    /// All was as asked already: what only has no weight is waited for too.
    is_repeated: bool,
}

impl Elsewhere {
    pub(super) fn of(command: &Command, is_repeated: bool) -> Self {
        Self { scope: Scope::of(command), is_repeated }
    }

    /// By the spec that is desired after the change.
    pub(super) fn waits_for(&self, open: &Open, after: &Spec) -> bool {
        let configured = open.source.as_ref().unwrap_or(&open.backend);
        let is = |address: &BackendAddress| address.to_string() == *configured;
        if !self.scope.covers(&open.service, &open.pool, is) {
            return false;
        }
        let pool = after.services.get(&*open.service).and_then(|it| it.pools.get(&*open.pool));
        let Some(pool) = pool else { return true };
        let Some((_, backend)) = pool.backends.iter().find(|(address, _)| is(address)) else {
            return true;
        };
        let is_idle = [pool.weight, backend.weight].contains(&Weight::ZERO);
        pool.drained || backend.drained || (self.is_repeated && is_idle)
    }
}

/// What is in flight on them, a pool that left as a whole in one entry.
pub(super) fn in_flight(left: &[Left]) -> Vec<LeftInFlight> {
    let mut entries: Vec<LeftInFlight> = Vec::new();
    let mut whole: HashMap<*const LivePool, usize> = HashMap::new();
    for Left { backend, whole_pool, .. } in left {
        let pool = &backend.pool;
        let (in_flight, tally) = backend.stock();
        let counted = (backend.clone(), tally);
        match whole.get(&Arc::as_ptr(pool)).filter(|_| *whole_pool) {
            Some(&entry) => {
                entries[entry].in_flight += in_flight;
                entries[entry].backends.push(counted);
            }
            None => {
                if *whole_pool {
                    whole.insert(Arc::as_ptr(pool), entries.len());
                }
                entries.push(LeftInFlight {
                    service: pool.service.clone(),
                    pool: pool.name.clone(),
                    backend: (!whole_pool).then(|| backend.address.clone()),
                    in_flight,
                    backends: vec![counted],
                });
            }
        }
    }
    entries
}
