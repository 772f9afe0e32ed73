//! Backends that speak TLS.

use crate::{stage::*, support::*};
use bytes::Bytes;
use crossfade::{
    control::Command,
    live::{HealthState, Reason},
    spec::{Engine, PoolProtocol, PoolTls, Spec},
};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{HandshakeKind, ServerConfig};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

fn trusting(ca: &Ca) -> PoolTls {
    PoolTls { ca: Some(ca.authority()), ..PoolTls::default() }
}

async fn echo(stream: TlsStream<TcpStream>) {
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
        let body = request.into_body().map_err(|_| unreachable!()).boxed();
        Ok::<http::Response<Body>, Infallible>(http::Response::new(body))
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn echo_backend(config: ServerConfig) -> Backend {
    tls_backend(config, echo).await
}

#[tokio::test]
async fn bodies_pass_both_ways_and_connections_are_used_again() {
    let ca = Ca::new();
    let backend = echo_backend(server_config(&ca.issue(&["127.0.0.1"]), None)).await;
    let big: Bytes = (0..5_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    for engine in ENGINES {
        let before = backend.connections.load(std::sync::atomic::Ordering::SeqCst);
        let proxy = Proxy::start(upstream_spec(&backend, engine, trusting(&ca))).await;
        for mut client in [proxy.h1().await, proxy.h2().await] {
            for body in [Bytes::new(), Bytes::from_static(b"x"), big.clone(), Bytes::new()] {
                let reply = client.send(post("/").body(full(body.clone())).unwrap()).await;
                assert_eq!((reply.status, reply.body.len()), (200, body.len()));
                assert!(reply.body == body);
            }
            for _ in 0..5 {
                assert_eq!(client.get("/").await.status, 200);
            }
        }
        let opened = backend.connections.load(std::sync::atomic::Ordering::SeqCst) - before;
        // One for each engine, and one more where a request that cannot be repeated found tickets waiting.
        assert!(opened <= 4, "{engine:?}: {opened} connections for 18 requests");
    }
}

/// A backend that speaks HTTP/2 with who agrees on it, and tells the scheme that it was asked by.
async fn http2_backend(ca: &Ca) -> Backend {
    let mut config = server_config(&ca.issue(&["127.0.0.1"]), None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    tls_backend(config, |stream| async move {
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return;
        }
        let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
            let (head, body) = request.into_parts();
            let scheme = head.uri.scheme_str().unwrap_or_default().to_owned();
            let body = body.map_err(|_| unreachable!()).boxed();
            let reply = http::Response::builder().header("x-scheme", scheme).body(body);
            Ok::<http::Response<Body>, Infallible>(reply.unwrap())
        });
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    })
    .await
}

fn http2_spec(backend: &Backend, engine: Engine, ca: &Ca) -> Spec {
    let mut spec = upstream_spec(backend, engine, trusting(ca));
    spec.services["shop"].pools["blue"].protocol = PoolProtocol::H2;
    spec
}

#[tokio::test]
async fn http2_is_agreed_on_and_its_connections_end_with_a_change_of_tls() {
    let ca = Ca::new();
    let backend = http2_backend(&ca).await;
    let opened = || backend.connections.load(std::sync::atomic::Ordering::SeqCst);
    let big: Bytes = (0..3_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    for engine in ENGINES {
        let before = opened();
        let spec = http2_spec(&backend, engine, &ca);
        let proxy = Proxy::start(spec.clone()).await;
        for mut client in [proxy.h1().await, proxy.h2().await] {
            for body in [Bytes::from_static(b"x"), big.clone(), Bytes::new()] {
                let reply = client.send(post("/").body(full(body.clone())).unwrap()).await;
                assert_eq!((reply.status, reply.body.len()), (200, body.len()));
                assert!(reply.body == body);
                assert_eq!(reply.headers["x-scheme"], "https");
            }
        }
        assert_eq!(opened() - before, 1, "{engine:?}");
        let mut other = spec;
        other.services["shop"].pools["blue"].tls =
            Some(PoolTls { server_name: Some("127.0.0.1".into()), ..trusting(&ca) });
        proxy.apply(Command::Replace { spec: Box::new(other) }).await.unwrap();
        for mut client in [proxy.h1().await, proxy.h2().await] {
            assert_eq!(client.get("/").await.status, 200);
        }
        assert_eq!(opened() - before, 2, "{engine:?}");
    }
}

#[tokio::test]
async fn another_protocol_is_agreed_on_anew() {
    let ca = Ca::new();
    let backend = http2_backend(&ca).await;
    let mut spec = http2_spec(&backend, Engine::Native, &ca);
    spec.services["shop"].health_check = Some(health_check());
    let proxy = Proxy::start(spec.clone()).await;
    let state = || proxy.live.pools()[0].backends()[0].health.state();
    until("it is proven by HTTP/2", || state() == HealthState::Healthy).await;
    let mut client = proxy.h1().await;
    assert_eq!(client.get("/").await.status, 200);
    spec.services["shop"].health_check = None;
    spec.services["shop"].pools["blue"].protocol = PoolProtocol::H1;
    proxy.apply(Command::Replace { spec: Box::new(spec) }).await.unwrap();
    let reply = client.get("/").await;
    assert_eq!(
        (reply.status, &reply.headers["x-crossfade-error"]),
        (502, &"tls_failed".parse().unwrap())
    );
}

#[tokio::test]
async fn who_cannot_prove_its_name_is_not_spoken_to() {
    let ca = Ca::new();
    let named = |name: &str| PoolTls { server_name: Some(name.into()), ..trusting(&ca) };
    let address = ca.issue(&["127.0.0.1"]);
    for (shown, tls, works) in [
        (address.clone(), trusting(&ca), true),
        (ca.issue(&["shop.internal"]), named("shop.internal"), true),
        (ca.issue(&["shop.internal"]), trusting(&ca), false),
        (ca.issue(&["shop.internal"]), named("other.internal"), false),
        (Ca::new().issue(&["127.0.0.1"]), trusting(&ca), false),
        (ca.issue_expired(&["127.0.0.1"]), trusting(&ca), false),
        // Nobody vouches for it but its own authority, which the system does not know.
        (address, PoolTls::default(), false),
    ] {
        let backend = echo_backend(server_config(&shown, None)).await;
        for engine in ENGINES {
            let proxy = Proxy::start(upstream_spec(&backend, engine, tls.clone())).await;
            let reply = proxy.h1().await.get("/").await;
            if works {
                assert_eq!(reply.status, 200, "{}", reply.text());
                continue;
            }
            assert_eq!(reply.status, 502);
            assert_eq!(reply.headers["x-crossfade-error"], "tls_failed");
            let failures = proxy.live.pools()[0].stats.totals().failures;
            assert_eq!(
                failures[1][Reason::TlsFailed as usize],
                2,
                "two attempts, the backend's fault"
            );
        }
    }
}

#[tokio::test]
async fn a_backend_in_the_clear_fails_and_another_one_helps() {
    let ca = Ca::new();
    let clear = Backend::named("clear").await;
    let backend = echo_backend(server_config(&ca.issue(&["127.0.0.1"]), None)).await;
    for engine in ENGINES {
        let mut spec = upstream_spec(&clear, engine, trusting(&ca));
        let pools = &mut spec.services["shop"].pools;
        pools["blue"].backends.insert(backend.spec_address(), Default::default());
        let proxy = Proxy::start(spec).await;
        let mut client = proxy.h1().await;
        for _ in 0..10 {
            assert_eq!(client.get("/").await.status, 200, "tried again elsewhere");
        }
    }
    assert_eq!(clear.count(), 0);
}

#[tokio::test]
async fn the_proxy_shows_its_own_certificate() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let config = server_config(&ca.issue(&["127.0.0.1"]), Some(&clients));
    let backend = echo_backend(config).await;
    let identity = clients.issue_client("proxy").named("proxy");
    for engine in ENGINES {
        for (identity, status) in [(Some(identity.clone()), 200), (None, 502)] {
            let tls = PoolTls { identity, ..trusting(&ca) };
            let proxy = Proxy::start(upstream_spec(&backend, engine, tls)).await;
            assert_eq!(proxy.h1().await.get("/").await.status, status, "{engine:?}");
        }
    }
}

/// RFC 8446 section 6.1: an end without close_notify may be an attacker's.
#[tokio::test]
async fn an_answer_that_ends_without_a_word_is_cut() {
    let ca = Ca::new();
    let pem = ca.issue(&["127.0.0.1"]);
    for polite in [true, false] {
        let backend = tls_backend(server_config(&pem, None), move |mut stream| async move {
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").await.unwrap();
            stream.flush().await.unwrap();
            if polite {
                stream.shutdown().await.unwrap();
            }
        })
        .await;
        for engine in ENGINES {
            let proxy = Proxy::start(upstream_spec(&backend, engine, trusting(&ca))).await;
            let reply = proxy.h1().await.try_send(get("/").body(full("")).unwrap()).await;
            match reply {
                Ok(reply) if polite => assert_eq!(reply.text(), "hello"),
                Err(_) if !polite => {}
                other => panic!("{engine:?} {polite}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn sessions_with_backends_are_resumed() {
    let ca = Ca::new();
    let kinds: Arc<Mutex<Vec<HandshakeKind>>> = Arc::default();
    let noted = kinds.clone();
    let backend = tls_backend(server_config(&ca.issue(&["127.0.0.1"]), None), move |stream| {
        noted.lock().unwrap().push(stream.get_ref().1.handshake_kind().unwrap());
        echo(stream)
    })
    .await;
    let mut spec = upstream_spec(&backend, Engine::Native, trusting(&ca));
    // Every request has a connection of its own.
    spec.services["shop"].timeouts.upstream_idle = Duration::ZERO;
    let proxy = Proxy::start(spec).await;
    let mut client = proxy.h1().await;
    for _ in 0..4 {
        assert_eq!(client.get("/").await.status, 200);
    }
    let kinds = kinds.lock().unwrap();
    assert_eq!(kinds.len(), 4);
    assert_eq!(kinds.iter().filter(|kind| **kind == HandshakeKind::Resumed).count(), 3);
}

/// Connections that were made before are not used after.
#[tokio::test]
async fn a_change_of_tls_makes_new_connections() {
    let ca = Ca::new();
    let names: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let noted = names.clone();
    let pem = ca.issue(&["127.0.0.1", "one.internal", "two.internal"]);
    let backend = tls_backend(server_config(&pem, None), move |stream| {
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        noted.lock().unwrap().push(name);
        echo(stream)
    })
    .await;
    for engine in ENGINES {
        names.lock().unwrap().clear();
        let spec = upstream_spec(&backend, engine, trusting(&ca));
        let proxy = Proxy::start(spec.clone()).await;
        let mut client = proxy.h1().await;
        let expected = [None, Some("one.internal"), Some("two.internal")];
        for name in expected {
            let mut spec = spec.clone();
            let tls = spec.services["shop"].pools["blue"].tls.as_mut().unwrap();
            tls.server_name = name.map(Into::into);
            proxy.apply(Command::Replace { spec: Box::new(spec) }).await.unwrap();
            for _ in 0..3 {
                assert_eq!(client.get("/").await.status, 200);
            }
        }
        let seen = names.lock().unwrap().clone();
        assert_eq!(seen, expected.map(|name| name.map(str::to_owned)), "{engine:?}");
    }
}

#[tokio::test]
async fn probes_go_the_way_of_requests() {
    let ca = Ca::new();
    let backend = echo_backend(server_config(&ca.issue(&["127.0.0.1"]), None)).await;
    for (tls, state) in
        [(trusting(&ca), HealthState::Healthy), (trusting(&Ca::new()), HealthState::Unproven)]
    {
        let mut spec = upstream_spec(&backend, Engine::Native, tls);
        let shop = &mut spec.services["shop"];
        shop.health_check = Some(health_check());
        let before = backend.connections.load(std::sync::atomic::Ordering::SeqCst);
        let proxy = Proxy::start(spec).await;
        let live = proxy.live.pools()[0].backends()[0].clone();
        until("it was probed twice", || {
            backend.connections.load(std::sync::atomic::Ordering::SeqCst) >= before + 2
        })
        .await;
        assert_eq!(live.health.state(), state);
    }
}
