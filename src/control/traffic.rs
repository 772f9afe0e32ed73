//! Which pools a change gives traffic to, and why they could not serve it. PURE.

use super::parts::Placed;
use crate::{
    live::HealthState,
    spec::{Name, Spec, Weight},
};

/// Service and pool of every pool whose share of its service is larger in `after`.
pub(super) fn gaining(before: &Spec, after: &Spec) -> Vec<(Name, Name)> {
    let mut gaining = Vec::new();
    for (name, service) in &after.services {
        let old = before.services.get(name);
        let old_total = old.map_or(0, |service| service.total_weight()).max(1);
        let total = service.total_weight();
        for (pool_name, pool) in &service.pools {
            let old_pool = old.and_then(|service| service.pools.get(pool_name));
            let old_weight = old_pool.map_or(0, |pool| u64::from(pool.weight.get()));
            // Shares as fractions, without rounding: weights are below 2^20 and there are 64 at most.
            if u64::from(pool.weight.get()) * old_total > old_weight * total {
                gaining.push((name.clone(), pool_name.clone()));
            }
        }
    }
    gaining
}

/// Why no backend of a pool serves: a word for each.
pub(super) fn why_not(placed: &[Placed], service: &Name, pool: &Name) -> String {
    let backends = placed.iter().filter(|p| p.service == *service && p.pool == *pool);
    let reasons: Vec<_> = backends.map(|p| format!("{} {}", p.backend.address, state(p))).collect();
    if reasons.is_empty() { "it has no backends".to_owned() } else { reasons.join(", ") }
}

fn state(placed: &Placed) -> &'static str {
    let health = &placed.backend.health;
    if placed.lingers_until.is_some() {
        "is leaving"
    } else if placed.drained() {
        "is drained"
    } else if placed.settings.weight == Weight::ZERO {
        "has weight 0"
    } else if health.state() == HealthState::Unproven {
        "has not passed a health check yet"
    } else if health.state() == HealthState::Unhealthy {
        "fails its health checks"
    } else if health.is_ejected() {
        "cannot be connected to"
    } else {
        "is healthy"
    }
}
