//! A spec in the keys of the file: what [`parse`](super::parse) reads as the same spec.

mod acme;
mod admin;
mod matching;
mod observing;
mod rollout;
mod route;
mod service;
mod tls;

use super::{
    keys::{FamiliesKind, ProxyProtocolKind},
    scalar::{format_duration, format_size},
    variables::escape,
};
use crate::spec::{
    Engine, Listener, ListenerLimits, ListenerTimeouts, Resolver, RolloutPlan, Spec,
};
use serde_json::{Map, Value};
use std::time::Duration;

/// The spec in the file's keys, without what is as by default.
pub fn document(spec: &Spec) -> Value {
    write(spec, Detail::Brief)
}

/// The plan of a rollout in the file's keys, with every default.
pub fn rollout_document(plan: &RolloutPlan) -> Value {
    rollout::plan(plan, Detail::Full)
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Brief,
    /// With every default.
    Full,
}

pub(super) fn write(spec: &Spec, detail: Detail) -> Value {
    let mut keys = Keys::new(detail);
    if let Some(threads) = spec.threads {
        keys.set("threads", threads.get());
    }
    keys.other("engine", &spec.engine, &Engine::default(), |engine| match engine {
        Engine::Native => "native".into(),
        Engine::Hyper => "hyper".into(),
    });
    let defaults = Spec::default();
    let mut shutdown = Keys::new(detail);
    shutdown.duration("delay", spec.shutdown.delay, defaults.shutdown.delay);
    shutdown.duration("drain", spec.shutdown.drain, defaults.shutdown.drain);
    keys.section("shutdown", shutdown);
    let mut startup = Keys::new(detail);
    startup.duration("wait", spec.startup_wait, defaults.startup_wait);
    keys.section("startup", startup);
    keys.section("resolver", resolver(&spec.resolver, detail));
    if let Some(percent) = spec.reload.max_stranded_percent {
        let mut reload = Keys::new(detail);
        reload.set("max_stranded", format!("{percent}%"));
        keys.section("reload", reload);
    }
    if let Some(in_flight) = spec.limits.in_flight {
        let mut limits = Keys::new(detail);
        limits.set("in_flight", in_flight);
        keys.section("limits", limits);
    }
    keys.set("listeners", spec.listeners.iter().map(|l| listener(l, detail)).collect::<Vec<_>>());
    if let Some(acme) = &spec.acme {
        keys.set("acme", acme::acme(acme, detail));
    }
    keys.section("admin", admin::admin(&spec.admin, detail));
    let mut state = Keys::new(detail);
    if let Some(directory) = &spec.state.directory {
        state.set("directory", tls::path(directory));
    }
    state.number("revisions", spec.state.revisions, defaults.state.revisions);
    keys.section("state", state);
    let mut metrics = Keys::new(detail);
    metrics.duration("linger", spec.metrics_linger, defaults.metrics_linger);
    keys.section("metrics", metrics);
    if let Some(log) = &spec.access_log {
        keys.set("access_log", observing::access_log(log, detail));
    }
    if let Some(tracing) = &spec.tracing {
        keys.set("tracing", observing::tracing(tracing, detail));
    }
    let services =
        spec.services.iter().map(|(name, it)| (name.to_string(), service::service(it, detail)));
    keys.set("services", services.collect::<Map<_, _>>());
    let routes = spec.routes.iter().map(|it| route::route(it, detail));
    keys.set("routes", routes.collect::<Vec<_>>());
    keys.into_value()
}

fn resolver(value: &Resolver, detail: Detail) -> Keys {
    let default = Resolver::default();
    let mut keys = Keys::new(detail);
    keys.other("nameservers", &value.nameservers, &default.nameservers, |servers| {
        servers.iter().map(ToString::to_string).collect::<Vec<_>>().into()
    });
    keys.other("families", &value.families, &default.families, |it| FamiliesKind::word(it).into());
    keys.duration("timeout", value.timeout, default.timeout);
    keys.number("attempts", value.attempts, default.attempts);
    keys.duration("min_ttl", value.min_ttl, default.min_ttl);
    keys.duration("max_ttl", value.max_ttl, default.max_ttl);
    keys.duration("hold", value.hold, default.hold);
    keys.number("max_addresses", value.max_addresses, default.max_addresses);
    keys
}

fn listener(listener: &Listener, detail: Detail) -> Value {
    let defaults = Listener::new(listener.address);
    let mut keys = Keys::new(detail);
    keys.set("address", listener.address.to_string());
    keys.other("protocols", &listener.protocols, &defaults.protocols, |protocols| {
        let words = [("h1", protocols.h1), ("h2", protocols.h2)];
        words.into_iter().filter(|(_, on)| *on).map(|(word, _)| word).collect::<Vec<_>>().into()
    });

    let (value, default) = (&listener.timeouts, ListenerTimeouts::default());
    let mut timeouts = Keys::new(detail);
    timeouts.duration("headers", value.headers, default.headers);
    timeouts.duration("body", value.body, default.body);
    timeouts.duration("keep_alive", value.keep_alive, default.keep_alive);
    timeouts.duration("handshake", value.handshake, default.handshake);
    keys.section("timeouts", timeouts);

    let (value, default) = (&listener.limits, ListenerLimits::default());
    let mut limits = Keys::new(detail);
    limits.size("header_bytes", value.header_bytes.into(), default.header_bytes.into());
    limits.number("header_count", value.header_count, default.header_count);
    limits.number("connections", value.connections, default.connections);
    limits.number("http2_streams", value.http2_streams, default.http2_streams);
    limits.number("http2_resets", value.http2_resets, default.http2_resets);
    limits.size("http2_heads", value.http2_heads.into(), default.http2_heads.into());
    keys.section("limits", limits);

    keys.other("trusted_proxies", &listener.trusted_proxies, &Vec::new(), |networks| {
        networks.iter().map(ToString::to_string).collect::<Vec<_>>().into()
    });
    keys.other("proxy_protocol", &listener.proxy_protocol, &defaults.proxy_protocol, |it| {
        ProxyProtocolKind::word(it).into()
    });
    keys.other("forwarded", &listener.forwarded, &defaults.forwarded, |it| (*it).into());
    keys.other("traceparent", &listener.starts_traces, &defaults.starts_traces, |starts| {
        if *starts { "start" } else { "pass" }.into()
    });
    keys.other("via", &listener.via, &defaults.via, |it| (*it).into());
    if let Some(tls) = &listener.tls {
        keys.set("tls", tls::listener_tls(tls, detail));
    }
    keys.other("redirect_https", &listener.redirect_https, &false, |it| (*it).into());
    keys.into_value()
}

/// A text in which nothing is a variable.
fn text(text: &str) -> Value {
    escape(text).into()
}

/// A mapping that is being written.
struct Keys {
    detail: Detail,
    map: Map<String, Value>,
}

impl Keys {
    fn new(detail: Detail) -> Self {
        Self { detail, map: Map::new() }
    }

    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.map.insert(key.to_owned(), value.into());
    }

    /// Sets `key` if `value` is not the default or all is wanted.
    fn other<T: PartialEq + ?Sized>(
        &mut self,
        key: &str,
        value: &T,
        default: &T,
        show: fn(&T) -> Value,
    ) {
        if self.detail == Detail::Full || value != default {
            self.set(key, show(value));
        }
    }

    fn duration(&mut self, key: &str, value: Duration, default: Duration) {
        self.other(key, &value, &default, |value| format_duration(*value).into());
    }

    fn size(&mut self, key: &str, value: u64, default: u64) {
        self.other(key, &value, &default, |value| format_size(*value).into());
    }

    fn number(&mut self, key: &str, value: u32, default: u32) {
        self.other(key, &value, &default, |value| (*value).into());
    }

    fn percent(&mut self, key: &str, value: u32, default: u32) {
        self.other(key, &value, &default, |value| format!("{value}%").into());
    }

    /// Sets `key` if there is anything in the section.
    fn section(&mut self, key: &str, section: Self) {
        if !section.map.is_empty() {
            self.set(key, section.map);
        }
    }

    fn into_value(self) -> Value {
        self.map.into()
    }
}
