use super::{
    AdminLimitsSection, AdminTls, AuditSection, ClientRoleSection, Listener, Route, Service,
    TokenSection, UnixRoleSection, section,
};
use crate::config::kinds::{
    AdminAddressKind, AdminHost, Contact, Count, DirectoryUrl, FilePath, Flag, HostsOfOne, HttpUrl,
    ListOf, LogFieldKind, LogTargetKind, MapOf, NameKind, Nameserver, Percent, SampleKind, SetOf,
    Span, choice,
};
use crate::spec::{AcmeChallenge, Engine, Families, LogFormat};

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
        resolver: Resolver, Absent("as the system does"), example "{ nameservers: [10.0.0.2] }",
            "How names (`dns:`, `srv:`) are resolved that stand for backends.";
        limits: Limits, Absent("no limits"), example "{ in_flight: 20000 }",
            "How much the whole proxy takes on at once.";
        reload: Reload, Absent("no limits"), example "{ max_stranded: 5% }",
            "What a reload of the file may do.";
        listeners: ListOf<Listener, 1>, Required, example "[{ address: 0.0.0.0:8080 }]",
            "The addresses that accept client connections.";
        acme: Acme, Absent("certificates come from files alone"),
            example "{ terms_agreed: true, state: acme, hosts: [shop.example.com] }",
            "Certificates that are ordered and renewed by themselves (RFC 8555). See docs/tls.md.";
        admin: Admin, Absent("the defaults below"), example "{ hosts: [admin.example.com] }",
            "The admin API: status, metrics, dashboard, and every change at run time.";
        state: State, Absent("changes are kept in memory alone"), example "{ directory: state }",
            "What survives a restart. See docs/changes.md.";
        metrics: Metrics, Absent("the defaults below"), example "{ linger: 5m }",
            "How metrics are kept.";
        access_log: AccessLogSection, Absent("nothing is written of requests"),
            example "{ to: access.log }",
            "A line for each request. See docs/logs.md.";
        tracing: TracingSection, Absent("no spans are made"),
            example "{ otlp: \"http://127.0.0.1:4318\" }",
            "Spans of requests, sent by OTLP. See docs/traces.md.";
        services: MapOf<NameKind, Service, 1>, Required,
            example "{ shop: { pools: { blue: { backends: [127.0.0.1:9001] } } } }",
            "What clients ask for, each with its pools.";
        routes: ListOf<Route, 1>, Absent("with one service: everything goes to it"),
            example "[{ match: { path_prefix: /shop }, service: shop }]",
            "Which service a request is for. The most specific match wins, the first on ties.";
    }
}

section! {
    AccessLogSection, "A line for each request, when it is over.",
    {
        to: LogTargetKind, Default("stdout"), example "/var/log/crossfade/access.log",
            "`stdout`, `stderr`, or a file, which is made if it is missing and opened anew on SIGUSR1.";
        format: LogFormatKind, Default("json"), example "text",
            "`json`, an object a line, or `text`, `key=value` for people.";
        fields: SetOf<LogFieldKind, 1>, Absent("all but `query` and `header.NAME`"),
            example "[time, status, path, header.user-agent]",
            "What a line has, in this order. docs/logs.md lists them. `header.NAME` is a field of the request's head; \
             those that let somebody in (`cookie`, `authorization`, tokens, keys) are refused.";
        sample: SampleKind, Default("1"), example "5%",
            "How many of the requests get a line, as a fraction or in percent. Those that were answered 500 to 599, or \
             failed otherwise than by the client's fault, always do.";
        queue: Count<16, 1_000_000>, Default("8192"), example "1024",
            "Lines that may wait to be written, for each core. What comes beyond them is dropped, and counted.";
    }
}

section! {
    TracingSection, "Spans of requests, sent to a collector by OTLP over HTTP.",
    {
        otlp: HttpUrl, Required, example "https://collector.example.com:4318",
            "The collector: spans go to its `/v1/traces`, as protobuf.";
        sample: SampleKind, Default("1"), example "1%",
            "How many of the traces that begin here are recorded, as a fraction or in percent. Who comes with a \
             `traceparent` has decided already.";
        queue: Count<16, 1_000_000>, Default("2048"), example "512",
            "Requests that may wait to be sent as spans, for each core. What comes beyond them is dropped, and counted.";
    }
}

section! {
    Acme, "Certificates that are ordered and renewed by themselves (RFC 8555), for listeners with `tls: { acme: true }`.",
    {
        directory: DirectoryUrl, Default("https://acme-v02.api.letsencrypt.org/directory"),
            example "https://acme-staging-v02.api.letsencrypt.org/directory",
            "Who issues them: the URL of an ACME directory. By default Let's Encrypt.";
        terms_agreed: Flag, Required, example "true",
            "You agree to the terms of who issues them. Nothing is ordered without.";
        contacts: SetOf<Contact, 0>, Default("[]"), example "[mailto:ops@example.com]",
            "Whom the issuer may write to.";
        state: FilePath, Required, example "acme",
            "The folder where the account's key and the certificates are kept. It is made if it is missing, for \
             crossfade's user alone.";
        hosts: ListOf<HostsOfOne, 1>, Required, example "[shop.example.com, [example.com, www.example.com]]",
            "The names. Each gets a certificate of its own; names in a list of their own share one.";
        challenge: ChallengeKind, Default("http-01"), example "tls-alpn-01",
            "How it is proven that the names lead here: `http-01` by an answer on port 80, in the clear; \
             `tls-alpn-01` by a handshake on port 443.";
        renew_before: Span<false>, Absent("a third of the time that a certificate is good for"),
            example "30d",
            "How long before a certificate expires it is renewed. At least a third of its time passes first.";
        ca: FilePath, Absent("whom the system trusts"), example "internal-ca.crt",
            "PEM file of the authorities that vouch for the directory itself, for one of your own.";
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
}

section! {
    Startup, "What happens at the start.",
    {
        wait: Span<true>, Default("10s"), example "30s",
            "How long `/readyz` waits for a proven backend in every pool with traffic.";
    }
}

section! {
    Limits, "How much the whole proxy takes on at once. Listeners and services have limits of their own.",
    {
        in_flight: Count<1, 10_000_000>, Absent("any number"), example "20000",
            "Requests in flight, over all services. What comes beyond it is answered 503 `overloaded` at once.";
    }
}

section! {
    Reload, "What a reload of the file may do. `crossfade reload --force` does it all the same.",
    {
        max_stranded: Percent, Absent("any share"), example "5%",
            "The largest share of the last hour's requests that it may leave without anybody to answer them.";
    }
}

section! {
    Resolver, "How names (`dns:`, `srv:`) are resolved that stand for backends.",
    {
        nameservers: SetOf<Nameserver, 0>, Absent("those of /etc/resolv.conf"), example "[10.0.0.2, 10.0.0.3:5353]",
            "Whom to ask: IP or IP:PORT. With it neither /etc/hosts nor search domains are used.";
        families: FamiliesKind, Default("both"), example "ipv4",
            "Which addresses are asked for: `ipv4`, `ipv6` or `both`.";
        timeout: Span<false>, Default("2s"), example "500ms",
            "The longest wait for an answer to one question.";
        attempts: Count<1, 10>, Default("2"), example "3",
            "How often a question is asked before the lookup has failed.";
        min_ttl: Span<false>, Default("1s"), example "5s",
            "An answer is good for this long at least, whatever its time to live.";
        max_ttl: Span<false>, Default("5m"), example "30s", "And for this long at most.";
        hold: Span<true>, Default("30s"), example "5m",
            "How long the last addresses of a name are kept once DNS says that it has none. Those of a lookup that              failed are kept as long as it does.";
        max_addresses: Count<1, 10000>, Default("256"), example "1000",
            "Of one name; others are left out, and logged.";
    }
}

section! {
    Metrics, "How metrics are kept.",
    {
        linger: Span<true>, Default("1m"), example "5m",
            "How long the series of a pool that has left stay visible.";
    }
}

section! {
    Admin, "The admin API. Whoever reaches it can steer the proxy.",
    {
        address: AdminAddressKind, Default("127.0.0.1:9900"), example "unix:/run/crossfade/admin.sock",
            "IP:PORT, or `unix:PATH`. One that is not loopback needs `tokens` or `client_ca` (or `insecure: true`).";
        hosts: SetOf<AdminHost, 0>, Default("[]"), example "[admin.example.com]",
            "Further names under which it may be asked (`Host`). Its address and loopback always may.";
        tokens: ListOf<TokenSection, 0>, Default("[]"),
            example "[{ name: ci, file: ci.token, role: operator }]",
            "Who may ask, by `Authorization: Bearer TOKEN`. With none, whoever reaches loopback or the socket may \
             steer. See docs/admin.md.";
        tls: AdminTls, Absent("in the clear"),
            example "{ certificates: [{ cert: admin.crt, key: admin.key }] }",
            "Speaks TLS.";
        client_ca: FilePath, Absent("clients show no certificate"), example "clients.crt",
            "With `tls`: PEM file of the authorities that vouch for clients. A certificate is as good as a token; \
             `client_roles` say for what.";
        client_roles: ListOf<ClientRoleSection, 0>, Absent("with `client_ca` required"),
            example "[{ name: deploy, role: operator }, { role: viewer }]",
            "What clients with a certificate may do: the first that fits decides.";
        unix_roles: ListOf<UnixRoleSection, 0>, Default("[]"),
            example "[{ user: deploy, role: operator }, { group: ops, role: viewer }]",
            "What who connects to a unix socket may do: the first that fits decides; root and crossfade's own user may \
             always steer. With none, whoever can open the socket may.";
        public_metrics: Flag, Default("false"), example "true",
            "`/metrics` needs no token.";
        audit: AuditSection, Absent("`audit.log` in `state.directory`; without one in memory alone"), example "{ file: audit.log }",
            "Where the audit log is written. A change needs a restart.";
        limits: AdminLimitsSection, Absent("the defaults below"), example "{ connections_each: 16 }",
            "How much clients may ask for.";
        insecure: Flag, Default("false"), example "true",
            "Allows an address that is not loopback without `tokens` or `client_ca`: anyone who reaches it can steer the proxy; \
             and tokens on such an address without TLS, without a warning. For networks that are trusted on purpose.";
    }
}

section! {
    State, "What survives a restart, and how much of it is kept. See docs/changes.md.",
    {
        directory: FilePath, Absent("in memory alone: a restart returns to the file"), example "state",
            "The folder where revisions are kept. It is made if it is missing, for crossfade's user alone. Each \
             crossfade needs one of its own. Changing it needs a restart.";
        revisions: Count<2, 100_000>, Default("1000"), example "200",
            "How many revisions are kept at most; the oldest go first. In all they take 256 MiB at most, 64 MiB in \
             memory.";
    }
}

choice! { EngineKind -> Engine { "native" => Engine::Native, "hyper" => Engine::Hyper } }

choice! { LogFormatKind -> LogFormat { "json" => LogFormat::Json, "text" => LogFormat::Text } }

choice! {
    FamiliesKind -> Families {
        "both" => Families::Both,
        "ipv4" => Families::V4,
        "ipv6" => Families::V6,
    }
}

choice! {
    ChallengeKind -> AcmeChallenge {
        "http-01" => AcmeChallenge::Http01,
        "tls-alpn-01" => AcmeChallenge::TlsAlpn01,
    }
}
