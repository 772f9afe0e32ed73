//! What a publish leaves behind. PURE.

use super::{Command, LeftInFlight, parts::Placed};
use crate::{
    live::{LiveBackend, LivePool},
    spec::{Name, Weight},
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
    let mut all: Vec<Arc<LiveBackend>> = Vec::new();
    for backend in backends {
        if speaks_of(command, backend) && !all.iter().any(|known| Arc::ptr_eq(known, backend)) {
            all.push(backend.clone());
        }
    }
    all
}

/// The command may take requests away from this backend.
fn speaks_of(command: &Command, backend: &LiveBackend) -> bool {
    let is_in = |service: &Name, pool: &Name| {
        backend.pool.service == *service && backend.pool.name == *pool
    };
    match command {
        Command::Load { .. } | Command::Replace { .. } | Command::Undo { service: None, .. } => {
            true
        }
        Command::Undo { service: Some(service), .. } => backend.pool.service == *service,
        Command::SetWeights { service, .. } | Command::Cutover { service, .. } => {
            backend.pool.service == *service
        }
        Command::PutPool { service, name, .. } | Command::DeletePool { service, name } => {
            is_in(service, name)
        }
        Command::PutBackend { service, pool, address, .. }
        | Command::DeleteBackend { service, pool, address } => {
            is_in(service, pool) && backend.address.is_of(address)
        }
        Command::Drain { service, pool: None, .. } => backend.pool.service == *service,
        Command::Drain { service, pool: Some(pool), backends } => {
            let is_one = || backends.iter().any(|address| backend.address.is_of(address));
            is_in(service, pool) && (backends.is_empty() || is_one())
        }
        Command::Hold { service, .. }
        | Command::StartRollout { service, .. }
        | Command::RetryRollout { service }
        | Command::SteerRollout { service, .. }
        | Command::MoveRollout { service } => backend.pool.service == *service,
        Command::Undrain { .. } | Command::Release { .. } => false,
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
