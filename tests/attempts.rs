//! What is sent again and what never is, which deadlines fire, and what a backend's odd answers become.

mod support;

use bytes::Bytes;
use crossfade::{
    live::{Fault, Reason},
    spec::Balance,
};
use http::Request;
use hyper::body::Frame;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Reads a request with its body, chunked or with a length.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
            let is_whole = match length {
                Some(length) => body.len() >= length.parse::<usize>().unwrap(),
                None if head.contains("chunked") => body.ends_with("0\r\n\r\n"),
                None => true,
            };
            if is_whole {
                return Some(text);
            }
        }
        let mut buffer = [0; 65536];
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => got.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
    }
}

/// Answers the first request of each connection; reads the second and closes. Keeps what it read.
async fn once_each() -> (Backend, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen_there = seen.clone();
    let backend = Backend::raw(move |mut stream| {
        let seen = seen_there.clone();
        async move {
            let Some(request) = read_request(&mut stream).await else { return };
            seen.lock().unwrap().push(request);
            let _ = stream.write_all(OK).await;
            if let Some(request) = read_request(&mut stream).await {
                seen.lock().unwrap().push(request);
            }
        }
    })
    .await;
    (backend, seen)
}

async fn proxy_to(backend: &Backend) -> Proxy {
    Proxy::start(spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))])).await
}

#[tokio::test]
async fn what_met_a_closing_connection_is_sent_again_if_that_is_harmless_and_possible() {
    let (small, big) = (Bytes::from("x".repeat(60_000)), Bytes::from("x".repeat(70_000)));
    for (method, body, times, status) in [
        ("GET", Bytes::new(), 2, 200),
        ("PUT", small.clone(), 2, 200),
        ("DELETE", Bytes::new(), 2, 200),
        ("PUT", big, 1, 502),
        ("POST", small, 1, 502),
        ("POST", Bytes::new(), 1, 502),
        ("PATCH", Bytes::from("x"), 1, 502),
    ] {
        let (backend, seen) = once_each().await;
        let mut spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
        // What is sent again on a fresh connection is no retry.
        spec.services["shop"].retries.attempts = 1;
        let proxy = Proxy::start(spec).await;
        let mut client = proxy.h1().await;
        assert_eq!(client.get("/first").await.status, 200);
        let request = Request::builder().method(method).uri("/second").header("host", "a");
        let reply = client.send(request.body(full(body.clone())).unwrap()).await;
        assert_eq!(reply.status, status, "{method} of {} bytes", body.len());
        let seen = seen.lock().unwrap();
        let again: Vec<_> = seen.iter().filter(|r| r.contains("/second")).collect();
        assert_eq!(again.len(), times, "{method} of {} bytes", body.len());
        for request in again {
            assert!(request.ends_with(&format!("\r\n\r\n{}", String::from_utf8_lossy(&body))));
        }
        assert_eq!(proxy.live.pools()[0].stats.totals().retries, 0);
    }
}

#[tokio::test]
async fn a_reset_is_retried_on_another_backend_if_that_is_harmless() {
    for (method, status, is_retried) in [("GET", 200, true), ("POST", 502, false)] {
        let bad = Backend::raw(|mut stream| async move {
            let _ = read_request(&mut stream).await;
        })
        .await;
        let good = Backend::named("good").await;
        let mut spec = spec(&[("blue", pool("v1", 1, &[bad.spec_address(), good.spec_address()]))]);
        spec.services["shop"].balance = Balance::RoundRobin;
        let proxy = Proxy::start(spec).await;
        let mut client = proxy.h1().await;
        let reached = || bad.connections.load(Ordering::SeqCst);
        let mut sent = 0;
        while reached() == 0 {
            let request = Request::builder().method(method).uri("/").header("host", "a");
            let reply = client.send(request.body(full("")).unwrap()).await;
            assert_eq!(reply.status, if reached() == 0 { 200 } else { status }, "{method}");
            sent += 1;
        }
        assert_eq!(reached(), 1, "{method}");
        let totals = proxy.live.pools()[0].stats.totals();
        assert_eq!(totals.retries, u64::from(is_retried), "{method}");
        assert_eq!(totals.failures[Fault::Upstream as usize][Reason::UpstreamReset as usize], 1);
        // A request is recorded when its last byte has left, which the client may see first.
        let stats = &proxy.live.pools()[0].stats;
        let recorded = || stats.totals().requests.iter().flatten().sum::<u64>() == sent;
        until("every request is recorded", recorded).await;
    }
}

#[tokio::test]
async fn bytes_after_an_answer_are_no_answer_to_the_next_request() {
    let backend = Backend::raw(|mut stream| async move {
        while let Some(request) = read_request(&mut stream).await {
            let path = request.split(' ').nth(1).unwrap().to_owned();
            let answer = |text: &str| {
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
            };
            let both = answer(&path) + &answer("poison");
            let _ = stream.write_all(both.as_bytes()).await;
        }
    })
    .await;
    let proxy = proxy_to(&backend).await;
    let mut client = proxy.h1().await;
    for i in 0..50 {
        let path = format!("/{i}");
        assert_eq!(client.get(&path).await.text(), path);
    }
}

#[tokio::test]
async fn an_answer_with_a_length_beside_a_transfer_coding_is_refused() {
    let backend = Backend::raw(|mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            let reply =
                b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n\
                5\r\nhello\r\n0\r\n\r\n";
            let _ = stream.write_all(reply).await;
        }
    })
    .await;
    let proxy = proxy_to(&backend).await;
    for mut client in [proxy.h1().await, proxy.h2().await] {
        let reply = client.get("/").await;
        assert_eq!(reply.status, 502);
        assert_eq!(reply.headers["x-crossfade-error"], "bad_response");
    }
}

#[tokio::test]
async fn cookies_that_are_set_keep_their_order_and_the_hop_keeps_its_fields() {
    let backend = Backend::raw(|mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            let reply = b"HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nconnection: x-hop\r\nx-hop: 1\r\n\
                set-cookie: b=2\r\nkeep-alive: timeout=9\r\nset-cookie: a=3\r\n\
                content-length: 2\r\n\r\nok";
            let _ = stream.write_all(reply).await;
        }
    })
    .await;
    let proxy = proxy_to(&backend).await;
    for mut client in [proxy.h1().await, proxy.h2().await] {
        let reply = client.get("/").await;
        let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2", "a=3"]);
        assert!(!reply.headers.contains_key("x-hop") && !reply.headers.contains_key("keep-alive"));
    }
}

#[tokio::test]
async fn a_backend_chooses_among_the_protocols_that_it_is_offered() {
    let backend = Backend::raw(|mut stream| async move {
        let Some(request) = read_request(&mut stream).await else { return };
        let choice = if request.starts_with("GET /wrong") { "other" } else { "Echo" };
        let reply = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {choice}\r\n\r\n"
        );
        let _ = stream.write_all(reply.as_bytes()).await;
    })
    .await;
    let mut spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
    spec.services["shop"].timeouts.tunnel_idle = Duration::from_millis(100);
    let proxy = Proxy::start(spec).await;
    let offer = "connection: upgrade\r\nupgrade: chat/2, echo\r\n";
    let reply = proxy.raw(format!("GET / HTTP/1.1\r\nhost: a\r\n{offer}\r\n")).await;
    assert!(reply.starts_with("HTTP/1.1 101") && reply.contains("upgrade: Echo\r\n"), "{reply}");
    let mut stream = proxy.connect().await;
    let request = format!("GET /wrong HTTP/1.1\r\nhost: a\r\n{offer}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 502");
    until("nothing is in flight", || proxy.open() == 0).await;
}

#[tokio::test]
async fn a_tunnel_counts_as_a_connection_and_outlasts_the_limit_of_a_request() {
    let backend = Backend::raw(|mut stream| async move {
        let _ = read_request(&mut stream).await;
        let reply =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        let _ = stream.write_all(reply).await;
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let mut spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
    spec.services["shop"].timeouts.request = Duration::from_millis(200);
    let proxy = Proxy::start(spec).await;
    let mut client = proxy.connect().await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    client.read_exact(&mut echo).await.unwrap();
    let bound = proxy.live.published.read(|s| s.listeners[0].bound.clone());
    assert_eq!(bound.connections(), (1, 0));
    drop(client);
    until("it is over", || bound.connections() == (0, 0) && proxy.open() == 0).await;
}

#[tokio::test]
async fn a_client_that_stalls_its_body_is_told_408_and_one_that_goes_on_is_served() {
    let backend = Backend::raw(|mut stream| async move {
        if read_request(&mut stream).await.is_some() {
            let _ = stream.write_all(OK).await;
        }
    })
    .await;
    let mut spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
    spec.listeners[0].timeouts.body = Duration::from_secs(2);
    spec.services["shop"].timeouts.response = Duration::from_secs(2);
    let proxy = Proxy::start(spec).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n";
    let reply = proxy.raw(format!("{head}xxx")).await;
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
    assert!(reply.contains("x-crossfade-error: request_timeout\r\n"), "{reply}");
    assert!(reply.contains("connection: close\r\n"), "{reply}");
    // Longer than either timeout, with a piece now and then.
    let mut slow = proxy.connect().await;
    slow.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        slow.write_all(b"x").await.unwrap();
    }
    let mut reply = [0; 12];
    timeout(PATIENCE, slow.read_exact(&mut reply)).await.unwrap().unwrap();
    assert_eq!(&reply, b"HTTP/1.1 200");
    let totals = proxy.live.pools()[0].stats.totals();
    assert_eq!(totals.failures[Fault::Downstream as usize][Reason::RequestTimeout as usize], 1);
    assert_eq!(totals.failures[Fault::Upstream as usize].iter().sum::<u64>(), 0);
}

#[tokio::test]
async fn half_a_head_is_not_waited_for_longer_than_it_may_take() {
    let backend = Backend::named("never").await;
    let mut spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
    spec.listeners[0].timeouts.headers = Duration::from_millis(200);
    let proxy = Proxy::start(spec).await;
    let reply = proxy.raw("GET / HTTP/1.1\r\nhost: a\r\nx: ").await;
    assert!(!reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn a_download_goes_on_while_its_upload_rests_and_the_upload_ends_with_it() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = ended.clone();
    let backend = Backend::raw(move |mut stream| {
        let count = count.clone();
        async move {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n").await;
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(125)).await;
                let _ = stream.write_all(b"x").await;
            }
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let mut spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
    spec.listeners[0].timeouts.body = Duration::from_secs(2);
    spec.services["shop"].timeouts.response = Duration::from_secs(2);
    let proxy = Proxy::start(spec).await;
    let mut client = proxy.connect().await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nxxx";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(&[b'x'; 20]) {
        let read = timeout(PATIENCE, client.read_buf(&mut got)).await.unwrap().unwrap();
        assert!(read > 0, "cut: {}", String::from_utf8_lossy(&got));
    }
    until("the backend is let go", || proxy.open() == 0 && ended.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_is_not_the_backends_fault() {
    let backend = Backend::start(|_| async { text(vec![7u8; 50_000_000]) }).await;
    let mut spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
    spec.services["shop"].timeouts.body = Duration::from_millis(200);
    let proxy = Proxy::start(spec).await;
    let mut client = proxy.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let pools = proxy.live.pools();
    let failures = || pools[0].stats.totals().failures;
    until("it is given up", || {
        proxy.open() == 0
            && failures()[Fault::Downstream as usize][Reason::IdleTimeout as usize] == 1
    })
    .await;
    assert_eq!(failures()[Fault::Upstream as usize].iter().sum::<u64>(), 0);
    drop(client);
}

#[tokio::test]
async fn an_answer_that_stalls_is_cut_and_recorded_once() {
    let backend = Backend::raw(|mut stream| async move {
        let _ = read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let mut spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
    spec.services["shop"].timeouts.body = Duration::from_millis(200);
    let proxy = Proxy::start(spec).await;
    let pools = proxy.live.pools();
    for (served, mut client) in [proxy.h1().await, proxy.h2().await].into_iter().enumerate() {
        assert!(client.try_send(get("/").body(full("")).unwrap()).await.is_err());
        until("it is recorded", || {
            let totals = pools[0].stats.totals();
            let failures = totals.failures[Fault::Upstream as usize][Reason::IdleTimeout as usize];
            let recorded: u64 = totals.requests.iter().flatten().sum();
            (failures, recorded) == (served as u64 + 1, served as u64 + 1)
        })
        .await;
    }
    assert_eq!(proxy.open(), 0);
}

#[tokio::test]
async fn a_request_that_outlasts_its_limit_is_504_in_every_phase() {
    let backend = Backend::start(|request| async move {
        match request.uri().path() {
            "/head" => std::future::pending().await,
            _ => http::Response::new(http_body_util::BodyExt::boxed(
                http_body_util::StreamBody::new(futures_util::stream::pending()),
            )),
        }
    })
    .await;
    let mut spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
    spec.services["shop"].timeouts.request = Duration::from_millis(200);
    let proxy = Proxy::start(spec).await;
    for mut client in [proxy.h1().await, proxy.h2().await] {
        let reply = client.get("/head").await;
        assert_eq!(
            (reply.status, reply.headers["x-crossfade-error"].to_str().unwrap()),
            (504, "request_deadline")
        );
        assert!(client.try_send(get("/body").body(full("")).unwrap()).await.is_err());
    }
    until("nothing is in flight", || proxy.open() == 0).await;
}

#[tokio::test]
async fn many_refused_uploads_leave_an_http2_connection_its_window() {
    let backend = Backend::start(|request| async move {
        let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap();
        text(body.to_bytes().len().to_string())
    })
    .await;
    let mut spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
    spec.services["shop"].limits.body_bytes = 100_000;
    let proxy = Proxy::start(spec).await;
    let mut client = proxy.h2().await;
    for _ in 0..40 {
        let chunks = (0..20).map(|_| Frame::data(Bytes::from(vec![0; 10_000]))).collect();
        let refused = client.try_send(post("/").body(frames(chunks)).unwrap()).await;
        assert!(refused.is_err() || refused.unwrap().status == 413);
    }
    let reply = client.send(post("/").body(full(vec![0; 100_000])).unwrap()).await;
    assert_eq!(reply.text(), "100000");
    until("nothing is in flight", || proxy.open() == 0).await;
}

#[tokio::test]
async fn a_request_without_a_host_gets_one_and_an_impossible_one_is_refused() {
    let (backend, seen) = once_each().await;
    let proxy = proxy_to(&backend).await;
    let reply = proxy.raw("GET / HTTP/1.0\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.") && reply.contains(" 200 "), "{reply}");
    let address = backend.address.to_string();
    assert!(seen.lock().unwrap()[0].contains(&format!("host: {address}\r\n")), "{seen:?}");
    for head in [
        "GET / HTTP/1.1\r\nhost: a/b",
        "GET / HTTP/1.1\r\nhost: a b",
        "GET / HTTP/1.1\r\nhost: user@a",
        "GET http://user@a/ HTTP/1.1\r\nhost: a",
        "POST / HTTP/1.0\r\ntransfer-encoding: chunked",
    ] {
        let reply = proxy.raw(format!("{head}\r\n\r\n")).await;
        assert!(reply.contains(" 400 "), "{head}: {reply}");
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
    assert_eq!(proxy.live.pools()[0].in_flight(), Default::default());
}
