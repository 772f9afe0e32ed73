//! The three-way merge of a file: as last loaded, as it is now, and what is in force. What the file
//! changed since last time wins; what only the API changed stays. PURE.

use crate::spec::{
    Admin, Backend, Ejection, HealthCheck, Name, Pool, Resolver, Retries, Service, ServiceLimits,
    ServiceTimeouts, Shutdown, Spec, State, Weight,
};
use indexmap::IndexMap;
use std::hash::Hash;

/// What shall be in force after the file was read anew. May be invalid: the file and the API can
/// contradict each other. Without a `base` it is the file.
pub(super) fn merge(base: Option<&Spec>, file: &Spec, ours: &Spec) -> Spec {
    let mut merged = match base {
        None => file.clone(),
        Some(base) => merge_specs(base, file, ours),
    };
    merged.keep_for_restart(ours);
    merged
}

/// The same when a process starts: what waited for a restart is as the file says.
pub(super) fn merge_at_start(base: Option<&Spec>, file: &Spec, ours: &Spec) -> Spec {
    let mut merged = merge(base, file, ours);
    merged.keep_for_restart(file);
    merged
}

/// The keys in which `wanted` differs and that only a restart can change.
pub(super) fn needs_restart(wanted: &Spec, ours: &Spec) -> Vec<String> {
    let mut keys = Vec::new();
    if wanted.threads != ours.threads {
        keys.push("threads".to_owned());
    }
    if wanted.admin.address != ours.admin.address {
        keys.push("admin.address".to_owned());
    }
    if wanted.state.directory != ours.state.directory {
        keys.push("state.directory".to_owned());
    }
    if wanted.admin.audit != ours.admin.audit {
        keys.push("admin.audit".to_owned());
    }
    keys
}

/// The file's value if the file changed it, else ours.
fn pick<T: PartialEq + Clone>(base: Option<&T>, file: &T, ours: &T) -> T {
    if base == Some(file) { ours.clone() } else { file.clone() }
}

/// A struct of values, each merged by itself.
macro_rules! by_field {
    ($type:ident { $($field:ident),+ }, $base:expr, $file:expr, $ours:expr) => {{
        let (base, file, ours): (Option<&$type>, &$type, &$type) = ($base, $file, $ours);
        $type { $($field: pick(base.map(|base| &base.$field), &file.$field, &ours.$field)),+ }
    }};
}

/// What is in a map: a key is there if the file added it, or if the file did not remove it and it is
/// in force. `both` merges the values of a key that is in the file and in force.
fn keyed<K: Hash + Eq + Clone, V: Clone>(
    base: Option<&IndexMap<K, V>>,
    file: &IndexMap<K, V>,
    ours: &IndexMap<K, V>,
    both: impl Fn(Option<&V>, &V, &V) -> V,
) -> IndexMap<K, V> {
    let in_base = |key: &K| base.and_then(|base| base.get(key));
    let mut merged = IndexMap::new();
    for (key, theirs) in file {
        match (in_base(key), ours.get(key)) {
            (base, Some(ours)) => merged.insert(key.clone(), both(base, theirs, ours)),
            (None, None) => merged.insert(key.clone(), theirs.clone()),
            (Some(_), None) => None,
        };
    }
    for (key, ours) in ours {
        if in_base(key).is_none() && !file.contains_key(key) {
            merged.insert(key.clone(), ours.clone());
        }
    }
    merged
}

fn merge_specs(base: &Spec, file: &Spec, ours: &Spec) -> Spec {
    Spec {
        threads: ours.threads,
        engine: pick(Some(&base.engine), &file.engine, &ours.engine),
        shutdown: by_field!(
            Shutdown { delay, drain },
            Some(&base.shutdown),
            &file.shutdown,
            &ours.shutdown
        ),
        startup_wait: pick(Some(&base.startup_wait), &file.startup_wait, &ours.startup_wait),
        resolver: by_field!(
            Resolver {
                nameservers,
                families,
                timeout,
                attempts,
                min_ttl,
                max_ttl,
                hold,
                max_addresses
            },
            Some(&base.resolver),
            &file.resolver,
            &ours.resolver
        ),
        limits: pick(Some(&base.limits), &file.limits, &ours.limits),
        reload: pick(Some(&base.reload), &file.reload, &ours.reload),
        listeners: pick(Some(&base.listeners), &file.listeners, &ours.listeners),
        acme: pick(Some(&base.acme), &file.acme, &ours.acme),
        admin: by_field!(
            Admin {
                address,
                hosts,
                insecure,
                tokens,
                tls,
                client_roles,
                unix_roles,
                public_metrics,
                audit,
                limits
            },
            Some(&base.admin),
            &file.admin,
            &ours.admin
        ),
        state: by_field!(
            State { directory, revisions },
            Some(&base.state),
            &file.state,
            &ours.state
        ),
        metrics_linger: pick(
            Some(&base.metrics_linger),
            &file.metrics_linger,
            &ours.metrics_linger,
        ),
        access_log: pick(Some(&base.access_log), &file.access_log, &ours.access_log),
        tracing: pick(Some(&base.tracing), &file.tracing, &ours.tracing),
        services: keyed(Some(&base.services), &file.services, &ours.services, merge_services),
        routes: pick(Some(&base.routes), &file.routes, &ours.routes),
    }
}

fn merge_services(base: Option<&Service>, file: &Service, ours: &Service) -> Service {
    let mut pools = keyed(base.map(|b| &b.pools), &file.pools, &ours.pools, merge_pools);
    // All weights of a service are one value: shares that nobody ever wrote would be the result else.
    if weights_changed(base, file) {
        for (name, pool) in &mut pools {
            pool.weight = weight_in(file, name);
        }
    }
    Service {
        pools,
        pins: pick(base.map(|b| &b.pins), &file.pins, &ours.pins),
        sticky: pick(base.map(|b| &b.sticky), &file.sticky, &ours.sticky),
        balance: pick(base.map(|b| &b.balance), &file.balance, &ours.balance),
        health_check: merge_health_checks(
            base.map(|b| &b.health_check),
            &file.health_check,
            &ours.health_check,
        ),
        ejection: by_field!(
            Ejection {
                consecutive,
                success_rate_percent,
                window,
                min_requests,
                duration,
                longest,
                at_most_percent
            },
            base.map(|b| &b.ejection),
            &file.ejection,
            &ours.ejection
        ),
        timeouts: by_field!(
            ServiceTimeouts {
                connect,
                response,
                body,
                request,
                upstream_idle,
                ping,
                tunnel_idle,
                drain
            },
            base.map(|b| &b.timeouts),
            &file.timeouts,
            &ours.timeouts
        ),
        limits: by_field!(
            ServiceLimits {
                body_bytes,
                in_flight,
                queue,
                queue_timeout,
                held,
                backend_in_flight,
                backend_connections
            },
            base.map(|b| &b.limits),
            &file.limits,
            &ours.limits
        ),
        retries: by_field!(
            Retries { attempts, budget_percent, on, buffer },
            base.map(|b| &b.retries),
            &file.retries,
            &ours.retries
        ),
        rescue: pick(base.map(|b| &b.rescue), &file.rescue, &ours.rescue),
        mirror: pick(base.map(|b| &b.mirror), &file.mirror, &ours.mirror),
        unhealthy_pool: pick(
            base.map(|b| &b.unhealthy_pool),
            &file.unhealthy_pool,
            &ours.unhealthy_pool,
        ),
        rollout: pick(base.map(|b| &b.rollout), &file.rollout, &ours.rollout),
        expose_version: pick(
            base.map(|b| &b.expose_version),
            &file.expose_version,
            &ours.expose_version,
        ),
    }
}

fn merge_health_checks(
    base: Option<&Option<HealthCheck>>,
    file: &Option<HealthCheck>,
    ours: &Option<HealthCheck>,
) -> Option<HealthCheck> {
    match (file, ours) {
        (Some(file), Some(ours)) => Some(by_field!(
            HealthCheck { path, grpc, interval, timeout, healthy_after, unhealthy_after },
            base.and_then(Option::as_ref),
            file,
            ours
        )),
        _ => pick(base, file, ours),
    }
}

/// A pool that appears or disappears without weight leaves the split as it was.
fn weights_changed(base: Option<&Service>, file: &Service) -> bool {
    base.is_none_or(|base| {
        let names = base.pools.keys().chain(file.pools.keys());
        names.into_iter().any(|name| weight_in(base, name) != weight_in(file, name))
    })
}

fn weight_in(service: &Service, pool: &Name) -> Weight {
    service.pools.get(pool).map_or(Weight::ZERO, |pool| pool.weight)
}

/// The weight is ours: who calls decides about all weights of the service together.
fn merge_pools(base: Option<&Pool>, file: &Pool, ours: &Pool) -> Pool {
    Pool {
        version: pick(base.map(|b| &b.version), &file.version, &ours.version),
        weight: ours.weight,
        backends: keyed(
            base.map(|b| &b.backends),
            &file.backends,
            &ours.backends,
            |base, file, ours| Backend {
                weight: pick(base.map(|b| &b.weight), &file.weight, &ours.weight),
                drained: merge_drained(base.map(|b| b.drained), file.drained, ours.drained),
            },
        ),
        slow_start: pick(base.map(|b| &b.slow_start), &file.slow_start, &ours.slow_start),
        drained: merge_drained(base.map(|b| b.drained), file.drained, ours.drained),
        protocol: pick(base.map(|b| &b.protocol), &file.protocol, &ours.protocol),
        proxy_protocol: pick(
            base.map(|b| &b.proxy_protocol),
            &file.proxy_protocol,
            &ours.proxy_protocol,
        ),
        tls: pick(base.map(|b| &b.tls), &file.tls, &ours.tls),
    }
}

/// Drains are the API's: a file that takes up what the API has created does not end its drain.
fn merge_drained(base: Option<bool>, file: bool, ours: bool) -> bool {
    pick(Some(&base.unwrap_or(false)), &file, &ours)
}
