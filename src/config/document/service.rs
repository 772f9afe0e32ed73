use super::{Detail, Keys, matching, rollout, text, tls};
use crate::{
    config::keys::{BalanceKind, PoolProtocolKind, ProxyVersionKind, UnhealthyPoolKind},
    spec::{
        Backend, BackendAddress, Ejection, HealthCheck, Mirror, Name, Pool, PoolProtocol, Rescue,
        Retries, Service, ServiceLimits, ServiceTimeouts, Sticky, StickyKey,
    },
};
use indexmap::IndexMap;
use serde_json::{Map, Value};
use std::time::Duration;

pub(super) fn service(service: &Service, detail: Detail) -> Value {
    let defaults = Service::new(IndexMap::new());
    let mut keys = Keys::new(detail);
    let pools = service.pools.iter().map(|(name, it)| (name.to_string(), pool(name, it, detail)));
    keys.set("pools", pools.collect::<Map<_, _>>());
    keys.other("pins", &service.pins, &defaults.pins, |pins| {
        pins.iter().map(matching::pin).collect::<Vec<_>>().into()
    });
    if let Some(it) = &service.sticky {
        keys.set("sticky", sticky(it, detail));
    }
    keys.other("balance", &service.balance, &defaults.balance, |it| BalanceKind::word(it).into());
    if let Some(it) = &service.health_check {
        keys.set("health_check", health_check(it, detail));
    }
    keys.section("ejection", ejection(&service.ejection, detail));
    keys.section("timeouts", timeouts(&service.timeouts, detail));
    keys.section("limits", limits(&service.limits, detail));
    keys.section("retries", retries(&service.retries, detail));
    if let Some(it) = &service.rescue {
        keys.set("rescue", rescue(it, detail));
    }
    if let Some(it) = &service.mirror {
        keys.set("mirror", mirror(it, detail));
    }
    keys.other("unhealthy_pool", &service.unhealthy_pool, &defaults.unhealthy_pool, |it| {
        UnhealthyPoolKind::word(it).into()
    });
    if let Some(plan) = &service.rollout {
        keys.set("rollout", rollout::plan(plan, detail));
    }
    keys.other("expose_version", &service.expose_version, &false, |it| (*it).into());
    keys.into_value()
}

fn pool(name: &Name, pool: &Pool, detail: Detail) -> Value {
    let mut keys = Keys::new(detail);
    keys.other("version", &pool.version, name, |version| text(version));
    // Also where the only pool has the default weight: weights are what people look for.
    keys.set("weight", pool.weight.get());
    let backends = pool.backends.iter().map(|(address, it)| backend(address, it, detail));
    keys.set("backends", backends.collect::<Vec<_>>());
    keys.duration("slow_start", pool.slow_start, Duration::ZERO);
    keys.other("drained", &pool.drained, &false, |drained| (*drained).into());
    keys.other("protocol", &pool.protocol, &PoolProtocol::H1, |it| {
        PoolProtocolKind::word(it).into()
    });
    if let Some(version) = &pool.proxy_protocol {
        keys.set("proxy_protocol", ProxyVersionKind::word(version));
    }
    if let Some(it) = &pool.tls {
        keys.set("tls", tls::pool_tls(it));
    }
    keys.into_value()
}

fn backend(address: &BackendAddress, backend: &Backend, detail: Detail) -> Value {
    let defaults = Backend::default();
    let address = text(&address.to_string());
    if *backend == defaults && detail == Detail::Brief {
        return address;
    }
    let mut keys = Keys::new(detail);
    keys.set("address", address);
    keys.number("weight", backend.weight.get(), defaults.weight.get());
    keys.other("drained", &backend.drained, &false, |drained| (*drained).into());
    keys.into_value()
}

fn sticky(sticky: &Sticky, detail: Detail) -> Value {
    let mut keys = Keys::new(detail);
    match &sticky.key {
        StickyKey::Cookie(name) => {
            keys.set("cookie", text(name));
            keys.other("issue", &sticky.issue, &false, |issue| (*issue).into());
        }
        StickyKey::Header(name) => keys.set("header", text(name)),
        StickyKey::ClientAddress => keys.set("client_address", true),
    }
    if let Some(max_age) = sticky.max_age {
        keys.set("max_age", super::format_duration(max_age));
    }
    if let Some(salt) = &sticky.salt {
        keys.set("salt", text(salt));
    }
    keys.into_value()
}

fn health_check(check: &HealthCheck, detail: Detail) -> Value {
    let defaults = HealthCheck::new(&check.path);
    let mut keys = Keys::new(detail);
    match &check.grpc {
        Some(service) => keys.set("grpc", text(service)),
        None => keys.set("path", text(&check.path)),
    }
    keys.duration("interval", check.interval, defaults.interval);
    keys.duration("timeout", check.timeout, defaults.timeout);
    keys.number("healthy_after", check.healthy_after, defaults.healthy_after);
    keys.number("unhealthy_after", check.unhealthy_after, defaults.unhealthy_after);
    keys.into_value()
}

fn ejection(value: &Ejection, detail: Detail) -> Keys {
    let default = Ejection::default();
    let mut keys = Keys::new(detail);
    keys.number("consecutive", value.consecutive, default.consecutive);
    keys.percent("success_rate", value.success_rate_percent, default.success_rate_percent);
    keys.duration("window", value.window, default.window);
    keys.number("min_requests", value.min_requests, default.min_requests);
    keys.duration("for", value.duration, default.duration);
    keys.duration("longest", value.longest, default.longest);
    keys.percent("at_most", value.at_most_percent, default.at_most_percent);
    keys
}

fn timeouts(value: &ServiceTimeouts, detail: Detail) -> Keys {
    let default = ServiceTimeouts::default();
    let mut keys = Keys::new(detail);
    keys.duration("connect", value.connect, default.connect);
    keys.duration("response", value.response, default.response);
    keys.duration("body", value.body, default.body);
    keys.duration("request", value.request, default.request);
    keys.duration("upstream_idle", value.upstream_idle, default.upstream_idle);
    keys.duration("ping", value.ping, default.ping);
    keys.duration("tunnel_idle", value.tunnel_idle, default.tunnel_idle);
    keys.duration("drain", value.drain, default.drain);
    keys
}

fn limits(value: &ServiceLimits, detail: Detail) -> Keys {
    let default = ServiceLimits::default();
    let mut keys = Keys::new(detail);
    keys.size("body_bytes", value.body_bytes, default.body_bytes);
    if let Some(in_flight) = value.in_flight {
        keys.set("in_flight", in_flight);
    }
    keys.number("queue", value.queue, default.queue);
    keys.duration("queue_timeout", value.queue_timeout, default.queue_timeout);
    keys.number("held", value.held, default.held);
    if let Some(in_flight) = value.backend_in_flight {
        keys.set("backend_in_flight", in_flight);
    }
    if let Some(connections) = value.backend_connections {
        keys.set("backend_connections", connections);
    }
    keys
}

fn retries(value: &Retries, detail: Detail) -> Keys {
    let default = Retries::default();
    let mut keys = Keys::new(detail);
    keys.number("attempts", value.attempts, default.attempts);
    keys.percent("budget", value.budget_percent, default.budget_percent);
    keys.other("on", &value.on, &default.on, |on| {
        let words = [("connect", on.connect), ("reset", on.reset)];
        words.into_iter().filter(|(_, on)| *on).map(|(word, _)| word).collect::<Vec<_>>().into()
    });
    keys.size("buffer", value.buffer.into(), default.buffer.into());
    keys
}

fn mirror(value: &Mirror, detail: Detail) -> Value {
    let default = Mirror::new(value.to.clone());
    let mut keys = Keys::new(detail);
    keys.set("to", text(&value.to));
    keys.percent("share", value.share_percent, default.share_percent);
    keys.other("methods", &value.methods, &default.methods, |methods| {
        methods.iter().map(|method| text(method)).collect::<Vec<_>>().into()
    });
    keys.size("body_bytes", value.body_bytes.into(), default.body_bytes.into());
    keys.number("in_flight", value.in_flight, default.in_flight);
    keys.into_value()
}

fn rescue(value: &Rescue, detail: Detail) -> Value {
    let default = Rescue::new(value.to.clone());
    let mut keys = Keys::new(detail);
    keys.set("to", text(&value.to));
    keys.percent("budget", value.budget_percent, default.budget_percent);
    keys.other("on", &value.on, &default.on, |on| {
        let words = [("failure", on.failure), ("server_error", on.server_error)];
        words.into_iter().filter(|(_, on)| *on).map(|(word, _)| word).collect::<Vec<_>>().into()
    });
    keys.into_value()
}
