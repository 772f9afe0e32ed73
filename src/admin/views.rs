//! What is in force and what it does, as the API shows it. Internal types are never serialised.

use super::{Admin, history, rollout::RolloutSummary};
use crate::{
    control::{Drain, NameStatus, OrderStatus, View},
    live::{InFlight, LiveBackend, LiveListener, LivePool, LiveService, Phase, PoolEntry},
    routing::{PoolTable, ServiceTable},
    spec::{Certificate, Name},
};
use jiff::Timestamp;
use serde::Serialize;
use std::{sync::Arc, time::Instant};
use utoipa::ToSchema;

/// Requests in flight, by what they are doing.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(super) struct Open {
    /// No response head yet.
    request: u64,
    /// Head sent, the body still flows.
    stream: u64,
    /// After 101 or CONNECT.
    tunnel: u64,
}

impl From<InFlight> for Open {
    fn from(in_flight: InFlight) -> Self {
        let InFlight { request, stream, tunnel } = in_flight;
        Self { request, stream, tunnel }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatusView {
    /// Of crossfade itself.
    version: &'static str,
    #[schema(inline)]
    phase: PhaseView,
    revision: u64,
    config: ConfigView,
    state: StateView,
    /// How many values in force differ from the file as last loaded; `/v1/drift` has them.
    drift: usize,
    /// Keys whose change in the file waits for a restart.
    needs_restart: Vec<String>,
    listeners: Vec<ListenerView>,
    /// Certificates that are ordered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    acme: Vec<OrderView>,
    services: Vec<ServiceView>,
    /// What stands for the addresses that DNS has for it.
    names: Vec<NameView>,
}

/// A name among the backends, such as `dns:shop.internal:80`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NameView {
    name: String,
    /// In use; all pools of the name have them.
    addresses: Vec<String>,
    /// Why the last lookup did not tell all addresses; those that were known stay. `null`: it did.
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PhaseView {
    Starting,
    Ready,
    Leaving,
    Draining,
}

impl From<Phase> for PhaseView {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Starting => Self::Starting,
            Phase::Ready => Self::Ready,
            Phase::Leaving => Self::Leaving,
            Phase::Draining | Phase::Ended => Self::Draining,
        }
    }
}

/// The configuration file.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConfigView {
    /// `null`: there is none.
    file: Option<String>,
    /// When what is loaded was read (RFC 3339).
    loaded_at: Option<String>,
    /// Why the file as it is now could not be loaded, every error a line.
    error: Option<String>,
}

/// What is kept of changes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StateView {
    /// `null`: in memory alone, until the process ends.
    directory: Option<String>,
    /// Why the last change could not be kept, and was refused; `null`: it was kept.
    error: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListenerView {
    address: String,
    connections: Connections,
    /// Those from files in the order of the configuration, then those that were ordered; none without TLS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<CertificateView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CertificateView {
    /// Of the file.
    cert: String,
    /// Whom it is for.
    names: Vec<String>,
    not_after: String,
}

/// How it stands with a certificate that is ordered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderView {
    /// Whom it is for.
    hosts: Vec<String>,
    /// `null`: there is none yet.
    not_after: Option<String>,
    /// When it is ordered next (RFC 3339).
    next: String,
    /// Why the last order failed; `null`: it did not.
    error: Option<String>,
}

/// Open client connections by protocol.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Connections {
    /// HTTP/1, and those that have not said yet.
    h1: u64,
    h2: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServiceView {
    name: String,
    revision: u64,
    pools: Vec<PoolView>,
    /// The running or last rollout; `null`: there was none.
    rollout: Option<RolloutSummary>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PoolView {
    name: String,
    version: String,
    weight: u32,
    /// The share, 0 to 1, of the service's draws that it gets as things stand.
    effective_weight: f64,
    #[schema(inline)]
    state: State,
    /// Requests in flight on all its backends, those on their way out included.
    in_flight: u64,
    in_flight_by_kind: Open,
    backends: Vec<BackendView>,
    /// Replies a second over the last 30 s, as all below.
    rate: f64,
    /// Share, 0 to 1, of replies that were 5xx; `null`: no replies.
    error_rate: Option<f64>,
    /// Seconds; `null`: no replies.
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BackendView {
    address: String,
    /// The name that it was found for in DNS; what is drained or removed is that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    weight: u32,
    /// It may get requests.
    healthy: bool,
    /// It is left out because it failed requests or connections.
    ejected: bool,
    #[schema(inline)]
    state: State,
    /// Requests in flight.
    in_flight: u64,
    in_flight_by_kind: Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Active,
    /// No new requests; some are still in flight.
    Draining,
    /// No new requests, and none in flight.
    Drained,
}

impl State {
    fn of(drained: bool, in_flight: InFlight) -> Self {
        match (drained, in_flight.total()) {
            (false, _) => Self::Active,
            (true, 0) => Self::Drained,
            (true, _) => Self::Draining,
        }
    }
}

/// A backend on its way out.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DrainView {
    id: String,
    service: String,
    pool: String,
    backend: String,
    /// RFC 3339.
    since: String,
    /// When what is still in flight will be cancelled (RFC 3339).
    deadline: String,
    in_flight: Open,
    /// Requests cancelled so far.
    cut: u64,
}

/// A service of the current snapshot with what its routing says; cloned out, so that no snapshot is held.
struct Current {
    table: ServiceTable,
    live: LiveService,
}

pub(super) fn status(admin: &Admin) -> StatusView {
    let view = admin.handle.view();
    let drift = history::drift_of(&view).len();
    status_of(admin, &view, drift)
}

/// With what differs from the file counted already.
pub(super) fn status_of(admin: &Admin, view: &View, drift: usize) -> StatusView {
    let listeners = admin.live.published.read(|snapshot| snapshot.listeners.clone());
    StatusView {
        version: env!("CARGO_PKG_VERSION"),
        phase: admin.live.lifecycle.phase().into(),
        revision: view.revision,
        config: ConfigView::of(view),
        state: StateView::of(view),
        drift,
        needs_restart: view.needs_restart.clone(),
        listeners: listeners.iter().map(ListenerView::of).collect(),
        acme: view.orders.iter().map(OrderView::of).collect(),
        services: services(admin),
        names: view.names.iter().map(NameView::of).collect(),
    }
}

pub(super) fn services(admin: &Admin) -> Vec<ServiceView> {
    let (revision, services) = admin.live.published.read(|snapshot| {
        let pairs = snapshot.table.services.iter().zip(&snapshot.services);
        let services: Vec<Current> = pairs.map(Current::of).collect();
        (snapshot.revision, services)
    });
    let view = admin.handle.view();
    services.iter().map(|service| service.view(admin, &view, revision)).collect()
}

/// `None`: there is no service of that name.
pub(super) fn service(admin: &Admin, name: &str) -> Option<ServiceView> {
    let (revision, service) = admin.live.published.read(|snapshot| {
        let mut pairs = snapshot.table.services.iter().zip(&snapshot.services);
        let found = pairs.find(|(table, _)| *table.name == *name);
        (snapshot.revision, found.map(Current::of))
    });
    service.map(|service| service.view(admin, &admin.handle.view(), revision))
}

/// The pools of every service, by the names of both.
pub(super) fn pools(admin: &Admin) -> Vec<(Name, Vec<Arc<LivePool>>)> {
    admin.live.published.read(|snapshot| {
        let pairs = snapshot.table.services.iter().zip(&snapshot.services);
        let pools = |live: &LiveService| live.pools.iter().map(|it| it.pool.clone()).collect();
        pairs.map(|(table, live)| (table.name.clone(), pools(live))).collect()
    })
}

/// The pools with weight that have no backend which may get requests, as `service/pool`.
pub(super) fn waiting_for(admin: &Admin) -> Vec<String> {
    admin.live.published.read(|snapshot| {
        let mut waiting = Vec::new();
        for (table, live) in snapshot.table.services.iter().zip(&snapshot.services) {
            for (pool, entry) in table.pools.iter().zip(&live.pools) {
                if pool.weight.get() > 0 && !pool.drained && !entry.is_available(pool) {
                    waiting.push(format!("{}/{}", table.name, pool.name));
                }
            }
        }
        waiting
    })
}

pub(super) fn drains(view: &View) -> Vec<DrainView> {
    view.drains.iter().map(DrainView::of).collect()
}

/// Configured weight and effective share of every pool.
pub(super) fn weights(admin: &Admin) -> Vec<(PoolEntry, u32, f64)> {
    admin.live.published.read(|snapshot| {
        let mut weights = Vec::new();
        for pair in snapshot.table.services.iter().zip(&snapshot.services) {
            let (table, live) = pair;
            for (index, share) in live.shares(table).into_iter().enumerate() {
                let weight = table.pools[index].weight.get();
                weights.push((live.pools[index].clone(), weight, share));
            }
        }
        weights
    })
}

impl Current {
    fn of((table, live): (&ServiceTable, &LiveService)) -> Self {
        Self { table: table.clone(), live: live.clone() }
    }

    fn view(&self, admin: &Admin, view: &View, revision: u64) -> ServiceView {
        let shares = self.live.shares(&self.table);
        let pools = self.table.pools.iter().zip(&self.live.pools).zip(shares);
        ServiceView {
            name: self.table.name.to_string(),
            revision,
            pools: pools
                .map(|((pool, live), share)| PoolView::of(admin, pool, live, share))
                .collect(),
            rollout: view.rollouts.get(&self.table.name).map(|it| RolloutSummary::of(it)),
        }
    }
}

impl PoolView {
    fn of(admin: &Admin, pool: &PoolTable, entry: &PoolEntry, share: f64) -> Self {
        let backends: Vec<BackendView> = pool
            .backends
            .iter()
            .zip(&entry.backends)
            .map(|(backend, live)| {
                let in_flight = live.in_flight();
                BackendView {
                    address: backend.address.to_string(),
                    source: backend.address.source().map(ToString::to_string),
                    weight: backend.weight.get(),
                    healthy: live.health.is_available(),
                    ejected: live.health.is_ejected(),
                    state: State::of(backend.drained || pool.drained, in_flight),
                    in_flight: in_flight.total(),
                    in_flight_by_kind: in_flight.into(),
                }
            })
            .collect();
        let in_flight = entry.pool.in_flight();
        let recent = admin.traffic.recent(&entry.pool, Instant::now());
        Self {
            name: pool.name.to_string(),
            version: pool.version.to_string(),
            weight: pool.weight.get(),
            effective_weight: share,
            state: State::of(pool.drained, in_flight),
            in_flight: in_flight.total(),
            in_flight_by_kind: in_flight.into(),
            backends,
            rate: recent.rate,
            error_rate: recent.error_rate,
            p50: recent.p50,
            p95: recent.p95,
            p99: recent.p99,
        }
    }
}

impl ConfigView {
    fn of(view: &View) -> Self {
        Self {
            file: view.file.path.as_ref().map(|path| path.display().to_string()),
            loaded_at: view.file.loaded_at.map(|at| at.to_string()),
            error: view.file.error.clone(),
        }
    }
}

impl StateView {
    fn of(view: &View) -> Self {
        Self {
            directory: view.state.directory.as_ref().map(|path| path.display().to_string()),
            error: view.state.error.clone(),
        }
    }
}

impl NameView {
    fn of(status: &NameStatus) -> Self {
        Self {
            name: status.name.to_string(),
            addresses: status.addresses.iter().map(ToString::to_string).collect(),
            error: status.error.clone(),
        }
    }
}

impl ListenerView {
    fn of(listener: &LiveListener) -> Self {
        let (h1, h2) = listener.bound.connections();
        let certificates = listener.tls.iter().flat_map(|tls| tls.certificates.all());
        Self {
            address: listener.bound.address.to_string(),
            connections: Connections { h1, h2 },
            certificates: certificates.map(CertificateView::of).collect(),
        }
    }
}

impl CertificateView {
    fn of(certificate: &Certificate) -> Self {
        let pair = &certificate.pair;
        let not_after = Timestamp::from_second(pair.not_after);
        Self {
            cert: certificate.cert.display().to_string(),
            names: pair.names.list().collect(),
            // A certificate cannot be good for longer than the years that there are.
            not_after: not_after.unwrap_or(Timestamp::MAX).to_string(),
        }
    }
}

impl OrderView {
    fn of(order: &OrderStatus) -> Self {
        Self {
            hosts: order.hosts.iter().map(ToString::to_string).collect(),
            not_after: order.not_after.map(|at| at.to_string()),
            next: order.next.to_string(),
            error: order.error.clone(),
        }
    }
}

impl DrainView {
    fn of(drain: &Drain) -> Self {
        let backend: &Arc<LiveBackend> = &drain.backend;
        Self {
            id: drain.id.to_string(),
            service: backend.pool.service.to_string(),
            pool: backend.pool.name.to_string(),
            backend: backend.address.to_string(),
            since: drain.since.to_string(),
            deadline: drain.deadline.to_string(),
            in_flight: backend.in_flight().into(),
            cut: backend.cut_count(),
        }
    }
}
