//! What must hold for a spec as a whole. PURE.

use crate::spec::{Name, Service, Spec};
use std::collections::HashSet;

/// Every reason why `spec` cannot be in force; empty when it can.
pub(super) fn problems(spec: &Spec) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, service) in &spec.services {
        service_problems(name, service, &mut problems);
    }
    for route in &spec.routes {
        let Some(service) = route.service() else { continue };
        if !spec.services.contains_key(service) {
            problems.push(format!(
                "route `{}` leads to service `{service}`, which does not exist; {}",
                route.name,
                known("services", spec.services.keys())
            ));
        }
    }
    for file in spec.absent_files() {
        problems.push(format!(
            "{} cannot be read any more, or the key that belongs to it; put it back, or name another",
            file.display()
        ));
    }
    let admin = &spec.admin;
    if admin.is_public() && !admin.is_guarded() && !admin.insecure {
        problems.push(format!(
            "the admin API listens on {}, which is open to others, and nobody would have to show that they may \
             steer; keep `admin.tokens`, or set `admin.insecure`",
            admin.address
        ));
    }
    let mut addresses = HashSet::new();
    for listener in &spec.listeners {
        if listener.address.port() != 0 && !addresses.insert(listener.address) {
            problems.push(format!("two listeners have the address {}", listener.address));
        }
    }
    problems
}

fn service_problems(name: &Name, service: &Service, problems: &mut Vec<String>) {
    if service.pools.is_empty() {
        problems.push(format!("service `{name}` has no pool; give it at least one"));
        return;
    }
    if service.pools.len() > Service::MAX_POOLS {
        problems.push(format!(
            "service `{name}` has {} pools; at most {} are possible",
            service.pools.len(),
            Service::MAX_POOLS
        ));
    }
    if service.total_weight() == 0 {
        problems.push(format!(
            "the weights of service `{name}` sum to 0; give at least one of its pools ({}) a weight \
             above 0",
            list(service.pools.keys())
        ));
    }
    let pins = service.pins.iter().map(|pin| ("a pin", &pin.pool));
    let rescue = service.rescue.iter().map(|rescue| ("`rescue`", &rescue.to));
    let mirror = service.mirror.iter().map(|mirror| ("`mirror`", &mirror.to));
    for (what, pool) in pins.chain(rescue).chain(mirror) {
        if !service.pools.contains_key(pool) {
            problems.push(format!(
                "{what} of service `{name}` names pool `{pool}`, which does not exist; {}",
                known("pools", service.pools.keys())
            ));
        }
    }
}

/// "known pools: `blue`, `green`", or that there are none.
pub(super) fn known<T: ToString>(what: &str, names: impl Iterator<Item = T>) -> String {
    let names = list(names);
    if names.is_empty() { format!("there are no {what}") } else { format!("known {what}: {names}") }
}

fn list<T: ToString>(names: impl Iterator<Item = T>) -> String {
    names.map(|name| format!("`{}`", name.to_string())).collect::<Vec<_>>().join(", ")
}
