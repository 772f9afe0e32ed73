use super::{Rollout, section};
use crate::{
    config::{
        kinds::{
            AdminHost, BackendAddressKind, Bytes, CookieName, Count, FilePath, Flag, HeaderName,
            Label, ListOf, MapOf, Method, NameKind, Named, Network, Percent, Regex, SetOf, Span,
            Target, Weighting, choice,
        },
        reader::{Field, Kind, Reader, ScalarKind},
        shape::Shape,
        tree::{Data, NodeId},
    },
    spec::{Balance, HostPattern, Pattern, PoolProtocol, ProxyVersion, UnhealthyPool, ValueMatch},
};
use std::sync::Arc;

section! {
    Service, "What clients ask for. Owns its pools and how traffic is shared among them.",
    {
        pools: MapOf<NameKind, Pool, 1>, Required, example "{ blue: { backends: [127.0.0.1:9001] } }",
            "The versions of the service.";
        pins: ListOf<Pin, 0>, Default("[]"), example "[{ headers: { canary: true }, pool: blue }]",
            "Requests that go to a pool outright, also at weight 0. The first match wins.";
        sticky: Sticky, Absent("each request is drawn anew"), example "{ cookie: user }",
            "Keeps a user on one version.";
        balance: BalanceKind, Default("least_request"), example "round_robin",
            "How a backend of the pool is chosen.";
        health_check: HealthCheck, Absent("backends count as healthy"), example "{ path: /health }",
            "How backends are probed.";
        ejection: Ejection, Absent("the defaults below"), example "{ consecutive: 3 }",
            "When a backend whose requests fail is left out.";
        timeouts: ServiceTimeouts, Absent("the defaults below"), example "{ response: 5s }",
            "How long backends may take.";
        limits: ServiceLimits, Absent("the defaults below"), example "{ body_bytes: 10MiB }",
            "How much a request may ask for.";
        retries: Retries, Absent("the defaults below"), example "{ attempts: 1 }",
            "When a request is sent again.";
        rescue: Rescue, Absent("what failed has failed"), example "{ to: blue }",
            "Sends what failed on one pool to another one.";
        mirror: Mirror, Absent("no copies are made"), example "{ to: blue, share: 10% }",
            "Sends copies of requests to a pool, whose answers nobody gets.";
        unhealthy_pool: UnhealthyPoolKind, Default("redistribute"), example "fail",
            "What becomes of the share of a pool without a healthy backend: the others get it, or 503.";
        rollout: Rollout, Absent("as by the defaults below, when one is started"), example "{ strategy: blue_green }",
            "How the service moves to a new version. See docs/rollouts.md.";
        expose_version: Flag, Default("false"), example "true",
            "Replies carry `x-crossfade-version`.";
    }
}

section! {
    Pool, "Interchangeable backends that run one version of a service.",
    {
        version: Label, Absent("the pool's name"), example "v2.0",
            "The label of the pool in metrics and logs.";
        weight: Weighting, Absent("100, if it is the only pool; else required"), example "5",
            "The pool's share, relative to the other weights of the service.";
        backends: ListOf<BackendEntry, 1>, Required, example "[127.0.0.1:9001]",
            "Where the pool listens: addresses, or mappings with `address` and `weight`.";
        slow_start: Span<true>, Default("0s"), example "30s",
            "How long a backend that became healthy takes to reach its full share.";
        drained: Flag, Default("false"), example "true",
            "No new requests go to the pool.";
        protocol: PoolProtocolKind, Default("h1"), example "h2",
            "What the backends speak: HTTP/1.1, or HTTP/2 from the first byte on (as gRPC servers do).";
        proxy_protocol: ProxyVersionKind, Absent("none is sent"), example "v2",
            "Each connection begins with a PROXY header that tells the client's address and port. So the clients \
             share none: each client connection has connections to the backends of its own.";
        tls: PoolTls, Absent("in the clear"), example "{ ca: backends.crt }",
            "Speaks TLS with the backends, who must prove who they are. `{}`: with the defaults.";
    }
}

section! {
    PoolTls, "How TLS is spoken with backends. The files that are named here are read again when they change.",
    {
        ca: FilePath, Absent("whom the system trusts"), example "backends.crt",
            "PEM file of the authorities that vouch for the backends.";
        server_name: AdminHost, Absent("the host of the backend's address"), example "shop.internal",
            "The name that the backends must prove, and that they are asked for (SNI).";
        cert: FilePath, Absent("no certificate is shown"), example "proxy.crt",
            "PEM file: the certificate that is shown to backends that ask for one. Only with `key`.";
        key: FilePath, Absent("no certificate is shown"), example "proxy.key",
            "PEM file: the private key of `cert`, not encrypted.";
    }
}

section! {
    BackendSection, "One address of a pool.",
    {
        address: BackendAddressKind, Required, example "127.0.0.1:9001",
            "HOST:PORT, or `unix:` and the absolute path of a socket. A name is resolved each time a connection \
             is opened. `dns:HOST:PORT` and `srv:NAME` stand for the addresses that DNS has, each of them a backend.";
        weight: Weighting, Default("1"), example "2",
            "The backend's share, relative to the others of its pool.";
        drained: Flag, Default("false"), example "true",
            "No new requests go to the backend.";
    }
}

/// A backend written as its address alone, or as a mapping.
pub(in crate::config) struct BackendEntry;

impl Kind for BackendEntry {
    type Value = BackendSection;
    const SHAPE: Shape = Shape::Either(&[BackendAddressKind::FORM, BackendSection::SHAPE]);

    fn read(reader: &mut Reader<'_>, node: NodeId) -> Option<BackendSection> {
        if matches!(reader.data(node), Data::Map(_)) {
            return BackendSection::read(reader, node);
        }
        let value = BackendAddressKind::read(reader, node)?;
        let address = Field::Good(crate::config::reader::At { value, node });
        Some(BackendSection { address, weight: Field::Absent, drained: Field::Absent })
    }
}

/// The conditions of a match, which a pin has beside its pool.
pub(in crate::config) struct Conditions {
    pub(in crate::config) hosts: Field<Vec<HostPattern>>,
    pub(in crate::config) path: Field<Arc<str>>,
    pub(in crate::config) path_prefix: Field<Arc<str>>,
    pub(in crate::config) path_regex: Field<Pattern>,
    pub(in crate::config) methods: Field<Vec<Arc<str>>>,
    pub(in crate::config) headers: Field<Vec<Named<Arc<str>, ValueMatch>>>,
    pub(in crate::config) cookies: Field<Vec<Named<Arc<str>, ValueMatch>>>,
    pub(in crate::config) query: Field<Vec<Named<Arc<str>, ValueMatch>>>,
}

/// A section with the keys of a match, and others.
macro_rules! matching_section {
    (
        $name:ident, $about:literal, { $($own:tt)* }
    ) => {
        $crate::config::keys::section! {
            $name, $about,
            {
                $($own)*
                hosts: $crate::config::kinds::SetOf<$crate::config::kinds::Host, 1>,
                    Absent("any host"), example "[shop.example.com, \"*.shop.example.com\"]",
                    "Any of these, without port; `*.` stands for one or more labels.";
                path: $crate::config::kinds::UrlPath, Absent("any path"), example "/cart",
                    "Exactly this path.";
                path_prefix: $crate::config::kinds::UrlPath, Absent("any path"), example "/api",
                    "This path or below, by whole segments: `/a` holds for `/a/b`, not for `/ab`.";
                path_regex: $crate::config::kinds::Regex, Absent("any path"), example "\"/v[0-9]+/.*\"",
                    "The whole path matches this regular expression.";
                methods: $crate::config::kinds::SetOf<$crate::config::kinds::Method, 1>,
                    Absent("any method"), example "[GET, HEAD]",
                    "Any of these.";
                headers: $crate::config::kinds::MapOf<
                    $crate::config::kinds::HeaderName, $crate::config::kinds::ValuePattern, 1>,
                    Absent("any headers"), example "{ canary: true }",
                    "All of these.";
                cookies: $crate::config::kinds::MapOf<
                    $crate::config::kinds::CookieName, $crate::config::kinds::ValuePattern, 1>,
                    Absent("any cookies"), example "{ beta: { present: true } }",
                    "All of these.";
                query: $crate::config::kinds::MapOf<
                    $crate::config::kinds::ParameterName, $crate::config::kinds::ValuePattern, 1>,
                    Absent("any query"), example "{ version: { regex: \"2.*\" } }",
                    "All of these parameters, decoded.";
            }
        }

        impl $name {
            /// Takes the keys of the match out.
            pub(in crate::config) fn conditions(&mut self) -> $crate::config::keys::Conditions {
                $crate::config::keys::Conditions {
                    hosts: std::mem::take(&mut self.hosts),
                    path: std::mem::take(&mut self.path),
                    path_prefix: std::mem::take(&mut self.path_prefix),
                    path_regex: std::mem::take(&mut self.path_regex),
                    methods: std::mem::take(&mut self.methods),
                    headers: std::mem::take(&mut self.headers),
                    cookies: std::mem::take(&mut self.cookies),
                    query: std::mem::take(&mut self.query),
                }
            }
        }
    };
}
pub(super) use matching_section;

matching_section! {
    Pin, "A match that names a pool outright. At least one condition is required.",
    {
        pool: NameKind, Required, example "blue", "Where such requests go.";
        from: ListOf<Network, 1>, Absent("anybody's"), example "[10.0.0.0/8]",
            "Only requests of clients in these networks. Of others that would match otherwise the headers and \
             cookies that the pin names are removed before the backend, and it is counted.";
    }
}

section! {
    ValueMatchSection, "What a value must be, where a text is not enough.",
    {
        regex: Regex, Absent("see `present`"), example "\"[a-f0-9]+\"",
            "The whole value matches this regular expression.";
        present: Flag, Absent("see `regex`"), example "true",
            "Any value will do.";
    }
}

section! {
    Sticky, "Keeps a user on one version. Exactly one of `cookie`, `header` and `client_address`.",
    {
        cookie: CookieName, Absent("not by cookie"), example "user", "The cookie that tells users apart.";
        header: HeaderName, Absent("not by header"), example "X-User-Id",
            "The header that tells users apart.";
        client_address: Flag, Absent("not by address"), example "true",
            "The client's IP address tells users apart.";
        issue: Flag, Default("false"), example "true",
            "Gives a cookie to requests without one. Only with `cookie`.";
        max_age: Span<false>, Absent("until the browser closes"), example "30d",
            "How long an issued cookie lives. Only with `issue`.";
        salt: Label, Absent("new with each release"), example "spring",
            "Mixed into the key, so that not the same users go first in each release.";
    }
}

section! {
    HealthCheck, "How backends are probed.",
    {
        path: Target, Absent("`grpc` is asked"), example "/health/ready",
            "What is asked, with the query if any; a status of 200 to 399 is good.";
        grpc: Label, Absent("`path` is asked"), example "shop.Cart",
            "The service that is asked after by gRPC's health protocol (grpc.health.v1), in HTTP/2; SERVING is good.";
        interval: Span<false>, Default("2s"), example "5s", "From one probe to the next.";
        timeout: Span<false>, Default("1s"), example "3s", "How long a probe may take.";
        healthy_after: Count<1, 1000>, Default("2"), example "1",
            "Good probes in a row until an unhealthy backend is healthy again.";
        unhealthy_after: Count<1, 1000>, Default("3"), example "5",
            "Bad probes in a row until a healthy backend is unhealthy.";
    }
}

section! {
    Ejection, "When a backend whose requests fail is left out. One that cannot be connected to is left out until \
        it can, whatever the other keys say.",
    {
        consecutive: Count<1, 1000>, Default("5"), example "3",
            "Failures in a row, as one core sees them: no connection, no valid answer in time, or 502, 503 or 504.";
        success_rate: Percent, Default("50%"), example "80%",
            "It is left out when a smaller share of its requests succeeds; `0%`: that is not judged.";
        window: Span<false>, Default("10s"), example "30s", "Of these last requests.";
        min_requests: Count<1, 1000000>, Default("20"), example "100",
            "Requests within the window, for the rate to count.";
        r#for: Span<false>, Default("30s"), example "10s",
            "How long it is left out, the first time; each next time twice as long.";
        longest: Span<false>, Default("5m"), example "1m",
            "How long at most. After as much time without an ejection the next one counts as the first.";
        at_most: Percent, Default("50%"), example "30%",
            "The share of a pool's backends that may be unavailable, rounded down, for another one to be left out.";
    }
}

section! {
    ServiceTimeouts, "How long backends may take.",
    {
        connect: Span<false>, Default("1s"), example "500ms", "To open a connection.";
        response: Span<false>, Default("30s"), example "5s",
            "From the end of the request's headers to the response's headers.";
        body: Span<false>, Default("1m"), example "30s",
            "The longest wait for more bytes of a response body.";
        request: Span<true>, Default("0s"), example "5m", "The whole request; `0s`: no limit.";
        upstream_idle: Span<true>, Default("4s"), example "10s",
            "How long an idle connection to a backend is kept.";
        ping: Span<true>, Default("10s"), example "5s",
            "How long an HTTP/2 connection with requests in flight may be silent before its backend is asked whether it \
             is there, and how long it has to say so; `0s`: it is not asked.";
        tunnel_idle: Span<false>, Default("1h"), example "10m", "The longest silence of a tunnel.";
        drain: Span<true>, Default("30s"), example "5m",
            "How long what is in flight may take when a backend leaves.";
    }
}

section! {
    ServiceLimits, "How much a request may ask for.",
    {
        body_bytes: Bytes<1, { 1 << 50 }>, Default("1GiB"), example "10MiB", "A request body.";
        in_flight: Count<1, 10_000_000>, Absent("any number"), example "10000",
            "Requests in flight to all backends of the service, over all cores.";
        queue: Count<0, 10_000_000>, Default("1000"), example "100",
            "Requests that wait for a place among those, first come, first served. Only with `in_flight`.";
        queue_timeout: Span<false>, Default("1s"), example "500ms", "The longest wait there.";
        held: Count<0, 10_000_000>, Default("1000"), example "10000",
            "Requests that wait while the service is held (`crossfade hold`); the others are refused.";
        backend_in_flight: Count<1, 10_000_000>, Absent("any number"), example "100",
            "Requests in flight on each backend, over all cores; one that has as many is passed over.";
        backend_connections: Count<1, 1_000_000>, Absent("any number"), example "64",
            "Open connections to each backend, over all cores, idle ones too. Who needs another one waits for it, \
             as long as for a connection (`timeouts.connect`).";
    }
}

section! {
    Retries, "When a request is sent again. A POST is never sent twice.",
    {
        attempts: Count<1, 10>, Default("2"), example "3", "All tries of a request, the first included.";
        budget: Percent, Default("20%"), example "10%",
            "Retries as a share of the last 10 s of requests; at least 3 a second are allowed.";
        on: SetOf<RetryCauseKind, 0>, Default("[connect, reset]"), example "[connect]",
            "`connect`: the connection could not be opened. `reset`: it ended before a response byte \
             (idempotent methods only).";
        buffer: Bytes<0, { 16 << 20 }>, Default("64KiB"), example "1MiB",
            "Bytes of a request body that are kept so that it can be sent again.";
    }
}

section! {
    Rescue, "Sends a request that failed on one pool once more, to another one. Only what can do no harm twice: \
        idempotent methods whose body is still there (`retries.buffer`), and whatever was never sent.",
    {
        to: NameKind, Required, example "blue", "The pool that gets them.";
        budget: Percent, Default("20%"), example "10%",
            "Rescues as a share of the last 10 s of requests; at least 3 a second are allowed.";
        on: SetOf<RescueCauseKind, 1>, Default("[failure, server_error]"), example "[failure]",
            "`failure`: the pool has no backend, or its backend could not be connected to, closed the connection, \
             took too long or answered nonsense. `server_error`: it answered 500 to 599.";
    }
}

section! {
    Mirror, "Sends copies of requests to a pool. Nobody waits for them, nobody gets their answers, and they are counted \
        apart. They carry `x-crossfade-mirror: 1`.",
    {
        to: NameKind, Required, example "blue", "The pool that gets them.";
        share: Percent, Default("100%"), example "10%", "Of the requests with these methods.";
        methods: SetOf<Method, 1>, Default("[GET, HEAD, OPTIONS]"), example "[GET, POST]",
            "Which requests are copied. What changes something is changed twice then, where both pools share it.";
        body_bytes: Bytes<0, { 16 << 20 }>, Default("64KiB"), example "1MiB",
            "Requests with larger bodies are not copied.";
        in_flight: Count<1, 1_000_000>, Default("100"), example "1000",
            "Copies at once, over all cores; others are dropped, and counted.";
    }
}

choice! { ProxyVersionKind -> ProxyVersion { "v1" => ProxyVersion::V1, "v2" => ProxyVersion::V2 } }

choice! {
    BalanceKind -> Balance {
        "round_robin" => Balance::RoundRobin,
        "least_request" => Balance::LeastRequest,
        "random" => Balance::Random,
        "hash" => Balance::Hash,
    }
}

choice! {
    PoolProtocolKind -> PoolProtocol {
        "h1" => PoolProtocol::H1,
        "h2" => PoolProtocol::H2,
    }
}

choice! {
    UnhealthyPoolKind -> UnhealthyPool {
        "redistribute" => UnhealthyPool::Redistribute,
        "fail" => UnhealthyPool::Fail,
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::config) enum RetryCause {
    Connect,
    Reset,
}

choice! {
    RetryCauseKind -> RetryCause {
        "connect" => RetryCause::Connect,
        "reset" => RetryCause::Reset,
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::config) enum RescueCause {
    Failure,
    ServerError,
}

choice! {
    RescueCauseKind -> RescueCause {
        "failure" => RescueCause::Failure,
        "server_error" => RescueCause::ServerError,
    }
}
