//! From the sections of the file to the spec, with the checks that need more than one value.

mod acme;
mod admin;
mod gates;
mod matching;
mod observing;
mod rollout;
mod route;
mod service;
mod tls;

use super::{
    keys::{self, File},
    problem::quote,
    reader::{At, Field, Kind, Reader},
    scalar::format_duration,
    suggest,
    tree::{NodeId, Tree},
};
use crate::spec::{
    Limits, Listener, ListenerLimits, ListenerTimeouts, Match, Name, Protocols, ProxyProtocol,
    Reload, Resolver, Route, Shutdown, Spec, State,
};
use indexmap::{IndexMap, IndexSet};
use std::{collections::HashMap, net::SocketAddr, num::NonZeroUsize};

pub(super) use acme::DIRECTORY;
pub(super) use rollout::{Around, plan};
pub(super) use service::{backend, pool};

/// `None` only if something was reported; something may be reported all the same.
pub(super) fn spec(reader: &mut Reader<'_>) -> Option<Spec> {
    let file = File::read(reader, Tree::ROOT)?;
    let listeners = listeners(reader, file.listeners);
    let acme = acme::acme(reader, file.acme, &listeners);
    let admin = admin::admin(reader, file.admin.good(), &listeners);
    let service_names: Option<IndexSet<&str>> =
        file.services.node().map(|node| reader.keys(node).collect());
    let services: IndexMap<Name, _> = file
        .services
        .or(Vec::new())
        .into_iter()
        .filter_map(|named| Some((named.name.clone(), service::service(reader, named, &admin)?)))
        .collect();
    let routes = routes(reader, file.routes, service_names.as_ref());
    let shutdown = file.shutdown.value();
    let defaults = Spec::default();
    Some(Spec {
        threads: file.threads.value().and_then(|n| NonZeroUsize::new(n as usize)),
        engine: file.engine.value().unwrap_or_default(),
        shutdown: shutdown.map_or(defaults.shutdown, |keys| Shutdown {
            delay: keys.delay.or(defaults.shutdown.delay),
            drain: keys.drain.or(defaults.shutdown.drain),
        }),
        startup_wait: file
            .startup
            .value()
            .and_then(|keys| keys.wait.value())
            .unwrap_or(defaults.startup_wait),
        resolver: resolver(reader, file.resolver),
        limits: Limits { in_flight: file.limits.value().and_then(|keys| keys.in_flight.value()) },
        reload: Reload {
            max_stranded_percent: file.reload.value().and_then(|keys| keys.max_stranded.value()),
        },
        listeners: listeners.into_iter().map(|at| at.value).collect(),
        acme,
        admin,
        state: state(reader, file.state),
        metrics_linger: file
            .metrics
            .value()
            .and_then(|keys| keys.linger.value())
            .unwrap_or(defaults.metrics_linger),
        access_log: observing::access_log(reader, file.access_log),
        tracing: observing::tracing(file.tracing),
        services,
        routes,
    })
}

fn resolver(reader: &mut Reader<'_>, field: Field<keys::Resolver>) -> Resolver {
    let defaults = Resolver::default();
    let Some(keys) = field.value() else { return defaults };
    let place = keys.max_ttl.node().or(keys.min_ttl.node());
    let resolver = Resolver {
        nameservers: keys.nameservers.or(defaults.nameservers),
        families: keys.families.or(defaults.families),
        timeout: keys.timeout.or(defaults.timeout),
        attempts: keys.attempts.or(defaults.attempts),
        min_ttl: keys.min_ttl.or(defaults.min_ttl),
        max_ttl: keys.max_ttl.or(defaults.max_ttl),
        hold: keys.hold.or(defaults.hold),
        max_addresses: keys.max_addresses.or(defaults.max_addresses),
    };
    if let Some(place) = place.filter(|_| resolver.min_ttl > resolver.max_ttl) {
        let (least, most) = (format_duration(resolver.min_ttl), format_duration(resolver.max_ttl));
        let message = format!("`min_ttl` is {least}, which is more than `max_ttl`, {most}");
        reader.problem(place, message, "make `max_ttl` as long at least");
    }
    resolver
}

fn state(reader: &Reader<'_>, field: Field<keys::State>) -> State {
    let defaults = State::default();
    let Some(keys) = field.value() else { return defaults };
    State {
        directory: keys.directory.value().map(|path| reader.directory.join(path)),
        revisions: keys.revisions.or(defaults.revisions),
    }
}

fn listeners(reader: &mut Reader<'_>, field: Field<Vec<At<keys::Listener>>>) -> Vec<At<Listener>> {
    let mut firsts: HashMap<SocketAddr, NodeId> = HashMap::new();
    let mut all = Vec::new();
    for At { value, node } in field.or(Vec::new()) {
        let Field::Good(address) = value.address else { continue };
        // The system gives each a port of its own.
        let is_any = address.value.port() == 0;
        if !is_any && let Some(first) = firsts.insert(address.value, address.node) {
            let message = format!("`{}` is the address of two listeners", address.value);
            let fix = format!("remove one; the first is on line {}", reader.line(first));
            reader.problem(address.node, message, fix);
        }
        let mut listener = Listener::new(address.value);
        if let Some(protocols) = value.protocols.value() {
            listener.protocols = Protocols {
                h1: protocols.contains(&keys::Protocol::H1),
                h2: protocols.contains(&keys::Protocol::H2),
            };
        }
        listener.timeouts = listener_timeouts(value.timeouts);
        listener.limits = listener_limits(value.limits);
        let trusts_nobody = match &value.trusted_proxies {
            Field::Absent => !reader.is_misspelt(node, "trusted_proxies"),
            Field::Bad(_) => false,
            Field::Good(networks) => networks.value.is_empty(),
        };
        listener.trusted_proxies =
            value.trusted_proxies.or(Vec::new()).into_iter().map(|at| at.value).collect();
        if let Field::Good(protocol) = value.proxy_protocol {
            if protocol.value != ProxyProtocol::Off && trusts_nobody {
                reader.problem(
                    protocol.node,
                    "nobody may send a PROXY header: `trusted_proxies` is empty",
                    "list those who do, such as `trusted_proxies: [10.0.0.0/8]`",
                );
            }
            listener.proxy_protocol = protocol.value;
        }
        listener.forwarded = value.forwarded.or(false);
        listener.via = value.via.or(false);
        listener.starts_traces = value.traceparent.value() == Some(keys::Traceparent::Start);
        let speaks_tls = value.tls.node().is_some();
        listener.tls = value.tls.good().and_then(|at| tls::listener_tls(reader, at));
        if let Field::Good(At { value: true, node }) = value.redirect_https {
            if speaks_tls {
                reader.problem(
                    node,
                    "this listener speaks HTTPS itself, and would send clients round in circles",
                    "remove it here; it belongs to the listener in the clear",
                );
            }
            listener.redirect_https = true;
        }
        all.push(At { value: listener, node });
    }
    all
}

fn listener_timeouts(field: Field<keys::ListenerTimeouts>) -> ListenerTimeouts {
    let defaults = ListenerTimeouts::default();
    field.value().map_or(defaults, |keys| ListenerTimeouts {
        headers: keys.headers.or(defaults.headers),
        body: keys.body.or(defaults.body),
        keep_alive: keys.keep_alive.or(defaults.keep_alive),
        handshake: keys.handshake.or(defaults.handshake),
    })
}

fn listener_limits(field: Field<keys::ListenerLimits>) -> ListenerLimits {
    let defaults = ListenerLimits::default();
    let Some(keys) = field.value() else { return defaults };
    ListenerLimits {
        header_bytes: small(keys.header_bytes, defaults.header_bytes),
        header_count: keys.header_count.or(defaults.header_count),
        connections: keys.connections.or(defaults.connections),
        http2_streams: keys.http2_streams.or(defaults.http2_streams),
        http2_resets: keys.http2_resets.or(defaults.http2_resets),
        http2_heads: small(keys.http2_heads, defaults.http2_heads),
    }
}

/// A size whose kind keeps it within `u32`.
fn small(field: Field<u64>, default: u32) -> u32 {
    field.value().and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(default)
}

fn routes(
    reader: &mut Reader<'_>,
    field: Field<Vec<At<keys::Route>>>,
    services: Option<&IndexSet<&str>>,
) -> Vec<Route> {
    if field.node().is_none() {
        return services.map_or(Vec::new(), |services| no_routes(reader, services));
    }
    let mut names: HashMap<Name, NodeId> = HashMap::new();
    let mut all = Vec::new();
    // The position in the file, which is that among the good ones unless there are errors anyway.
    for (index, At { mut value, node: place }) in field.or(Vec::new()).into_iter().enumerate() {
        let name_place = value.name.node().unwrap_or(place);
        let name = std::mem::take(&mut value.name).or(format!("route-{}", index + 1).into());
        if let Some(first) = names.insert(name.clone(), name_place) {
            let message = format!("{} is the name of two routes", quote(&name));
            let fix = format!("give another name; the first is on line {}", reader.line(first));
            reader.problem(name_place, message, fix);
        }
        all.extend(route::route(reader, name, At { value, node: place }, services));
    }
    all
}

/// Without `routes`, everything goes to the only service.
fn no_routes(reader: &mut Reader<'_>, services: &IndexSet<&str>) -> Vec<Route> {
    if services.len() > 1 && reader.is_misspelt(Tree::ROOT, "routes") {
        return Vec::new();
    }
    if services.len() > 1 {
        reader.key_problem(
            reader.place(Tree::ROOT),
            Tree::ROOT,
            "routes",
            "the key `routes` is missing, and there is more than one service",
            "say which requests each service is for, such as \
             `routes: [{ match: { hosts: [shop.example.com] }, service: shop }]`",
        );
        return Vec::new();
    }
    let everything =
        |service: &&str| Route::new("route-1".into(), Match::default(), (*service).into());
    services.iter().map(everything).collect()
}

/// Reports a name that is not among `known`; `None`: nothing is known, which was reported.
fn check_reference(
    reader: &mut Reader<'_>,
    name: &At<Name>,
    known: Option<&IndexSet<&str>>,
    what: &str,
) {
    /// Beyond these a search for the nearest name costs too much, were each reference wrong.
    const MANY: usize = 200;
    let Some(known) = known else { return };
    if known.contains(&*name.value) {
        return;
    }
    let words = || known.iter().copied();
    let near = (known.len() <= MANY).then(|| suggest::nearest(&name.value, words())).flatten();
    let fix = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.len() <= 20 => format!("use one of {}", suggest::list(words())),
        None => format!("use one of the {} that there are", known.len()),
    };
    reader.problem(name.node, format!("there is no {what} {}", quote(&name.value)), fix);
}
