use super::{Listener, Route, Service, section};
use crate::config::kinds::{
    AdminAddressKind, AdminHost, Anything, Count, Flag, ListOf, MapOf, NameKind, SetOf, Span,
    choice,
};
use crate::spec::Engine;

section! {
    File, "The whole file.",
    {
        threads: Count<1, 1024>, Absent("one a core"), example "4",
            "Worker threads. Each has its own listeners, connections and share of the traffic.";
        engine: EngineKind, Default("native"), example "hyper",
            "What speaks HTTP/1: `native`, crossfade's own engine, or `hyper`, the reference for tests \
             and measurement. A reload changes it for new connections.";
        shutdown: Shutdown, Absent("the defaults below"), example "{ delay: 5s }",
            "What happens on SIGTERM.";
        startup: Startup, Absent("the defaults below"), example "{ wait: 1s }",
            "What happens at the start.";
        listeners: ListOf<Listener, 1>, Required, example "[{ address: 0.0.0.0:8080 }]",
            "The addresses that accept client connections.";
        admin: Admin, Absent("the defaults below"), example "{ hosts: [admin.example.com] }",
            "The admin API: status, metrics, dashboard, and every change at run time.";
        metrics: Metrics, Absent("the defaults below"), example "{ linger: 5m }",
            "How metrics are kept.";
        services: MapOf<NameKind, Service, 1>, Required,
            example "{ shop: { pools: { blue: { backends: [127.0.0.1:9001] } } } }",
            "What clients ask for, each with its pools.";
        routes: ListOf<Route, 1>, Absent("with one service: everything goes to it"),
            example "[{ match: { path_prefix: /shop }, service: shop }]",
            "Which service a request is for. The most specific match wins, the first on ties.";
    }
    planned {
        "state": State, Inert, "What survives a restart.";
        "reload": Anything, Inert, "Limits on what a reload may do.";
        "access_log": Anything, Inert, "A log line for each request.";
        "tracing": Anything, Inert, "Spans of requests, sent by OTLP.";
        "acme": Anything, Refused, "Certificates that are fetched and renewed automatically.";
    }
}

section! {
    Shutdown, "What happens on SIGTERM: not ready, serve on for `delay`, then drain.",
    {
        delay: Span<true>, Default("0s"), example "5s",
            "How long everything is still served while `/readyz` says no, so that load balancers notice.";
        drain: Span<true>, Default("30s"), example "1m",
            "Then the longest wait for what is in flight.";
    }
    planned {}
}

section! {
    Startup, "What happens at the start.",
    {
        wait: Span<true>, Default("10s"), example "30s",
            "How long `/readyz` waits for a proven backend in every pool with traffic.";
    }
    planned {}
}

section! {
    Metrics, "How metrics are kept.",
    {
        linger: Span<true>, Default("1m"), example "5m",
            "How long the series of a pool that has left stay visible.";
    }
    planned {}
}

section! {
    Admin, "The admin API. Whoever reaches it can steer the proxy.",
    {
        address: AdminAddressKind, Default("127.0.0.1:9900"), example "unix:/run/crossfade/admin.sock",
            "IP:PORT of loopback, or `unix:PATH`. Others need `insecure: true`.";
        hosts: SetOf<AdminHost, 0>, Default("[]"), example "[admin.example.com]",
            "Further names under which it may be asked (`Host`). Its address and loopback always may.";
        insecure: Flag, Default("false"), example "true",
            "Allows an address that is not loopback. Anyone who reaches it can steer the proxy: for \
             containers whose port is published on purpose.";
    }
    planned {
        "tokens": Anything, Refused, "Who may look and who may change.";
        "tls": Anything, Refused, "Certificate and key of the admin API.";
        "client_ca": Anything, Refused, "Clients must show a certificate of this authority.";
        "unix_roles": Anything, Refused, "Roles of the users of a unix socket.";
    }
}

section! {
    State, "What survives a restart.", {}
    planned {
        "directory": crate::config::kinds::Label, Inert, "Where revisions and rollouts are kept.";
    }
}

choice! { EngineKind -> Engine { "native" => Engine::Native, "hyper" => Engine::Hyper } }
