use super::section;
use crate::{
    config::kinds::{
        Bytes, Count, FilePath, Flag, ListOf, ListenAddress, Network, SetOf, Span, choice,
    },
    spec::{ProxyProtocol, TlsVersion},
};

section! {
    Listener, "An address that accepts client connections.",
    {
        address: ListenAddress, Required, example "0.0.0.0:8080",
            "IP:PORT. Its identity: no two listeners have the same.";
        protocols: SetOf<ProtocolKind, 1>, Default("[h1, h2]"), example "[h1]",
            "What is spoken: `h1` is HTTP/1.1 and HTTP/1.0, `h2` is HTTP/2.";
        timeouts: ListenerTimeouts, Absent("the defaults below"), example "{ headers: 5s }",
            "How long clients may take.";
        limits: ListenerLimits, Absent("the defaults below"), example "{ connections: 1000 }",
            "How much clients may ask for.";
        trusted_proxies: ListOf<Network, 0>, Default("[]"), example "[10.0.0.0/8]",
            "Peers whose `X-Forwarded-*` and PROXY headers count; by default nobody's.";
        proxy_protocol: ProxyProtocolKind, Default("off"), example "require",
            "The PROXY header (version 1 or 2) before a connection, from `trusted_proxies` alone: `accept` \
             takes it, `require` closes connections without one. With TLS it comes before the handshake.";
        forwarded: Flag, Default("false"), example "true",
            "Backends are told of clients by `Forwarded` (RFC 7239) too, not only by `X-Forwarded-*`.";
        traceparent: TraceparentKind, Default("pass"), example "start",
            "`pass`: `traceparent` and `tracestate` are passed on unread. `start`: a request without a valid \
             `traceparent` (W3C Trace Context) begins a trace, which is sampled.";
        via: Flag, Default("false"), example "true",
            "Requests say by `Via` that they came through a proxy (RFC 9110). Some servers do not compress \
             what they answer then.";
        tls: ListenerTls, Absent("in the clear"),
            example "{ certificates: [{ cert: shop.crt, key: shop.key }] }",
            "Speaks TLS. See docs/tls.md.";
        redirect_https: Flag, Default("false"), example "true",
            "Sends clients to HTTPS (308), unless a trusted proxy says by `X-Forwarded-Proto` that they speak it \
             already. See docs/tls.md.";
    }
}

section! {
    ListenerTimeouts, "How long clients may take.",
    {
        headers: Span<false>, Default("10s"), example "5s",
            "From the first byte of a request, or the start of the connection, to the end of its headers.";
        body: Span<false>, Default("30s"), example "1m",
            "The longest wait for more bytes of a request body.";
        keep_alive: Span<false>, Default("75s"), example "10s",
            "How long a connection may idle between requests.";
        handshake: Span<false>, Default("5s"), example "2s",
            "How long a TLS handshake may take, from the start of the connection.";
    }
}

section! {
    ListenerTls, "How TLS is spoken. The files that are named here are read again when they change.",
    {
        certificates: ListOf<CertificateSection, 1>, Absent("required, unless there is `acme`"),
            example "[{ cert: shop.crt, key: shop.key }]",
            "Chosen by the name that the client asks for (SNI). The first is for clients that ask for none, \
             or for one that no certificate has.";
        acme: Flag, Default("false"), example "true",
            "Those that are ordered by `acme` are shown too, after those from files.";
        client_ca: FilePath, Absent("clients show no certificate"), example "clients.crt",
            "PEM file of the authorities that vouch for clients, who must show a certificate. What they \
             showed is told to the backend in `x-forwarded-client-cert`.";
        client_auth: ClientAuthKind, Default("required"), example "optional",
            "With `client_ca`: whether a client without a certificate is refused (`required`) or served \
             (`optional`). A bad certificate is always refused.";
        min_version: TlsVersionKind, Default("\"1.2\""), example "\"1.3\"",
            "The oldest version of TLS that is spoken. The newest is 1.3.";
        resumption: Flag, Default("true"), example "false",
            "Clients that come back may resume their session, on any thread and after a reload, which \
             saves most of a handshake.";
    }
}

section! {
    CertificateSection, "A certificate and its key.",
    {
        cert: FilePath, Required, example "shop.crt",
            "PEM file: the certificate, then its intermediates. Relative to this file.";
        key: FilePath, Required, example "shop.key",
            "PEM file: the private key (PKCS #8, PKCS #1 or SEC1), not encrypted.";
    }
}

section! {
    ListenerLimits, "How much clients may ask for.",
    {
        header_bytes: Bytes<{ 8 << 10 }, { 1 << 20 }>, Default("64KiB"), example "16KiB",
            "The head of a request.";
        header_count: Count<1, 1000>, Default("100"), example "50",
            "Headers of a request.";
        connections: Count<1, 10_000_000>, Default("20000"), example "1000",
            "Open client connections, over all threads.";
        http2_streams: Count<1, 1_000_000>, Default("100"), example "250",
            "Concurrent requests of one HTTP/2 connection.";
        http2_resets: Count<1, 1_000_000>, Default("200"), example "1000",
            "Requests of one HTTP/2 connection that may be reset, by either side, beyond those that were answered; a tenth of that more each second.";
        http2_heads: Bytes<{ 64 << 10 }, { 1 << 30 }>, Default("3MiB"), example "8MiB",
            "What the heads of HTTP/2 requests in flight take, on each thread; a connection with more than 64 KiB of it gets no more requests (REFUSED_STREAM) as long as it is full.";
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(in crate::config) enum Protocol {
    H1,
    H2,
}

choice! {
    ProxyProtocolKind -> ProxyProtocol {
        "off" => ProxyProtocol::Off,
        "accept" => ProxyProtocol::Accept,
        "require" => ProxyProtocol::Require,
    }
}

choice! { ProtocolKind -> Protocol { "h1" => Protocol::H1, "h2" => Protocol::H2 } }

choice! { TlsVersionKind -> TlsVersion { "1.2" => TlsVersion::V12, "1.3" => TlsVersion::V13 } }

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum ClientAuth {
    Required,
    Optional,
}

choice! {
    ClientAuthKind -> ClientAuth {
        "required" => ClientAuth::Required,
        "optional" => ClientAuth::Optional,
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(in crate::config) enum Traceparent {
    Pass,
    Start,
}

choice! {
    TraceparentKind -> Traceparent {
        "pass" => Traceparent::Pass,
        "start" => Traceparent::Start,
    }
}
