use super::{
    super::{
        keys::{self, RescueCause, RetryCause},
        kinds::Named,
        problem::quote,
        reader::{At, Field, Reader},
        tree::NodeId,
    },
    check_reference, matching,
    rollout::{self, Around},
    small, tls,
};
use crate::spec::{
    Admin, Backend, BackendAddress, Ejection, HealthCheck, Match, Mirror, Name, Pin, Pool,
    PoolProtocol, Rescue, RescueOn, Retries, RetryOn, RolloutPlan, Service, ServiceLimits,
    ServiceTimeouts, Sticky, StickyKey, Weight,
};
use indexmap::{IndexMap, IndexSet};
use std::{collections::HashMap, time::Duration};

pub(super) fn service(
    reader: &mut Reader<'_>,
    named: Named<Name, keys::Service>,
    admin: &Admin,
) -> Option<Service> {
    let At { value: keys, node: service_node } = named.value?;
    let pool_names: Option<IndexSet<&str>> =
        keys.pools.node().map(|node| reader.keys(node).collect());
    let pools = pools(reader, keys.pools);
    let mut service = Service::new(pools);
    service.pins = pins(reader, keys.pins, pool_names.as_ref());
    // One that is wrong is reported as that.
    let is_sticky = keys.sticky.node().is_some() || reader.is_misspelt(service_node, "sticky");
    service.sticky = keys.sticky.good().and_then(|at| sticky(reader, at));
    service.balance = keys.balance.or(service.balance);
    service.health_check = keys.health_check.good().and_then(|at| health_check(reader, at));
    service.ejection = ejection(keys.ejection);
    service.timeouts = timeouts(keys.timeouts);
    service.limits = limits(keys.limits);
    service.retries = retries(keys.retries);
    service.rescue = keys.rescue.value().and_then(|keys| rescue(reader, keys, pool_names.as_ref()));
    service.mirror = keys.mirror.value().and_then(|keys| mirror(reader, keys, pool_names.as_ref()));
    service.unhealthy_pool = keys.unhealthy_pool.or(service.unhealthy_pool);
    service.rollout = keys.rollout.good().map(|at| {
        let approval = at.value.approval.node();
        let plan = rollout::plan(reader, at, &Around { base: &RolloutPlan::default(), is_sticky });
        if let (Some(place), Some(_)) = (approval, plan.approval) {
            rollout::warn_of_approvals(reader, place, admin);
        }
        plan
    });
    service.expose_version = keys.expose_version.or(false);
    Some(service)
}

fn pools(
    reader: &mut Reader<'_>,
    field: Field<Vec<Named<Name, keys::Pool>>>,
) -> IndexMap<Name, Pool> {
    let Field::Good(At { value: all, node }) = field else { return IndexMap::new() };
    // As written: a second pool with a bad name still makes weights necessary.
    let alone = reader.keys(node).count() == 1;
    let mut complete = true;
    let mut pools = IndexMap::with_capacity(all.len());
    for Named { name, value } in all {
        let Some(at) = value else {
            complete = false;
            continue;
        };
        complete &= !at.value.weight.is_bad();
        if matches!(at.value.weight, Field::Absent) && !alone {
            complete = false;
            if !reader.is_misspelt(at.node, "weight") {
                reader.key_problem(
                    reader.place(at.node),
                    at.node,
                    "weight",
                    "the key `weight` is missing, and the service has more than one pool",
                    "add it, such as `weight: 0`; weights are relative to each other",
                );
            }
        }
        let default = Weight::new(100).unwrap_or(Weight::ONE);
        pools.insert(name.clone(), pool(reader, at, name, default));
    }
    if pools.len() > Service::MAX_POOLS {
        reader.problem(
            node,
            format!("{} pools", pools.len()),
            format!("a service has at most {}; make it several services", Service::MAX_POOLS),
        );
    }
    if complete && pools.values().all(|pool| pool.weight == Weight::ZERO) && !pools.is_empty() {
        reader.problem(
            node,
            "the weights of the pools sum to 0",
            "give at least one pool a weight above 0",
        );
    }
    pools
}

/// `weight` is what a pool without one gets.
pub(in crate::config) fn pool(
    reader: &mut Reader<'_>,
    at: At<keys::Pool>,
    name: Name,
    weight: Weight,
) -> Pool {
    let keys = at.value;
    Pool {
        version: keys.version.or(name),
        weight: keys.weight.or(weight),
        backends: backends(reader, keys.backends),
        slow_start: keys.slow_start.or(Duration::ZERO),
        drained: keys.drained.or(false),
        protocol: keys.protocol.or(PoolProtocol::H1),
        proxy_protocol: keys.proxy_protocol.value(),
        tls: keys.tls.good().and_then(|at| tls::pool_tls(reader, at)),
    }
}

fn backends(
    reader: &mut Reader<'_>,
    field: Field<Vec<At<keys::BackendSection>>>,
) -> IndexMap<BackendAddress, Backend> {
    let Field::Good(At { value: all, node }) = field else { return IndexMap::new() };
    let mut firsts: HashMap<BackendAddress, NodeId> = HashMap::new();
    let mut backends = IndexMap::with_capacity(all.len());
    let mut complete = true;
    for At { value: keys, .. } in all {
        complete &= !keys.weight.is_bad();
        let place = keys.address.node();
        let (Some(place), Some((address, backend))) = (place, backend(keys)) else { continue };
        if let Some(first) = firsts.insert(address.clone(), place) {
            let message = format!("{} is in the pool already", quote(&address.to_string()));
            let fix = format!("remove one; the first is on line {}", reader.line(first));
            reader.problem(place, message, fix);
        }
        backends.insert(address, backend);
    }
    let unweighted = backends.values().all(|b| b.weight == Weight::ZERO);
    if complete && !backends.is_empty() && unweighted && !reader.surroundings.own {
        reader.problem(
            node,
            "the weights of the backends sum to 0",
            "give at least one backend a weight above 0; to stop a pool, set the pool's weight to 0",
        );
    }
    backends
}

/// `None`: the address is wrong.
pub(in crate::config) fn backend(keys: keys::BackendSection) -> Option<(BackendAddress, Backend)> {
    let defaults = Backend::default();
    let backend = Backend {
        weight: keys.weight.or(defaults.weight),
        drained: keys.drained.or(defaults.drained),
    };
    Some((keys.address.value()?, backend))
}

fn pins(
    reader: &mut Reader<'_>,
    field: Field<Vec<At<keys::Pin>>>,
    pools: Option<&IndexSet<&str>>,
) -> Vec<Pin> {
    let mut pins = Vec::new();
    for At { value: mut keys, node } in field.or(Vec::new()) {
        let unconditional = reader.keys(node).all(|key| key == "pool");
        if unconditional {
            reader.problem(
                node,
                "this pin has no condition, so the weights would never be used",
                "add one, such as `headers: { canary: true }`",
            );
        }
        let matches: Match = matching::matching(reader, node, keys.conditions());
        let Field::Good(pool) = keys.pool else { continue };
        check_reference(reader, &pool, pools, "pool");
        let from = keys.from.or(Vec::new()).into_iter().map(|at| at.value).collect();
        pins.push(Pin { matches, from, pool: pool.value });
    }
    pins
}

fn sticky(reader: &mut Reader<'_>, at: At<keys::Sticky>) -> Option<Sticky> {
    let At { value: keys, node } = at;
    let by_cookie = keys.cookie.node().is_some() || reader.is_misspelt(node, "cookie");
    let given = [
        by_cookie,
        keys.header.node().is_some() || reader.is_misspelt(node, "header"),
        keys.client_address.node().is_some() || reader.is_misspelt(node, "client_address"),
    ];
    let chosen = given.into_iter().filter(|&given| given).count();
    if chosen != 1 {
        reader.problem(
            node,
            format!("{chosen} of `cookie`, `header` and `client_address` are given"),
            "give exactly one",
        );
    }
    let issue_place = keys.issue.node();
    let issue = keys.issue.or(false);
    if let (true, false, Some(place)) = (issue, by_cookie, issue_place) {
        reader.problem(place, "`issue` needs a cookie to give", "add `cookie`, or remove `issue`");
    }
    if let (Some(place), false) = (keys.max_age.node(), issue || reader.is_misspelt(node, "issue"))
    {
        reader.problem(
            place,
            "`max_age` is of issued cookies, and none are",
            "add `issue: true`, or remove `max_age`",
        );
    }
    let key = match (keys.cookie, keys.header, keys.client_address) {
        (Field::Good(cookie), _, _) => StickyKey::Cookie(cookie.value),
        (_, Field::Good(header), _) => StickyKey::Header(header.value),
        (_, _, Field::Good(At { value: true, .. })) => StickyKey::ClientAddress,
        (_, _, Field::Good(At { node, .. })) => {
            reader.problem(node, "`false` is not supported here", "use `true`, or remove the key");
            return None;
        }
        _ => return None,
    };
    Some(Sticky { key, issue, max_age: keys.max_age.value(), salt: keys.salt.value() })
}

fn health_check(reader: &mut Reader<'_>, at: At<keys::HealthCheck>) -> Option<HealthCheck> {
    let At { value: keys, node } = at;
    let given = [
        keys.path.node().is_some() || reader.is_misspelt(node, "path"),
        keys.grpc.node().is_some() || reader.is_misspelt(node, "grpc"),
    ];
    let chosen = given.into_iter().filter(|&given| given).count();
    if chosen != 1 {
        let message = format!("{chosen} of `path` and `grpc` are given");
        reader.problem(node, message, "give exactly one");
    }
    let defaults = match (keys.path.value(), keys.grpc.value()) {
        (Some(path), _) => HealthCheck::new(&path),
        (None, Some(service)) => HealthCheck::of_grpc(service),
        (None, None) => return None,
    };
    Some(HealthCheck {
        interval: keys.interval.or(defaults.interval),
        timeout: keys.timeout.or(defaults.timeout),
        healthy_after: keys.healthy_after.or(defaults.healthy_after),
        unhealthy_after: keys.unhealthy_after.or(defaults.unhealthy_after),
        path: defaults.path,
        grpc: defaults.grpc,
    })
}

fn ejection(field: Field<keys::Ejection>) -> Ejection {
    let defaults = Ejection::default();
    field.value().map_or(defaults, |keys| Ejection {
        consecutive: keys.consecutive.or(defaults.consecutive),
        success_rate_percent: keys.success_rate.or(defaults.success_rate_percent),
        window: keys.window.or(defaults.window),
        min_requests: keys.min_requests.or(defaults.min_requests),
        duration: keys.r#for.or(defaults.duration),
        longest: keys.longest.or(defaults.longest),
        at_most_percent: keys.at_most.or(defaults.at_most_percent),
    })
}

fn timeouts(field: Field<keys::ServiceTimeouts>) -> ServiceTimeouts {
    let defaults = ServiceTimeouts::default();
    field.value().map_or(defaults, |keys| ServiceTimeouts {
        connect: keys.connect.or(defaults.connect),
        response: keys.response.or(defaults.response),
        body: keys.body.or(defaults.body),
        request: keys.request.or(defaults.request),
        upstream_idle: keys.upstream_idle.or(defaults.upstream_idle),
        ping: keys.ping.or(defaults.ping),
        tunnel_idle: keys.tunnel_idle.or(defaults.tunnel_idle),
        drain: keys.drain.or(defaults.drain),
    })
}

fn limits(field: Field<keys::ServiceLimits>) -> ServiceLimits {
    let defaults = ServiceLimits::default();
    field.value().map_or(defaults, |keys| ServiceLimits {
        body_bytes: keys.body_bytes.or(defaults.body_bytes),
        in_flight: keys.in_flight.value(),
        queue: keys.queue.or(defaults.queue),
        queue_timeout: keys.queue_timeout.or(defaults.queue_timeout),
        held: keys.held.or(defaults.held),
        backend_in_flight: keys.backend_in_flight.value(),
        backend_connections: keys.backend_connections.value(),
    })
}

fn retries(field: Field<keys::Retries>) -> Retries {
    let defaults = Retries::default();
    field.value().map_or(defaults, |keys| Retries {
        attempts: keys.attempts.or(defaults.attempts),
        budget_percent: keys.budget.or(defaults.budget_percent),
        on: keys.on.value().map_or(defaults.on, |causes| RetryOn {
            connect: causes.contains(&RetryCause::Connect),
            reset: causes.contains(&RetryCause::Reset),
        }),
        buffer: small(keys.buffer, defaults.buffer),
    })
}

fn mirror(
    reader: &mut Reader<'_>,
    keys: keys::Mirror,
    pools: Option<&IndexSet<&str>>,
) -> Option<Mirror> {
    let Field::Good(to) = keys.to else { return None };
    check_reference(reader, &to, pools, "pool");
    let defaults = Mirror::new(to.value);
    Some(Mirror {
        share_percent: keys.share.or(defaults.share_percent),
        body_bytes: small(keys.body_bytes, defaults.body_bytes),
        methods: keys.methods.or(defaults.methods),
        in_flight: keys.in_flight.or(defaults.in_flight),
        to: defaults.to,
    })
}

fn rescue(
    reader: &mut Reader<'_>,
    keys: keys::Rescue,
    pools: Option<&IndexSet<&str>>,
) -> Option<Rescue> {
    let Field::Good(to) = keys.to else { return None };
    check_reference(reader, &to, pools, "pool");
    let defaults = Rescue::new(to.value);
    Some(Rescue {
        budget_percent: keys.budget.or(defaults.budget_percent),
        on: keys.on.value().map_or(defaults.on, |causes| RescueOn {
            failure: causes.contains(&RescueCause::Failure),
            server_error: causes.contains(&RescueCause::ServerError),
        }),
        to: defaults.to,
    })
}
