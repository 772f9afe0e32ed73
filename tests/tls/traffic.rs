//! What passes over TLS, and how it ends.

use crate::{stage::*, support::*};
use bytes::Bytes;
use crossfade::spec::{Engine, ListenerTls};
use http_body_util::BodyExt;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    time::timeout,
};

fn tls(ca: &Ca) -> ListenerTls {
    ListenerTls::new(vec![ca.issue(&["a.example"]).named("a")])
}

fn to(path: &str) -> http::request::Builder {
    http::Request::post(path).header("host", "a.example")
}

#[tokio::test]
async fn bodies_of_any_size_pass_both_ways() {
    let ca = Ca::new();
    let backend = Backend::start(|request| async move {
        http::Response::new(request.into_body().map_err(|_| unreachable!()).boxed())
    })
    .await;
    let big: Bytes = (0..5_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    for engine in ENGINES {
        let proxy = Proxy::start(tls_spec(&backend, engine, tls(&ca))).await;
        for alpn in ["http/1.1", "h2"] {
            let config = Arc::new(client_config(&ca, &[alpn], None));
            let stream = shake(&proxy, &config, "a.example").await.unwrap();
            let mut client = match alpn {
                "h2" => h2(stream, &proxy).await,
                _ => h1(stream).await,
            };
            for body in [Bytes::new(), Bytes::from_static(b"x"), big.clone()] {
                let reply = client.send(to("/").body(full(body.clone())).unwrap()).await;
                assert_eq!((reply.status, reply.body.len()), (200, body.len()));
                assert!(reply.body == body);
                let chunks: Vec<_> = body.chunks(100_000).map(Bytes::copy_from_slice).collect();
                let body_frames = chunks.into_iter().map(hyper::body::Frame::data).collect();
                let reply = client.send(to("/").body(frames(body_frames)).unwrap()).await;
                assert!(reply.status == 200 && reply.body == body);
            }
        }
    }
}

/// A client that does not read stops the backend, and gets all of it when it reads on.
#[tokio::test]
async fn a_slow_reader_gets_everything() {
    const SIZE: usize = 8 << 20;
    let ca = Ca::new();
    let backend = Backend::start(|_| async { text(vec![b'x'; SIZE]) }).await;
    for engine in ENGINES {
        let proxy = Proxy::start(tls_spec(&backend, engine, tls(&ca))).await;
        let config = Arc::new(client_config(&ca, &[], None));
        let mut stream = shake(&proxy, &config, "a.example").await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").await.unwrap();
        // Until the sockets between are full: the backend has written as much as it can.
        until("it is asked", || backend.count() >= 1).await;
        let mut got = 0;
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = timeout(PATIENCE, stream.read(&mut piece)).await.unwrap().unwrap();
            if read == 0 {
                break;
            }
            got += read;
            tokio::task::yield_now().await;
        }
        assert!(got > SIZE, "{engine:?} {got}");
    }
}

#[tokio::test]
async fn the_end_of_a_connection_is_told() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    for engine in ENGINES {
        let mut spec = tls_spec(&backend, engine, tls(&ca));
        spec.listeners[0].timeouts.keep_alive = Duration::from_secs(1);
        let proxy = Proxy::start(spec).await;
        let config = Arc::new(client_config(&ca, &[], None));
        for request in [
            "GET / HTTP/1.0\r\nHost: a.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
            // Idle for too long.
            "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.example\r\nbad line\r\n\r\n",
        ] {
            let mut stream = shake(&proxy, &config, "a.example").await.unwrap();
            // Without close_notify this would be `UnexpectedEof`.
            let (reply, ended) = exchange(&mut stream, request).await;
            assert!(ended.is_ok(), "{engine:?} {request:?}: {ended:?}");
            assert!(reply.starts_with("HTTP/1."), "{reply}");
        }
    }
}

/// The end of the connection is the end of the message for HTTP/1.0: so a cut one may not have one.
#[tokio::test]
async fn a_cut_answer_has_no_end() {
    let ca = Ca::new();
    for framing in ["content-length: 100", "transfer-encoding: chunked", "x: y"] {
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nhello\r\n");
        let seen = Arc::new(Notify::new());
        let cut = seen.clone();
        let backend = Backend::raw(move |mut stream| {
            let (head, cut) = (head.clone(), cut.clone());
            async move {
                let _ = stream.read(&mut [0; 4096]).await;
                stream.write_all(head.as_bytes()).await.unwrap();
                cut.notified().await;
                stream.set_zero_linger().unwrap();
            }
        })
        .await;
        for engine in ENGINES {
            let proxy = Proxy::start(tls_spec(&backend, engine, tls(&ca))).await;
            let config = Arc::new(client_config(&ca, &[], None));
            for minor in [0, 1] {
                let mut stream = shake(&proxy, &config, "a.example").await.unwrap();
                let request = format!("GET / HTTP/1.{minor}\r\nHost: a.example\r\n\r\n");
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut reply = Vec::new();
                while !reply.ends_with(b"hello") {
                    reply.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
                }
                seen.notify_one();
                let ended = timeout(PATIENCE, stream.read_to_end(&mut reply)).await.unwrap();
                let complete = reply.ends_with(b"\r\n0\r\n\r\n");
                assert!(ended.is_err() && !complete, "{engine:?} {framing} 1.{minor}: {ended:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_tunnel_over_tls() {
    let ca = Ca::new();
    let backend = Backend::raw(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let switching =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhi";
        stream.write_all(switching).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await;
    for engine in ENGINES {
        let proxy = Proxy::start(tls_spec(&backend, engine, tls(&ca))).await;
        let config = Arc::new(client_config(&ca, &["http/1.1"], None));
        let mut stream = shake(&proxy, &config, "a.example").await.unwrap();
        let ask =
            b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\nhi") {
            head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        let big: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let (mut read, mut write) = tokio::io::split(stream);
        let sent = big.clone();
        let writing = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut echoed = Vec::new();
        timeout(PATIENCE, read.read_to_end(&mut echoed)).await.unwrap().unwrap();
        assert!(echoed == big, "{engine:?}: {} of {}", echoed.len(), big.len());
        writing.await.unwrap();
        until("the tunnel is closed", || proxy.open() == 0).await;
    }
}

/// What is pipelined behind the handshake's last message is not forgotten.
#[tokio::test]
async fn requests_right_behind_the_handshake() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    for engine in ENGINES {
        let proxy = Proxy::start(tls_spec(&backend, engine, tls(&ca))).await;
        let config = Arc::new(client_config(&ca, &[], None));
        for _ in 0..20 {
            let mut stream = shake(&proxy, &config, "a.example").await.unwrap();
            let one = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
            let last = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
            let (reply, ended) = exchange(&mut stream, &format!("{one}{one}{last}")).await;
            assert!(ended.is_ok());
            assert_eq!(reply.matches("blue").count(), 3, "{reply}");
        }
    }
}

/// When a listener leaves, connections that idle are closed with a word, and one in use ends with its answer.
#[tokio::test]
async fn a_drain_ends_connections_cleanly() {
    let ca = Ca::new();
    let backend = Backend::named("blue").await;
    let proxy = Proxy::start(tls_spec(&backend, Engine::Native, tls(&ca))).await;
    let config = Arc::new(client_config(&ca, &[], None));
    let mut streams = Vec::new();
    for used in [false, true] {
        let mut stream = shake(&proxy, &config, "a.example").await.unwrap();
        if used {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
            let mut some = [0; 512];
            assert!(timeout(PATIENCE, stream.read(&mut some)).await.unwrap().unwrap() > 0);
        }
        streams.push(stream);
    }
    assert!(proxy.drain(PATIENCE).await, "nothing had to be cut");
    for mut stream in streams {
        let ended: io::Result<usize> =
            timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap();
        assert!(ended.is_ok(), "{ended:?}");
    }
}
