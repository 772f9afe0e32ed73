//! Which handshakes succeed, with which certificate, and how the others are counted.

use crate::{stage::*, support::*};
use crossfade::{
    live::HandshakeFailure,
    spec::{Engine, ListenerTls, Protocols, TlsVersion},
};
use rustls::{HandshakeKind, ProtocolVersion, client::Resumption};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

async fn proxy(tls: ListenerTls) -> (Backend, Proxy) {
    let backend = Backend::named("blue").await;
    let proxy = Proxy::start(tls_spec(&backend, Engine::Native, tls)).await;
    (backend, proxy)
}

fn failed(proxy: &Proxy) -> Vec<(&'static str, u64)> {
    let bound = proxy.live.published.read(|snapshot| snapshot.listeners[0].bound.clone());
    let counts = HandshakeFailure::ALL.iter().zip(bound.failed_handshakes());
    counts.filter(|(_, count)| *count > 0).map(|(why, count)| (why.as_str(), count)).collect()
}

async fn until_failed(proxy: &Proxy, expected: &[(&'static str, u64)]) {
    let what = format!("{expected:?}");
    until(&what, || failed(proxy) == expected).await;
}

fn handshakes(proxy: &Proxy) -> (u64, u64) {
    proxy.live.published.read(|snapshot| snapshot.listeners[0].bound.handshakes())
}

#[tokio::test]
async fn the_name_asked_for_chooses_the_certificate() {
    let ca = Ca::new();
    let certificates = [
        ca.issue(&["first.example"]).named("first"),
        ca.issue(&["shop.example", "*.shop.example"]).named("shop"),
        ca.issue(&["a.shop.example"]).named("a"),
    ];
    let (_backend, proxy) = proxy(ListenerTls::new(certificates.into())).await;
    let config = Arc::new(client_config(&ca, &[], None));
    for (name, shown) in [
        ("first.example", "DNSName(first.example)"),
        ("shop.example", "DNSName(shop.example),DNSName(*.shop.example)"),
        ("SHOP.example", "DNSName(shop.example),DNSName(*.shop.example)"),
        ("b.shop.example", "DNSName(shop.example),DNSName(*.shop.example)"),
        ("a.shop.example", "DNSName(a.shop.example)"),
    ] {
        let stream = shake(&proxy, &config, name).await.unwrap();
        assert_eq!(shown_names(&stream), shown, "{name}");
    }
    // The first for a name that none has, and for no name at all: whoever verifies refuses both.
    for name in ["unknown.example", "b.a.shop.example", "127.0.0.1"] {
        let error = shake(&proxy, &config, name).await.unwrap_err();
        let error = error.to_string();
        assert!(error.contains("first.example"), "{name}: {error}");
    }
    until_failed(&proxy, &[("refused", 3)]).await;
}

#[tokio::test]
async fn alpn_decides_what_is_spoken() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    let tls = || ListenerTls::new(vec![ca.issue(&["a.example"]).named("a")]);
    let both = Protocols { h1: true, h2: true };
    let h1_only = Protocols { h1: true, h2: false };
    let h2_only = Protocols { h1: false, h2: true };
    for (protocols, offered, chosen) in [
        (both, &["h2", "http/1.1"][..], Some("h2")),
        (both, &["http/1.1", "h2"], Some("h2")),
        (both, &["http/1.1"], Some("http/1.1")),
        (both, &[], None),
        (h1_only, &["h2", "http/1.1"], Some("http/1.1")),
        (h2_only, &["h2", "http/1.1"], Some("h2")),
    ] {
        for engine in ENGINES {
            let mut spec = tls_spec(&backend, engine, tls());
            spec.listeners[0].protocols = protocols;
            let proxy = Proxy::start(spec).await;
            let config = Arc::new(client_config(&ca, offered, None));
            let stream = shake(&proxy, &config, "a.example").await.unwrap();
            let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            assert_eq!(agreed.as_deref(), chosen.map(str::as_bytes), "{protocols:?} {offered:?}");
            let mut client =
                if chosen == Some("h2") { h2(stream, &proxy).await } else { h1(stream).await };
            let request = http::Request::get("/").header("host", "a.example");
            let reply = client.send(request.body(full("")).unwrap()).await;
            assert_eq!((reply.status, reply.text()), (200, "blue"));
        }
    }
    // Nothing in common.
    let mut spec = tls_spec(&backend, Engine::Native, tls());
    spec.listeners[0].protocols = h1_only;
    let proxy = Proxy::start(spec).await;
    let config = Arc::new(client_config(&ca, &["h2"], None));
    let error = shake(&proxy, &config, "a.example").await.unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    until_failed(&proxy, &[("incompatible", 1)]).await;
}

/// HTTP/2 is agreed on, or not spoken (RFC 9113 section 3.2).
#[tokio::test]
async fn no_preface_turns_a_connection_that_agreed_on_http1() {
    let ca = Ca::new();
    let (backend, proxy) = proxy(ListenerTls::new(vec![ca.issue(&["a.example"]).named("a")])).await;
    for alpn in [&["http/1.1"][..], &[]] {
        let config = Arc::new(client_config(&ca, alpn, None));
        let mut stream = shake(&proxy, &config, "a.example").await.unwrap();
        let (reply, _) = exchange(&mut stream, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn the_oldest_version_is_kept_to() {
    let ca = Ca::new();
    for (min, v12_works) in [(TlsVersion::V12, true), (TlsVersion::V13, false)] {
        let mut tls = ListenerTls::new(vec![ca.issue(&["a.example"]).named("a")]);
        tls.min_version = min;
        let (_backend, proxy) = proxy(tls).await;
        let v12 = Arc::new(client_config_of(&ca, &[], None, &[&rustls::version::TLS12]));
        assert_eq!(shake(&proxy, &v12, "a.example").await.is_ok(), v12_works);
        let newest = Arc::new(client_config(&ca, &[], None));
        let stream = shake(&proxy, &newest, "a.example").await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let expected: &[_] = if v12_works { &[] } else { &[("incompatible", 1)] };
        until_failed(&proxy, expected).await;
    }
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_or_closed_and_counted() {
    let ca = Ca::new();
    let tls = ListenerTls::new(vec![ca.issue(&["a.example"]).named("a")]);
    let (backend, proxy) = proxy(tls).await;
    let reply = proxy.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{reply}");
    assert!(reply.ends_with("\r\n\r\nbad_request: this port speaks HTTPS only\n"), "{reply}");
    assert!(reply.contains("x-crossfade-error: bad_request\r\n"), "{reply}");
    assert_eq!(proxy.raw([0x80, 0x2e, 1, 3, 1]).await, "", "SSL 2");
    until_failed(&proxy, &[("not_tls", 2)]).await;
    // A record of TLS, and then nothing of it.
    proxy.raw([&[22, 3, 1, 0, 5][..], b"GET /"].concat()).await;
    until_failed(&proxy, &[("not_tls", 2), ("malformed", 1)]).await;
    drop(proxy.connect().await);
    until_failed(&proxy, &[("closed", 1), ("not_tls", 2), ("malformed", 1)]).await;
    assert_eq!(backend.count(), 0);
    assert_eq!(handshakes(&proxy), (0, 0));
}

/// Silent from the start, or after the first bytes.
#[tokio::test]
async fn a_slow_handshake_is_given_up() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    let tls = ListenerTls::new(vec![ca.issue(&["a.example"]).named("a")]);
    let mut spec = tls_spec(&backend, Engine::Native, tls);
    spec.listeners[0].timeouts.handshake = Duration::from_millis(100);
    let proxy = Proxy::start(spec).await;
    for said in [&b""[..], &[22, 3, 1, 2, 0, 1, 0]] {
        let mut stream = proxy.connect().await;
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!(rest, b"");
    }
    until_failed(&proxy, &[("timeout", 2)]).await;
    let open = || proxy.live.published.read(|snapshot| snapshot.listeners[0].bound.connections());
    until("they are closed", || open() == (0, 0)).await;
}

async fn kind(stream: &mut tokio_rustls::client::TlsStream<TcpStream>) -> HandshakeKind {
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    // The answer brings the tickets.
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
    let mut some = [0; 512];
    let read = timeout(PATIENCE, stream.read(&mut some)).await.unwrap().unwrap();
    assert!(some[..read].starts_with(b"HTTP/1.1 200 "));
    kind
}

/// With four threads nearly every connection comes to another one.
#[tokio::test]
async fn sessions_are_resumed_on_every_core() {
    let ca = Ca::new();
    let certificate = ca.issue(&["a.example"]).named("a");
    let backend = Backend::named("blue").await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (resumption, kept_as_tickets) in [(true, true), (true, false), (false, true)] {
            if !kept_as_tickets && version.version == ProtocolVersion::TLSv1_3 {
                continue;
            }
            let mut tls = ListenerTls::new(vec![certificate.clone()]);
            tls.resumption = resumption;
            let mut spec = tls_spec(&backend, Engine::Native, tls);
            spec.threads = std::num::NonZeroUsize::new(4);
            let proxy = Proxy::start(spec).await;
            let mut config = client_config_of(&ca, &[], None, &[version]);
            if !kept_as_tickets {
                config.resumption = Resumption::in_memory_sessions(32)
                    .tls12_resumption(rustls::client::Tls12Resumption::SessionIdOnly);
            }
            let config = Arc::new(config);
            let mut resumed = 0;
            for round in 0..12 {
                let mut stream = shake(&proxy, &config, "a.example").await.unwrap();
                let kind = kind(&mut stream).await;
                if round > 0 {
                    resumed += u64::from(kind == HandshakeKind::Resumed);
                }
            }
            assert_eq!(resumed, if resumption { 11 } else { 0 }, "{version:?} {kept_as_tickets}");
            assert_eq!(handshakes(&proxy), (12 - resumed, resumed));
        }
    }
}
