use super::{BackendAddress, Match, Name, PoolTls, RolloutPlan};
use indexmap::IndexMap;
use ipnet::IpNet;
use std::time::Duration;

/// What clients ask for. Owns its pools and how traffic is shared among them.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub pools: IndexMap<Name, Pool>,
    /// First match wins.
    pub pins: Vec<Pin>,
    pub sticky: Option<Sticky>,
    pub balance: Balance,
    pub health_check: Option<HealthCheck>,
    pub ejection: Ejection,
    pub timeouts: ServiceTimeouts,
    pub limits: ServiceLimits,
    pub retries: Retries,
    /// `None`: what fails on a pool has failed.
    pub rescue: Option<Rescue>,
    /// `None`: no copies are made.
    pub mirror: Option<Mirror>,
    pub unhealthy_pool: UnhealthyPool,
    /// How it moves to a new version; `None`: as by [`RolloutPlan::default`].
    pub rollout: Option<RolloutPlan>,
    /// Replies carry `x-crossfade-version`.
    pub expose_version: bool,
}

impl Service {
    /// Pools of one service at most: what a set of pools holds, which routing copies for each request.
    pub const MAX_POOLS: usize = 64;

    pub fn new(pools: IndexMap<Name, Pool>) -> Self {
        Self {
            pools,
            pins: Vec::new(),
            sticky: None,
            balance: Balance::default(),
            health_check: None,
            ejection: Ejection::default(),
            timeouts: ServiceTimeouts::default(),
            limits: ServiceLimits::default(),
            retries: Retries::default(),
            rescue: None,
            mirror: None,
            unhealthy_pool: UnhealthyPool::default(),
            rollout: None,
            expose_version: false,
        }
    }

    /// The sum of the pools' weights; above 0 in a valid spec.
    pub fn total_weight(&self) -> u64 {
        self.pools.values().map(|pool| u64::from(pool.weight.get())).sum()
    }
}

/// Interchangeable backends that run one version of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub version: Name,
    pub weight: Weight,
    pub backends: IndexMap<BackendAddress, Backend>,
    /// How long a backend that became healthy takes to reach its full share; zero: at once.
    pub slow_start: Duration,
    /// No new requests, by an operator's wish.
    pub drained: bool,
    pub protocol: PoolProtocol,
    /// Connections begin with a PROXY header of this version.
    pub proxy_protocol: Option<ProxyVersion>,
    /// `None`: in the clear.
    pub tls: Option<PoolTls>,
}

/// What backends speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolProtocol {
    #[default]
    H1,
    /// HTTP/2, known beforehand; with TLS agreed on by ALPN.
    H2,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    V1,
    V2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Relative to the other backends of the pool; 0: none of the pool's draws land here.
    pub weight: Weight,
    /// No new requests, by an operator's wish.
    pub drained: bool,
}

impl Default for Backend {
    fn default() -> Self {
        Self { weight: Weight::ONE, drained: false }
    }
}

/// A relative share, 0 to 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

impl Weight {
    pub const ZERO: Self = Self(0);
    pub const ONE: Self = Self(1);
    pub const MAX: u32 = 1_000_000;

    /// `None` above [`Weight::MAX`].
    pub fn new(value: u64) -> Option<Self> {
        u32::try_from(value).ok().filter(|&v| v <= Self::MAX).map(Self)
    }

    pub fn get(self) -> u32 {
        self.0
    }

    /// The product, [`Weight::MAX`] at most.
    pub fn times(self, other: Self) -> Self {
        Self(self.0.saturating_mul(other.0).min(Self::MAX))
    }
}

/// A match that names a pool outright, also at weight 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Pin {
    pub matches: Match,
    /// Only for clients of these networks; empty: for anybody.
    pub from: Vec<IpNet>,
    pub pool: Name,
}

/// Keeps a user on one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    pub key: StickyKey,
    /// Give a cookie to requests without one.
    pub issue: bool,
    /// Of an issued cookie; `None`: until the browser closes.
    pub max_age: Option<Duration>,
    /// `None`: derived by the control plane, new with each release.
    pub salt: Option<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickyKey {
    Cookie(Name),
    /// Lower case.
    Header(Name),
    ClientAddress,
}

/// How a pool's backend is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    /// The less loaded of two random ones.
    #[default]
    LeastRequest,
    Random,
    /// By the sticky key, else the client's address.
    Hash,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// With the query, if any.
    pub path: Name,
    /// The service that is asked after by gRPC's own protocol of health (`path` is [`HealthCheck::GRPC`] then);
    /// `None`: the status of HTTP is the answer.
    pub grpc: Option<Name>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Good probes in a row until an unhealthy backend is healthy again.
    pub healthy_after: u32,
    /// Bad probes in a row until a healthy backend is unhealthy.
    pub unhealthy_after: u32,
}

impl HealthCheck {
    /// The call that gRPC's protocol of health is.
    pub const GRPC: &str = "/grpc.health.v1.Health/Check";

    pub fn of_grpc(service: Name) -> Self {
        Self { grpc: Some(service), ..Self::new(Self::GRPC) }
    }

    /// What is asked, for who compares.
    pub fn question(&self) -> (Name, Option<Name>) {
        (self.path.clone(), self.grpc.clone())
    }

    pub fn new(path: &str) -> Self {
        Self {
            path: path.into(),
            grpc: None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            healthy_after: 2,
            unhealthy_after: 3,
        }
    }
}

/// When a backend whose requests fail is left out, and for how long. One that cannot be connected to is left
/// out until it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row.
    pub consecutive: u32,
    /// Of the requests within the window, in percent; fewer, and it is ejected. Zero: not judged.
    pub success_rate_percent: u32,
    pub window: Duration,
    /// Requests within the window, for the rate to count.
    pub min_requests: u32,
    /// The first time; twice as long each next time.
    pub duration: Duration,
    pub longest: Duration,
    /// Of the backends of a pool, in percent, that may be left out at once.
    pub at_most_percent: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive: 5,
            success_rate_percent: 50,
            window: Duration::from_secs(10),
            min_requests: 20,
            duration: Duration::from_secs(30),
            longest: Duration::from_secs(300),
            at_most_percent: 50,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceTimeouts {
    pub connect: Duration,
    /// From the request head sent to the response head.
    pub response: Duration,
    /// Longest wait for more bytes of a response body.
    pub body: Duration,
    /// The whole request; zero: no limit.
    pub request: Duration,
    /// How long an idle upstream connection is kept.
    pub upstream_idle: Duration,
    /// How long a connection in HTTP/2 may be silent before the backend is asked whether it is there, and how long it
    /// has to say so; zero: it is not asked.
    pub ping: Duration,
    /// Longest silence of a tunnel.
    pub tunnel_idle: Duration,
    /// How long what is in flight may take when a backend leaves.
    pub drain: Duration,
}

impl Default for ServiceTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            response: Duration::from_secs(30),
            body: Duration::from_secs(60),
            request: Duration::ZERO,
            upstream_idle: Duration::from_secs(4),
            ping: Duration::from_secs(10),
            tunnel_idle: Duration::from_secs(3600),
            drain: Duration::from_secs(30),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceLimits {
    /// Of a request body.
    pub body_bytes: u64,
    /// Requests in flight, over all cores; `None`: any number.
    pub in_flight: Option<u32>,
    /// Requests that wait for a place among those.
    pub queue: u32,
    /// The longest wait.
    pub queue_timeout: Duration,
    /// Requests that wait while the service is held.
    pub held: u32,
    /// Requests in flight on each backend; `None`: any number.
    pub backend_in_flight: Option<u32>,
    /// Open connections to each backend, over all cores; `None`: any number.
    pub backend_connections: Option<u32>,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 30,
            in_flight: None,
            queue: 1000,
            queue_timeout: Duration::from_secs(1),
            held: 1000,
            backend_in_flight: None,
            backend_connections: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// All tries of a request, the first included.
    pub attempts: u32,
    /// Retries as a share of the last 10 s of requests, in percent; at least 3 a second are allowed.
    pub budget_percent: u32,
    pub on: RetryOn,
    /// Bytes of a request body that are kept so that it can be sent again.
    pub buffer: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// The connection could not be opened.
    pub connect: bool,
    /// The connection ended before a response byte; idempotent methods only.
    pub reset: bool,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 2,
            budget_percent: 20,
            on: RetryOn { connect: true, reset: true },
            buffer: 64 << 10,
        }
    }
}

/// Where a request is sent once more that failed on another pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescue {
    pub to: Name,
    /// Rescues as a share of the last 10 s of requests, in percent; at least 3 a second are allowed.
    pub budget_percent: u32,
    pub on: RescueOn,
}

impl Rescue {
    pub fn new(to: Name) -> Self {
        Self { to, budget_percent: 20, on: RescueOn::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RescueOn {
    /// No backend, or none that gave a valid answer in time.
    pub failure: bool,
    /// An answer of 500 to 599.
    pub server_error: bool,
}

impl Default for RescueOn {
    fn default() -> Self {
        Self { failure: true, server_error: true }
    }
}

/// Sends copies of requests to another pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub to: Name,
    /// Of the requests, in percent.
    pub share_percent: u32,
    /// Requests with larger bodies are not copied.
    pub body_bytes: u32,
    /// Requests of these are copied.
    pub methods: Vec<Name>,
    /// Copies in flight, over all cores.
    pub in_flight: u32,
}

impl Mirror {
    /// Copies of all requests that change nothing (RFC 9110 section 9.2.1).
    pub fn new(to: Name) -> Self {
        Self {
            to,
            share_percent: 100,
            body_bytes: 64 << 10,
            methods: ["GET", "HEAD", "OPTIONS"].map(Name::from).to_vec(),
            in_flight: 100,
        }
    }
}

/// What becomes of the share of a pool without a healthy backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnhealthyPool {
    /// The other pools get it.
    #[default]
    Redistribute,
    /// It is answered 503.
    Fail,
}
