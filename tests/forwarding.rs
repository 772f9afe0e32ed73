//! The main job on real sockets: messages pass through whole, over HTTP/1.1 and HTTP/2.

mod support;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Frame;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers with what it got: method, target and fields in the body's first lines, then the body.
async fn mirror() -> Backend {
    Backend::start(|request| async move {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned();
        let mut said = format!("{} {}\n", head.method, head.uri);
        for (name, value) in &head.headers {
            said.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
        for (name, value) in trailers.iter().flat_map(|trailers| trailers.iter()) {
            said.push_str(&format!("trailer {}: {}\n", name, value.to_str().unwrap()));
        }
        let mut out = said.into_bytes();
        out.push(b'\n');
        out.extend_from_slice(&body.to_bytes());
        text(out)
    })
    .await
}

async fn proxy_to(backend: &Backend) -> Proxy {
    Proxy::start(spec(&[("blue", pool("v1", 100, &[backend.spec_address()]))])).await
}

#[tokio::test]
async fn a_request_arrives_with_what_the_proxy_adds_and_without_what_concerned_the_hop() {
    let backend = mirror().await;
    let proxy = proxy_to(&backend).await;
    for mut client in [proxy.h1().await, proxy.h2().await] {
        let mut request = get("/a%20b/c?x=1&y=%2F").header("x-kept", "yes");
        if matches!(client, Client::H1(_)) {
            request = request.header("connection", "x-dropped").header("x-dropped", "1");
        }
        let reply = client.send(request.body(full("")).unwrap()).await;
        assert_eq!(reply.status, 200);
        let said = reply.text();
        assert!(said.starts_with("GET /a%20b/c?x=1&y=%2F\n"), "{said}");
        assert!(said.contains("host: shop.example.com\n"), "{said}");
        assert!(said.contains("x-kept: yes\n"), "{said}");
        assert!(said.contains("x-forwarded-for: 127.0.0.1\n"), "{said}");
        assert!(said.contains("x-forwarded-proto: http\n"), "{said}");
        assert!(said.contains("x-forwarded-host: shop.example.com\n"), "{said}");
        assert!(said.contains("x-request-id: "), "{said}");
        assert!(!said.contains("x-dropped"), "{said}");
    }
}

#[tokio::test]
async fn bodies_of_any_framing_pass_both_ways() {
    let backend = Backend::start(|request| async move {
        http::Response::new(request.into_body().map_err(|_| unreachable!()).boxed())
    })
    .await;
    let proxy = proxy_to(&backend).await;
    let big: Bytes = (0..10_000_000u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    for mut client in [proxy.h1().await, proxy.h2().await] {
        for body in [Bytes::new(), Bytes::from_static(b"x"), big.clone()] {
            let reply = client.send(post("/").body(full(body.clone())).unwrap()).await;
            assert_eq!((reply.status, reply.body.len()), (200, body.len()));
            assert!(reply.body == body);
        }
        let chunks = [&b"one"[..], b"two", b"three"].map(|b| Frame::data(Bytes::from_static(b)));
        let request = http::Request::put("/").header("host", "a").body(frames(chunks.into()));
        assert_eq!(client.send(request.unwrap()).await.text(), "onetwothree");
    }
}

/// RFC 9110 section 7.6.1: what `Connection` names is for the proxy alone, wherever it stands.
#[tokio::test]
async fn trailers_that_connection_names_stay_behind() {
    let backend = Backend::raw(|mut stream| async move {
        for (count, connection) in ["x-sum", "keep-alive"].into_iter().enumerate() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { return };
                head.push(byte);
            }
            let reply = format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: {connection}\r\n\r\n\
                 1\r\n{count}\r\n0\r\nx-sum: 7\r\n\r\n"
            );
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    })
    .await;
    let proxy = proxy_to(&backend).await;
    let mut client = proxy.h2().await;
    for (said, sum) in [("0", None), ("1", Some("7"))] {
        let request = get("/").header("te", "trailers").body(full("")).unwrap();
        let reply = client.send(request).await;
        assert_eq!((reply.status, reply.text()), (200, said));
        let trailers = reply.trailers.unwrap_or_default();
        assert_eq!(trailers.get("x-sum").map(|sum| sum.to_str().unwrap()), sum);
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let backend = Backend::start(|request| async move {
        let body = request.into_body().collect().await.unwrap();
        let mut trailers = HeaderMap::new();
        let got = body.trailers().and_then(|t| t.get("x-sum").cloned());
        trailers.insert("x-back", got.unwrap_or_else(|| "none".parse().unwrap()));
        let body = frames(vec![Frame::data(body.to_bytes()), Frame::trailers(trailers)]);
        http::Response::builder().header("trailer", "x-back").body(body).unwrap()
    })
    .await;
    let proxy = proxy_to(&backend).await;
    for mut client in [proxy.h1().await, proxy.h2().await] {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        let body = frames(vec![Frame::data("abc".into()), Frame::trailers(trailers)]);
        let request = post("/").header("te", "trailers").header("trailer", "x-sum");
        let reply = client.send(request.body(body).unwrap()).await;
        assert_eq!(reply.text(), "abc");
        assert_eq!(reply.trailers.expect("trailers")["x-back"], "42");
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_their_head_and_the_connection() {
    let backend = Backend::start(|request| async move {
        let builder = http::Response::builder();
        match request.uri().path() {
            "/204" => builder.status(204).body(full("")),
            "/304" => builder.status(304).header("etag", "\"x\"").body(full("")),
            _ => builder.body(full("hello")),
        }
        .unwrap()
    })
    .await;
    let proxy = proxy_to(&backend).await;
    for mut client in [proxy.h1().await, proxy.h2().await] {
        let head = http::Request::head("/").header("host", "a").body(full("")).unwrap();
        let reply = client.send(head).await;
        assert_eq!((reply.status, reply.body.len()), (200, 0));
        assert_eq!(reply.headers["content-length"], "5");
        assert_eq!(client.get("/204").await.status, 204);
        let reply = client.get("/304").await;
        assert_eq!((reply.status, &reply.headers["etag"]), (304, &"\"x\"".parse().unwrap()));
        assert_eq!(client.get("/").await.text(), "hello");
    }
    let connections = backend.connections.load(Ordering::SeqCst);
    assert_eq!(connections, 1, "one upstream connection serves all, whatever their clients speak");
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body() {
    let backend = mirror().await;
    let proxy = proxy_to(&backend).await;
    let mut stream = proxy.connect().await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\
                connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 200") && rest.ends_with("hello"), "{rest}");
}

#[tokio::test]
async fn a_slow_reader_holds_the_backend_back() {
    let written = Arc::new(AtomicU64::new(0));
    let counted = written.clone();
    let backend = Backend::raw(move |mut stream| {
        let written = counted.clone();
        async move {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await;
            let chunk = [7; 65536];
            while stream.write_all(&chunk).await.is_ok() {
                written.fetch_add(65536, Ordering::SeqCst);
            }
        }
    })
    .await;
    let proxy = proxy_to(&backend).await;
    let mut client = proxy.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    // It stands still when all the buffers on the way are full.
    let mut before = 0;
    let mut still = 0;
    until("the backend stands still", || {
        let now = written.load(Ordering::SeqCst);
        still = if now == before && now > 0 { still + 1 } else { 0 };
        before = now;
        still > 200
    })
    .await;
    assert!(before < 64 << 20, "{before} bytes were taken from the backend for nobody");
    let mut buffer = vec![0; 1 << 20];
    let mut read = 0;
    while read < before as usize + (1 << 20) {
        read += client.read(&mut buffer).await.unwrap();
    }
    drop(client);
    until("the backend is let go", || proxy.open() == 0).await;
}

#[tokio::test]
async fn what_is_too_large_or_late_or_nowhere_gets_its_error() {
    let backend = Backend::start(|request| async move {
        match request.uri().path() {
            "/hang" => std::future::pending().await,
            _ => {
                let _ = request.into_body().collect().await;
                text("ok")
            }
        }
    })
    .await;
    let mut spec = spec(&[("blue", pool("v1", 100, &[backend.spec_address()]))]);
    let service = &mut spec.services["shop"];
    service.limits.body_bytes = 1000;
    service.timeouts.response = Duration::from_secs(1);
    service.retries.attempts = 1;
    spec.routes[0].matches.hosts =
        vec![crossfade::spec::HostPattern::Exact("shop.example.com".into())];
    let proxy = Proxy::start(spec).await;
    let error = |reply: &Reply| reply.headers["x-crossfade-error"].to_str().unwrap().to_owned();
    for h2 in [false, true] {
        let client = || async { if h2 { proxy.h2().await } else { proxy.h1().await } };
        let reply = client().await.send(post("/").body(full(vec![0; 1001])).unwrap()).await;
        assert_eq!((reply.status, &*error(&reply)), (413, "body_too_large"));
        let chunks = (0..11).map(|_| Frame::data(Bytes::from(vec![0; 100]))).collect();
        let reply = client().await.send(post("/").body(frames(chunks)).unwrap()).await;
        assert_eq!((reply.status, &*error(&reply)), (413, "body_too_large"));
        let reply = client().await.get("/hang").await;
        assert_eq!((reply.status, &*error(&reply)), (504, "response_timeout"));
        let elsewhere = http::Request::get("/").header("host", "b").body(full("")).unwrap();
        let reply = client().await.send(elsewhere).await;
        assert_eq!((reply.status, &*error(&reply)), (404, "no_route"));
        let reply = client().await.get("/a/..%2f/%2e%2e/b").await;
        assert_eq!((reply.status, &*error(&reply)), (400, "bad_request"));
    }
    until("nothing is in flight", || proxy.open() == 0).await;
}

#[tokio::test]
async fn ambiguous_framing_reaches_no_backend() {
    let backend = Backend::named("never").await;
    let proxy = proxy_to(&backend).await;
    for head in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: x-forwarded-for\r\n",
    ] {
        let reply = proxy.raw(format!("{head}\r\n0\r\n\r\n")).await;
        assert!(reply.starts_with("HTTP/1.1 400"), "{head}: {reply}");
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_length_beside_a_transfer_coding_is_refused() {
    let backend = mirror().await;
    let proxy = proxy_to(&backend).await;
    // RFC 9112 section 6.3: an attempt at smuggling. The request after it must not be read either.
    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
    ] {
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\n");
        let reply = proxy.raw(request + "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(reply.contains("connection: close"), "{reply}");
        assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
        assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{reply}");
        assert_eq!(backend.count(), 0, "{reply}");
    }
}

#[tokio::test]
async fn a_backend_that_breaks_off_is_seen_to_break_off() {
    let backend = Backend::raw(|mut stream| async move {
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
    })
    .await;
    let proxy = proxy_to(&backend).await;
    for mut client in [proxy.h1().await, proxy.h2().await] {
        let failed = client.try_send(get("/").body(full("")).unwrap()).await;
        assert!(failed.is_err(), "a cut message must not look whole: {failed:?}");
    }
}

#[tokio::test]
async fn garbage_from_a_backend_is_a_502() {
    let backend = Backend::raw(|mut stream| async move {
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    })
    .await;
    let proxy = proxy_to(&backend).await;
    let reply = proxy.h1().await.get("/").await;
    assert_eq!(
        (reply.status, &reply.headers["x-crossfade-error"]),
        (502, &"bad_response".parse().unwrap())
    );
}

#[tokio::test]
async fn a_tunnel_passes_bytes_and_is_counted_until_it_ends() {
    let backend = Backend::raw(|mut stream| async move {
        let mut request = [0; 4096];
        let read = stream.read(&mut request).await.unwrap();
        let head = String::from_utf8_lossy(&request[..read]).to_ascii_lowercase();
        assert!(head.contains("upgrade: echo\r\n") && head.contains("connection: upgrade\r\n"));
        let reply =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        stream.write_all(reply).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let proxy = proxy_to(&backend).await;
    let mut client = proxy.connect().await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    for message in ["ping", "pong"] {
        client.write_all(message.as_bytes()).await.unwrap();
        let mut echo = [0; 4];
        client.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, *message.as_bytes());
    }
    let pools = proxy.live.pools();
    assert_eq!(pools[0].in_flight().tunnel, 1);
    drop(client);
    until("the tunnel is let go", || proxy.open() == 0).await;
}

#[tokio::test]
async fn an_unasked_101_is_a_502() {
    let backend = Backend::raw(|mut stream| async move {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let reply =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        let _ = stream.write_all(reply).await;
        let _ = stream.read(&mut request).await;
    })
    .await;
    let proxy = proxy_to(&backend).await;
    assert_eq!(proxy.h1().await.get("/").await.status, 502);
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_backend_and_is_a_499() {
    let reached = Arc::new(AtomicBool::new(false));
    let flag = reached.clone();
    let backend = Backend::start(move |_| {
        flag.store(true, Ordering::SeqCst);
        std::future::pending()
    })
    .await;
    let proxy = proxy_to(&backend).await;
    let mut client = proxy.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until("the backend has it", || reached.load(Ordering::SeqCst)).await;
    assert_eq!(proxy.open(), 1);
    drop(client);
    until("the ticket is back", || proxy.open() == 0).await;
    let code = crossfade::live::code_index(499);
    let pools = proxy.live.pools();
    until("it is recorded", || pools[0].stats.totals().requests[0][code] == 1).await;
}
