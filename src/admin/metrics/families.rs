//! The families of services and of the control plane, in the order of the page.

use super::{
    rollouts,
    text::{Family, Page, Type},
};
use crate::{
    admin::{Admin, history, ledger::open, views},
    control::{OrderStatus, Publishes, View},
    live::{
        CLASSES, CODES, Fault, HandshakeFailure, HistogramTotals, LiveListener, LivePool, METHODS,
        Mirrored, PoolTotals, Reason, Tally, Tickets,
    },
};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// A pool with its counters, read once for the whole page.
struct Counted {
    pool: Arc<LivePool>,
    totals: Box<PoolTotals>,
    /// It stands for what no pool answered.
    unrouted: bool,
}

pub(super) fn write(page: &mut Page, admin: &Admin, tickets: Option<&Tickets>) {
    let view = admin.handle.view();
    let pools = count(admin);
    requests(page, admin, &pools);
    upstream(page, &pools);
    failures(page, &pools);
    in_flight(page, &pools);
    ledger(page, &pools, tickets);
    queues(page, admin);
    weights(page, admin);
    health(page, admin);
    upstream_connections(page, admin);
    ejections(page, admin, &pools);
    drains(page, &pools, &view);
    let listeners = admin.live.published.read(|snapshot| snapshot.listeners.clone());
    connections(page, &listeners);
    handshakes(page, &listeners);
    certificates(page, &listeners, &view);
    mirrors(page, &pools);
    names(page, &view);
    orders(page, &view.orders);
    control(page, &view);
    rollouts::write(page, &view);
    access(page, admin);
    accounts(page, admin);
}

fn count(admin: &Admin) -> Vec<Counted> {
    let counted = |pool: Arc<LivePool>, unrouted| {
        let totals = pool.stats.totals();
        Counted { pool, totals, unrouted }
    };
    let pools = admin.live.pools().into_iter().map(|pool| counted(pool, false));
    pools.chain([counted(Arc::clone(&admin.live.unrouted), true)]).collect()
}

/// The labels of every family of a pool.
fn labels(pool: &LivePool) -> [(&'static str, &str); 3] {
    [("service", &pool.service), ("pool", &pool.name), ("version", &pool.version)]
}

/// Those of a pool and one more.
fn and<'a>(pool: &'a LivePool, name: &'static str, value: &'a str) -> [(&'static str, &'a str); 4] {
    let [service, name_of_pool, version] = labels(pool);
    [service, name_of_pool, version, (name, value)]
}

fn and_two<'a>(
    pool: &'a LivePool,
    first: (&'static str, &'a str),
    second: (&'static str, &'a str),
) -> [(&'static str, &'a str); 5] {
    let [service, name, version] = labels(pool);
    [service, name, version, first, second]
}

fn requests(page: &mut Page, admin: &Admin, pools: &[Counted]) {
    let name = "crossfade_requests_total";
    let mut family =
        page.family(name, Type::Counter, "Replies sent, under the pool that answered.");
    for Counted { pool, totals, .. } in pools {
        for (method, codes) in METHODS.iter().zip(&totals.requests) {
            for (code, &count) in CODES.iter().zip(codes).filter(|(_, count)| **count > 0) {
                family.sample(&and_two(pool, ("method", method), ("code", code)), count);
            }
        }
    }
    let mut family = page.family(
        "crossfade_request_duration_seconds",
        Type::Histogram,
        "From the request head read to the last byte of the reply written.",
    );
    let exemplars = &admin.live.journal.exemplars;
    for Counted { pool, totals, .. } in pools {
        for (number, (class, histogram)) in CLASSES.iter().zip(&totals.duration).enumerate() {
            if histogram.count() > 0 {
                let known = exemplars.of([&pool.service, &pool.name, &pool.version], number);
                family.histogram_with(&and(pool, "code_class", class), histogram, &known);
            }
        }
    }
}

fn upstream(page: &mut Page, pools: &[Counted]) {
    let name = "crossfade_upstream_response_duration_seconds";
    let help = "From the request head sent to the response head, connecting apart.";
    let mut family = page.family(name, Type::Histogram, help);
    for Counted { pool, totals, .. } in pools {
        some_histogram(&mut family, pool, &totals.upstream_response);
    }
    let name = "crossfade_upstream_connect_duration_seconds";
    let help = "How long connections to backends took to open.";
    let mut family = page.family(name, Type::Histogram, help);
    for Counted { pool, totals, .. } in pools {
        some_histogram(&mut family, pool, &totals.upstream_connect);
    }
}

fn some_histogram(family: &mut Family<'_>, pool: &LivePool, totals: &HistogramTotals) {
    if totals.count() > 0 {
        family.histogram(&labels(pool), totals);
    }
}

fn failures(page: &mut Page, pools: &[Counted]) {
    let name = "crossfade_failures_total";
    let help = "Failed attempts, under their pool, by who caused them and why.";
    let mut family = page.family(name, Type::Counter, help);
    for Counted { pool, totals, .. } in pools {
        for (fault, reasons) in Fault::ALL.iter().zip(&totals.failures) {
            for (reason, &count) in Reason::ALL.iter().zip(reasons).filter(|(_, n)| **n > 0) {
                let reason = ("reason", reason.as_str());
                family.sample(&and_two(pool, ("fault", fault.as_str()), reason), count);
            }
        }
    }
    let help = "Attempts after the first, under the pool that was tried before.";
    let mut family = page.family("crossfade_retries_total", Type::Counter, help);
    for Counted { pool, totals, .. } in routed(pools) {
        family.sample(&labels(pool), totals.retries);
    }
    let help = "Requests sent to the pool that rescues, under the pool where they failed.";
    let mut family = page.family("crossfade_rescued_total", Type::Counter, help);
    for Counted { pool, totals, .. } in routed(pools) {
        family.sample(&labels(pool), totals.rescued);
    }
    let help = "Requests that a pin to the pool was denied to, because of their client's network.";
    let mut family = page.family("crossfade_pins_denied_total", Type::Counter, help);
    for Counted { pool, totals, .. } in routed(pools) {
        family.sample(&labels(pool), totals.pins_denied);
    }
}

fn in_flight(page: &mut Page, pools: &[Counted]) {
    let help =
        "Requests in flight: request, no response head yet; stream, the body still flows; tunnel.";
    let mut family = page.family("crossfade_in_flight", Type::Gauge, help);
    for Counted { pool, .. } in routed(pools) {
        let open = pool.in_flight();
        for (kind, count) in
            [("request", open.request), ("stream", open.stream), ("tunnel", open.tunnel)]
        {
            family.sample(&and(pool, "kind", kind), count);
        }
    }
}

/// started = finished + cut + open whenever all is quiet, each counted in another place.
fn ledger(page: &mut Page, pools: &[Counted], tickets: Option<&Tickets>) {
    let mut counter = |name, help, count: fn(Tally) -> u64| {
        let mut family = page.family(name, Type::Counter, help);
        for Counted { pool, .. } in routed(pools) {
            family.sample(&labels(pool), count(pool.tally()));
        }
    };
    let help = "Requests given to a backend, each attempt by itself.";
    counter("crossfade_tickets_started_total", help, |tally| tally.started);
    let help = "Of those, the ones that have ended by themselves.";
    counter("crossfade_tickets_finished_total", help, |tally| tally.finished);
    let help = "Of those, the ones cancelled at the deadline of a drain.";
    counter("crossfade_tickets_cut_total", help, |tally| tally.cut);
    let Some(tickets) = tickets else { return };
    let help = "Of those, the ones that are in flight, by walking the tickets of every core.";
    let mut family = page.family("crossfade_tickets_open", Type::Gauge, help);
    for Counted { pool, .. } in routed(pools) {
        family.sample(&labels(pool), open(tickets, pool));
    }
}

fn queues(page: &mut Page, admin: &Admin) {
    let services = admin.live.published.read(|snapshot| snapshot.services.clone());
    let help = "Requests that wait for a place among those in flight.";
    let mut family = page.family("crossfade_queued", Type::Gauge, help);
    for service in &services {
        family.sample(&[("service", &service.name)], service.gate.waiting());
    }
    let help = "Requests that wait because the service is held.";
    let mut family = page.family("crossfade_held", Type::Gauge, help);
    for service in &services {
        let waiting = service.hold.as_ref().map_or(0, |hold| hold.waiting());
        family.sample(&[("service", &service.name)], waiting);
    }
}

fn weights(page: &mut Page, admin: &Admin) {
    let help = "The configured weight, and the effective share (0 to 1) as things stand.";
    let mut family = page.family("crossfade_weight", Type::Gauge, help);
    for (entry, weight, share) in views::weights(admin) {
        family.sample(&and(&entry.pool, "kind", "configured"), weight);
        family.sample(&and(&entry.pool, "kind", "effective"), share);
    }
}

fn health(page: &mut Page, admin: &Admin) {
    let help = "1 when the backend may get requests, else 0.";
    let mut family = page.family("crossfade_backend_healthy", Type::Gauge, help);
    for (entry, ..) in views::weights(admin) {
        for backend in &entry.backends {
            let address = backend.address.to_string();
            let healthy = u8::from(backend.health.is_available());
            family.sample(&and(&entry.pool, "backend", &address), healthy);
        }
    }
}

fn upstream_connections(page: &mut Page, admin: &Admin) {
    let help = "Open connections to the backend, idle ones too.";
    let mut family = page.family("crossfade_backend_connections", Type::Gauge, help);
    for (entry, ..) in views::weights(admin) {
        for backend in &entry.backends {
            let address = backend.address.to_string();
            family.sample(&and(&entry.pool, "backend", &address), backend.connections());
        }
    }
}

fn ejections(page: &mut Page, admin: &Admin, pools: &[Counted]) {
    let help = "1 while the backend is left out because it fails requests or connections, else 0.";
    let mut family = page.family("crossfade_backend_ejected", Type::Gauge, help);
    for (entry, ..) in views::weights(admin) {
        for backend in &entry.backends {
            let address = backend.address.to_string();
            let ejected = u8::from(backend.health.is_ejected());
            family.sample(&and(&entry.pool, "backend", &address), ejected);
        }
    }
    let help = "How often a backend was left out because it failed requests or connections.";
    let mut family = page.family("crossfade_ejections_total", Type::Counter, help);
    for Counted { pool, .. } in routed(pools) {
        family.sample(&labels(pool), pool.ejections());
    }
}

fn drains(page: &mut Page, pools: &[Counted], view: &View) {
    let help = "Backends on their way out.";
    let mut family = page.family("crossfade_drains_active", Type::Gauge, help);
    for Counted { pool, .. } in routed(pools) {
        let active = view.drains.iter().filter(|drain| Arc::ptr_eq(&drain.backend.pool, pool));
        family.sample(&labels(pool), active.count());
    }
    let help = "Requests cancelled at the deadline of a drain.";
    let mut family = page.family("crossfade_drain_cut_total", Type::Counter, help);
    for Counted { pool, .. } in routed(pools) {
        family.sample(&labels(pool), pool.tally().cut);
    }
}

fn connections(page: &mut Page, listeners: &[LiveListener]) {
    let help = "Open client connections; h1 has those that have not said their protocol yet.";
    let mut family = page.family("crossfade_open_connections", Type::Gauge, help);
    for listener in listeners {
        let address = listener.bound.address.to_string();
        let (h1, h2) = listener.bound.connections();
        for (protocol, count) in [("h1", h1), ("h2", h2)] {
            family.sample(&[("listener", &address), ("protocol", protocol)], count);
        }
    }
    let help = "Client connections that the listener takes at a time.";
    let mut family = page.family("crossfade_connections_limit", Type::Gauge, help);
    for listener in listeners {
        let address = listener.bound.address.to_string();
        family.sample(&[("listener", &address)], listener.spec.limits.connections);
    }
}

fn handshakes(page: &mut Page, listeners: &[LiveListener]) {
    let secure = || listeners.iter().filter(|listener| listener.tls.is_some());
    let help = "TLS handshakes with clients, by whether a session was resumed.";
    let mut family = page.family("crossfade_tls_handshakes_total", Type::Counter, help);
    for listener in secure() {
        let address = listener.bound.address.to_string();
        let (whole, resumed) = listener.bound.handshakes();
        for (label, count) in [("false", whole), ("true", resumed)] {
            family.sample(&[("listener", &address), ("resumed", label)], count);
        }
    }
    let help = "TLS handshakes with clients that failed, by why.";
    let mut family = page.family("crossfade_tls_handshake_failures_total", Type::Counter, help);
    for listener in secure() {
        let address = listener.bound.address.to_string();
        for (why, count) in HandshakeFailure::ALL.iter().zip(listener.bound.failed_handshakes()) {
            family.sample(&[("listener", &address), ("reason", why.as_str())], count);
        }
    }
}

fn certificates(page: &mut Page, listeners: &[LiveListener], view: &View) {
    let name = "crossfade_certificate_expiry_timestamp_seconds";
    let help = "When a listener's certificate for this name (the first that it has) expires, in seconds \
                since 1970; the soonest where several are for it.";
    let mut family = page.family(name, Type::Gauge, help);
    let of_listeners = listeners.iter().filter_map(|listener| {
        let tls = listener.tls.as_ref()?;
        Some((listener.bound.address.to_string(), tls.certificates.all()))
    });
    let admin = &view.spec.admin;
    let of_admin = admin.tls.iter().map(|tls| (admin.address.to_string(), &*tls.certificates));
    for (address, certificates) in of_listeners.chain(of_admin) {
        let mut soonest = BTreeMap::new();
        for certificate in certificates {
            let pair = &certificate.pair;
            let expiry = soonest
                .entry(pair.names.list().next().unwrap_or_default())
                .or_insert(pair.not_after);
            *expiry = pair.not_after.min(*expiry);
        }
        for (name, expiry) in &soonest {
            family.sample(&[("listener", &address), ("name", name)], expiry);
        }
    }
}

fn accounts(page: &mut Page, admin: &Admin) {
    let journal = &admin.live.journal;
    let (lines, spans) = journal.dropped();
    let mut counter = |name, help, count| page.family(name, Type::Counter, help).sample(&[], count);
    let help = "Lines written to the access log.";
    counter("crossfade_access_log_written_total", help, journal.sinks.log.written.load(Relaxed));
    let help = "Lines of the access log for which there was no room, or that could not be written.";
    counter("crossfade_access_log_dropped_total", help, lines);
    let help = "Spans that the collector has taken.";
    counter("crossfade_spans_sent_total", help, journal.sinks.spans.written.load(Relaxed));
    let help = "Requests whose spans had no room, or could not be sent.";
    counter("crossfade_spans_dropped_total", help, spans);
}

fn access(page: &mut Page, admin: &Admin) {
    let name = "crossfade_admin_refusals_total";
    let help =
        "Requests to the admin API, and files, that were refused, by the problem's last part.";
    let mut family = page.family(name, Type::Counter, help);
    for (reason, count) in admin.audit.refusals() {
        family.sample(&[("reason", &reason)], count);
    }
    let help = "Open connections to the admin API.";
    page.family("crossfade_admin_connections", Type::Gauge, help)
        .sample(&[], u64::from(admin.places.taken()));
    let name = "crossfade_admin_connections_refused_total";
    let help = "Connections to the admin API that were closed at once, because their client had its share.";
    page.family(name, Type::Counter, help).sample(&[], admin.places.refused());
    let name = "crossfade_audit_lost_total";
    let help = "Entries of the audit log that could not be written to its file.";
    page.family(name, Type::Counter, help).sample(&[], admin.audit.lost());
}

fn mirrors(page: &mut Page, pools: &[Counted]) {
    let gets_some = |pool: &LivePool| {
        let results = Mirrored::ALL.iter().any(|result| pool.mirrors.count(*result) > 0);
        results || pool.mirrors.in_flight() > 0
    };
    let pools: Vec<_> = routed(pools).map(|it| &it.pool).filter(|pool| gets_some(pool)).collect();
    let help = "Copies of requests for the pool, by what became of them; none of them is in other families.";
    let mut family = page.family("crossfade_mirrored_total", Type::Counter, help);
    for pool in &pools {
        for result in Mirrored::ALL {
            family.sample(&and(pool, "result", result.as_str()), pool.mirrors.count(result));
        }
    }
    let help = "Copies of requests that are in flight.";
    let mut family = page.family("crossfade_mirrored_in_flight", Type::Gauge, help);
    for pool in &pools {
        family.sample(&labels(pool), pool.mirrors.in_flight());
    }
}

fn names(page: &mut Page, view: &View) {
    let help = "Lookups of the names that stand for backends, by what they came to.";
    let mut family = page.family("crossfade_dns_lookups_total", Type::Counter, help);
    for status in &view.names {
        let (name, lookups) = (status.name.to_string(), status.lookups);
        let results =
            [("found", lookups.found), ("empty", lookups.empty), ("failed", lookups.failed)];
        for (result, count) in results {
            family.sample(&[("name", &name), ("result", result)], count);
        }
    }
    let help = "Addresses that a name stands for.";
    let mut family = page.family("crossfade_dns_addresses", Type::Gauge, help);
    for status in &view.names {
        family.sample(&[("name", &status.name.to_string())], status.addresses.len());
    }
}

/// Of certificates that are ordered; nothing where none are.
fn orders(page: &mut Page, orders: &[OrderStatus]) {
    if orders.is_empty() {
        return;
    }
    let name = |order: &OrderStatus| order.hosts.first().cloned().unwrap_or_default();
    let help = "Orders of certificates (ACME) for this name (the first that it is for), by what came of them.";
    let mut family = page.family("crossfade_acme_orders_total", Type::Counter, help);
    for order in orders {
        let name = name(order);
        for (outcome, count) in [("issued", order.issued), ("failed", order.failed)] {
            family.sample(&[("name", &name), ("outcome", outcome)], count);
        }
    }
    let help = "1 when the last order of the certificate for this name failed, else 0.";
    let mut family = page.family("crossfade_acme_failing", Type::Gauge, help);
    for order in orders {
        family.sample(&[("name", &name(order))], u8::from(order.error.is_some()));
    }
    let help = "When the certificate for this name is ordered next, in seconds since 1970.";
    let mut family = page.family("crossfade_acme_next_order_timestamp_seconds", Type::Gauge, help);
    for order in orders {
        family.sample(&[("name", &name(order))], order.next.as_second());
    }
}

fn control(page: &mut Page, view: &View) {
    let help = "The number of the spec that is in force.";
    page.family("crossfade_revision", Type::Gauge, help).sample(&[], view.revision);
    let help = "Specs published, by what asked for them.";
    let mut family = page.family("crossfade_publishes_total", Type::Counter, help);
    let Publishes { file, api, rollout } = view.publishes;
    for (source, count) in [("file", file), ("api", api), ("rollout", rollout)] {
        family.sample(&[("source", source)], count);
    }
    let help = "0 when the last change could not be kept, and was refused, else 1.";
    page.family("crossfade_state_last_write_successful", Type::Gauge, help)
        .sample(&[], u8::from(view.state.error.is_none()));
    let help = "Changes that could not be kept, and were refused.";
    page.family("crossfade_state_write_failures_total", Type::Counter, help)
        .sample(&[], view.state.failures);
    let help = "0 when the configuration file as it is now could not be loaded, else 1.";
    page.family("crossfade_config_last_reload_successful", Type::Gauge, help)
        .sample(&[], u8::from(view.file.error.is_none()));
    let help = "When the configuration file was last loaded, in seconds since 1970.";
    let mut family =
        page.family("crossfade_config_last_reload_success_timestamp_seconds", Type::Gauge, help);
    if let Some(at) = view.file.loaded_at {
        family.sample(&[], at.as_millisecond() as f64 / 1000.0);
    }
    let help = "Values in force that differ from the file as last loaded.";
    page.family("crossfade_drift", Type::Gauge, help).sample(&[], history::drift_of(view).len());
}

fn routed(pools: &[Counted]) -> impl Iterator<Item = &Counted> {
    pools.iter().filter(|counted| !counted.unrouted)
}
