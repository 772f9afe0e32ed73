//! The valid desired state. A [`Spec`] is only made by `config` (from a file or an API document) and
//! changed by `control`; whoever holds one may rely on every reference in it being good.
//!
//! Plain data: no clock, no dice, no I/O.

mod access;
mod acme;
mod address;
mod buckets;
mod certificate;
mod discovery;
mod matching;
mod observing;
mod redirect;
mod rollout;
mod route;
mod service;
mod tls;

pub use access::{
    AdminLimits, AuditFile, ClientRole, LONGEST_TOKEN, Role, SHORTEST_TOKEN, Secret, SecretError,
    Token, UnixRole, UnixWho,
};
pub use acme::{Acme, AcmeChallenge};
pub use address::{AddressError, AdminAddress, BackendAddress, LONGEST_SOCKET_PATH};
pub use buckets::{EXPORT_EDGES_SECONDS, FINE_BUCKETS, export_bucket, fine_bucket, fine_edges_ns};
pub use certificate::{
    Authority, Certificate, CertificateError, CertificateNames, KeyPair, crypto_provider,
};
pub use discovery::{DnsName, Families, Found, Resolver};
pub use matching::{FieldMatch, HostPattern, Match, PathMatch, Pattern, ValueMatch};
pub use observing::{
    AccessLog, LogField, LogFormat, LogTarget, PlainField, Tracing, may_be_secret,
};
pub use redirect::{Redirect, RedirectCode, RedirectUrl};
pub use rollout::{
    FailureAction, FirstTouch, GateTime, Gates, Hook, HookEvent, LatencyGate, OnFailure,
    OnInconclusive, PrometheusGate, Regression, Rolling, RollingOrder, RolloutPlan, RolloutStep,
    RolloutStrategy, Sensitivity, Share, WebhookGate,
};
pub use route::{Action, FieldChanges, Forward, Rewrite, Route, RouteLimits, RouteTimeouts};
pub use service::{
    Backend, Balance, Ejection, HealthCheck, Mirror, Pin, Pool, PoolProtocol, ProxyVersion, Rescue,
    RescueOn, Retries, RetryOn, Service, ServiceLimits, ServiceTimeouts, Sticky, StickyKey,
    UnhealthyPool, Weight,
};
pub use tls::{ClientAuth, ListenerTls, PoolTls, TlsVersion};

use indexmap::IndexMap;
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

/// A name from the configuration: of a service, a pool, a route, a version.
pub type Name = Arc<str>;

/// Everything that crossfade is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Worker threads; `None`: one a core.
    pub threads: Option<NonZeroUsize>,
    pub engine: Engine,
    pub shutdown: Shutdown,
    /// How long `/readyz` waits for a proven backend in every pool with traffic.
    pub startup_wait: Duration,
    pub resolver: Resolver,
    pub limits: Limits,
    pub reload: Reload,
    pub listeners: Vec<Listener>,
    /// `None`: certificates come from files alone.
    pub acme: Option<Acme>,
    pub admin: Admin,
    pub state: State,
    /// How long the series of a pool that has left stay visible.
    pub metrics_linger: Duration,
    /// `None`: no line is written of requests.
    pub access_log: Option<Arc<AccessLog>>,
    /// `None`: no spans are made.
    pub tracing: Option<Arc<Tracing>>,
    pub services: IndexMap<Name, Service>,
    /// In file order, which breaks ties between equally specific matches.
    pub routes: Vec<Route>,
}

/// No listener, service or route, and what the configuration takes for every other key that is absent.
impl Default for Spec {
    fn default() -> Self {
        Self {
            threads: None,
            engine: Engine::default(),
            shutdown: Shutdown::default(),
            startup_wait: Duration::from_secs(10),
            resolver: Resolver::default(),
            limits: Limits::default(),
            reload: Reload::default(),
            listeners: Vec::new(),
            acme: None,
            admin: Admin::default(),
            state: State::default(),
            metrics_linger: Duration::from_secs(60),
            access_log: None,
            tracing: None,
            services: IndexMap::new(),
            routes: Vec::new(),
        }
    }
}

impl Spec {
    /// Where the audit log is written, if anywhere.
    pub fn audit_file(&self) -> Option<AuditFile> {
        let of_state = || Some(AuditFile::at(self.state.directory.as_ref()?.join("audit.log")));
        self.admin.audit.clone().or_else(of_state)
    }

    /// Takes what only a restart can change from `other`.
    pub fn keep_for_restart(&mut self, other: &Self) {
        self.threads = other.threads;
        self.admin.address = other.admin.address.clone();
        self.admin.audit = other.admin.audit.clone();
        self.state.directory = other.state.directory.clone();
    }
}

/// Limits of the whole proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight, over all services and cores; `None`: any number.
    pub in_flight: Option<u32>,
}

/// What a reload of the file may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    /// Percent of the last hour's requests that may be left without anybody to answer; `None`: any.
    pub max_stranded_percent: Option<u32>,
}

/// What speaks HTTP/1 with clients and backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// crossfade's own.
    #[default]
    Native,
    /// The hyper library: the reference for tests and measurement.
    Hyper,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Not ready, but everything is still served.
    pub delay: Duration,
    /// Then the longest wait for what is in flight.
    pub drain: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { delay: Duration::ZERO, drain: Duration::from_secs(30) }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub address: SocketAddr,
    pub protocols: Protocols,
    pub timeouts: ListenerTimeouts,
    pub limits: ListenerLimits,
    /// Peers whose `X-Forwarded-*` and PROXY headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    pub proxy_protocol: ProxyProtocol,
    /// Backends are told of clients by `Forwarded` (RFC 7239) too.
    pub forwarded: bool,
    /// Requests say in `Via` that they came through a proxy (RFC 9110 section 7.6.3).
    pub via: bool,
    /// Requests that belong to no trace begin one (W3C Trace Context).
    pub starts_traces: bool,
    /// `None`: in the clear.
    pub tls: Option<ListenerTls>,
    /// Clients are sent to HTTPS.
    pub redirect_https: bool,
}

impl Listener {
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            protocols: Protocols { h1: true, h2: true },
            timeouts: ListenerTimeouts::default(),
            limits: ListenerLimits::default(),
            trusted_proxies: Vec::new(),
            proxy_protocol: ProxyProtocol::default(),
            forwarded: false,
            via: false,
            starts_traces: false,
            tls: None,
            redirect_https: false,
        }
    }

    /// What this peer says of its clients is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&peer))
    }
}

/// Whether connections begin with a PROXY header, which only trusted proxies may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    #[default]
    Off,
    /// If they like.
    Accept,
    /// Each must, so that nobody else is served.
    Require,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    pub h1: bool,
    pub h2: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerTimeouts {
    /// From the first byte of a request (or the connection's start) to the end of its head.
    pub headers: Duration,
    /// Longest wait for more bytes of a request body.
    pub body: Duration,
    /// How long a connection may idle between requests.
    pub keep_alive: Duration,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            headers: Duration::from_secs(10),
            body: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            handshake: Duration::from_secs(5),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    pub header_bytes: u32,
    pub header_count: u32,
    /// Open client connections, over all cores.
    pub connections: u32,
    /// Concurrent streams of one HTTP/2 connection.
    pub http2_streams: u32,
    /// Streams that an HTTP/2 connection may see reset beyond those that were answered.
    pub http2_resets: u32,
    /// Bytes that the heads of HTTP/2 requests in flight take, on each core.
    pub http2_heads: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            header_bytes: 64 << 10,
            header_count: 100,
            connections: 20_000,
            http2_streams: 100,
            http2_resets: 200,
            http2_heads: 3 << 20,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub address: AdminAddress,
    /// Further names under which the admin listener may be asked (`Host`).
    pub hosts: Vec<String>,
    /// Whoever reaches an address that is not loopback may steer, with nothing to show for it.
    pub insecure: bool,
    /// Who may ask. Empty: whoever reaches loopback or the socket may, also for changes.
    pub tokens: Vec<Token>,
    /// `None`: in the clear. Clients without a certificate shake hands too, and are told so by an answer.
    pub tls: Option<ListenerTls>,
    /// What clients with a certificate may do, the first that fits.
    pub client_roles: Vec<ClientRole>,
    /// What the users of a unix socket may do, the first that fits. Empty: everything.
    pub unix_roles: Vec<UnixRole>,
    /// `/metrics` needs no token.
    pub public_metrics: bool,
    /// `None`: in the state directory, or in memory alone where there is none.
    pub audit: Option<AuditFile>,
    pub limits: AdminLimits,
}

impl Admin {
    /// An address that others than this machine can reach.
    pub fn is_public(&self) -> bool {
        matches!(self.address, AdminAddress::Tcp(address) if !address.ip().is_loopback())
    }

    /// Who vouches for clients that show a certificate.
    pub fn client_ca(&self) -> Option<&Authority> {
        Some(&self.tls.as_ref()?.client_auth.as_ref()?.ca)
    }

    /// Whoever asks must show that they may.
    pub fn is_guarded(&self) -> bool {
        !self.tokens.is_empty() || self.client_ca().is_some()
    }
}

/// What is kept of the changes that were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// `None`: in memory alone.
    pub directory: Option<PathBuf>,
    /// So many revisions at most.
    pub revisions: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { directory: None, revisions: 1000 }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: AdminAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 9900))),
            hosts: Vec::new(),
            insecure: false,
            tokens: Vec::new(),
            tls: None,
            client_roles: Vec::new(),
            unix_roles: Vec::new(),
            public_metrics: false,
            audit: None,
            limits: AdminLimits::default(),
        }
    }
}
