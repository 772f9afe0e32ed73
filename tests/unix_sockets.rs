//! Backends that listen on unix sockets, on both engines; and how the admin API names them.

#[path = "support/mod.rs"]
mod support;

#[path = "support/admin.rs"]
mod api;

use api::Api;
use bytes::Bytes;
use crossfade::spec::{BackendAddress, Engine, Spec};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::{
    convert::Infallible,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

const ENGINES: [Engine; 2] = [Engine::Native, Engine::Hyper];

/// Answers with the target, the host and the body that it got; counts connections.
fn echo(path: &Path) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(path).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let (head, body) = request.into_parts();
                let host = head.headers["host"].to_str().unwrap().to_owned();
                let body = body.collect().await.unwrap().to_bytes();
                let said = [format!("{} {host} ", head.uri).into_bytes(), body.to_vec()].concat();
                Ok::<_, Infallible>(text(said))
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    connections
}

fn address(path: &Path) -> BackendAddress {
    format!("unix:{}", path.display()).parse().unwrap()
}

fn desired(engine: Engine, address: BackendAddress) -> Spec {
    let mut spec = spec(&[("blue", pool("v1", 100, &[address]))]);
    spec.engine = engine;
    spec
}

#[tokio::test]
async fn a_backend_on_a_unix_socket_serves_like_any_other() {
    let directory = tempfile::tempdir().unwrap();
    let big: Bytes = (0..3_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    for engine in ENGINES {
        let path = directory.path().join(format!("{engine:?}.sock"));
        let connections = echo(&path);
        let mut desired = desired(engine, address(&path));
        desired.services["shop"].health_check = Some(health_check());
        let proxy = Proxy::start(desired).await;
        proxy.ready().await;
        for mut client in [proxy.h1().await, proxy.h2().await] {
            assert_eq!(client.get("/a?b").await.text(), "/a?b shop.example.com ");
            let reply = client.send(post("/").body(full(big.clone())).unwrap()).await;
            assert!(reply.body.ends_with(&big) && reply.body.len() < big.len() + 30);
        }
        let reply = proxy.raw("GET /old HTTP/1.0\r\n\r\n").await;
        assert!(reply.ends_with("/old localhost "), "a path is no host: {reply}");

        let before = connections.load(Ordering::SeqCst);
        let mut client = proxy.h1().await;
        for _ in 0..10 {
            client.get("/").await;
        }
        let opened = connections.load(Ordering::SeqCst) - before;
        // Probes open connections too.
        assert!(opened < 10, "connections are used again: {opened}");
    }
}

#[tokio::test]
async fn a_socket_that_nobody_listens_on_is_a_connect_error() {
    let directory = tempfile::tempdir().unwrap();
    let dead = directory.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    for engine in ENGINES {
        for path in [&dead, &directory.path().join("missing.sock")] {
            let proxy = Proxy::start(desired(engine, address(path))).await;
            let reply = proxy.h1().await.get("/").await;
            assert_eq!(reply.status, 502);
            assert_eq!(reply.headers["x-crossfade-error"], "connect_failed");
        }
    }
}

#[tokio::test]
async fn a_message_that_is_cut_is_seen_to_be_cut() {
    let directory = tempfile::tempdir().unwrap();
    for engine in ENGINES {
        let path = directory.path().join(format!("{engine:?}-cut.sock"));
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            }
        });
        let proxy = Proxy::start(desired(engine, address(&path))).await;
        let mut client = proxy.h1().await;
        assert!(client.try_send(get("/").body(full("")).unwrap()).await.is_err());
    }
}

#[tokio::test]
async fn the_admin_api_names_it_by_its_encoded_address() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one.sock"), directory.path().join("two.sock"));
    echo(&one);
    echo(&two);
    let api = Api::start(desired(Engine::Native, address(&one))).await;
    let encoded = |path: &Path| {
        let address = address(path).to_string();
        address.replace(':', "%3A").replace('/', "%2F")
    };
    let at = |path: &Path| format!("/v1/services/shop/pools/blue/backends/{}", encoded(path));
    let added = api.put(&at(&two), json!({ "weight": 2 })).await;
    assert_eq!(added.status, 201, "{}", added.text);
    let listed = api.get("/v1/services/shop").await;
    assert!(listed.text.contains(&format!("\"{}\"", address(&two))), "{}", listed.text);
    let removed = api.delete(&format!("{}?wait=10s", at(&one))).await;
    assert_eq!(removed.status, 200, "{}", removed.text);
    assert_eq!(api.proxy.h1().await.get("/x").await.text(), "/x shop.example.com ");
    let page = api.get("/metrics").await;
    assert!(page.text.contains(&format!("backend=\"{}\"", address(&two))), "{}", page.text);
}
