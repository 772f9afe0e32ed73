use super::section;
use crate::{
    config::kinds::{
        Anything, Bytes, Count, Flag, ListOf, ListenAddress, Network, SetOf, Span, choice,
    },
    spec::ProxyProtocol,
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
             takes it, `require` closes connections without one.";
        forwarded: Flag, Default("false"), example "true",
            "Backends are told of clients by `Forwarded` (RFC 7239) too, not only by `X-Forwarded-*`.";
        via: Flag, Default("false"), example "true",
            "Requests say by `Via` that they came through a proxy (RFC 9110). Some servers do not compress \
             what they answer then.";
    }
    planned {
        "tls": Anything, Refused, "Certificates, chosen by the name the client asks for.";
        "redirect_https": Anything, Refused, "Sends clients to HTTPS.";
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
    }
    planned {
        "handshake": Span<false>, Inert, "How long a TLS handshake may take.";
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
    }
    planned {}
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
