//! Which pools a change gives traffic to, and whether they can serve it.

use super::parts::{Parts, Placed};
use crate::{
    live::{Ejected, HealthState},
    spec::{Backend, Name, Service, Spec, Weight},
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

/// What the author of a change from `before` to `after`, now in force, should know.
pub(super) fn warnings(parts: &Parts, before: &Spec, after: &Spec) -> Vec<String> {
    let gaining = gaining(before, after).into_iter();
    let unserved = gaining.filter(|(service, pool)| !parts.has_healthy(service, pool));
    let mut warnings: Vec<String> = unserved
        .map(|(service, pool)| {
            let why = why_not(parts, &service, &pool);
            format!(
                "pool `{pool}` of service `{service}` gets traffic without a healthy backend: {why}"
            )
        })
        .collect();
    for (name, service) in &after.services {
        if !takes_requests(service) && before.services.get(name).is_none_or(takes_requests) {
            warnings.push(format!(
                "no pool of service `{name}` takes requests any more: it answers 503"
            ));
        }
    }
    warnings.extend(parts.lingering().map(|Placed { service, pool, backend, .. }| {
        format!(
            "backend {} of pool `{pool}` of service `{service}` keeps serving until another one is \
             proven, at most for `timeouts.drain`",
            backend.address
        )
    }));
    warnings
}

/// A pool with weight has a backend with weight, and neither is drained.
fn takes_requests(service: &Service) -> bool {
    let in_service = |backend: &Backend| !backend.drained && backend.weight > Weight::ZERO;
    service.pools.values().any(|pool| {
        pool.weight > Weight::ZERO && !pool.drained && pool.backends.values().any(in_service)
    })
}

/// The pools with weight that nobody serves, and why.
pub(super) fn unserved(parts: &Parts, spec: &Spec) -> Vec<String> {
    let pools = spec.services.iter().flat_map(|(service, settings)| {
        settings.pools.iter().map(move |(pool, settings)| (service, pool, settings.weight))
    });
    pools
        .filter(|(service, pool, weight)| {
            *weight > Weight::ZERO && !parts.has_healthy(service, pool)
        })
        .map(|(service, pool, _)| format!("{service}/{pool}: {}", why_not(parts, service, pool)))
        .collect()
}

/// Why no backend of a pool serves: a word for each.
pub(super) fn why_not(parts: &Parts, service: &Name, pool: &Name) -> String {
    let placed = parts.placed_in(service, pool).iter();
    let reasons: Vec<_> = placed.map(|p| format!("{} {}", p.backend.address, state(p))).collect();
    if reasons.is_empty() {
        "it has no backends, or DNS has named none yet".to_owned()
    } else {
        reasons.join(", ")
    }
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
    } else if health.is_ejected_for(Ejected::Unreachable) {
        "cannot be connected to"
    } else if health.is_ejected() {
        "is left out because its requests failed"
    } else {
        "is healthy"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::{name, pool, service, spec};

    #[test]
    fn a_pool_gains_when_its_share_grows() {
        let split = |weights: &[(&str, u64)]| {
            let pools: Vec<_> =
                weights.iter().map(|&(name, weight)| (name, pool("v", weight, &[]))).collect();
            spec(&[("shop", service(&pools))])
        };
        for (before, after, gains) in [
            (&[("a", 95), ("b", 5)][..], &[("a", 95), ("b", 5)][..], &[][..]),
            (&[("a", 95), ("b", 5)], &[("a", 190), ("b", 10)], &[]),
            (&[("a", 95), ("b", 5)], &[("a", 10), ("b", 5)], &["b"]),
            (&[("a", 95), ("b", 5)], &[("a", 0), ("b", 5)], &["b"]),
            (&[("a", 1)], &[("a", 1), ("b", 0)], &[]),
            (&[("a", 1)], &[("a", 1), ("b", 1)], &["b"]),
            (&[("a", 1_000_000), ("b", 1)], &[("a", 999_999), ("b", 1)], &["b"]),
        ] {
            let gaining = gaining(&split(before), &split(after));
            let expected: Vec<_> = gains.iter().map(|gain| (name("shop"), name(gain))).collect();
            assert_eq!(gaining, expected, "{before:?} {after:?}");
        }
        let new = gaining(&spec(&[]), &split(&[("a", 1), ("b", 0)]));
        assert_eq!(new, [(name("shop"), name("a"))], "all of a new service");
    }
}
