//! The commands that change one part of a spec. PURE. The whole is validated by who calls.

use super::{ChangeError, Command, validate::known};
use crate::spec::{Backend, BackendAddress, Name, Pool, Service, Spec, Weight};

/// Makes the change and says whether a pool or backend is new. Whole specs ([`Command::Load`],
/// [`Command::Replace`]) and what is not desired but done (a hold) change nothing here.
///
/// # Errors
/// When the command names what does not exist, or cannot be done now. `spec` is of no use then.
pub(super) fn apply(spec: &mut Spec, command: &Command) -> Result<bool, ChangeError> {
    match command {
        Command::SetWeights { service, weights } => set_weights(spec, service, weights)?,
        Command::Cutover { service, to } => cutover(spec, service, to)?,
        Command::PutPool { service, name, pool } => return put_pool(spec, service, name, pool),
        Command::DeletePool { service, name } => delete_pool(spec, service, name)?,
        Command::PutBackend { service, pool, address, backend } => {
            return put_backend(spec, service, pool, address, *backend);
        }
        Command::DeleteBackend { service, pool, address } => {
            let backends = &mut pool_of(spec, service, pool)?.backends;
            if backends.shift_remove(address).is_none() {
                return Err(no_backend(address, pool, backends.keys()));
            }
        }
        Command::Drain { service, pool, backends } => {
            set_drained(spec, service, pool.as_ref(), backends, true)?;
        }
        Command::Undrain { service, pool, backends } => {
            set_drained(spec, service, pool.as_ref(), backends, false)?;
        }
        Command::Hold { service, .. } | Command::Release { service } => {
            service_of(spec, service).map(drop)?;
        }
        Command::Replace { .. }
        | Command::Load { .. }
        | Command::Undo { .. }
        | Command::StartRollout { .. }
        | Command::RetryRollout { .. }
        | Command::SteerRollout { .. }
        | Command::MoveRollout { .. } => {}
    }
    Ok(false)
}

/// Whoever puts a config, a pool or a backend says nothing about drains: they stay until an undrain.
pub(super) fn keep_drained(before: &Spec, after: &mut Spec) {
    for (name, service) in &mut after.services {
        let Some(before) = before.services.get(name) else { continue };
        for (name, pool) in &mut service.pools {
            if let Some(before) = before.pools.get(name) {
                keep_pool_drained(before, pool);
            }
        }
    }
}

fn keep_pool_drained(before: &Pool, after: &mut Pool) {
    after.drained |= before.drained;
    for (address, backend) in &mut after.backends {
        backend.drained |= before.backends.get(address).is_some_and(|before| before.drained);
    }
}

fn set_weights(
    spec: &mut Spec,
    service_name: &Name,
    weights: &[(Name, Weight)],
) -> Result<(), ChangeError> {
    for (pool, weight) in weights {
        pool_of(spec, service_name, pool)?.weight = *weight;
    }
    service_of(spec, service_name).map(drop)
}

/// The pool gets the sum of all weights, so that the numbers keep the scale that people chose.
fn cutover(spec: &mut Spec, service_name: &Name, to: &Name) -> Result<(), ChangeError> {
    pool_of(spec, service_name, to)?;
    let service = service_of(spec, service_name)?;
    let total = service.total_weight().min(u64::from(Weight::MAX));
    let all = Weight::new(total).expect("not above the maximum");
    for (name, pool) in &mut service.pools {
        pool.weight = if name == to { all } else { Weight::ZERO };
    }
    Ok(())
}

fn put_pool(
    spec: &mut Spec,
    service: &Name,
    name: &Name,
    pool: &Pool,
) -> Result<bool, ChangeError> {
    let pools = &mut service_of(spec, service)?.pools;
    let mut pool = pool.clone();
    if let Some(before) = pools.get(name) {
        keep_pool_drained(before, &mut pool);
    }
    Ok(pools.insert(name.clone(), pool).is_none())
}

fn delete_pool(spec: &mut Spec, service_name: &Name, name: &Name) -> Result<(), ChangeError> {
    let weight = u64::from(pool_of(spec, service_name, name)?.weight.get());
    let service = service_of(spec, service_name)?;
    let why = if service.pins.iter().any(|pin| pin.pool == *name) {
        "a pin names it; remove the pin first"
    } else if service.rescue.as_ref().is_some_and(|rescue| rescue.to == *name) {
        "`rescue` names it; change that first"
    } else if service.mirror.as_ref().is_some_and(|mirror| mirror.to == *name) {
        "`mirror` names it; change that first"
    } else if service.pools.len() == 1 {
        "it is the only one; create another first"
    } else if weight == service.total_weight() {
        "it has all the weight; cut over to another pool first"
    } else {
        service.pools.shift_remove(name);
        return Ok(());
    };
    Err(ChangeError::Conflict(format!(
        "pool `{name}` of service `{service_name}` cannot be deleted: {why}"
    )))
}

fn put_backend(
    spec: &mut Spec,
    service: &Name,
    pool: &Name,
    address: &BackendAddress,
    mut backend: Backend,
) -> Result<bool, ChangeError> {
    let backends = &mut pool_of(spec, service, pool)?.backends;
    backend.drained |= backends.get(address).is_some_and(|before| before.drained);
    Ok(backends.insert(address.clone(), backend).is_none())
}

fn set_drained(
    spec: &mut Spec,
    service: &Name,
    pool_name: Option<&Name>,
    backends: &[BackendAddress],
    drained: bool,
) -> Result<(), ChangeError> {
    let Some(pool_name) = pool_name else {
        let pools = &mut service_of(spec, service)?.pools;
        pools.values_mut().for_each(|pool| pool.drained = drained);
        return Ok(());
    };
    let pool = pool_of(spec, service, pool_name)?;
    if backends.is_empty() {
        pool.drained = drained;
    }
    for address in backends {
        match pool.backends.get_mut(address) {
            Some(backend) => backend.drained = drained,
            None => return Err(no_backend(address, pool_name, pool.backends.keys())),
        }
    }
    Ok(())
}

fn service_of<'a>(spec: &'a mut Spec, name: &Name) -> Result<&'a mut Service, ChangeError> {
    let known = known("services", spec.services.keys());
    spec.services
        .get_mut(name)
        .ok_or_else(|| ChangeError::NotFound(format!("there is no service `{name}`; {known}")))
}

fn pool_of<'a>(
    spec: &'a mut Spec,
    service: &Name,
    name: &Name,
) -> Result<&'a mut Pool, ChangeError> {
    let pools = &mut service_of(spec, service)?.pools;
    let known = known("pools", pools.keys());
    pools.get_mut(name).ok_or_else(|| {
        ChangeError::NotFound(format!("service `{service}` has no pool `{name}`; {known}"))
    })
}

fn no_backend<'a>(
    address: &BackendAddress,
    pool: &Name,
    backends: impl Iterator<Item = &'a BackendAddress>,
) -> ChangeError {
    let known = known("backends", backends);
    ChangeError::NotFound(format!("pool `{pool}` has no backend `{address}`; {known}"))
}
